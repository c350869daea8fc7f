"""Files that are complete or absent, and what a run's folder says of it."""

import json
import math
import os


def write_bytes(path, content):
    """Write a file beside its place and move it there, so that it is complete or absent."""
    path.parent.mkdir(parents=True, exist_ok=True)
    draft = path.with_name(f".{path.name}.{os.getpid()}")
    draft.write_bytes(content)
    os.replace(draft, path)


def write_text(path, text):
    """Write a text file, complete or absent."""
    write_bytes(path, text.encode())


def write_json(path, value):
    """Write plain data as JSON, complete or absent."""
    write_text(path, json.dumps(plain(value), indent=1, allow_nan=False) + "\n")


def plain(value):
    """Return the same data with None for what JSON has no word for: infinite, and not a number."""
    if isinstance(value, dict):
        return {key: plain(each) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return [plain(each) for each in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def read_json(path):
    """Return what a JSON file holds, None where it is missing or torn."""
    try:
        return json.loads(path.read_text("utf-8"))
    except (OSError, ValueError):
        return None


def status_of(folder):
    """Return the record of a run that is over, finished or failed; {} of one that is not."""
    return read_json(folder / "run.json") or {}


def is_finished(folder):
    """Tell whether a run is finished, resumed ones included."""
    return status_of(folder).get("status") in ("finished", "resumed")
