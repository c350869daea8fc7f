"""What is printed, and what of other programs is not."""

import contextlib
import logging
import os
import sys
from collections.abc import Iterator

_said: set[str] = set()


def say_once(text: str) -> None:
    """Log a line, the first time that this process has it, and in the first of several workers only."""
    from ultralytics.utils import LOGGER, RANK

    if text not in _said and RANK in {-1, 0}:
        LOGGER.info(text)
    _said.add(text)


def say(*lines: str) -> None:
    """Print lines; one that ends in `\\r` only where it will be overwritten."""
    for line in lines:
        if not line.endswith("\r"):
            print(line, flush=True)
        elif sys.stdout.isatty():
            print(f"{line:<60}", end="\r", flush=True)


@contextlib.contextmanager
def errors_only() -> Iterator[None]:
    """Let Ultralytics log errors only."""
    from ultralytics.utils import LOGGER

    level = LOGGER.level
    LOGGER.setLevel(logging.ERROR)
    try:
        yield
    finally:
        LOGGER.setLevel(level)


@contextlib.contextmanager
def silent() -> Iterator[None]:
    """Keep what Ultralytics and converters print, also from other processes, off the terminal."""
    sys.stdout.flush()
    sys.stderr.flush()
    kept = [os.dup(1), os.dup(2)]
    try:
        with open(os.devnull, "w") as nowhere:
            os.dup2(nowhere.fileno(), 1)
            os.dup2(nowhere.fileno(), 2)
            yield
    finally:
        for number, copy in enumerate(kept, 1):
            os.dup2(copy, number)
            os.close(copy)
