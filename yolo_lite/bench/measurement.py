"""What is measured of a model: its time, the ratio to the first model's, and how sure that is."""

import bisect
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal, Protocol

Precision = Literal["fp32", "bf16", "int8", "as exported"]


@dataclass(frozen=True)
class Measurement:
    """One model in one runtime, with one number of threads and one precision.

    Attributes:
        model: Its label.
        runtime: A name in `RUNTIMES`.
        threads: How many.
        precision: In which it computes.
        p50: Median time of an image, milliseconds.
        p90: Time that nine of ten images take at most, milliseconds.
        ratio: Median of its time over the first model's fp32 time in the same round.
        low: Lower end of the 95 % confidence interval of that median.
        high: Upper end.
        parameters: Fused; None for an exported file.
        gflops: Fused; None for an exported file.
        size: Bytes of the exported file.
        control: Whether it is the first model once more, to show what differences mean nothing.
        classes: How many it detects; None for an exported file.
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

    @property
    def name(self) -> str:
        """The label for a reader, who has to tell the control from the first model."""
        return f"{self.model} (again)" if self.control else self.model

    @property
    def threads_in_words(self) -> str:
        """`1 thread`, `2 threads`."""
        return threads_in_words(self.threads)


class Timed(Protocol):
    """What `busy` looks at: a measurement, new or read from a file."""

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
    """Tell whether measurements vary so much that `BUSY` has to be said of them."""
    return any((each.control and abs(each.ratio - 1) > 0.03) or each.p90 > 2 * each.p50 for each in measurements)


def threads_in_words(number: int) -> str:
    """Return `1 thread`, `2 threads`."""
    return f"{number} thread{'s' if number > 1 else ''}"


def median_interval(values: Sequence[float], confidence: float = 0.95) -> tuple[float, float]:
    """Return the confidence interval of a median: two of the sorted values, whatever their distribution is.

    The k-th smallest of n values is above the median with the probability that fewer than k of n coins show heads.
    """
    ordered, n = sorted(values), len(values)
    cumulated, below = 0, []
    for k in range(n):
        cumulated += math.comb(n, k)
        below.append(cumulated / 2**n)
    rank = bisect.bisect_right(below, (1 - confidence) / 2)  # as many values may be left out at either end
    return ordered[max(rank - 1, 0)], ordered[n - max(rank, 1)]
