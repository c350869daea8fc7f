"""Write files atomically, so that they are complete or absent."""

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

ROOM = {errno.ENOSPC, errno.EFBIG, getattr(errno, "EDQUOT", errno.ENOSPC)}  # errors that free space resolves
PLACE = {errno.EROFS, errno.EACCES, errno.EPERM}  # errors of locations that are not writable


@contextlib.contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Yield a temporary path beside a file or folder, and rename it to the target on success or delete it on failure.

    Args:
        path: Path of the file or folder to write; its parent folder is created if necessary.

    Yields:
        (Path): Temporary path to write to, with the same suffix.

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
    """Return the error message for a failed write.

    Args:
        error: Error of the operating system.
        path: Path that could not be written; None to take the file name from the error, if it has one.
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
    """Return whether a file exists; False for texts that are no valid path (too long, invalid characters)."""
    try:
        return Path(path).is_file()
    except (OSError, ValueError):
        return False


def write(path: Path, content: str | bytes) -> None:
    """Write a file atomically."""
    with replacing(path) as draft:
        draft.write_bytes(content if isinstance(content, bytes) else content.encode())


def write_json(path: Path, value: Any) -> None:
    """Write plain data as JSON, atomically."""
    write(path, json.dumps(plain(value), indent=1, allow_nan=False) + "\n")


def read_json(path: Path) -> Any:
    """Return the contents of a JSON file, None if it is missing or invalid."""
    try:
        return json.loads(path.read_text("utf-8"))
    except (OSError, ValueError):
        return None


def plain(value: Any) -> Any:
    """Return a copy of the data with None in place of infinity and NaN, which JSON cannot represent."""
    if isinstance(value, dict):
        return {key: plain(each) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return [plain(each) for each in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def rows_as_csv(fields: Sequence[str], rows: Iterable[Mapping[str, Any]]) -> str:
    """Return rows (dictionaries with the given fields) as CSV; None and missing values become empty cells."""
    text = io.StringIO()
    writer = csv.DictWriter(text, fields, lineterminator="\n", restval="")
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue()


def between(page: str, mark: str, lines: Iterable[str]) -> str:
    """Replace the lines of a page between `<!-- mark -->` and `<!-- /mark -->`, each on a line of its own.

    Raises:
        ValueError: The page lacks these markers.
    """
    first, last = f"<!-- {mark} -->\n", f"<!-- /{mark} -->"
    before, _, rest = page.partition(first)
    _, found, after = rest.partition(last)
    if not found:
        raise ValueError(f"the page has no place for {mark}: {first.strip()} and {last}")
    return "".join([before, first, *(f"{line}\n" for line in lines), last, after])
