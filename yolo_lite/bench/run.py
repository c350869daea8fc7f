"""Entry point of `yolo-lite bench`: measure, write and print."""

import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from yolo_lite import models as zoo
from yolo_lite.bench import report
from yolo_lite.bench.interleaved import measure
from yolo_lite.bench.measurement import Measurement
from yolo_lite.bench.runtimes import DEFAULT, RUNTIMES, environment, is_exported, missing
from yolo_lite.errors import ConfigError
from yolo_lite.files import unwritable
from yolo_lite.output import say


def run(
    models: Sequence[str],
    runtimes: Sequence[str] | None = None,
    imgsz: int = 640,
    threads: Sequence[int] = (1,),
    seconds: float = 10,
    int8: bool = False,
    data: str | None = None,
    out: str | Path | None = None,
) -> list[Measurement]:
    """Run `yolo-lite bench`: measure, write bench.csv, bench.md, bench.svg and the exports, and print bench.md.

    Args:
        models: Names, YAMLs, checkpoints or exported files; all are compared with the first.
        runtimes: Names in `RUNTIMES`; None for those of onnxruntime, openvino and ncnn that are installed.
        imgsz: Height and width of the image, pixels.
        threads: Numbers of threads.
        seconds: Duration per model, runtime and number of threads.
        int8: Whether to also measure int8.
        data: Dataset YAML whose training images calibrate int8.
        out: Folder for the results; None for runs/bench, runs/bench2, ...

    Raises:
        ConfigError: As in `measure`; or only one of int8 and data is given; or the folder cannot be written.
    """
    if int8 != (data is not None):
        raise ConfigError(
            "int8=True and data= have to be given together: data is the dataset whose images calibrate int8"
        )
    chosen, skipped = _choose(runtimes, int8)
    folder = _writable(Path(out) if out else _new_folder())
    say(*skipped)
    settings = {"image size": f"{imgsz} px", "seconds a model": f"{seconds:g}"}
    settings |= {"int8 data": data} if data else {}
    random = [name for name in models if zoo.is_random(name) and not is_exported(name)]
    page = ""

    def keep(measurements: list[Measurement]) -> None:
        nonlocal page
        notes = report.remarks(measurements, random, skipped)
        page = report.write_all(folder, measurements, {**settings, **environment(chosen)}, notes)

    measured = measure(models, chosen, threads, imgsz, seconds, folder / "exports", data, say, keep)
    print(page)
    print(f"results saved to {folder}")
    return measured


def _choose(runtimes: Sequence[str] | None, int8: bool) -> tuple[list[str], list[str]]:
    """Return the runtimes to measure, and sentences about skipped runtimes and precisions."""
    skipped = []
    if runtimes is None:
        lacking = {name: missing(name, int8) for name in DEFAULT}
        skipped = [f"{name} is left out: pip install {' '.join(lack)}" for name, lack in lacking.items() if lack]
        runtimes = [name for name, lack in lacking.items() if not lack]
    if int8:
        without = [name for name in runtimes if name in RUNTIMES and not RUNTIMES[name].int8]
        skipped += [f"{name} is measured without int8" for name in without]
    return list(runtimes), skipped


def _writable(folder: Path) -> Path:
    """Return the folder, after checking that it can be written or created.

    Raises:
        ConfigError: The folder cannot be written or created.
    """
    try:
        place = next(each for each in (folder, *folder.absolute().parents) if each.exists())
        if not place.is_dir():
            raise ConfigError(f"out={folder}: {place} is a file, not a folder")
        with tempfile.TemporaryFile(dir=place) as probe:  # permissions do not reveal read-only and full disks
            probe.write(bytes(4096))
    except OSError as error:
        raise unwritable(error, f"out={folder}") from None
    return folder


def _new_folder() -> Path:
    """Return the first of runs/bench, runs/bench2, ... that does not exist, as Ultralytics names its runs."""
    numbers = iter(range(2, sys.maxsize))
    folder = Path("runs/bench")
    while folder.exists():
        folder = Path(f"runs/bench{next(numbers)}")
    return folder
