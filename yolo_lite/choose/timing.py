"""Latency of the candidates: a few dozen are measured, the others predicted, and those near the budget measured too."""

import itertools
import math
import shutil
import statistics
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from yolo_lite.bench.interleaved import measure
from yolo_lite.choose.candidates import Candidate
from yolo_lite.choose.cost_model import CostModel, Work, fit
from yolo_lite.errors import ConfigError, one_line
from yolo_lite.files import read_json, write_json

FIRST = 36  # number of candidates measured to fit the cost model
SECONDS = 2  # measuring time per model
BATCH = 12  # number of models measured together, interleaved
SLACK = 1.1  # candidates predicted to take up to this many times the budget may still be within it
Say = Callable[[str], None]


@dataclass(frozen=True)
class Device:
    """Measuring conditions: a runtime, its number of threads, and fp32 or int8."""

    runtime: str = "onnxruntime"
    threads: int = 1
    data: str | None = None  # dataset that calibrates int8; None for fp32


class Timings:
    """Measured latencies, saved to a file after each batch.

    The speed of a machine varies over time. So one reference candidate is measured again in every batch, and the
    latencies of the others are stored as ratios to its latency.

    Args:
        file: JSON file that stores the measurements.
        reference: Candidate that is measured in every batch.
        models: Folder of the candidates' YAMLs.
        device: Measuring conditions.
        say: Callback that is given progress messages.
    """

    def __init__(self, file: Path, reference: Candidate, models: Path, device: Device, say: Say) -> None:
        self.file, self.models, self.device, self.say = file, models, device, say
        kept = read_json(file) or {}
        self.reference = Candidate(**kept["reference"]) if kept else reference
        self.references: list[float] = kept.get("references", [])  # milliseconds of the reference in each batch
        self.ratios: dict[str, float] = kept.get("ratios", {})
        self.failed: dict[str, str] = {}  # label -> why it cannot be exported or run

    @property
    def known(self) -> dict[str, float]:
        """Latency in milliseconds, by label."""
        usual = statistics.median(self.references) if self.references else 0.0
        return {label: usual * ratio for label, ratio in self.ratios.items()}

    def measure(self, candidates: Sequence[Candidate], until: float = math.inf) -> None:
        """Measure the candidates that are not known yet, in batches interleaved with the reference.

        Args:
            candidates: Candidates to measure.
            until: Value of `time.monotonic` after which no further batch is begun; there is always one.

        Raises:
            ConfigError: None of the candidates can be exported and run.
        """
        self._settle_reference(candidates)
        new = [each for each in candidates if each.label not in {*self.ratios, *self.failed}]
        for start in range(0, len(new), BATCH):
            if start and time.monotonic() > until:
                break
            self._measure(new[start : start + BATCH])

    def _settle_reference(self, candidates: Sequence[Candidate]) -> None:
        """Measure the reference alone first, since it is part of every batch; if that fails, take another one."""
        for each in [self.reference, *candidates]:
            if self.references:
                return
            if each.label not in self.failed:
                self.reference = each
                self._measure([each])
        if not self.references:
            label, reason = next(iter(self.failed.items()))
            raise ConfigError(f"no candidate can be exported and run; {label}: {reason}")

    def _measure(self, candidates: Sequence[Candidate]) -> None:
        together = [self.reference, *(each for each in candidates if each != self.reference)]
        names = {each.label: self.models / f"{each.name}.yaml" for each in together}
        sizes = {each.label: each.imgsz for each in together}
        device, exports = self.device, self.file.with_name("exports")
        way = [device.runtime], [device.threads]
        try:  # exports are kept until they are measured, so that a command that is killed again and again gets on
            found = measure(names, *way, sizes, SECONDS, exports, device.data, self.say)
        except ConfigError as error:
            if len(candidates) == 1:
                self.failed[candidates[0].label] = one_line(error)
                return
            for each in candidates:  # one of them cannot be exported or run: find out which
                self._measure([each])
            return
        precision = "int8" if device.data else "fp32"
        times = {row.model: row.p50 for row in found if not row.control and row.precision == precision}
        usual = times[self.reference.label]
        self.references.append(usual)
        self.ratios |= {label: own / usual for label, own in times.items()}
        kept = {"reference": asdict(self.reference), "references": self.references, "ratios": self.ratios}
        write_json(self.file, kept)
        shutil.rmtree(exports, ignore_errors=True)


def spread(works: Mapping[Candidate, Work], count: int) -> list[Candidate]:
    """Choose diverse candidates: take turns between backbones, small and large models, with any neck and head.

    Args:
        works: Work of each candidate.
        count: Number of candidates to choose.
    """
    groups: dict[str | None, list[Candidate]] = {}
    for each in sorted(works, key=lambda candidate: sum(works[candidate].values())):
        groups.setdefault(each.family, []).append(each)
    chosen: list[Candidate] = []
    turn = 0
    while len(chosen) < min(count, len(works)):
        for number, group in enumerate(groups.values()):
            if group and len(chosen) < count:
                chosen.append(group.pop((number + turn) * 7919 % len(group)))  # an index without a regular pattern
        turn += 1
    return chosen


def fitted(timings: Timings, works: Mapping[Candidate, Work], first: int = FIRST, until: float = math.inf) -> CostModel:
    """Measure a first sample of candidates and fit the cost model to all measured candidates."""
    timings.measure(spread(works, first), until)
    measured = timings.known
    known = [each for each in works if each.label in measured]
    return fit([works[each] for each in known], [measured[each.label] for each in known])


def within(predicted: Mapping[Candidate, float], budget: float, count: int, error: float = 0.0) -> list[Candidate]:
    """Return the candidates that are worth measuring: those that will probably fit the budget, slowest first.

    Slower models have more capacity. So families take turns with their slowest candidates, but a quarter of the places
    goes to an even sample of the faster ones. Candidates that may be over the budget only fill places that are left.

    Args:
        predicted: Predicted latency of each candidate, in milliseconds.
        budget: Maximum latency, in milliseconds.
        count: Maximum number of candidates.
        error: Relative error of the predictions.
    """
    slowest = sorted(predicted, key=predicted.__getitem__, reverse=True)
    fits = [each for each in slowest if predicted[each] * (1 + error) <= budget]
    if len(fits) <= count:
        beyond = [each for each in slowest[::-1] if each not in fits and predicted[each] <= SLACK * budget]
        return fits + beyond[: count - len(fits)]
    groups: dict[str | None, list[Candidate]] = {}
    for each in fits:
        groups.setdefault(each.family, []).append(each)
    turns = [each for turn in itertools.zip_longest(*groups.values()) for each in turn if each is not None]
    few = count // 4
    chosen = turns[: count - few]
    rest = [each for each in fits if each not in chosen]
    return chosen + rest[:: max(len(rest) // max(few, 1), 1)][:few]


def check_budget(predicted: Iterable[float], budget: float) -> None:
    """Check that at least one candidate may meet the budget.

    Raises:
        ConfigError: Even the fastest candidate exceeds the budget by more than `SLACK` allows.
    """
    fastest = min(predicted)
    if fastest > SLACK * budget:
        raise ConfigError(f"budget={budget:g}ms: the fastest of the candidates takes about {fastest:.1f} ms")
