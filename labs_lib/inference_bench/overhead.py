"""What watching costs: the same call with and without it, interleaved. And what calling costs: Python, the dispatcher.

Whoever watches a program changes it: hooks, the profiler and cProfile each make it slower, the small calls most. By
how much is measured here, so that a table made by watching can be read with that in mind.
"""

from __future__ import annotations

import cProfile
import gc
import math
import pstats
import random
from collections.abc import Callable
from dataclasses import asdict, dataclass
from time import perf_counter

from labs_lib.inference_bench import modules
from labs_lib.inference_bench.layers import count_layers
from labs_lib.inference_bench.least import limits_for
from labs_lib.inference_bench.modules import calling
from labs_lib.machine import pinned_threads, preset, synchronize
from labs_lib.roofline import Roof
from labs_lib.tables import wrapped
from labs_lib.timing import median_interval
from labs_lib.units import time_text

BUDGET_S = {"ci": 1.0, "lab": 4.0, "gpu": 4.0}
OURS = (__file__, modules.__file__)  # frames that are there because we measure
ROUNDS = (7, 300)  # at least, for an interval with two ends; at most


@dataclass(frozen=True)
class Overhead:
    """How many times as long a call takes while something watches it, measured."""

    what: str
    factor: float  # the median over the rounds
    low: float
    high: float
    floor: float  # the factor under which this machine cannot tell the plain call from itself
    rounds: int
    plain_s: float  # seconds of the plain call, the median

    @property
    def seen(self) -> bool:
        """Whether the whole interval lies outside the noise floor."""
        return self.low > self.floor or self.high < 1 / self.floor

    def as_dict(self) -> dict[str, object]:
        return asdict(self)

    def __str__(self) -> str:
        seen = "" if self.seen else ": indistinguishable"
        return (
            f"{self.what}: {self.factor:.3f} times the time of the plain call (measured; 95 % interval {self.low:.3f} "
            f"to {self.high:.3f}; this machine cannot tell less than {self.floor:.3f}){seen}"
        )


def interleave(
    what: str, plain: Callable[[], float], watched: Callable[[], float], budget_s: float | None = None
) -> Overhead:
    """Calls `plain`, `watched` and `plain` once more in each round, in random order, for about `budget_s` seconds.

    Each of the two makes one call and returns the seconds it took, so that starting and stopping what watches need not
    be in them. See labs_lib.timing for the intervals. At least 7 rounds are made.
    """
    budget_s = BUDGET_S[preset()] if budget_s is None else budget_s
    plain(), watched()
    ratios, nulls, seconds = [], [], []
    order, collecting, start = ["plain", "watched", "again"], gc.isenabled(), perf_counter()
    while len(ratios) < ROUNDS[0] or (perf_counter() - start < budget_s and len(ratios) < ROUNDS[1]):
        random.shuffle(order)
        gc.disable()
        try:
            taken = {name: (watched if name == "watched" else plain)() for name in order}
        finally:
            if collecting:
                gc.enable()
        ratios.append(math.log(taken["watched"] / taken["plain"]))
        nulls.append(math.log(taken["plain"] / taken["again"]))
        seconds.append(taken["plain"])
    ratio, null = median_interval(ratios), median_interval(nulls)
    factors = [math.exp(value) for value in (ratio.median, ratio.low, ratio.high, max(-null.low, null.high))]
    return Overhead(what, *factors, rounds=len(ratios), plain_s=median_interval(seconds).median)


def seconds_of(run: Callable[[], object]) -> float:
    """One call, with a GPU waited for before and after."""
    synchronize()
    start = perf_counter()
    run()
    synchronize()
    return perf_counter() - start


@dataclass(frozen=True)
class PythonCost:
    """What one forward pass spends on calling instead of computing, by two ways that share no assumption."""

    function_calls: int  # counted by cProfile, Python's and C's
    python_s: float  # in Python functions, without what they call: measured by cProfile, which inflates it
    inflation: Overhead  # of the whole call by cProfile
    operators: int  # counted
    call_s: float  # of one operator on one element, measured
    slowest: tuple[tuple[str, int, float], ...]  # Python functions: name, calls, seconds in themselves

    @property
    def dispatch_s(self) -> float:
        """Modelled: operators x seconds of one call. Python's part of calling an operator is in it."""
        return self.operators * self.call_s

    def as_dict(self) -> dict[str, object]:
        return {
            **{name: getattr(self, name) for name in ("function_calls", "python_s", "operators", "call_s")},
            "dispatch_s": self.dispatch_s,
            "inflation": self.inflation.as_dict(),
            "slowest": [list(row) for row in self.slowest],
        }

    def __str__(self) -> str:
        whole = self.inflation.plain_s
        return wrapped(
            f"{self.operators} operators (counted) x {time_text(self.call_s)} (measured) = "
            f"{time_text(self.dispatch_s)} (modelled), {self.dispatch_s / whole:.0%} of the {time_text(whole)} that a "
            f"call takes. cProfile counts {self.function_calls:,} function calls and finds {time_text(self.python_s)} "
            f"in Python functions, but with it a call takes {self.inflation.factor:.2f} times as long (95 % interval "
            f"{self.inflation.low:.2f} to {self.inflation.high:.2f})."
        )


def python_cost(
    model: object,
    input: object,
    *,
    limits: Roof | None = None,
    threads: int | None = None,
    budget_s: float | None = None,
) -> PythonCost:
    """Profiles one forward pass with cProfile, and says by how much that inflates it. See `layers` for model and input.

    `limits` and `threads` are as in `layers`. Raises LabError as `calling` does.
    """
    counts = count_layers(model, input)
    with calling(model, input) as call:
        limits = limits_for(call.device, limits, threads)

        def profiled(profile: cProfile.Profile) -> float:
            profile.enable()
            try:
                return seconds_of(call.run)
            finally:
                profile.disable()

        last = cProfile.Profile()
        with pinned_threads(limits.threads):
            inflation = interleave(
                "cProfile", lambda: seconds_of(call.run), lambda: profiled(cProfile.Profile()), budget_s
            )
            profiled(last)
    stats = pstats.Stats(last).stats  # (file, line, name): (calls, ..., seconds in itself, ...)
    python = {place: row for place, row in stats.items() if place[0] not in ("~", *OURS)}
    slowest = sorted(python.items(), key=lambda item: -item[1][2])[:5]
    return PythonCost(
        function_calls=sum(row[1] for place, row in stats.items() if place[0] not in OURS),
        python_s=sum(row[2] for row in python.values()),
        inflation=inflation,
        operators=counts.total("operators"),
        call_s=limits.call_s,
        slowest=tuple((place[2], row[1], row[2]) for place, row in slowest),
    )
