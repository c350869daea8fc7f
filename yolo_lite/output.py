"""Print output, and suppress the output of other programs."""

import contextlib
import logging
import os
import sys
from collections.abc import Iterator

_said: set[str] = set()


def say_once(text: str) -> None:
    """Log a line once per process, and only in the first of several training workers."""
    from ultralytics.utils import LOGGER, RANK

    if text not in _said and RANK in {-1, 0}:
        LOGGER.info(text)
    _said.add(text)


def say(*lines: str) -> None:
    """Print lines; a line that ends in `\\r` (a progress line) is only printed to a terminal."""
    for line in lines:
        if not line.endswith("\r"):
            print(line, flush=True)
        elif sys.stdout.isatty():
            print(f"{line:<60}", end="\r", flush=True)


@contextlib.contextmanager
def errors_only() -> Iterator[None]:
    """Restrict Ultralytics' logging to errors."""
    from ultralytics.utils import LOGGER

    level = LOGGER.level
    LOGGER.setLevel(logging.ERROR)
    try:
        yield
    finally:
        LOGGER.setLevel(level)


@contextlib.contextmanager
def silent() -> Iterator[None]:
    """Suppress stdout and stderr of Ultralytics and converters, including their subprocesses."""
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
