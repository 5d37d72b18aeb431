"""How far two runs of a configuration are apart, and how far a machine's own drift makes them seem so.

Other processes only ever add time: they take the core, which `busy` leaves out, and they fill the caches and the
memory's channels, for anything from a millisecond to minutes, which no clock leaves out. So the fastest of many calls,
spread over many seconds, is the time of the code (Chen and Revels 2016, "Robust benchmarking in noisy environments");
the median call is that of the code and of the neighbours of that minute.

How far such a minimum is from another run's is told by replicates (Mahalanobis 1946, "Recent experiments in
statistical sampling": interpenetrating samples). The rounds are dealt out in turn to GROUPS of them, so that each is
spread over the whole run, and a replicate is its fastest call in units of its fastest control, which takes out what
the machine's speed itself does. It is taken out in three ways, because nobody knows which part of the machine a model
waits for: with the control's product alone, and with the time modelled from the model's operations and bytes, which
come from the last cache or from memory. A difference must show in all three.
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
    from labs_lib.inference_bench.results import Result, Round

GROUPS = 10  # replicates. Two times ten leave an interval for up to some 4,600 configurations


def scaled(rounds: Sequence[Round], work: Result) -> list[list[float]]:
    """For each yardstick the replicates: the logarithm of the fastest call, in units of the fastest control.

    Operations and bytes are those of `work`: what two runs are held against must not differ.
    """
    replicates = [_floor(rounds[n::GROUPS], work) for n in range(min(GROUPS, len(rounds)))]
    return [list(series) for series in zip(*replicates, strict=True)]


def _floor(rounds: Sequence[Round], work: Result) -> list[float]:
    """For each yardstick the logarithm of the fastest call of some rounds, in units of their fastest control."""
    fastest = min(min(one.busy) for one in rounds)
    speed = Speed(*(min(min(getattr(one, name)) for one in rounds) for name in ("product", "near", "far")))
    flops, size = work.flops or 0, work.info["weight_bytes"]
    yardsticks = [speed.product]
    if flops + size:
        yardsticks += modelled_seconds(flops, size, speed, work.key.device)
    return [math.log(fastest / yardstick) for yardstick in yardsticks]


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
    """The factor between the fastest calls of the first and of the second half of a run, the control taken out.

    At least 1: the largest among the yardsticks. By so much the same code differs from itself within a run, in what
    lasts for half of it, which the replicates of `scaled` share and so cannot show. None with one round.
    """
    half = len(result.rounds) // 2
    if half == 0:
        return None
    halves = (_floor(rounds, result) for rounds in (result.rounds[:half], result.rounds[half:]))
    return math.exp(max(abs(first - second) for first, second in zip(*halves, strict=True)))
