"""A hub that does not answer is told in one line, not in twenty."""

import logging

import pytest
from huggingface_hub.utils import _http

from vpt.report.waiting import LOGGER, say_once


def test_the_logger_is_the_one_of_the_hub_s_library() -> None:
    assert _http.logger.name == LOGGER


def test_many_attempts_are_one_line_a_command(capsys: pytest.CaptureFixture[str]) -> None:
    logger = logging.getLogger(LOGGER)
    before = list(logger.filters)
    try:
        for _ in range(2):
            say_once()
            for attempt in range(5):
                logger.warning("Name or service not known")
                logger.warning(f"Retrying in 1s [Retry {attempt}/5].")
        told = capsys.readouterr().err
    finally:
        logger.filters[:] = before
    assert told.splitlines() == ["vpt: waiting for the Hugging Face hub: Name or service not known"] * 2
