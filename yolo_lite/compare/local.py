"""Parallel runs on this machine, and the lock that keeps two commands out of the same folder."""

import contextlib
import os
import time
from collections.abc import Iterator
from pathlib import Path

from yolo_lite.compare.process import Job, Process, begin, finish, kill, open_process
from yolo_lite.compare.record import RunRecord
from yolo_lite.errors import ConfigError

PATIENCE = 15  # seconds to wait for the runs of a killed command to end


class Here:
    """Workers on this machine, each in its own process.

    Args:
        parallel: Maximum number of runs at a time.
        lock: File descriptor of the lock, which the processes keep open while they live; None without a lock.
    """

    queues = False

    def __init__(self, parallel: int, lock: int | None) -> None:
        self.parallel, self.lock = parallel, lock
        self.working: list[tuple[Job, Process]] = []
        self.opened: list[Process] = []

    def has_room(self) -> bool:
        """Return whether another run may start."""
        return len(self.working) < self.parallel

    def begin(self, job: Job) -> None:
        """Start a run."""
        process = self.opened.pop() if self.opened else open_process(Path(job.folder), [self.lock])
        self.working.append((job, process))
        begin(process, job)

    def expect(self, folder: Path) -> None:
        """Start the process of the next run ahead of time, since its imports take a second or two."""
        if not self.opened:
            with contextlib.suppress(OSError):  # such as a full disk: no reason to stop other runs
                self.opened.append(open_process(folder, [self.lock]))

    def ended(self) -> list[tuple[Job, RunRecord]]:
        """Wait briefly; return the runs that have ended."""
        time.sleep(0.2)
        over = [(job, process) for job, process in self.working if process.poll() is not None]
        self.working = [each for each in self.working if each not in over]
        return [(job, finish(process, job)) for job, process in over]

    def close(self) -> None:
        """Kill all processes."""
        for process in [*(process for _, process in self.working), *self.opened]:
            kill(process)


@contextlib.contextmanager
def locked(folder: Path) -> Iterator[int | None]:
    """Lock a folder for this command, until the command and all its runs have ended.

    Yields:
        (int | None): File descriptor of the lock; None if the system has no such locks.

    Raises:
        ConfigError: Another command holds the lock.
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
                        f"{folder}: another command (process {file.read().strip()}) is running here; wait until it ends"
                    ) from None
                time.sleep(0.2)  # the runs of a killed command may be about to end
        file.truncate(0)
        file.write(f"{os.getpid()}\n")
        file.flush()
        yield file.fileno()
