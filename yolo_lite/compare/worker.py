"""One run, in a process of its own: the stock trainer, then the evaluation of its last checkpoint, then `run.json`.

`python -m yolo_lite.compare.worker` reads its job, one line of JSON, from standard input, and ends when that is closed:
no run outlives the command that started it. It imports before it reads, so that one opened ahead begins at once.
`run.json` is written last, so a run that has one is over.
"""

import json
import os
import shutil
import signal
import sys
import threading
import time
import traceback
from importlib import import_module
from pathlib import Path

from yolo_lite import environment
from yolo_lite.files import write_json

KEPT = {"attempts.json", "log.txt"}  # when a run is trained afresh


def main():
    import_module("ultralytics.models")
    line = sys.stdin.buffer.readline()
    if not line:  # its turn never came
        return False
    job = json.loads(line)
    threading.Thread(target=_end_with_parent, daemon=True).start()
    folder = Path(job["folder"])
    clock = time.perf_counter()
    record = {key: job[key] for key in ("model", "seed", "command", "settings")}
    memory = {}
    try:
        start = prepare(folder, job)
        attempts = [*read_attempts(folder), {"began": time.strftime("%Y-%m-%dT%H:%M:%S%z"), "from": start}]
        write_json(folder / "attempts.json", attempts)
        notes = train(folder, job, start)
        if start != "evaluation" and "," not in str(job["settings"].get("device")):  # else it was trained elsewhere
            memory = _peak_memory()
        trained, cpu = time.perf_counter(), cpu_seconds()

        from yolo_lite.compare.evaluate import evaluate

        record |= {
            "status": "resumed" if _was_resumed(attempts) else "finished",
            "notes": notes,
            "metrics": evaluate(folder, job),
            "train_seconds": train_seconds(folder / "results.csv", attempts),
            "wall_seconds": time.perf_counter() - clock,
            "evaluate_seconds": time.perf_counter() - trained,
            "evaluate_cpu_seconds": cpu_seconds() - cpu,
        }
    except Exception as error:
        traceback.print_exc()
        record |= {"status": "failed", "error": f"{type(error).__name__}: {' '.join(str(error).split())[:500]}"}
    record |= {
        "attempts": read_attempts(folder),
        **memory,
        "machine": environment.machine(),
        "versions": environment.versions(),
    }
    write_json(folder / "run.json", record)
    return record["status"] == "failed"


def _end_with_parent():
    while os.read(sys.stdin.fileno(), 4096):
        pass
    if hasattr(os, "killpg") and os.getpgrp() == os.getpid():
        os.killpg(0, signal.SIGKILL)  # the data workers and the processes of multi-GPU training, too
    os._exit(1)


# Where to start -------------------------------------------------------------------------------------------------------


def prepare(folder, job):
    """Find out where a run stands, and make its folder ready for what comes next.

    Returns:
        (str): "start"; "epoch N", to resume after N epochs; "evaluation", when all of the training is done; with a
            comma and a reason where something was thrown away.
    """
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "run.json").unlink(missing_ok=True)  # of a failed run
    last = folder / "weights" / "last.pt"
    if not last.exists():
        reason = ", again: it was ended before its first checkpoint" if (folder / "args.yaml").exists() else ""
        return _afresh(folder, reason)
    import torch

    try:
        checkpoint = torch.load(last, map_location="cpu", weights_only=False)
        epoch = checkpoint["epoch"]
    except Exception as error:
        return _afresh(folder, f", again: the checkpoint is torn ({type(error).__name__})")
    done = epoch + 1
    if done == 0:  # stripped of its optimizer by the host, at the end
        return "evaluation"
    if done >= checkpoint["train_args"]["epochs"]:
        from ultralytics.utils.torch_utils import strip_optimizer

        for file in (last, last.with_name("best.pt")):
            strip_optimizer(file)
        return "evaluation"
    if job["restart"]:
        return _afresh(folder, ", again: restart=True")
    if not (folder / "results.csv").exists():
        return _afresh(folder, ", again: results.csv, the first epochs' figures, is missing")
    _move_checkpoint(checkpoint, last, folder, job["data"])
    _trim(folder / "results.csv", done)
    return f"epoch {done}"


