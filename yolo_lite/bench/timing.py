"""The process that times models, interleaved.

    python -m yolo_lite.bench.timing '{"runtime": ..., "threads": ..., "seconds": ..., "models": [...]}'

writes one JSON line for each model's input shape, then one for each round with the milliseconds of every model; a model
is [path, precision, image size]. It is a process of its own, so that a runtime has the stated number of threads, and no
other runtime's threads beside it. Neither torch nor Ultralytics is imported, except for TorchScript.
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
WARM_UP = 5  # rounds that are not counted: first runs allocate memory and choose kernels


class Job(TypedDict):
    """What is to be timed; with 0 seconds the models are opened only."""

    runtime: str
    threads: int
    seconds: float
    models: list[tuple[str, str, int]]


def main(job: Job) -> None:
    """Open the models, time them, and print what comes of it."""
    opened = []
    for path, precision, imgsz in job["models"]:
        run, shape = RUNTIMES[job["runtime"]].open(Path(path), job["threads"], precision)
        free = [1, 3, imgsz, imgsz]  # what an export with dynamic sizes leaves open
        sizes = [size if isinstance(size, int) else free[i] for i, size in enumerate(shape)]
        print(json.dumps({"shape": sizes}), flush=True)
        opened.append((run, sizes))
    if job["seconds"]:
        for times in rounds([(run, _noise(sizes)) for run, sizes in opened], job["seconds"]):
            print(json.dumps({"times": times}), flush=True)


def rounds(opened: Sequence[tuple[Run, Array]], seconds: float) -> Iterator[list[float]]:
    """Yield the milliseconds of every model, round by round, each in another order."""
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
