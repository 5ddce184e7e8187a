"""The command `vpt`."""

from __future__ import annotations

import argparse
import errno
import io
import os
import sys
import traceback
from collections.abc import Sequence
from pathlib import Path

import vpt
from vpt.commands import (
    exporting,
    importing,
    listing,
    looking,
    reporting,
    serving,
    sharing,
    tables,
    training,
    using,
)
from vpt.commands.arguments import Command, Parser, read_config
from vpt.errors import VptError, did_you_mean
from vpt.launch import handed_on, launch, launched
from vpt.report.notes import tell
from vpt.report.ranks import one_voice
from vpt.report.waiting import say_once
from vpt.trust import trusting

EXIT_OK, EXIT_FAILED, EXIT_MISTAKE, EXIT_INTERRUPTED, EXIT_PIPE = 0, 1, 2, 130, 141

EPILOG = """exit codes: 0 done, 1 failed, 2 a mistake in what was asked for, 130 interrupted, 141 nobody reads on"""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; returns the exit code."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            # Names may hold what the stream's encoding does not, and bytes that are no text.
            stream.reconfigure(errors="backslashreplace")
    say_once()
    try:
        with one_voice():
            return _run(sys.argv[1:] if arguments is None else arguments)
    except VptError as error:
        return _ended(str(error), EXIT_MISTAKE)
    except KeyboardInterrupt:
        return _ended("interrupted; a training run goes on with --resume.", EXIT_INTERRUPTED)
    except BrokenPipeError:
        # Python would say at its end that it cannot flush.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return EXIT_PIPE
    except Exception as error:
        if isinstance(error, OSError) and error.errno == errno.ENAMETOOLONG:
            return _ended(_too_long(str(error.filename)), EXIT_MISTAKE)
        if os.environ.get("VPT_TRACEBACK"):
            raise
        return _ended(_unexpected(error), EXIT_FAILED)


def _too_long(name: str) -> str:
    return f"a name of {len(name)} characters ({name[:20]}…) is longer than the system takes: give a shorter one."


def parser() -> argparse.ArgumentParser:
    """The commands and their options."""
    top = Parser(prog="vpt", description="Visual prompt tuning of frozen backbones.", epilog=EPILOG)
    top.add_argument("--version", action="version", version=f"vpt {vpt.__version__}")
    commands = top.add_subparsers(title="commands", metavar="COMMAND", dest="called")
    for group in (training, tables, using, importing, looking, reporting, exporting, serving, sharing, listing):
        group.add_to(commands)
    return top


def _run(arguments: Sequence[str]) -> int:
    top = parser()
    _check_command(top, arguments)
    given, rest = top.parse_known_args(arguments)
    if given.called is None:
        top.print_help()
        return EXIT_OK
    # Assignments may also stand after options, where argparse no longer takes them.
    strange = [text for text in rest if "=" not in text or text.startswith("-") or "overrides" not in given]
    if strange:
        top.error(f"{strange[0]!r} is no option or argument of {given.called}: see vpt {given.called} --help")
    if rest:
        given.overrides += rest
    if (getattr(given, "processes", None) or 1) > 1 and launched() != given.processes:
        if "config" in given:
            # A mistake in it is told before any process is started.
            read_config(given)
        return launch(arguments, given.processes)
    command: Command = given.command
    with trusting(getattr(given, "trust_remote_code", False)):
        code = command(given)
    sys.stdout.flush()
    return code or EXIT_OK


def _check_command(top: argparse.ArgumentParser, arguments: Sequence[str]) -> None:
    (commands,) = (action for action in top._actions if isinstance(action, argparse._SubParsersAction))
    if arguments and not arguments[0].startswith("-") and arguments[0] not in commands.choices:
        raise VptError(
            f"there is no command {arguments[0]!r}: {did_you_mean(arguments[0], commands.choices, see='vpt --help')}"
        )


def _ended(sentence: str, code: int) -> int:
    """Say what ended the command, where the process that started this one does not; returns the exit code."""
    if not handed_on(sentence):
        tell(sentence)
    return code


def _unexpected(error: Exception) -> str:
    """One sentence about an error that nothing foresaw."""
    said = next((line.strip() for line in str(error).splitlines() if line.strip()), "without a word")
    if isinstance(error, OSError):
        return f"the system says: {error.strerror or said}{f' ({error.filename})' if error.filename else ''}."
    if isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError":
        return f"there is not enough memory ({said}): take smaller batches or images, or vpt fit-batch."
    frame = traceback.extract_tb(error.__traceback__)[-1]
    where = f"{Path(frame.filename).name}, line {frame.lineno}"
    return (
        f"this was not foreseen, and is a fault of vpt or of a library: {type(error).__name__}: {said} ({where}). "
        "VPT_TRACEBACK=1 in the environment shows all of it."
    )


if __name__ == "__main__":
    sys.exit(main())
