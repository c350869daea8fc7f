"""Find out how far a run has got, and prepare its folder for a fresh start, a resume or the evaluation."""

import shutil
from pathlib import Path
from typing import Any

from yolo_lite.compare.process import Job
from yolo_lite.compare.record import Start
from yolo_lite.files import replacing, write

KEPT = {"attempts.json", "log.txt"}  # files that a fresh start keeps
TABLE = "results.csv"


def prepare(job: Job) -> Start:
    """Determine where a run starts, and prepare its folder."""
    folder = Path(job.folder)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "run.json").unlink(missing_ok=True)  # left by a failed run
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
    if done == 0:  # Ultralytics strips the optimizer when training is complete
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
    """Strip the optimizer as Ultralytics does at the end of training, which this run did not reach."""
    from ultralytics.utils.torch_utils import strip_optimizer

    for file in (last, last.with_name("best.pt")):
        strip_optimizer(file)


def _move(checkpoint: dict[str, Any], last: Path, job: Job) -> None:
    """Update the paths of the folder and the dataset in a checkpoint, since they may have moved."""
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
    """Drop epochs that the checkpoint lacks: Ultralytics appends to `results.csv` before it saves the checkpoint."""
    lines = table.read_text("utf-8").splitlines(keepends=True)
    write(table, "".join(lines[: epochs + 1]))