def _afresh(folder, reason):
    for path in folder.iterdir():
        if path.name not in KEPT:
            shutil.rmtree(path) if path.is_dir() else path.unlink()
    return "start" + reason


def _move_checkpoint(checkpoint, last, folder, data):
    """A checkpoint names the folder and the dataset that it was trained with; they may have moved since."""
    here = {"project": str(folder.parent), "name": folder.name, "exist_ok": True, "data": data}
    if "save_dir" in checkpoint["train_args"]:
        here["save_dir"] = str(folder)
    if any(checkpoint["train_args"].get(key) != value for key, value in here.items()):
        import torch

        checkpoint["train_args"].update(here)
        torch.save(checkpoint, last.with_name("moved.pt"))
        os.replace(last.with_name("moved.pt"), last)


def _trim(table, epochs):
    """The host appends to `results.csv` before it saves the checkpoint: drop what the checkpoint does not hold."""
    lines = table.read_text("utf-8").splitlines(keepends=True)
    draft = table.with_name(".results.csv")
    draft.write_text("".join(lines[: epochs + 1]), "utf-8")
    os.replace(draft, table)


def read_attempts(folder):
    """Return when a run was started, and from where each time."""
    file = folder / "attempts.json"
    return json.loads(file.read_text("utf-8")) if file.exists() else []


def _was_resumed(attempts):
    """Tell whether the training that counts was resumed."""
    return any(attempt["from"].startswith("epoch") for attempt in _counting(attempts))


def _counting(attempts):
    """Return the attempts from the last start on."""
    return attempts[max(index for index, attempt in enumerate(attempts) if attempt["from"].startswith("start")) :]


# Training -------------------------------------------------------------------------------------------------------------


def train(folder, job, start):
    """Train as the stock command does.

    Returns:
        (list[str]): What the host did otherwise than it was told.
    """
    from ultralytics import YOLO

    if start == "evaluation":
        return []
    if start.startswith("epoch"):
        model = YOLO(folder / "weights" / "last.pt")
        model.train(resume=True, data=job["data"])
    else:
        model = YOLO(job["source"])
        model.train(
            **{**job["settings"], "data": job["data"], "seed": job["seed"]},
            project=str(folder.parent),
            name=folder.name,
            exist_ok=True,
        )
    asked, used = job["settings"]["batch"], model.trainer.args.batch
    return [f"the host reduced batch={asked} to {used}, out of memory"] if used != asked else []


def train_seconds(table, attempts):
    """Add up the `time` column, which starts at 0 again where a run was resumed."""
    import csv

    with open(table, encoding="utf-8") as file:
        times = [float(row["time"]) for row in csv.DictReader(file, skipinitialspace=True)]
    last = {int(each["from"].split()[1]) for each in _counting(attempts) if each["from"].startswith("epoch")}
    return sum(times[epochs - 1] for epochs in {*last, len(times)})


def cpu_seconds():
    """Return the CPU time of this process and of those that it has ended."""
    return sum(os.times()[:4])


# What a run says of itself --------------------------------------------------------------------------------------------


def _peak_memory():
    """Return the peak of this process's memory, without its data workers', and of the GPU's, in bytes."""
    found = {}
    try:
        import resource

        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        found["peak_memory"] = peak if sys.platform == "darwin" else peak * 1024
        for line in Path("/proc/self/status").read_text().splitlines():  # on Linux the former begins with the parent's
            if line.startswith("VmHWM:"):
                found["peak_memory"] = int(line.split()[1]) * 1024
    except (ImportError, OSError):  # Windows; another Unix
        pass
    torch = sys.modules.get("torch")
    if torch is not None and torch.cuda.is_available() and torch.cuda.is_initialized():
        found["peak_gpu_memory"] = torch.cuda.max_memory_allocated()
    return found


if __name__ == "__main__":
    sys.exit(main())
