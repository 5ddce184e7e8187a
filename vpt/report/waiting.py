"""What the command line says while the Hugging Face hub does not answer."""

from __future__ import annotations

import logging

from vpt.report.notes import tell

# It says twice for each of several attempts at each of several files that it tries again.
LOGGER = "huggingface_hub.utils._http"


class Once(logging.Filter):
    """Lets nothing through, and says the first time what there is to wait for."""

    def __init__(self) -> None:
        super().__init__()
        self.told = False

    def filter(self, record: logging.LogRecord) -> bool:
        """Of a record of the hub's library."""
        if not self.told:
            tell(f"waiting for the Hugging Face hub: {record.getMessage()}")
        self.told = True
        return False


def say_once() -> None:
    """Have the hub's library, which says many lines while it tries again, say one."""
    logger = logging.getLogger(LOGGER)
    for former in [each for each in logger.filters if isinstance(each, Once)]:
        logger.removeFilter(former)
    logger.addFilter(Once())
