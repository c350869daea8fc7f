"""What a run's folder says of it."""

from yolo_lite.files import read_json


def status_of(folder):
    """Return the record of a run that is over, finished or failed; {} of one that is not."""
    return read_json(folder / "run.json") or {}


def is_finished(folder):
    """Tell whether a run is finished, resumed ones included."""
    return status_of(folder).get("status") in ("finished", "resumed")
