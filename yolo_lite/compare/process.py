"""A run in a process of its own: how it is started, given its job and ended."""

import contextlib
import json
import os
import signal
import subprocess
import sys
from pathlib import Path

from yolo_lite.compare.folder import status_of
from yolo_lite.files import write_json


def job_of(plan, run):
    """Return what the worker has to know, as plain data."""
    train = {key: value for key, value in plan.train.items() if key != "data"}
    return {
        "folder": str(run.folder),
        "model": run.model.label,
        "source": run.model.source,
        "seed": run.seed,
        "data": plan.data.path,
        "split": plan.data.record["split"],
        "settings": train,
        "samples": [sample["file"] for sample in plan.data.samples],
        "restart": plan.how["restart"],
        "command": command_of(plan, run),
    }


def command_of(plan, run):
    """Return the stock command that does the same training."""
    given = run.model.given if run.model.given.endswith((".pt", ".yaml", ".yml")) else f"{run.model.given}.yaml"
    settings = {"model": given, "data": plan.train["data"], **plan.train, "seed": run.seed}
    return " ".join(["yolo train", *(f"{key}={_shell(value)}" for key, value in settings.items())])


def _shell(value):
    import shlex

    return shlex.quote(str(value).replace(", ", ",") if isinstance(value, list | tuple) else str(value))


def start(job):
    """Start a run in a process of its own.

    Args:
        job: What `job_of` returns.

    Returns:
        (subprocess.Popen): The process; it ends when this one does.
    """
    process = open_process(job["folder"])
    begin(process, job)
    return process


def open_process(folder, keep=()):
    """Open the process of a run, which gets ready and waits for its job.

    Args:
        folder: The run's folder.
        keep: File descriptors that it holds open as long as it or a data worker of it lives.

    Returns:
        (subprocess.Popen): The process; it ends when this one does.
    """
    os.makedirs(folder, exist_ok=True)
    with open(os.path.join(folder, "log.txt"), "ab") as log:
        return subprocess.Popen(
            [sys.executable, "-m", "yolo_lite.compare.worker"],
            stdin=subprocess.PIPE,
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
            pass_fds=[fd for fd in keep if fd is not None] if os.name == "posix" else (),
        )


def begin(process, job):
    """Give a process its job."""
    with contextlib.suppress(BrokenPipeError):  # it has ended; its exit status tells
        process.stdin.write(json.dumps(job).encode() + b"\n")
        process.stdin.flush()


def finish(process, job):
    """Clean up after a run's process; return its record, written here where it could not do so itself."""
    kill(process)  # multi-GPU processes may be left
    folder = Path(job["folder"])
    code = process.returncode
    how = f"signal {signal.Signals(-code).name}" if code < 0 else f"exit status {code}"
    return status_of(folder) or write_failed(job, f"its process was ended by {how}; see {folder.name}/log.txt")


def write_failed(job, error):
    """Write and return the record of a run that could not do so itself."""
    record = {key: job[key] for key in ("model", "seed", "command", "settings")} | {"status": "failed", "error": error}
    with contextlib.suppress(OSError):  # where the disk is full, the other runs' results still count
        write_json(Path(job["folder"], "run.json"), record)
    return record


def kill(process):
    if hasattr(os, "killpg"):
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(process.pid, signal.SIGKILL)
    elif process.poll() is None:
        process.kill()
    process.wait()
    process.stdin.close()
