"""Timing process, which runs models interleaved.

    python -m yolo_lite.bench.timing '{"runtime": ..., "threads": ..., "seconds": ..., "models": [...]}'

writes one JSON line with the input shape of each model, then one per round with the milliseconds of all models; a model
is [path, precision, image size]. It is a separate process so that the runtime uses the given number of threads and does
not compete with threads of other runtimes. Ultralytics is not imported, and torch only for TorchScript and ExecuTorch.
"""

import json
import random
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TypedDict

from yolo_lite.bench.runtimes import RUNTIMES, Array, Run

MIN_ROUNDS = 20
WARM_UP = 5  # rounds that are not counted, since the first runs allocate memory and select kernels


class Job(TypedDict):
    """Models to time and the conditions; with 0 seconds the models are only opened."""

    runtime: str
    threads: int
    seconds: float
    models: list[tuple[str, str, int]]


def main(job: Job) -> None:
    """Open the models, time them and print the results."""
    opened = []
    for path, precision, imgsz in job["models"]:
        run, shape = RUNTIMES[job["runtime"]].open(Path(path), job["threads"], precision)
        free = [1, 3, imgsz, imgsz]  # values for the dynamic dimensions of an export
        sizes = [size if isinstance(size, int) else free[i] for i, size in enumerate(shape)]
        print(json.dumps({"shape": sizes}), flush=True)
        opened.append((run, sizes))
    if job["seconds"]:
        for times in rounds([(run, _noise(sizes)) for run, sizes in opened], job["seconds"]):
            print(json.dumps({"times": times}), flush=True)


def rounds(opened: Sequence[tuple[Run, Array]], seconds: float) -> Iterator[list[float]]:
    """Yield the milliseconds of all models for each round; the models run in a new random order each round."""
    order, shuffle = list(range(len(opened))), random.Random(0).shuffle
    number, end = -WARM_UP, float("inf")
    while number < MIN_ROUNDS or time.perf_counter() < end:
        shuffle(order)
        times = [0.0] * len(opened)
        for index in order:
            run, image = opened[index]
            start = time.perf_counter()
            run(image)
            times[index] = (time.perf_counter() - start) * 1e3
        number += 1
        if number > 0:
            yield times
        elif number == 0:
            end = time.perf_counter() + seconds


def _noise(shape: Sequence[int]) -> Array:
    import numpy as np

    return np.random.default_rng(0).random(shape, np.float32)


if __name__ == "__main__":
    main(json.loads(sys.argv[1]))
