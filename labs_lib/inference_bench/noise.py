"""How far two series of rounds are apart, and how far a machine's own drift makes them seem so.

The fastest call of a round stands for it, without the time that other processes took of it: a neighbour only ever adds
time. What remains is the machine's drift, which the control beside each round shows and takes out. It is taken out in
three ways, because nobody knows which part of the machine a model waits for: with the control's product alone, and
with the time modelled from the model's operations and bytes, which come from the last cache or from memory. A
difference must show in all three.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import cache
from statistics import median
from typing import TYPE_CHECKING

from labs_lib.inference_bench.control import Speed, modelled_seconds
from labs_lib.timing import Interval

if TYPE_CHECKING:
    from labs_lib.inference_bench.results import Result


def scaled(result: Result, work: Result) -> list[list[float]]:
    """For each yardstick a series over the rounds: the logarithm of the fastest call, in units of the control.

    Operations and bytes are those of `work`: what two runs are held against must not differ.
    """
    fastest = [math.log(min(one.busy)) for one in result.rounds]
    speeds = [Speed(min(one.product), min(one.near), min(one.far)) for one in result.rounds]
    flops, size = work.flops or 0, work.info["weight_bytes"]
    yardsticks = [[speed.product for speed in speeds]]
    if flops + size:
        yardsticks += zip(*(modelled_seconds(flops, size, speed, result.key.device) for speed in speeds), strict=True)
    return [[a - math.log(b) for a, b in zip(fastest, yardstick, strict=True)] for yardstick in yardsticks]


def shift(a: Sequence[float], b: Sequence[float], confidence: float) -> Interval:
    """How much larger the values of `b` are: Hodges' and Lehmann's estimate with its distribution-free interval.

    The median of all differences, and the two of them that Mann's and Whitney's test leaves possible (Hollander and
    Wolfe, "Nonparametric Statistical Methods", section 4.3). Infinite where there are too few values.

    >>> shift([1, 2, 3, 4], [11, 12, 13, 14], 0.95)
    Interval(median=10.0, low=7, high=13)
    """
    differences = sorted(y - x for x in a for y in b)
    k = _rank(*sorted((len(a), len(b))), confidence)
    if k == 0:
        return Interval(median(differences), -math.inf, math.inf)
    return Interval(median(differences), differences[k - 1], differences[-k])


@cache
def _rank(few: int, many: int, confidence: float) -> int:
    """The largest k such that the k-th smallest and k-th largest difference enclose the true shift; 0 if none.

    Of all orders of the values that are equally likely without a shift, it counts those in which fewer than k pairs
    are the wrong way round: coefficients of Gauss' binomial.
    """
    ways = [1] + [0] * (few * many)
    for i in range(1, few + 1):
        for n in range(few * many, many + i - 1, -1):
            ways[n] -= ways[n - many - i]
        for n in range(i, few * many + 1):
            ways[n] += ways[n - i]
    k, fewer, total = 0, ways[0], math.comb(few + many, few)
    while k < few * many // 2 and 2 * fewer / total <= 1 - confidence:
        k += 1
        fewer += ways[k]
    return k


def drift(result: Result) -> float | None:
    """The factor between the medians of the first and the second half of a run's rounds, the control taken out.

    At least 1: the largest among the yardsticks. By so much the same code differs from itself within a run, in what
    lasts longer than a round; what changes from round to round is in the interval of `shift`. None with one round.
    """
    half = len(result.rounds) // 2
    if half == 0:
        return None
    return math.exp(max(abs(median(series[:half]) - median(series[half:])) for series in scaled(result, result)))
