"""The command `vpt`."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

from vpt.commands import looking, tables, training, using
from vpt.commands.arguments import Command
from vpt.errors import VptError
from vpt.report.waiting import say_once

EXIT_OK, EXIT_FAILED, EXIT_MISTAKE, EXIT_INTERRUPTED = 0, 1, 2, 130

EPILOG = """exit codes: 0 done, 1 failed, 2 a mistake in what was asked for, 130 interrupted"""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; returns the exit code."""
    top = parser()
    given, rest = top.parse_known_args(arguments)
    # Assignments may also stand after options, where argparse no longer takes them.
    strange = [text for text in rest if "=" not in text or text.startswith("-") or "overrides" not in given]
    if strange:
        top.error(f"{strange[0]!r} is no option or argument of this command; see --help")
    if rest:
        given.overrides += rest
    command: Command = given.command
    say_once()
    try:
        command(given)
    except VptError as error:
        print(f"vpt: {error}", file=sys.stderr)
        return EXIT_MISTAKE
    except KeyboardInterrupt:
        print("vpt: interrupted; a training run goes on with --resume.", file=sys.stderr)
        return EXIT_INTERRUPTED
    return EXIT_OK


def parser() -> argparse.ArgumentParser:
    """The commands and their options."""
    top = argparse.ArgumentParser(prog="vpt", description="Visual prompt tuning of frozen backbones.", epilog=EPILOG)
    commands = top.add_subparsers(title="commands", metavar="COMMAND", required=True)
    for group in (training, tables, using, looking):
        group.add_to(commands)
    return top


if __name__ == "__main__":
    sys.exit(main())
