"""How long candidates take: some dozen are measured, the others told from them, and those that matter measured, too."""

import statistics
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from yolo_lite.bench.interleaved import measure
from yolo_lite.choose.candidates import Candidate
from yolo_lite.choose.cost_model import CostModel, Work, fit
from yolo_lite.errors import ConfigError, one_line
from yolo_lite.files import read_json, write_json

FIRST = 36  # candidates that the cost model is fitted to
SECONDS = 2  # for each model
BATCH = 12  # models that are measured side by side
SLACK = 1.1  # candidates that are told to take so much more than the budget may still be within it
Say = Callable[[str], None]


@dataclass(frozen=True)
class Device:
    """What latency is measured with: a runtime, its threads, fp32 or int8."""

    runtime: str = "onnxruntime"
    threads: int = 1
    data: str | None = None  # of int8, the dataset that calibrates it


class Timings:
    """Measured milliseconds, kept in a file as they come.

    A machine is slower at one time than at another. So one candidate is measured again with all the others, and what
    is kept of these are ratios to its time.

    Args:
        file: Where.
        reference: The candidate that all are measured with.
        models: The folder of the candidates' YAMLs.
        device: What to measure with.
        say: Called with lines of text on the way.
    """

    def __init__(self, file: Path, reference: Candidate, models: Path, device: Device, say: Say) -> None:
        self.file, self.reference, self.models, self.device, self.say = file, reference, models, device, say
        kept = read_json(file) or {}
        self.references: list[float] = kept.get("references", [])  # milliseconds of the reference, each time
        self.ratios: dict[str, float] = kept.get("ratios", {})
        self.failed: dict[str, str] = {}  # what cannot be exported or run -> why

    @property
    def known(self) -> dict[str, float]:
        """Milliseconds by label."""
        usual = statistics.median(self.references) if self.references else 0.0
        return {label: usual * ratio for label, ratio in self.ratios.items()}

    def measure(self, candidates: Sequence[Candidate]) -> None:
        """Measure those that are not known, some interleaved with each other and the reference."""
        new = [each for each in candidates if each.label not in {*self.ratios, *self.failed}]
        for start in range(0, len(new), BATCH):
            self._measure(new[start : start + BATCH])

    def _measure(self, candidates: Sequence[Candidate]) -> None:
        together = [self.reference, *(each for each in candidates if each != self.reference)]
        names = {each.label: self.models / f"{each.name}.yaml" for each in together}
        sizes = {each.label: each.imgsz for each in together}
        device = self.device
        try:
            found = measure(
                names, [device.runtime], [device.threads], sizes, SECONDS, data=device.data, say=self.say
            )  # fmt: skip
        except ConfigError as error:
            if len(candidates) == 1:
                self.failed[candidates[0].label] = one_line(error)
                return
            for each in candidates:  # one of them cannot be exported, or run
                self._measure([each])
            return
        precision = "int8" if device.data else "fp32"
        times = {row.model: row.p50 for row in found if not row.control and row.precision == precision}
        usual = times[self.reference.label]
        self.references.append(usual)
        self.ratios |= {label: time / usual for label, time in times.items()}
        write_json(self.file, {"references": self.references, "ratios": self.ratios})


def spread(works: Mapping[Candidate, Work], count: int) -> list[Candidate]:
    """Choose candidates that differ: of each backbone in turn, small and large ones of any neck and head.

    Args:
        works: What all of them do.
        count: How many.
    """
    groups: dict[str | None, list[Candidate]] = {}
    for each in sorted(works, key=lambda candidate: sum(works[candidate].values())):
        groups.setdefault(each.backbone, []).append(each)
    chosen: list[Candidate] = []
    turn = 0
    while len(chosen) < min(count, len(works)):
        for number, group in enumerate(groups.values()):
            if group and len(chosen) < count:
                chosen.append(group.pop((number + turn) * 7919 % len(group)))  # a place that is no pattern
        turn += 1
    return chosen


def fitted(timings: Timings, works: Mapping[Candidate, Work], first: int = FIRST) -> CostModel:
    """Measure a first few candidates and fit the cost model to all that are known."""
    timings.measure(spread(works, first))
    measured = timings.known
    known = [each for each in works if each.label in measured]
    return fit([works[each] for each in known], [measured[each.label] for each in known])


def within(predicted: Mapping[Candidate, float], budget: float, count: int) -> list[Candidate]:
    """Return the candidates that are worth measuring: those that may fit the budget, the slowest of them first.

    What takes longer has more to learn with; but a part of the places goes to the fastest, by turns.

    Args:
        predicted: Milliseconds.
        budget: Milliseconds.
        count: How many at most.
    """
    fits = sorted((each for each, time in predicted.items() if time <= SLACK * budget), key=predicted.__getitem__)
    if len(fits) <= count:
        return fits[::-1]
    few = count // 4
    rest = fits[: len(fits) - (count - few)]
    return fits[: -(count - few) - 1 : -1] + rest[:: max(len(rest) // max(few, 1), 1)][:few]


def check_budget(predicted: Iterable[float], budget: float) -> None:
    """Refuse a budget that nothing meets.

    Raises:
        ConfigError: The fastest candidate takes longer.
    """
    fastest = min(predicted)
    if fastest > SLACK * budget:
        raise ConfigError(f"budget={budget:g}ms: the fastest of the candidates takes about {fastest:.1f} ms")
