"""Where a run stands, and its folder made ready for what comes next."""

import shutil
from pathlib import Path
from typing import Any

from yolo_lite.compare.process import Job
from yolo_lite.compare.record import Start
from yolo_lite.files import replacing, write

KEPT = {"attempts.json", "log.txt"}  # when a run is trained afresh
TABLE = "results.csv"


def prepare(job: Job) -> Start:
    """Find out where a run starts, and make its folder ready for that."""
    folder = Path(job.folder)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "run.json").unlink(missing_ok=True)  # of a failed run
    last = folder / "weights" / "last.pt"
    if not last.exists():
        began = (folder / "args.yaml").exists()
        return _afresh(folder, "it was ended before its first checkpoint" if began else None)
    import torch

    try:
        checkpoint = torch.load(last, map_location="cpu", weights_only=False)
        done = checkpoint["epoch"] + 1
    except Exception as error:
        return _afresh(folder, f"the checkpoint is incomplete ({type(error).__name__})")
    if done == 0:  # stripped of its optimizer by Ultralytics, at the end
        return Start("evaluate")
    if done >= checkpoint["train_args"]["epochs"]:
        _strip(last)
        return Start("evaluate")
    if job.restart:
        return _afresh(folder, "restart=True")
    if not (folder / TABLE).exists():
        return _afresh(folder, f"{TABLE}, the first epochs' figures, is missing")
    _move(checkpoint, last, job)
    _trim(folder / TABLE, done)
    return Start("resume", epoch=done)


def _afresh(folder: Path, reason: str | None) -> Start:
    for path in folder.iterdir():
        if path.name not in KEPT:
            shutil.rmtree(path) if path.is_dir() else path.unlink()
    return Start("fresh", reason=reason)


def _strip(last: Path) -> None:
    """Do what Ultralytics does at the end of a training, which this one did not reach."""
    from ultralytics.utils.torch_utils import strip_optimizer

    for file in (last, last.with_name("best.pt")):
        strip_optimizer(file)


def _move(checkpoint: dict[str, Any], last: Path, job: Job) -> None:
    """A checkpoint names the folder and the dataset that it was trained with; they may have moved since."""
    folder = Path(job.folder)
    here = {"project": str(folder.parent), "name": folder.name, "exist_ok": True, "data": job.data}
    if "save_dir" in checkpoint["train_args"]:
        here["save_dir"] = str(folder)
    if any(checkpoint["train_args"].get(key) != value for key, value in here.items()):
        import torch

        checkpoint["train_args"].update(here)
        with replacing(last) as draft:
            torch.save(checkpoint, draft)


def _trim(table: Path, epochs: int) -> None:
    """Ultralytics appends to `results.csv` before it saves the checkpoint: drop what the checkpoint does not hold."""
    lines = table.read_text("utf-8").splitlines(keepends=True)
    write(table, "".join(lines[: epochs + 1]))
