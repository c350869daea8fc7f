"""A run in a process of its own: how it is started, given its job and ended."""

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

if TYPE_CHECKING:  # a worker imports this module, and needs no plan
    from yolo_lite.compare.plan import Plan, Run

Process = subprocess.Popen[bytes]


@dataclass(frozen=True)
class Job:
    """What a worker has to know; it travels as JSON.

    Attributes:
        folder: The run's.
        model: Its label.
        source: What Ultralytics' trainer is given: a file, or a name that it looks up.
        seed: Of the training.
        command: The stock command that does the same training.
        data: The dataset's YAML file.
        settings: Ultralytics' training arguments, without `data` and `seed`.
        split: What is evaluated.
        samples: Files of the images whose detections the report shows.
        restart: Whether an interrupted training begins afresh.
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


class Workers(Protocol):
    """Where runs are done, some at a time; a context, at whose end those at work are ended.

    Attributes:
        queues: Whether a run may have to wait after it was begun.
    """

    queues: bool

    def has_room(self) -> bool:
        """Tell whether another run may begin."""

    def begin(self, job: Job) -> None:
        """Begin a run."""

    def expect(self, folder: Path) -> None:
        """Get ready for the run of a folder, which is the next one to begin, soon."""

    def ended(self) -> list[tuple[Job, RunRecord]]:
        """Wait a moment; return the runs that have ended meanwhile."""

    def close(self) -> None:
        """End the runs that are at work."""


def job_of(plan: "Plan", run: "Run") -> Job:
    """Return what the worker of a run has to know."""
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
    """Start a run in a process of its own, which ends when this one does."""
    process = open_process(Path(job.folder))
    begin(process, job)
    return process


def open_process(folder: Path, keep: Iterable[int | None] = ()) -> Process:
    """Open the process of a run, which gets ready and waits for its job; it ends when this one does.

    Args:
        folder: The run's folder.
        keep: File descriptors that it holds open as long as it or a data worker of it lives.
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
    """Give a process its job."""
    assert process.stdin is not None
    with contextlib.suppress(BrokenPipeError):  # it has ended; its exit status tells
        process.stdin.write(json.dumps(asdict(job)).encode() + b"\n")
        process.stdin.flush()


def finish(process: Process, job: Job) -> RunRecord:
    """Clean up after a run's process; return its record, written here where it could not do so itself."""
    kill(process)  # multi-GPU processes may be left
    folder = Path(job.folder)
    code = process.returncode
    how = f"signal {signal.Signals(-code).name}" if code < 0 else f"exit status {code}"
    record = read_run(folder, job.model, job.seed)
    return record if record.status else write_failed(job, f"its process was ended by {how}; see {folder.name}/log.txt")


def write_failed(job: Job, error: str) -> RunRecord:
    """Write and return the record of a run that could not do so itself."""
    record = RunRecord(job.model, job.seed, job.command, job.settings, status="failed", error=error)
    with contextlib.suppress(ConfigError):  # where the disk is full, the other runs' results still count
        write_json(Path(job.folder, "run.json"), record.to_plain())
    return record


def kill(process: Process) -> None:
    """End a process and all of its group; it has ended when this returns."""
    if hasattr(os, "killpg"):
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(process.pid, signal.SIGKILL)
    elif process.poll() is None:
        process.kill()
    process.wait()
    assert process.stdin is not None
    process.stdin.close()
