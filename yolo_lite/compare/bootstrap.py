"""Bootstrap over images: how much a metric depends on which images happen to be in the test set.

This is a different uncertainty from that over seeds: it estimates how the same trained models would perform on other
images of the same kind. All models use the same resamples, so differences are paired by image.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

Array = np.ndarray[Any, Any]
RESAMPLES = 500
THRESHOLDS = 10  # number of IoU thresholds: 0.50, 0.55, ..., 0.95
AT_ONCE = 4_000_000  # array elements processed per block


@dataclass(frozen=True)
class Interval:
    """Bootstrap interval over the test images of a metric averaged over seeds.

    Attributes:
        low, high: Ends of the metric's interval.
        difference: Ends of the interval of the difference to the other model; None without another model.
    """

    low: float
    high: float
    difference: tuple[float, float] | None


class Counted:
    """Per-image detections and labels of one run, as counted by the validator and stored in `images.npz`."""

    def __init__(self, path: Path) -> None:
        self.path = path
        with np.load(path) as file:
            self.names = file["names"].tolist()
            order = np.argsort(-file["confidence"].astype(float), kind="stable")
            image = np.repeat(np.arange(len(self.names)), file["detections"])
            self.image = image[order]
            self.predicted = file["predicted"][order]
            right = file["right"][order]
            self.right = (right[:, None] >> np.arange(THRESHOLDS, dtype=np.uint16) & 1).astype(bool)
            self.objects = file["objects"]
            self.object_image = np.repeat(np.arange(len(self.names)), file["labelled"])


def resamples(images: int, number: int = RESAMPLES, seed: int = 0) -> Array:
    """Draw bootstrap weights, (number, images): how often each image is drawn, with replacement."""
    return np.random.default_rng(seed).multinomial(images, np.full(images, 1 / images), size=number)


def average_precision(counted: Counted, weights: Array) -> tuple[Array, Array]:
    """Compute mAP with every image counted as often as its weight.

    Args:
        counted: Per-image detections and labels of one run.
        weights: Weight of each image in each resample, (resamples, images).

    Returns:
        (np.ndarray, np.ndarray): mAP50 and mAP50-95, (resamples,). With all weights 1 they equal Ultralytics' values,
            up to the rounding of confidences.
    """
    total = np.zeros((len(weights), THRESHOLDS))
    classes = np.zeros(len(weights))
    for label in np.unique(counted.objects):
        objects = weights[:, counted.object_image[counted.objects == label]].sum(1)
        chosen = counted.predicted == label
        image, right = counted.image[chosen], counted.right[chosen]
        step = max(1, AT_ONCE // max(len(image), 1))
        for start in range(0, len(weights), step):
            rows = slice(start, start + step)
            total[rows] += _class_precision(weights[rows][:, image], right, objects[rows])
        classes += objects > 0
    mean = total / np.maximum(classes, 1)[:, None]
    return mean[:, 0], mean.mean(1)


def _class_precision(weights: Array, right: Array, objects: Array) -> Array:
    """Return the average precision of one class, (resamples, THRESHOLDS); 0 where a resample has no such object."""
    from ultralytics.utils.metrics import compute_ap

    found = np.zeros((len(weights), THRESHOLDS))
    seen = weights.cumsum(1)
    for threshold in range(THRESHOLDS):
        places = np.flatnonzero(right[:, threshold])
        if len(places) == 0:
            continue
        # Only correct detections raise the precision, so they and the points just before them define the curve; its
        # last point is kept too, since older releases of Ultralytics draw a line from it to a recall of 1.
        points = np.union1d([*places, len(right) - 1], np.maximum(places - 1, 0))
        hits = (weights[:, points] * right[points, threshold]).cumsum(1)
        so_far = seen[:, points]
        precision = np.ones(hits.shape)  # before the first detection the precision is 1, as in Ultralytics
        np.divide(hits, so_far, out=precision, where=so_far > 0)
        for row in np.flatnonzero(objects):
            found[row, threshold] = compute_ap(hits[row] / objects[row], precision[row])[0]
    return found


def intervals(
    runs: Mapping[str, Mapping[int, Counted]], pairs: Mapping[str, str], level: float = 0.95
) -> dict[str, dict[str, Interval]]:
    """Compute bootstrap intervals over the test images, of every model and of differences between models.

    Args:
        runs: {model: {seed: Counted}}.
        pairs: {model: model that it is compared with}.
        level: Confidence level.

    Returns:
        (dict): Intervals by model, then by metric; empty if runs were evaluated on different images.
    """
    names = {tuple(counted.names) for seeds in runs.values() for counted in seeds.values()}
    if len(names) != 1:
        return {}
    weights = resamples(len(names.pop()))
    tails = [50 * (1 - level), 50 * (1 + level)]
    scores = {
        model: {seed: average_precision(counted, weights) for seed, counted in seeds.items()}
        for model, seeds in runs.items()
    }

    def ends(values: list[Array]) -> tuple[float, float]:
        low, high = np.percentile(np.mean(values, axis=0), tails).tolist()
        return low, high

    found: dict[str, dict[str, Interval]] = {}
    for model, own in scores.items():
        other = scores.get(pairs.get(model, ""), {})
        common = sorted(own.keys() & other.keys())
        found[model] = {
            metric: Interval(
                *ends([score[number] for score in own.values()]),
                ends([own[seed][number] - other[seed][number] for seed in common]) if common else None,
            )
            for number, metric in enumerate(("mAP50", "mAP50-95"))
        }
    return found
