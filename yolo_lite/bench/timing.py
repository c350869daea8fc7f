"""The process that times models, interleaved.

    python -m yolo_lite.bench.timing '{"runtime": ..., "threads": ..., "imgsz": ..., "seconds": ..., "models": [...]}'

writes one JSON line for each model's input shape, then one for each round with the milliseconds of every model; a model
is [path, precision]. It is a process of its own, so that a runtime has the stated number of threads, and no other
runtime's threads beside it. Neither torch nor Ultralytics is imported, except for TorchScript.
"""

import json
import random
import sys
import time
from pathlib import Path

from yolo_lite.bench.runtimes import RUNTIMES

MIN_ROUNDS = 20

WARM_UP = 5  # rounds that are not counted: first runs allocate memory and choose kernels


def main(job):
    import numpy as np

    opened = []
    for path, precision in job["models"]:
        run, shape = RUNTIMES[job["runtime"]].open(Path(path), job["threads"], precision)
        free = [1, 3, job["imgsz"], job["imgsz"]]  # what an export with dynamic sizes leaves open
        shape = [size if isinstance(size, int) else free[i] for i, size in enumerate(shape)]
        print(json.dumps({"shape": shape}), flush=True)
        opened.append((run, np.random.default_rng(0).random(shape, np.float32) if job["seconds"] else None))
    if not job["seconds"]:
        return  # they can be opened: all that was asked
    order, shuffle = list(range(len(opened))), random.Random(0).shuffle
    rounds, end = -WARM_UP, None
    while end is None or rounds < MIN_ROUNDS or time.perf_counter() < end:
        shuffle(order)
        times = [0.0] * len(opened)
        for index in order:
            run, image = opened[index]
            start = time.perf_counter()
            run(image)
            times[index] = (time.perf_counter() - start) * 1e3
        rounds += 1
        if rounds > 0:
            print(json.dumps({"times": times}), flush=True)
        elif rounds == 0:
            end = time.perf_counter() + job["seconds"]


if __name__ == "__main__":
    main(json.loads(sys.argv[1]))
