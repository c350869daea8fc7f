"""One-line display of the overall progress with the remaining time."""

import sys
import time
from pathlib import Path
from types import TracebackType
from typing import TextIO

from yolo_lite.compare.plan import Plan, Run
from yolo_lite.compare.record import RunRecord, is_finished

EVERY = 600  # seconds between lines if the output is no terminal


class Progress:
    """Progress over the epochs of all runs; a context manager."""

    def __init__(self, plan: Plan, stream: TextIO | None = None) -> None:
        self.runs, self.epochs = plan.runs, int(plan.comparison.train["epochs"])
        self.stream = stream or sys.stderr
        self.over = {run for run in plan.runs if is_finished(run.folder)}
        self.began_at, self.shown_at = time.monotonic(), 0.0
        self.failed: list[Run] = []
        self.before = 0  # epochs that were done at the start
        self.live = self.stream.isatty()

    def __enter__(self) -> "Progress":
        self.before = self._done()
        return self

    def __exit__(self, *_: type[BaseException] | BaseException | TracebackType | None) -> None:
        if self.live:
            print(file=self.stream)

    def _done(self) -> int:
        return sum(self.epochs if run in self.over else _epochs(run.folder) for run in self.runs)

    def left(self, seconds: float) -> float | None:
        """Estimate the remaining seconds from the seconds since the start; None if no epoch has been trained yet.

        A failed run counts as complete, but only the epochs that it trained count for the pace.
        """
        done = self._done()
        trained = done - self.before - sum(self.epochs - _epochs(run.folder) for run in self.failed)
        return seconds / trained * (self.epochs * len(self.runs) - done) if trained > 0 else None

    def is_ending(self, run: Run) -> bool:
        """Return whether a run has at most one epoch left."""
        return _epochs(run.folder) >= self.epochs - 1

    def began(self, run: Run) -> None:
        """Print that a run has started."""
        self._say(f"{run}: started")

    def ended(self, run: Run, record: RunRecord) -> None:
        """Print how a run has ended."""
        self.over.add(run)
        if record.metrics is None:
            self.failed.append(run)
            self._say(f"{run}: FAILED: {record.error}")
        else:
            figures = record.metrics.figures
            text = f"mAP50 {figures['mAP50']:.3f}, mAP50-95 {figures['mAP50-95']:.3f}"
            self._say(f"{run}: {record.status}, {text}")
        self.show(now=True)

    def _say(self, text: str) -> None:
        print(("\r\033[K" if self.live else "") + text, file=self.stream, flush=True)

    def show(self, now: bool = False) -> None:
        """Show the progress line: twice a second on a terminal, else when a run ends and every ten minutes."""
        since = time.monotonic() - self.shown_at
        if not now and since < (0.5 if self.live else EVERY):
            return
        self.shown_at = time.monotonic()
        total, done = self.epochs * len(self.runs), self._done()
        left = self.left(time.monotonic() - self.began_at)
        clock = "?" if left is None else _clock(left)
        text = f"{len(self.over)}/{len(self.runs)} runs, {done}/{total} epochs, {clock} left"
        text += f", {len(self.failed)} failed" if self.failed else ""
        print(f"\r\033[K{text}" if self.live else text, end="" if self.live else "\n", file=self.stream, flush=True)


def _epochs(folder: Path) -> int:
    """Count the epochs that a run has trained so far."""
    try:
        return max((folder / "results.csv").read_bytes().count(b"\n") - 1, 0)
    except OSError:
        return 0


def _clock(seconds: float) -> str:
    minutes, seconds = divmod(int(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes:02} min" if hours else f"{minutes} min {seconds:02} s"
