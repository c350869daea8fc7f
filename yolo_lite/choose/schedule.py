"""How a search spends its time: epochs, rungs, finalists and seeds; the clock that goes on after an interruption."""

import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from yolo_lite.files import read_json, write_json

FINAL = 0.45  # of the hours is kept for the finalists' comparison
REDUCTION = 3  # of that many candidates one goes on, and for that many times as long
RUNGS = 3  # below the finalists' epochs
LEAST, MOST = 9, 300  # epochs of the finalists, where the user says nothing
SIZES = ((4, 3), (3, 3), (3, 2), (2, 2))  # finalists and seeds, the best first


@dataclass(frozen=True)
class Finals:
    """What fits into the time: so many candidates, seeds each, epochs each."""

    candidates: int
    seeds: int
    epochs: int


@dataclass(frozen=True)
class Pace:
    """Seconds that a run takes to start and to be evaluated, and that an epoch of it takes."""

    start: float
    epoch: float

    def seconds(self, epochs: int) -> float:
        """Return the seconds of a run."""
        return self.start + epochs * self.epoch


def rungs_of(epochs: int) -> list[int]:
    """Return the epochs after which candidates are compared, below those of the finalists."""
    found = {max(1, round(epochs / REDUCTION**power)) for power in range(1, RUNGS + 1)}
    return sorted(found - {epochs}) or [1]


def epochs_within(seconds: float, pace: Pace, parallel: int) -> int:
    """Return the finalists' epochs, as many as the time kept for them allows.

    Args:
        seconds: Of the whole search.
        pace: Of a candidate.
        parallel: Runs side by side.
    """
    count, seeds = SIZES[1]
    each = 0.9 * FINAL * seconds * parallel / (count * seeds)
    return int(min(max((each - pace.start) / pace.epoch, LEAST), MOST))


def finals_within(seconds: float, paces: Sequence[Pace], epochs: int, parallel: int) -> Finals:
    """Return the largest final comparison that fits; the smallest with fewer epochs where none does.

    Args:
        seconds: That are left.
        paces: Of the candidates, the best first.
        epochs: That they should have.
        parallel: Runs side by side.
    """
    for count, seeds in SIZES:
        if len(paces) >= count and seeds * sum(pace.seconds(epochs) for pace in paces[:count]) / parallel <= seconds:
            return Finals(count, seeds, epochs)
    count, seeds = min(SIZES[-1][0], len(paces)), SIZES[-1][1]
    fits = seconds * parallel / seeds - sum(pace.start for pace in paces[:count])
    each = sum(pace.epoch for pace in paces[:count]) or float("inf")  # nothing is known of it
    return Finals(count, seeds, max(1, min(int(fits / each), epochs)))


class Clock:
    """Counts the seconds that a search has taken, those before an interruption too.

    Args:
        file: Where they are kept.
        hours: That it may take.
    """

    def __init__(self, file: Path, hours: float) -> None:
        self.file, self.seconds = file, 3600 * hours
        self.before = float((read_json(file) or {}).get("seconds", 0.0))
        self.began = self.kept = time.monotonic()

    @property
    def spent(self) -> float:
        """Seconds so far."""
        return self.before + time.monotonic() - self.began

    @property
    def left(self) -> float:
        """Seconds left, below 0 where it has taken longer."""
        return self.seconds - self.spent

    def tick(self, every: float = 5) -> None:
        """Write the time down, if that was not done for so many seconds."""
        if time.monotonic() - self.kept >= every:
            self.kept = time.monotonic()
            write_json(self.file, {"seconds": round(self.spent, 1)})
