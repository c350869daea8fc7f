"""Files that are complete or absent: the one way in which anything is written."""

import contextlib
import csv
import errno
import io
import json
import math
import os
import shutil
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from yolo_lite.errors import ConfigError, typed_line

ROOM = {errno.ENOSPC, errno.EFBIG, getattr(errno, "EDQUOT", errno.ENOSPC)}  # errors that end when there is room
PLACE = {errno.EROFS, errno.EACCES, errno.EPERM}  # and those of places that cannot be written at all


@contextlib.contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Give a place beside a file or folder to write to, and move it there at the end; a failure leaves nothing behind.

    Args:
        path: Where it will be; its folder is made if need be.

    Yields:
        (Path): Where to write, with the same suffix.

    Raises:
        ConfigError: The disk is full, read-only or broken.
    """
    draft = path.with_name(f".{os.getpid()}.{path.name}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        yield draft
        os.replace(draft, path)
    except BaseException as error:
        with contextlib.suppress(OSError):
            shutil.rmtree(draft) if draft.is_dir() else draft.unlink(missing_ok=True)
        if isinstance(error, OSError):
            raise unwritable(error, path) from error
        raise


def unwritable(error: OSError, path: str | Path | None = None) -> ConfigError:
    """Return the sentence for an error of the disk.

    Args:
        error: What went wrong.
        path: What was to be written; None where only the error may know.
    """
    if not (path or error.filename) and error.errno not in ROOM | PLACE:
        return ConfigError(typed_line(error))
    where = f"{path} cannot be written" if path else error.filename or "a file, or the output"
    if error.errno in ROOM:
        advice = "; free some space, and run the same command again to continue"
    else:
        advice = "; choose another folder" if error.errno in PLACE else ""
    return ConfigError(f"{where}: {error.strerror or typed_line(error)}{advice}")


def is_file(path: str | Path) -> bool:
    """Tell whether there is a file; a text that can be no path, being too long or of strange characters, is none."""
    try:
        return Path(path).is_file()
    except (OSError, ValueError):
        return False


def write(path: Path, content: str | bytes) -> None:
    """Write a file, complete or absent."""
    with replacing(path) as draft:
        draft.write_bytes(content if isinstance(content, bytes) else content.encode())


def write_json(path: Path, value: Any) -> None:
    """Write plain data as JSON, complete or absent."""
    write(path, json.dumps(plain(value), indent=1, allow_nan=False) + "\n")


def read_json(path: Path) -> Any:
    """Return what a JSON file holds, None where it is missing or torn."""
    try:
        return json.loads(path.read_text("utf-8"))
    except (OSError, ValueError):
        return None


def plain(value: Any) -> Any:
    """Return the same data with None for what JSON has no word for: infinite, and not a number."""
    if isinstance(value, dict):
        return {key: plain(each) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return [plain(each) for each in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def rows_as_csv(fields: Sequence[str], rows: Iterable[Mapping[str, Any]]) -> str:
    """Return rows, dictionaries with these fields, as CSV; None and what is missing become empty cells."""
    text = io.StringIO()
    writer = csv.DictWriter(text, fields, lineterminator="\n", restval="")
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue()


def between(page: str, mark: str, lines: Iterable[str]) -> str:
    """Put lines into a page between `<!-- mark -->` and `<!-- /mark -->`, each on a line of its own.

    Raises:
        ValueError: The page lacks them.
    """
    first, last = f"<!-- {mark} -->\n", f"<!-- /{mark} -->"
    before, _, rest = page.partition(first)
    _, found, after = rest.partition(last)
    if not found:
        raise ValueError(f"the page has no place for {mark}: {first.strip()} and {last}")
    return "".join([before, first, *(f"{line}\n" for line in lines), last, after])
