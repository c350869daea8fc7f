"""The runs of a plan: each in a process of its own, side by side on this machine or on a Ray cluster.

Whatever ends this process, the runs end with it (see worker.py), and the same command goes on where they were.
"""

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import NamedTuple

from yolo_lite._registry import ConfigError
from yolo_lite.compare import measure, report, tables
from yolo_lite.compare.dataset import one_line
from yolo_lite.compare.files import is_finished, status_of, write_json
from yolo_lite.compare.plan import Plan, check_folder, write_folder
from yolo_lite.compare.progress import Progress

PATIENCE = 15  # seconds that the runs of a killed command have to end


class Outcome(NamedTuple):
    """What became of a comparison."""

    folder: Path
    finished: list  # of Run, resumed ones included
    failed: list


def execute(plan: Plan):
    """Do what is left of a plan's runs.

    Returns:
        (Outcome): The runs, finished and failed.

    Raises:
        ConfigError: Another command works in the same folder or has changed what it holds, there is no such Ray
            cluster, or the latency cannot be measured.
    """
    if plan.how["ray"]:
        from yolo_lite.compare.cluster import connect

        connect(plan.how["ray"])
    plan.folder.mkdir(parents=True, exist_ok=True)
    with locked(plan.folder) as lock:
        check_folder(plan)
        write_folder(plan)
        left = [run for run in plan.runs if not is_finished(run.folder)]
        if left:
            with Progress(plan) as progress:
                if plan.how["ray"]:
                    from yolo_lite.compare.cluster import run_all
                else:
                    run_all = run_here
                run_all(plan, left, progress, lock)
        finished = [run for run in plan.runs if is_finished(run.folder)]
        failed = [run for run in plan.runs if run not in finished]
        if failed:
            names = ", ".join(f"{run.model.label} seed {run.seed}" for run in failed)
            _say(f"{len(failed)} run{'s' * (len(failed) > 1)} failed: {names}; the same command tries again")
        if finished:
            _say(f"{plan.folder.name}: writing the report")
            results = report.write_report(plan.folder)  # before the latency, which may fail
            if _latency_is_due(plan):
                _measure_latency(plan)
                results = report.write_report(plan.folder)
            _say(tables.headline(results), f"Results saved to {plan.folder}; see report.html")
    return Outcome(plan.folder, finished, failed)


def _latency_is_due(plan):
    return plan.how["latency"] and not measure.is_current(
        plan.folder / "latency.json", plan.models, plan.record["train"]["imgsz"], plan.how
    )


def _measure_latency(plan):
    """Time the models; no training of ours runs now.

    Raises:
        ConfigError: That fails; the report is there, without it.
    """
    classes, imgsz = len(plan.record["data"]["classes"]), plan.record["train"]["imgsz"]
    try:
        found = measure.latency(plan.models, classes, imgsz, plan.how, _say_unless_passing)
    except Exception as error:
        raise ConfigError(
            f"latency was not measured: {one_line(error)}; {plan.folder / 'report.html'} is without it, runtimes= "
            "chooses others, latency=False leaves it out"
        ) from error
    write_json(plan.folder / "latency.json", found)


def _say(*lines):
    print(*lines, sep="\n", file=sys.stderr, flush=True)


def _say_unless_passing(line):
    if not line.endswith("\r"):
        _say(line)


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


# On this machine ------------------------------------------------------------------------------------------------------


def run_here(plan, runs, progress, lock):
    """Work through runs, `parallel` of them at a time.

    The next run's process opens in the last epoch of a present one, since its imports take a second or two.
    """
    waiting, working, opened = list(runs), {}, []
    try:
        while waiting or working:
            while waiting and len(working) < plan.how["parallel"]:
                run = waiting.pop(0)
                working[run] = opened.pop() if opened else open_process(run.folder, [lock])
                begin(working[run], job_of(plan, run))
                progress.began(run)
            if waiting and not opened and any(progress.is_ending(run) for run in working):
                with contextlib.suppress(OSError):  # a full disk, perhaps: no reason to end the runs at work
                    opened.append(open_process(waiting[0].folder, [lock]))
            for run, process in list(working.items()):
                if process.poll() is not None:
                    del working[run]
                    progress.ended(run, finish(process, job_of(plan, run)))
            progress.show()
            time.sleep(0.2)
    finally:
        for process in [*working.values(), *opened]:
            _kill(process)


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
    _kill(process)  # multi-GPU processes may be left
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


def _kill(process):
    if hasattr(os, "killpg"):
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(process.pid, signal.SIGKILL)
    elif process.poll() is None:
        process.kill()
    process.wait()
    process.stdin.close()


@contextlib.contextmanager
def locked(folder):
    """Keep a folder for this command: the lock is held until it and all its runs have ended.

    Yields:
        (int | None): The lock's file descriptor; None where the system has no such locks.

    Raises:
        ConfigError: Another command holds it.
    """
    try:
        import fcntl
    except ImportError:  # Windows
        yield None
        return
    with open(folder / ".lock", "a+") as file:
        patience = time.monotonic() + PATIENCE
        while True:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except OSError:
                if time.monotonic() > patience:
                    file.seek(0)
                    raise ConfigError(
                        f"{folder}: another command (process {file.read().strip()}) is at work here; wait for its end"
                    ) from None
                time.sleep(0.2)  # the runs of a killed command are just ending
        file.truncate(0)
        file.write(f"{os.getpid()}\n")
        file.flush()
        yield file.fileno()
