"""Everything that a step prints goes to its log: Python's streams and the C++ libraries' too."""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path


@contextmanager
def captured(log_file: Path, step: str) -> Iterator[logging.Logger]:
    """Send file descriptors 1 and 2 to a log while the body runs.

    Yields:
        a logger that writes to the same file.
    """
    log_file.parent.mkdir(parents=True, exist_ok=True)
    target = os.open(log_file, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
    _flush()
    saved = [(number, os.dup(number)) for number in (1, 2)]
    for number, _ in saved:
        os.dup2(target, number)
    handler = logging.StreamHandler(os.fdopen(target, "w"))
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(message)s"))
    logger = logging.getLogger(f"bnpipe.{step}")
    logger.setLevel(logging.INFO)
    logger.propagate = False
    logger.addHandler(handler)
    try:
        yield logger
    finally:
        logger.removeHandler(handler)
        _flush()
        with open(os.devnull, "w") as nowhere:  # what a full disk did not take is not for the user
            for number, _ in saved:
                os.dup2(nowhere.fileno(), number)
            _flush()
        for number, copy in saved:
            os.dup2(copy, number)
            os.close(copy)
        with suppress(OSError):  # a full disk: the log is cut, the step's own outcome decides
            handler.stream.close()


def _flush() -> None:
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except (OSError, ValueError):
            continue
