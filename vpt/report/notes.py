"""What is said beside a result, and names in it, which may hold anything."""

from __future__ import annotations

import logging
import sys
import unicodedata
from collections.abc import Sequence

from vpt.report.ranks import speaks

# Characters that a terminal acts on, that turn the direction of a line, or that are no text: controls, formats, single
# bytes of a name in no UTF-8, separators of lines and of paragraphs.
ACTING = {"Cc", "Cf", "Cs", "Zl", "Zp"}
# Formats that words and emoji are written with.
JOINERS = "\u200c\u200d"


def printable(text: object) -> str:
    r"""`text` as it is, but for what would move a cursor, colour or reorder a line: that is written as "\x1b"."""
    return "".join(
        ascii(sign)[1:-1] if unicodedata.category(sign) in ACTING and sign not in JOINERS else sign
        for sign in str(text)
    )


def first_of(names: Sequence[object], count: int = 5) -> str:
    """The first names, and a sign that there are more."""
    return ", ".join(map(printable, names[:count])) + (", …" if len(names) > count else "")


class OnStandardError(logging.Handler):
    """Writes each sentence to what is standard error then, with the name of the package before it.

    Lines of progress, which have a logger of their own, stand by themselves.
    """

    def emit(self, record: logging.LogRecord) -> None:
        """Write it."""
        message = record.getMessage()
        print(message if record.name == PROGRESS.name else f"vpt: {message}", file=sys.stderr, flush=True)


# Users set its level, or put handlers of their own in the place of this one.
LOGGER = logging.getLogger("vpt")
LOGGER.addHandler(OnStandardError())
LOGGER.setLevel(logging.INFO)
LOGGER.propagate = False
# An epoch a line, where nobody watches a bar.
PROGRESS = LOGGER.getChild("progress")


def tell(sentence: str) -> None:
    """Log one sentence, to standard error, where results do not go; of several processes the first says it."""
    if speaks():
        LOGGER.warning("%s", printable(sentence))


def say(sentence: str) -> None:
    """Say one sentence where results go."""
    print(printable(sentence))
