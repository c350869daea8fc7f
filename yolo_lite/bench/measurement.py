"""Latency measurement of a model: latency, ratio to the first model, and confidence interval."""

import bisect
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal, Protocol

Precision = Literal["fp32", "bf16", "int8", "as exported"]


@dataclass(frozen=True)
class Measurement:
    """Measurement of one model in one runtime, with one number of threads and one precision.

    Attributes:
        model: Label of the model.
        runtime: Name in `RUNTIMES`.
        threads: Number of threads.
        precision: Numerical precision of the inference.
        p50: Median latency per image, milliseconds.
        p90: 90th percentile of the latency per image, milliseconds.
        ratio: Median ratio of the latency to that of the first entry (the first model in fp32 or as exported) in the
            same round.
        low: Lower end of the 95 % confidence interval of `ratio`.
        high: Upper end of the 95 % confidence interval of `ratio`.
        parameters: Number of parameters of the fused model; None for an exported file.
        gflops: GFLOPs of the fused model; None for an exported file.
        size: Size of the exported file, bytes.
        control: Whether this is the repeated measurement of the first model, which shows insignificant differences.
        classes: Number of classes; None for an exported file.
        imgsz: Height and width of the image, pixels.
    """

    model: str
    runtime: str
    threads: int
    precision: Precision
    p50: float
    p90: float
    ratio: float
    low: float
    high: float
    parameters: int | None
    gflops: float | None
    size: int
    control: bool = False
    classes: int | None = None
    imgsz: int | None = None

    @property
    def name(self) -> str:
        """Return the label for tables, which distinguishes the control from the first model."""
        return f"{self.model} (again)" if self.control else self.model

    @property
    def threads_in_words(self) -> str:
        """Return the number of threads as text, `1 thread` or `2 threads`."""
        return threads_in_words(self.threads)


class Timed(Protocol):
    """Attributes of a measurement that `busy` needs, whether new or read from a file."""

    @property
    def p50(self) -> float: ...
    @property
    def p90(self) -> float: ...
    @property
    def ratio(self) -> float: ...
    @property
    def control(self) -> bool: ...


BUSY = (
    "The machine was busy while latency was measured: the first model differs from itself by more than 3 %, or every "
    "tenth image took twice as long as the median. Measure again on an idle machine."
)


def busy(measurements: Iterable[Timed]) -> bool:
    """Return whether measurements vary so much that the warning `BUSY` applies."""
    return any((each.control and abs(each.ratio - 1) > 0.03) or each.p90 > 2 * each.p50 for each in measurements)


def threads_in_words(number: int) -> str:
    """Return a number of threads as text, `1 thread` or `2 threads`."""
    return f"{number} thread{'s' if number > 1 else ''}"


def median_interval(values: Sequence[float], confidence: float = 0.95) -> tuple[float, float]:
    """Return the distribution-free confidence interval of a median, whose ends are two of the values.

    The k-th smallest of n values exceeds the median with the probability that fewer than k of n fair coins show heads.
    """
    ordered, n = sorted(values), len(values)
    cumulated, below = 0, []
    for k in range(n):
        cumulated += math.comb(n, k)
        below.append(cumulated / 2**n)
    rank = bisect.bisect_right(below, (1 - confidence) / 2)  # number of values that may be excluded at either end
    return ordered[max(rank - 1, 0)], ordered[n - max(rank, 1)]
