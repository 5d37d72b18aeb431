"""Percentiles of measured values, and where the true ones may lie, without any assumption on their distribution.

How many of n independent values lie below the true percentile is binomial, so two of the sorted values enclose it
with a known probability (Conover, "Practical Nonparametric Statistics", section 3.2). Values that follow one another
closely, such as the latencies of a full queue, are not independent, and their interval is too narrow.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import cache


def percentile(ordered: Sequence[float], percent: float) -> float:
    """The smallest value that at least `percent` (0 to 100) of the sorted values do not exceed (nearest rank).

    >>> percentile([1, 2, 3, 4], 50), percentile(range(1, 201), 99), math.isnan(percentile([], 50))
    (2, 198, True)
    """
    return ordered[max(1, math.ceil(len(ordered) * percent / 100)) - 1] if ordered else math.nan


def percentile_ends(ordered: Sequence[float], percent: float) -> tuple[float, float]:
    """The two of the sorted values that enclose the true percentile in 95 % of samples; infinite where none does.

    368 values are the fewest that bound a 99th percentile from above.

    >>> percentile_ends(range(1, 101), 50), percentile_ends(range(1, 101), 99), percentile_ends([], 50)
    ((40, 61), (97, inf), (-inf, inf))
    """
    low, high = _ranks(len(ordered), percent)
    return (
        ordered[low - 1] if low else -math.inf,
        ordered[high - 1] if high <= len(ordered) else math.inf,
    )


@cache
def _ranks(n: int, percent: float) -> tuple[int, int]:
    """The ranks of the two ends, from 1; 0 and n + 1 where there is none."""
    import numpy as np

    if n == 0:
        return 0, 1
    k = np.arange(n + 1)
    log_factorial = np.concatenate([[0.0], np.cumsum(np.log(k[1:]))])
    p = percent / 100
    log_ways = log_factorial[n] - log_factorial - log_factorial[::-1]
    fewer = np.cumsum(np.exp(log_ways + k * math.log(p) + (n - k) * math.log1p(-p)))  # P(at most k lie below)
    return int(np.sum(fewer <= 0.025)), int(np.sum(fewer < 0.975)) + 1
