"""`yolo-lite bench`: measure and compare the latency of models in deployment runtimes.

run.py          entry point of the command: measure, write and print
interleaved.py  `measure`: interleaved measurement of several models
measurement.py  result for one model in one runtime: latency, ratio, confidence interval
process.py      parent's side of the timing process
timing.py       timing process, which runs the models interleaved
runtimes.py     requirements of each runtime, and how it opens and runs an export; a new one is a function and a row
export.py       exports, written atomically and cached
compilers.py    reports of edge device compilers about a model; a new one is a function and a row
int8.py         int8 quantisation for onnxruntime
parity.py       deviation of an export from PyTorch
report.py       tables, CSV and remarks
plot.py         plot of the latencies
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from yolo_lite.bench.interleaved import measure as measure


def __getattr__(name: str) -> Any:
    """Import `measure` lazily, since the timing process also imports this package but does not need it."""
    if name != "measure":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from yolo_lite.bench.interleaved import measure

    return measure
