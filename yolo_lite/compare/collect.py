"""Copy the small files of a comparison that the report needs, without weights, logs and paths of the machine."""

import shutil
from pathlib import Path

from yolo_lite.compare import comparison, latency
from yolo_lite.compare.record import is_finished
from yolo_lite.files import replacing

RUN = ("results.csv", "images.npz", "samples.json", "run.json")  # the last one marks the others as complete
WHOLE = (comparison.FILE, latency.FILE, "models/*.yaml", "samples/*.jpg")


def copy(source: str | Path, target: str | Path, newer: bool = True) -> int:
    """Copy a comparison's small files, so that its finished runs count as finished in the copy.

    Runs that are finished in the target are kept. Files of the comparison itself are replaced, since it may have grown.

    Args:
        source, target: Folders of comparisons; the target is created if needed.
        newer: Whether files of the comparison itself in the source replace those in the target.

    Returns:
        (int): Number of runs copied.
    """
    source, target = Path(source), Path(target)
    for pattern in WHOLE:
        for file in source.glob(pattern):
            place = target / file.relative_to(source)
            if newer or not place.exists():
                _copy(file, place)
    runs = [file.parent for file in sorted(source.glob("runs/*/*/run.json")) if is_finished(file.parent)]
    runs = [run for run in runs if not is_finished(target / run.relative_to(source))]
    for run in runs:
        for name in RUN:
            _copy(run / name, target / run.relative_to(source) / name)
    return len(runs)


def _copy(file: Path, place: Path) -> None:
    with replacing(place) as draft:
        shutil.copyfile(file, draft)
