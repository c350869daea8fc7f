"""Runs in separate processes: start a process, send it its job, and end it."""

import contextlib
import json
import os
import shlex
import signal
import subprocess
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from yolo_lite.compare.record import RunRecord, read_run
from yolo_lite.errors import ConfigError
from yolo_lite.files import write_json

if TYPE_CHECKING:  # workers import this module, and need no plan
    from yolo_lite.compare.plan import Plan, Run

Process = subprocess.Popen[bytes]


@dataclass(frozen=True)
class Job:
    """Input of a worker, sent as JSON.

    Attributes:
        folder: Folder of the run.
        model: Label of the model.
        source: Model argument for Ultralytics: a file, or a name that it looks up.
        seed: Random seed of the training.
        command: Stock command that does the same training.
        data: Path of the dataset's YAML file.
        settings: Training arguments of Ultralytics, without `data` and `seed`.
        split: Dataset split of the evaluation.
        samples: Paths of the images whose detections the report shows.
        restart: Whether an interrupted training starts afresh instead of being resumed.
        recalibrate: Whether BatchNorm statistics are recomputed after the last epoch, for short trainings.
    """

    folder: str
    model: str
    source: str
    seed: int
    command: str
    data: str
    settings: Mapping[str, Any]
    split: str = "val"
    samples: Sequence[str] = ()
    restart: bool = False
    recalibrate: bool = False


class Workers(Protocol):
    """Interface for executing runs, several at a time; `close` stops unfinished runs.

    Attributes:
        queues: Whether a run may have to wait in a queue after `begin`.
    """

    queues: bool

    def has_room(self) -> bool:
        """Return whether another run may start."""

    def begin(self, job: Job) -> None:
        """Start a run."""

    def expect(self, folder: Path) -> None:
        """Prepare for the next run, which will start soon in the given folder."""

    def ended(self) -> list[tuple[Job, RunRecord]]:
        """Wait briefly; return the runs that have ended."""

    def close(self) -> None:
        """Stop all unfinished runs."""


def job_of(plan: "Plan", run: "Run") -> Job:
    """Return the job of a run."""
    return Job(
        folder=str(run.folder),
        model=run.model.label,
        source=run.model.source,
        seed=run.seed,
        command=command_of(plan, run),
        data=plan.data.path,
        settings=_settings(plan, run),
        split=plan.settings.split,
        samples=[sample.file for sample in plan.data.samples],
        restart=plan.settings.restart,
    )


def command_of(plan: "Plan", run: "Run") -> str:
    """Return the stock command that does the same training."""
    given = run.model.given if run.model.given.endswith((".pt", ".yaml", ".yml")) else f"{run.model.given}.yaml"
    settings = {"model": given, "data": plan.settings.data, **_settings(plan, run), "seed": run.seed}
    return " ".join(["yolo train", *(f"{key}={_shell(value)}" for key, value in settings.items())])


def _settings(plan: "Plan", run: "Run") -> dict[str, Any]:
    return {**plan.settings.train, "imgsz": plan.comparison.imgsz(run.model.label)}


def _shell(value: object) -> str:
    return shlex.quote(str(value).replace(", ", ",") if isinstance(value, list | tuple) else str(value))


def start(job: Job) -> Process:
    """Start a run in a separate process, which ends when this process ends."""
    process = open_process(Path(job.folder))
    begin(process, job)
    return process


def open_process(folder: Path, keep: Iterable[int | None] = ()) -> Process:
    """Start the process of a run, which does its imports and waits for its job; it ends when this process ends.

    Args:
        folder: Folder of the run.
        keep: File descriptors that the process and its data workers keep open while they live.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with open(folder / "log.txt", "ab") as log:
        return subprocess.Popen(
            [sys.executable, "-m", "yolo_lite.compare.worker"],
            stdin=subprocess.PIPE,
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
            pass_fds=[fd for fd in keep if fd is not None] if os.name == "posix" else (),
        )


def begin(process: Process, job: Job) -> None:
    """Send a process its job."""
    assert process.stdin is not None
    with contextlib.suppress(BrokenPipeError):  # it has ended; its exit status shows why
        process.stdin.write(json.dumps(asdict(job)).encode() + b"\n")
        process.stdin.flush()


def finish(process: Process, job: Job) -> RunRecord:
    """Clean up after a run's process; return the run's record, which is written here if the process wrote none."""
    kill(process)  # processes of multi-GPU training may be left
    folder = Path(job.folder)
    code = process.returncode
    how = f"signal {signal.Signals(-code).name}" if code < 0 else f"exit status {code}"
    record = read_run(folder, job.model, job.seed)
    return record if record.status else write_failed(job, f"its process was ended by {how}; see {folder.name}/log.txt")


def write_failed(job: Job, error: str) -> RunRecord:
    """Write and return the record of a run whose process could not write it."""
    record = RunRecord(job.model, job.seed, job.command, job.settings, status="failed", error=error)
    with contextlib.suppress(ConfigError):  # on a full disk the results of the other runs still count
        write_json(Path(job.folder, "run.json"), record.to_plain())
    return record


def kill(process: Process) -> None:
    """Kill a process and its process group, and wait until it has ended."""
    if hasattr(os, "killpg"):
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(process.pid, signal.SIGKILL)
    elif process.poll() is None:
        process.kill()
    process.wait()
    assert process.stdin is not None
    process.stdin.close()
