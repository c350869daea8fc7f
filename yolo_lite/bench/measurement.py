"""What is measured of a model: its time, the ratio to the first model's, and how sure that is."""

import bisect
import math
from typing import NamedTuple

CONTROL = " (again)"  # ends the name of the first model's second entry


class Measurement(NamedTuple):
    """One model in one runtime, with one number of threads and one precision."""

    model: str
    runtime: str
    threads: int
    precision: str  # fp32, bf16, int8, or "as exported"
    p50: float  # milliseconds
    p90: float
    ratio: float  # median of its time / the first model's fp32 time in the same round
    low: float  # 95 % confidence interval of that median
    high: float
    parameters: int | None  # fused; None for an exported file
    gflops: float | None
    size: int  # bytes of the exported file


def median_interval(values, confidence=0.95):
    """Return the confidence interval of a median: two of the sorted values, whatever their distribution is.

    The k-th smallest of n values is above the median with the probability that fewer than k of n coins show heads.
    """
    values, n = sorted(values), len(values)
    cumulated, below = 0, []
    for k in range(n):
        cumulated += math.comb(n, k)
        below.append(cumulated / 2**n)
    rank = bisect.bisect_right(below, (1 - confidence) / 2)  # as many values may be left out at either end
    return values[max(rank - 1, 0)], values[n - max(rank, 1)]
