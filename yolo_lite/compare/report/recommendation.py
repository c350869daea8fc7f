"""Recommendation of a comparison: the cheapest of the models that are not shown to be worse than the best one."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from yolo_lite.compare.latency import Row
from yolo_lite.compare.significance import TOO_FEW, Difference

NOTHING = 0.01  # with a mean mAP50-95 below this a model has learned nothing


@dataclass(frozen=True)
class Candidate:
    """Properties of a model that the recommendation depends on.

    Attributes:
        accuracy: Mean mAP50-95 over seeds.
        gflops: GFLOPs of the fused model.
        latency: Latency measurements of the model.
        to_best: Difference to the best model; None for that model.
    """

    accuracy: float
    gflops: float
    latency: Sequence[Row]
    to_best: Difference | None


@dataclass(frozen=True)
class Recommendation:
    """The recommended model, or the reason why there is none.

    Attributes:
        model: Label of the model; None if nothing can be recommended.
        sentence: Sentence for the reader.
        time: Latency measurement that decided; None if the models in question have none in common.
        to_best: Difference to the best model; None if the recommended model is the best one.
    """

    model: str | None
    sentence: str
    time: Row | None = None
    to_best: Difference | None = None

    def to_plain(self) -> dict[str, Any]:
        """Return the recommendation for `results.json`."""
        return {
            "model": self.model,
            "sentence": self.sentence,
            "time": asdict(self.time) if self.time else None,
            "to_best": self.to_best._asdict() if self.to_best else None,
        }


def recommend(candidates: Mapping[str, Candidate], best: str | None = None) -> Recommendation:
    """Recommend one of several models.

    Args:
        candidates: Properties of at least one model, by label.
        best: Label of the best model; None for the one with the highest accuracy.
    """
    best = best or max(candidates, key=lambda label: candidates[label].accuracy)
    if candidates[best].accuracy < NOTHING:
        why = f"every mAP50-95 is below {NOTHING}. Train longer; with few images, set nbs to the batch size."
        return Recommendation(None, f"No recommendation: {why}")
    if len(candidates) == 1:
        return Recommendation(None, "Only one model: nothing to compare it with.")
    differences = {label: each.to_best for label, each in candidates.items() if each.to_best is not None}
    if all(each.verdict == TOO_FEW for each in differences.values()):
        return Recommendation(None, "No recommendation from one seed: use seeds=0,1,2 or more to tell models apart.")
    left = [best, *(label for label, each in differences.items() if each.verdict not in ("worse", TOO_FEW))]
    way = _common_way([candidates[label] for label in left])
    times = {label: row for label in left for row in candidates[label].latency if row.way == way and not row.control}
    chosen = min(left, key=lambda label: times[label].p50 if way else candidates[label].gflops)
    time, difference = times.get(chosen), differences.get(chosen)
    sentence = _sentence(chosen, best, candidates[chosen], time, _measured_first(candidates), difference)
    return Recommendation(chosen, sentence, time, difference)


def _common_way(candidates: Sequence[Candidate]) -> str | None:
    """Return the first combination of runtime, precision and threads in which all were measured; None without one."""
    ways = [each.way for each in candidates[0].latency if not each.control]
    return next((way for way in ways if all(way in {row.way for row in each.latency} for each in candidates)), None)


def _measured_first(candidates: Mapping[str, Candidate]) -> str | None:
    """Return the model that latency ratios are relative to; its own ratio is exactly 1."""
    return next(
        (label for label, each in candidates.items() if any(row.low == row.high == 1 for row in each.latency)), None
    )


def _sentence(
    label: str, best: str, candidate: Candidate, time: Row | None, first: str | None, to_best: Difference | None
) -> str:
    cost = f"{candidate.gflops:.2f} GFLOPs; latency has not been measured"
    if time is not None:
        cost = f"{time.p50:.1f} ms in {time.way}"
        if first not in (None, label):
            cost += f", {time.ratio:.2f} [{time.low:.2f}, {time.high:.2f}] of {first}'s time"
    if to_best is None:
        return f"Recommended: {label}, the most accurate, and the cheapest of those not shown to be worse ({cost})."
    return (
        f"Recommended: {label}, the cheapest of those not shown to be worse than {best} ({cost}); its mAP50-95 differs "
        f"from {best}'s by {to_best.mean:+.3f} [{to_best.low:+.3f}, {to_best.high:+.3f}]."
    )
