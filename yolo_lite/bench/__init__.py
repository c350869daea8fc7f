"""`yolo-lite bench`: how long models take in the runtimes that people deploy with, and how they compare.

run.py          the command: measures, writes and prints
interleaved.py  `measure`: what is measured, in which order
measurement.py  one model in one runtime: time, ratio, interval
process.py      the timing process as its parent sees it
timing.py       the process that times models, interleaved
runtimes.py     what each runtime needs, how it opens and runs an export; a new one is a function and a row
export.py       exports, complete or absent
compilers.py    what compilers of edge devices make of a model; a new one is a function and a row
int8.py         int8 for onnxruntime
parity.py       how much an export differs from PyTorch
report.py       tables, CSV and remarks
plot.py         the plot
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from yolo_lite.bench.interleaved import measure as measure


def __getattr__(name: str) -> Any:
    """Import `measure` when it is first used: the timing process imports this package, too, and needs nothing of it."""
    if name != "measure":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from yolo_lite.bench.interleaved import measure

    return measure
