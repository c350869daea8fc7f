"""The runs of a plan on this machine, side by side; the lock that keeps two commands apart."""

import contextlib
import os
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

from yolo_lite.compare.plan import Plan, Run
from yolo_lite.compare.process import Process, begin, finish, job_of, kill, open_process
from yolo_lite.compare.progress import Progress
from yolo_lite.errors import ConfigError

PATIENCE = 15  # seconds that the runs of a killed command have to end


def run_here(plan: Plan, runs: Sequence[Run], progress: Progress, lock: int | None) -> None:
    """Work through runs, `parallel` of them at a time.

    The next run's process opens in the last epoch of a present one, since its imports take a second or two.
    """
    waiting = list(runs)
    working: dict[Run, Process] = {}
    opened: list[Process] = []
    try:
        while waiting or working:
            while waiting and len(working) < plan.settings.parallel:
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
            kill(process)


@contextlib.contextmanager
def locked(folder: Path) -> Iterator[int | None]:
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
