"""One run in a separate process: the stock trainer, then the evaluation of the last checkpoint, then `run.json`.

`python -m yolo_lite.compare.worker` reads its job, one line of JSON, from standard input, and ends when that is closed:
no run outlives the command that started it. It does its imports before it reads, so that a process started ahead of
time can train at once. `run.json` is written last, so a run that has one has ended.
"""

import csv
import itertools
import json
import os
import signal
import sys
import threading
import time
import traceback
from collections.abc import Sequence
from dataclasses import replace
from importlib import import_module
from pathlib import Path
from typing import Any

from yolo_lite import environment
from yolo_lite.compare import initial_weights
from yolo_lite.compare.prepare import TABLE, prepare
from yolo_lite.compare.process import Job
from yolo_lite.compare.record import Attempt, RunRecord, Start, counting, read_attempts
from yolo_lite.errors import one_line
from yolo_lite.files import write_json

BATCHES = 8  # number of training batches that BatchNorm statistics are recomputed from


def main() -> bool:
    """Execute the run whose job is read from standard input; return whether it failed."""
    import_module("ultralytics.models")
    line = sys.stdin.buffer.readline()
    if not line:  # closed without a job
        return False
    job = Job(**json.loads(line))
    threading.Thread(target=_end_with_parent, daemon=True).start()
    record = RunRecord(job.model, job.seed, job.command, job.settings)
    try:
        record = _run(job, record)
    except Exception as error:
        traceback.print_exc()
        record = replace(record, status="failed", error=f"{type(error).__name__}: {one_line(error, 500)}")
    record = replace(
        record,
        attempts=read_attempts(Path(job.folder)),
        machine=environment.machine(),
        versions=environment.versions(),
    )
    write_json(Path(job.folder) / "run.json", record.to_plain())
    return record.status == "failed"


def _end_with_parent() -> None:
    while os.read(sys.stdin.fileno(), 4096):
        pass
    if hasattr(os, "killpg") and os.getpgrp() == os.getpid():
        os.killpg(0, signal.SIGKILL)  # includes data workers and the processes of multi-GPU training
    os._exit(1)


def _run(job: Job, record: RunRecord) -> RunRecord:
    """Train and evaluate; return the record with the results."""
    folder, clock = Path(job.folder), time.perf_counter()
    start = prepare(job)
    attempts = [*read_attempts(folder), Attempt(time.strftime("%Y-%m-%dT%H:%M:%S%z"), start)]
    write_json(folder / "attempts.json", [attempt.to_plain() for attempt in attempts])
    notes = train(job, start)
    here = start.kind != "evaluate" and "," not in str(job.settings.get("device"))  # else other processes trained it
    memory = _peak_memory() if here else (None, None)
    trained, cpu = time.perf_counter(), cpu_seconds()

    from yolo_lite.compare.evaluate import evaluate

    return replace(
        record,
        status="resumed" if any(each.start.kind == "resume" for each in counting(attempts)) else "finished",
        notes=notes,
        initial_weights=initial_weights.read(folder),
        metrics=evaluate(job),
        train_seconds=train_seconds(folder / TABLE, attempts),
        wall_seconds=time.perf_counter() - clock,
        evaluate_seconds=time.perf_counter() - trained,
        evaluate_cpu_seconds=cpu_seconds() - cpu,
        peak_memory=memory[0],
        peak_gpu_memory=memory[1],
    )


def train(job: Job, start: Start) -> list[str]:
    """Train as the stock command does; return notes on arguments that Ultralytics changed."""
    from ultralytics import YOLO

    folder = Path(job.folder)
    if start.kind == "evaluate":
        return []
    resumes = start.kind == "resume"
    model: Any = YOLO(folder / "weights" / "last.pt" if resumes else job.source)
    if job.recalibrate:
        model.add_callback("on_train_epoch_end", recalibrate)
    if resumes:
        model.train(resume=True, data=job.data)
    else:
        model.add_callback("on_pretrain_routine_end", initial_weights.note)
        model.train(
            **{**job.settings, "data": job.data, "seed": job.seed},
            project=str(folder.parent),
            name=folder.name,
            exist_ok=True,
        )
    asked, used = job.settings["batch"], model.trainer.args.batch
    return [f"Ultralytics reduced batch={asked} to {used}, out of memory"] if used != asked else []


def recalibrate(trainer: Any) -> None:
    """Recompute the BatchNorm statistics of a trainer's averaged model from training batches, after the last epoch.

    Running statistics lag about a hundred steps behind the weights, so that after a few short epochs a model in
    evaluation mode detects nothing.
    """
    from torch.optim.swa_utils import update_bn

    if trainer.epoch + 1 >= trainer.epochs:
        batches = itertools.islice(trainer.train_loader, BATCHES)
        update_bn((trainer.preprocess_batch(batch)["img"] for batch in batches), trainer.ema.ema)


def train_seconds(table: Path, attempts: Sequence[Attempt]) -> float:
    """Return the total training time from the `time` column of Ultralytics' table, which restarts at 0 on a resume."""
    with open(table, encoding="utf-8") as file:
        times = [float(row["time"]) for row in csv.DictReader(file, skipinitialspace=True)]
    lasts = {attempt.start.epoch for attempt in counting(attempts) if attempt.start.epoch is not None}
    return sum(times[epochs - 1] for epochs in {*lasts, len(times)})


def cpu_seconds() -> float:
    """Return the CPU time of this process and of its child processes that have ended."""
    return sum(os.times()[:4])


def _peak_memory() -> tuple[int | None, int | None]:
    """Return the peak memory of this process, without its data workers, and of the GPU, in bytes."""
    memory, gpu = None, None
    try:
        import resource

        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        memory = peak if sys.platform == "darwin" else peak * 1024
        for line in Path("/proc/self/status").read_text().splitlines():  # ru_maxrss on Linux starts with the parent's
            if line.startswith("VmHWM:"):
                memory = int(line.split()[1]) * 1024
    except (ImportError, OSError):  # Windows; another Unix
        pass
    torch = sys.modules.get("torch")
    if torch is not None and torch.cuda.is_available() and torch.cuda.is_initialized():
        gpu = torch.cuda.max_memory_allocated()
    return memory, gpu


if __name__ == "__main__":
    sys.exit(main())
