"""Keeping the DICOM libraries quiet: what they say of a value holds the value (F30)."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager

from agent.intake.bounds import quietly


@contextmanager
def discreet() -> Iterator[None]:
    """Let the DICOM libraries say nothing; one thread at a time, as warnings and loggers belong to the process."""
    loggers = [logging.getLogger(name) for name in ("highdicom", "pydicom")]
    levels = [logger.level for logger in loggers]
    with quietly():
        for logger in loggers:
            logger.setLevel(logging.CRITICAL + 1)
        try:
            yield
        finally:
            for logger, level in zip(loggers, levels, strict=True):
                logger.setLevel(level)
