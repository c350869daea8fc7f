"""How much a figure depends on which images happen to be in the test set: a bootstrap over images.

This is another uncertainty than that over seeds: it says how the same trained models would do on other images of the
same kind. All models are resampled alike, so differences are paired by image.
"""

import numpy as np

RESAMPLES = 500
THRESHOLDS = 10  # of IoU: 0.50, 0.55, ..., 0.95
AT_ONCE = 4_000_000  # numbers in a block of work


class Counted:
    """What the validator counted of one run, image by image, as `images.npz` holds it."""

    def __init__(self, path):
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


def resamples(images, number=RESAMPLES, seed=0):
    """Draw how often each image counts, (number, images): as many images as there are, with replacement."""
    return np.random.default_rng(seed).multinomial(images, np.full(images, 1 / images), size=number)


def average_precision(counted, weights):
    """Return mAP with every image counted as often as its weight says.

    Args:
        counted: A `Counted`.
        weights: (resamples, images).

    Returns:
        (np.ndarray, np.ndarray): mAP50 and mAP50-95, (resamples,). With all weights 1, what Ultralytics computes, up to
            the rounding of confidences.
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


def _class_precision(weights, right, objects):
    """Return one class's average precision, (resamples, THRESHOLDS); 0 where a resample has no such object."""
    from ultralytics.utils.metrics import compute_ap

    found = np.zeros((len(weights), THRESHOLDS))
    seen = weights.cumsum(1)
    for threshold in range(THRESHOLDS):
        places = np.flatnonzero(right[:, threshold])
        if len(places) == 0:
            continue
        # Only right detections raise the precision, so the curve is made by them and by the points just before them.
        points = np.union1d(places, np.maximum(places - 1, 0))
        hits = (weights[:, points] * right[points, threshold]).cumsum(1)
        so_far = seen[:, points]
        precision = np.ones(hits.shape)  # where nothing is seen yet the curve begins with 1, as the host's does
        np.divide(hits, so_far, out=precision, where=so_far > 0)
        for row in np.flatnonzero(objects):
            found[row, threshold] = compute_ap(hits[row] / objects[row], precision[row])[0]
    return found


def intervals(runs, pairs, level=0.95):
    """Return the uncertainty of the test set, for every model and for differences between them.

    Args:
        runs: {model: {seed: Counted}}.
        pairs: {model: the one that it is compared with}.

    Returns:
        (dict): {model: {metric: {"low", "high", "difference": [low, high] or None}}}, averaged over seeds; empty where
            runs were evaluated on different images.
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

    def mean(model, seeds, metric):
        return np.mean([scores[model][seed][metric] for seed in seeds], axis=0)

    result = {}
    for model, seeds in scores.items():
        result[model] = {}
        for number, metric in enumerate(("mAP50", "mAP50-95")):
            low, high = np.percentile(mean(model, seeds, number), tails)
            common = sorted(set(seeds) & set(scores.get(pairs.get(model), ())))
            difference = None
            if common:
                gap = mean(model, common, number) - mean(pairs[model], common, number)
                difference = np.percentile(gap, tails).tolist()
            result[model][metric] = {"low": float(low), "high": float(high), "difference": difference}
    return result
