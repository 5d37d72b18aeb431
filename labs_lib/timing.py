"""Interleaved timing: the ratio of two run times with its interval, and what this machine cannot tell.

Each round times naive, optimised and naive once more, in an order drawn at random. If the two functions
cost the same, each is then as likely as the other to be the slower one of its round, whatever else the
machine is doing. So the interval of the median ratio can come from counting signs: order statistics of
the per-round ratios (Conover, "Practical Nonparametric Statistics", section 3.2). It needs no assumption
on the noise. The second run of naive gives the noise floor: the same procedure, comparing A with A.
"""

from __future__ import annotations

import gc
import math
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from time import perf_counter, process_time

from labs_lib.machine import pinned_threads, synchronize
from labs_lib.page_faults import faults_so_far

SAMPLE_S = 5e-4  # a sample repeats a short function this long: far above the clock, far below a time slice
MIN_ROUNDS = 20
PRECISION = 1.01  # intervals narrower than 1 % end the measurement early


@dataclass(frozen=True)
class Interval:
    """A median with its distribution-free confidence interval."""

    median: float
    low: float
    high: float


def median_interval(values: Sequence[float], confidence: float = 0.95) -> Interval:
    """The median of `values` and the interval between two order statistics that covers the true median.

    With fewer than 6 values no interval reaches 95 %, so it is infinite.

    >>> median_interval([1, 2, 3, 4, 5, 6, 7, 8])
    Interval(median=4.5, low=1, high=8)
    """
    ordered = sorted(values)
    n = len(ordered)
    middle = (ordered[(n - 1) // 2] + ordered[n // 2]) / 2
    k = _rank(n, confidence)
    if k == 0:
        return Interval(middle, -math.inf, math.inf)
    return Interval(middle, ordered[k - 1], ordered[n - k])


@cache
def _rank(n: int, confidence: float) -> int:
    """The largest k such that the k-th smallest and k-th largest of n values enclose the median; 0 if none.

    The true median lies below the k-th smallest value with the probability of fewer than k heads in n tosses.
    """
    k, ways = 0, 1  # ways: to get k heads
    fewer = 1  # ways to get at most k heads, as a whole number: 0.5**n would vanish for n above 1000
    while 2 * fewer / 2**n <= 1 - confidence:
        k += 1
        ways = ways * (n - k + 1) // k
        fewer += ways
    return k


@dataclass(frozen=True)
class Timing:
    """What `time_pair` measured: factors, seconds for one call, and the two outputs timed last."""

    ratio: float  # naive time over optimised time, the median over the rounds
    low: float
    high: float
    floor: float  # the factor under which this machine cannot tell naive from naive
    rounds: int
    naive_seconds: float  # the median over the rounds
    optimised_seconds: float  # that median over the ratio, so that the three numbers agree
    outputs: tuple[object, object]
    faults: tuple[float | None, float | None] = (None, None)  # page faults of one call, the mean over the rounds
    cores: tuple[float, float] = (1.0, 1.0)  # CPU seconds of the whole process for each second of a call

    @property
    def verdict(self) -> str:
        """"faster" or "slower" only where the whole interval lies outside the noise floor."""
        if self.low > self.floor:
            return "faster"
        if self.high < 1 / self.floor:
            return "slower"
        return "indistinguishable"


class _Contestant:
    """A function with the number of calls that make one sample long enough to time; 1 where it must not repeat."""

    def __init__(self, function: Callable[[], object], repeat: bool) -> None:
        self.function = function
        self.output = function()  # first call: imports, caches, compilation
        self.forget()
        self.calls = 1
        while repeat and (elapsed := self.sample() * self.calls) < SAMPLE_S:
            self.calls = max(self.calls * 2, math.ceil(self.calls * SAMPLE_S / elapsed))
        self.forget()

    def forget(self) -> None:
        self.faults: list[float] = []
        self.cpu_seconds = self.wall_seconds = 0.0

    def sample(self) -> float:
        """Seconds for one call, over `calls` calls in a row."""
        function, calls = self.function, range(self.calls)
        synchronize()
        faults, cpu = faults_so_far(), process_time()
        start = perf_counter()
        for _ in calls:
            output = function()
        synchronize()
        elapsed = max(perf_counter() - start, 1e-9)  # a coarse clock may not have moved in a single call
        self.cpu_seconds += process_time() - cpu
        self.wall_seconds += elapsed
        if faults is not None:
            self.faults.append((faults_so_far() - faults) / self.calls)
        self.output = output
        return elapsed / self.calls

    def mean_faults(self) -> float | None:
        return sum(self.faults) / len(self.faults) if self.faults else None

    def cores(self) -> float:
        return self.cpu_seconds / self.wall_seconds


def time_pair(
    naive: Callable[[], object],
    optimised: Callable[[], object],
    *,
    budget_s: float,
    threads: int = 1,
    progress: Callable[[float], None] = lambda fraction: None,
    between: Callable[[object, object], None] | None = None,
) -> Timing:
    """Times two functions against each other, for at most about `budget_s` seconds after warm-up.

    Rounds go on until both the ratio and the floor are known to 1 %, or the budget is used up; where
    even the first six rounds do not fit, the interval is infinite and the verdict "indistinguishable".
    The decision to stop looks at the width of the intervals only, never at where they lie. Threads are
    pinned, garbage collection is off while a round runs, and a GPU is synchronised around each sample.
    `progress` is called with the fraction of the budget used. `between` is called after the warm-up and
    after each round with the two outputs, outside of the timed part, and may change what the functions
    work on; with it a sample is one call, since a second would work on the same.
    """
    with pinned_threads(threads):
        a, b = (_Contestant(function, repeat=between is None) for function in (naive, optimised))
        if between:
            between(a.output, b.output)
        ratios: list[float] = []
        nulls: list[float] = []
        seconds: list[float] = []
        order = ["a", "b", "again"]
        collecting = gc.isenabled()
        start = perf_counter()
        while True:
            random.shuffle(order)
            gc.disable()
            try:
                taken = {name: (b if name == "b" else a).sample() for name in order}
            finally:
                if collecting:
                    gc.enable()
            ratios.append(math.log(taken["a"] / taken["b"]))
            nulls.append(math.log(taken["a"] / taken["again"]))
            seconds.append(taken["a"])
            if between:
                between(a.output, b.output)
            elapsed = perf_counter() - start
            progress(min(1.0, elapsed / budget_s))
            # The next round must fit into the budget too.
            if elapsed * (1 + 1 / len(ratios)) > budget_s:
                break
            if len(ratios) >= MIN_ROUNDS and len(ratios) % 10 == 0 and _precise(ratios) and _precise(nulls):
                break
    ratio, null = median_interval(ratios), median_interval(nulls)
    naive_seconds = median_interval(seconds).median
    return Timing(
        ratio=math.exp(ratio.median),
        low=math.exp(ratio.low),
        high=math.exp(ratio.high),
        floor=math.exp(max(-null.low, null.high)),
        rounds=len(ratios),
        naive_seconds=naive_seconds,
        optimised_seconds=naive_seconds / math.exp(ratio.median),
        outputs=(a.output, b.output),
        faults=(a.mean_faults(), b.mean_faults()),
        cores=(a.cores(), b.cores()),
    )


def _precise(logs: Sequence[float]) -> bool:
    interval = median_interval(logs)
    return interval.high - interval.low < math.log(PRECISION)
