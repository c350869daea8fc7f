"""Schedule of a search: epochs, rungs, finalists and seeds, and a clock that continues after an interruption."""

import math
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from yolo_lite.files import read_json, write_json

FINAL = 0.45  # largest part of the hours that is reserved for the finalists' comparison
REDUCTION = 2  # one of this many candidates continues, to this many times as many epochs
RUNGS = 4  # at most
FIRST = 3  # candidates are compared for the first time after at most this fraction (1/3) of the finalists' epochs
EARLY = 1.3  # asynchronous halving trains this much longer: the first candidates continue against few others
LEAST, MOST = 9, 300  # epochs of the finalists if the user does not set them
LAST = 2  # finalists that get further seeds: with more, each would have too few to tell them apart
SIZES = ((8, 8), (8, 6), (8, 5), (8, 4), (6, 4), (6, 3), (5, 3), (4, 3), (3, 3), (3, 2), (2, 2))
"""Finalists, and seeds of the last two, in order of preference."""
USUAL = (5, 3)  # finalists and seeds for which the default number of epochs is computed


@dataclass(frozen=True)
class Pace:
    """Seconds that a run takes to start and to be evaluated, and seconds per epoch."""

    start: float
    epoch: float

    def seconds(self, epochs: int) -> float:
        """Return the seconds that a run of this many epochs takes."""
        return self.start + epochs * self.epoch


@dataclass(frozen=True)
class Finals:
    """Size of the final comparison.

    Attributes:
        candidates: Number of finalists; each is trained with one seed.
        seeds: Number of seeds of the `LAST` of them.
        epochs: Epochs per run.
    """

    candidates: int
    seeds: int
    epochs: int

    def seconds(self, paces: Sequence[Pace], parallel: int) -> float:
        """Return the duration of the comparison; `paces` are those of its finalists."""
        each = sum(pace.seconds(self.epochs) for pace in paces) / len(paces)
        return rounds(self.candidates, self.seeds, parallel) * each


def rungs_within(seconds: float, pace: Pace, candidates: int, epochs: int, parallel: int, least: int = 1) -> list[int]:
    """Return the epochs after which candidates are compared, the largest that the time allows.

    After very few epochs all scores are near 0 and say nothing, so the first comparison is made as late as there is
    time for, at most after a third of the finalists' epochs.

    Args:
        seconds: Time for the halving.
        pace: Pace of a candidate.
        candidates: Number of candidates.
        epochs: Epochs of the finalists.
        parallel: Number of runs side by side.
        least: Epochs before the first comparison, even if there is no time to train all candidates for so long.
    """
    rungs: list[int] = [1]
    for first in range(1, max(1, epochs // FIRST) + 1):
        longer = [first * REDUCTION**power for power in range(RUNGS) if first * REDUCTION**power <= max(epochs, first)]
        if first > least and candidates_within(seconds, pace, longer, parallel) < candidates:
            break
        rungs = longer
    return rungs


def candidates_within(seconds: float, pace: Pace, rungs: Sequence[int], parallel: int) -> int:
    """Return the number of candidates that can be tried within the seconds for the halving."""
    each, done = 0.0, 0
    for power, epochs in enumerate(rungs):
        each += pace.seconds(epochs - done) / REDUCTION**power
        done = epochs
    return max(0, int(seconds * parallel / (EARLY * each)))


def longer_pilot(done: int, epochs: int) -> int:
    """Return the epochs after which a pilot that has learned nothing yet is looked at again.

    Args:
        done: Epochs that the pilot has been trained for.
        epochs: Epochs of the finalists.
    """
    return min(max(done + 1, done * 3 // 2), max(done, epochs // FIRST))


def rounds(candidates: int, seeds: int, parallel: int) -> int:
    """Return how many runs of a final comparison follow one another.

    All candidates are trained with one seed; after that, the last of them with further seeds.
    """
    return math.ceil(candidates / parallel) + math.ceil(LAST * (seeds - 1) / parallel)


def reserve(seconds: float, pace: Pace, epochs: int, parallel: int) -> float:
    """Return the seconds of a search that are reserved for its finalists, at most `FINAL` of them."""
    return min(FINAL * seconds, 1.1 * rounds(*SIZES[0], parallel) * pace.seconds(epochs))


def epochs_within(seconds: float, pace: Pace, parallel: int) -> int:
    """Return the finalists' epochs, as many as the time reserved for them allows.

    Args:
        seconds: Duration of the whole search, in seconds.
        pace: Pace of a typical candidate.
        parallel: Number of runs at a time.
    """
    each = 0.9 * FINAL * seconds / rounds(*USUAL, parallel)
    return int(min(max((each - pace.start) / pace.epoch, LEAST), MOST))


def finals_within(seconds: float, paces: Sequence[Pace], epochs: int, parallel: int) -> Finals:
    """Return the largest final comparison that fits, or the smallest one with fewer epochs if none does.

    Args:
        seconds: Remaining time, in seconds.
        paces: Paces of the candidates, best candidate first.
        epochs: Desired number of epochs per run.
        parallel: Number of runs at a time.
    """
    for count, seeds in SIZES:
        found = Finals(count, seeds, epochs)
        if len(paces) >= count and found.seconds(paces[:count], parallel) <= seconds:
            return found
    count, seeds = SIZES[-1]
    start, epoch = (sum(getattr(pace, part) for pace in paces[:count]) / count for part in ("start", "epoch"))
    fits = (seconds / rounds(count, seeds, parallel) - start) / epoch if epoch else 0  # 0: unknown pace
    return Finals(count, seeds, max(1, min(int(fits), epochs)))


def seeds_within(seconds: float, paces: Sequence[Pace], epochs: int, parallel: int, done: int = 1) -> int:
    """Return the number of seeds for the last finalists; at least `SIZES[-1]` has.

    Args:
        seconds: Remaining time, in seconds.
        paces: Paces of the last finalists.
        epochs: Epochs per run.
        parallel: Number of runs at a time.
        done: Number of seeds that they have been trained with.
    """
    each = sum(pace.seconds(epochs) for pace in paces) / len(paces)
    least, most = SIZES[-1][1], SIZES[0][1]
    fits = [n for n in range(least, most + 1) if math.ceil(LAST * (n - done) / parallel) * each <= seconds]
    return max(fits, default=least) if each else least  # 0: unknown pace


class Clock:
    """Clock of a search, which includes the time before an interruption.

    Args:
        file: JSON file that stores the seconds spent.
        hours: Maximum duration of the search, in hours.
    """

    def __init__(self, file: Path, hours: float) -> None:
        self.file, self.seconds = file, 3600 * hours
        self.before = float((read_json(file) or {}).get("seconds", 0.0))
        self.began = self.kept = time.monotonic()

    @property
    def spent(self) -> float:
        """Seconds spent so far."""
        return self.before + time.monotonic() - self.began

    @property
    def left(self) -> float:
        """Seconds left; negative if the search has exceeded its time."""
        return self.seconds - self.spent

    def tick(self, every: float = 5) -> None:
        """Save the seconds spent, unless that was done less than `every` seconds ago."""
        if time.monotonic() - self.kept >= every:
            self.kept = time.monotonic()
            write_json(self.file, {"seconds": round(self.spent, 1)})
