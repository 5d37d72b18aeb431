"""Where the time of a forward pass goes: seconds of each layer by hooks, beside its counts and its least time.

A hook before and one after each module read the clock. The time between two readings belongs to the innermost module
at work, so the times of the layers, of what lies between them, and of the hooks themselves add up to the whole. On a
GPU each reading waits until the GPU is done: without that, it would time the launches. Waiting and reading change what
is measured, so the same call is also timed without any hook, in turns.
"""

from __future__ import annotations

import math
from collections import defaultdict
from dataclasses import dataclass
from time import perf_counter

from labs_lib.inference_bench.layers import OUTSIDE, Layer, count_layers, named
from labs_lib.inference_bench.least import Least, least, limits_for
from labs_lib.inference_bench.modules import Call, calling, watching
from labs_lib.inference_bench.overhead import Overhead, interleave, seconds_of
from labs_lib.machine import fingerprint, pinned_threads, synchronize
from labs_lib.page_faults import faults_so_far
from labs_lib.roofline import Roof
from labs_lib.timing import Interval, median_interval
from labs_lib.units import time_text

SCHEMA = 1  # of as_dict
HOOKS = "(hooks)"  # among the names of layers
BUSY = " (above 100 %: the machine was busy when its limits were measured; roof(fresh=True) measures them again)"
UNEXPLAINED = 0.1  # of the measured time: where the limits explain less, something else is at work


@dataclass(frozen=True)
class TimedLayer:
    """One layer: its counts, its measured time, its modelled least time."""

    layer: Layer
    seconds: float  # the mean over the middle half of the calls, which adds up
    interval: Interval  # of the median over all calls, 95 %
    least: Least

    @property
    def name(self) -> str:
        return self.layer.name

    @property
    def _seconds(self) -> float:
        """Not 0, as those of a layer are that ran when it was counted and not when it was timed."""
        return self.seconds or math.inf

    @property
    def reached(self) -> tuple[float, float]:
        """Of the limit of the machine, the part that is reached: with the best rates measured, with their low ends."""
        return self.least.low / self._seconds, self.least.high / self._seconds

    @property
    def explained(self) -> float:
        """Of the measured time, the part that computing or moving at the limit, and calling, explain."""
        return (self.least.low + self.least.calling) / self._seconds

    @property
    def limit(self) -> str:
        """"computing", "memory" or "calls": what takes longest. "unexplained" where all of it is a tenth or less."""
        return self.least.limit if self.explained > UNEXPLAINED else "unexplained"

    def as_dict(self) -> dict[str, object]:
        return {
            **self.layer.as_dict(),
            "seconds": self.seconds,
            "seconds_median": [self.interval.low, self.interval.median, self.interval.high],
            "least_s": [self.least.low, self.least.high],
            "computing_s": self.least.computing,
            "memory_s": self.least.memory,
            "calling_s": self.least.calling,
            "reached": list(self.reached),
            "explained": self.explained,
            "limit": self.limit,
            "missing": list(self.least.missing),
        }


@dataclass(frozen=True, repr=False)
class Profile:
    """What `layers` found. `rows` are sorted by time; rows, `between_s` and `hooks_s` add up to `whole_s`."""

    rows: tuple[TimedLayer, ...]
    whole_s: float  # one call with hooks, the mean over the middle half of the calls
    between_s: float  # in modules that ran no operator themselves, and outside of modules: Python
    hooks_s: float  # in the hooks, beside what is measured
    overhead: Overhead  # of a call with hooks against one without
    faults: float | None  # page faults of a call without hooks, the mean; None where nobody counts them
    weights: int  # bytes
    peak_bytes: int
    roof: Roof

    def __getitem__(self, name: str) -> TimedLayer:
        """The layer of that name. Raises LabError where there is none."""
        return named(name, self.rows)

    def total(self, what: str) -> int:
        """The sum over the layers of a count, such as "flops", "bytes_moved" or "operators"."""
        return sum(getattr(row.layer, what) for row in self.rows)

    @property
    def least_s(self) -> tuple[float, float]:
        """The least time of the model, layer after layer: its band, modelled."""
        return sum(row.least.low for row in self.rows), sum(row.least.high for row in self.rows)

    @property
    def reached(self) -> tuple[float, float]:
        """Of the limit, the part that the call without hooks reaches: the band."""
        return tuple(seconds / self.overhead.plain_s for seconds in self.least_s)

    @property
    def share_by_limit(self) -> dict[str, float]:
        """Of the layers' time, the parts whose limit is computing, memory, calls, or unexplained."""
        shares: dict[str, float] = defaultdict(float)
        for row in self.rows:
            shares[row.limit] += row.seconds
        whole = sum(shares.values())
        return {limit: seconds / whole for limit, seconds in shares.items()}

    def as_dict(self) -> dict[str, object]:
        """Numbers and words for JSON, described in `profile_command`."""
        return {
            "schema": SCHEMA,
            "machine": fingerprint(),
            "device": self.roof.device,
            "threads": self.roof.threads,
            "whole_s": self.whole_s,
            "plain_s": self.overhead.plain_s,
            "between_s": self.between_s,
            "hooks_s": self.hooks_s,
            "least_s": list(self.least_s),
            "reached": list(self.reached),
            "share_by_limit": self.share_by_limit,
            "flops": self.total("flops"),
            "bytes_moved": self.total("bytes_moved"),
            "operators": self.total("operators"),
            "weights": self.weights,
            "peak_bytes": self.peak_bytes,
            "page_faults": self.faults,
            "hooks": self.overhead.as_dict(),
            "layers": [row.as_dict() for row in self.rows],
            "roof": self.roof.as_dict(),
        }

    @property
    def sentence(self) -> str:
        low, high = (f"{part:.0%}" for part in self.reached)
        least_low, least_high = map(time_text, self.least_s)
        limits = sorted(self.share_by_limit.items(), key=lambda item: -item[1])
        return (
            f"A call takes {time_text(self.overhead.plain_s)} (measured, {self.roof.threads} "
            f"thread{'s' * (self.roof.threads > 1)}); at the limits of the machine it would take {least_low} to "
            f"{least_high} (modelled), so {low if low == high else f'{low} to {high}'} of the possible speed is reached"
            f"{BUSY if self.reached[1] > 1 else ''}. Limits of the layers' time: "
            f"{', '.join(f'{limit} {share:.0%}' for limit, share in limits)}."
        )

    def __str__(self) -> str:
        from labs_lib.inference_bench.profile_pictures import table_text

        return table_text(self)

    __repr__ = __str__

    def _repr_html_(self) -> str:
        from labs_lib.inference_bench.profile_pictures import table_html

        return table_html(self)


def layers(
    model: object,
    input: object,
    *,
    limits: Roof | None = None,
    threads: int | None = None,
    budget_s: float | None = None,
) -> Profile:
    """Measures and counts each layer of one forward pass, slowest first, with the part of the machine's limit reached.

    `model` is a torch.nn.Module, whose `input` is a tensor, a tuple or list of arguments, or a dict of keyword
    arguments; or an object with `forward(input)` and the module behind it as `module`. It runs in evaluation mode and
    without gradients, with so many threads (1), for about `budget_s` seconds (4; 1 under LABS_PRESET=ci). `limits` is
    the roof of this machine, and brings its threads; without it, it is read or measured.

    >>> import torch
    >>> found = layers(torch.nn.Sequential(torch.nn.Linear(64, 64), torch.nn.ReLU()), torch.ones(8, 64), budget_s=0.1)
    >>> sorted(row.name for row in found.rows), found.total("flops")
    (['0', '1'], 65536)

    Raises LabError for what is no such model, and where it can't take this input.
    """
    counts = count_layers(model, input)
    with calling(model, input) as call:
        limits = limits_for(call.device, limits, threads)
        clock = _Clock(call)
        plain_faults: list[float] = []

        def plain() -> float:
            before = faults_so_far()
            seconds = seconds_of(call.run)
            if before is not None:
                plain_faults.append(faults_so_far() - before)
            return seconds

        with pinned_threads(limits.threads):
            overhead = interleave("hooks", plain, clock.timed, budget_s)
    calls = clock.calls[1:]  # the first one warmed up
    ranked = sorted(calls, key=lambda seconds: sum(seconds.values()))
    middle = ranked[len(ranked) // 4 : len(ranked) - len(ranked) // 4]
    mean = {name: sum(one[name] for one in middle) / len(middle) for name in {name for one in middle for name in one}}
    rows = [
        TimedLayer(
            layer,
            mean.pop(layer.name, 0.0),
            median_interval([one[layer.name] for one in calls]),
            least(layer, counts.weights, limits),
        )
        for layer in counts.layers
    ]
    hooks_s = mean.pop(HOOKS)
    between_s = sum(mean.values())
    return Profile(
        rows=tuple(sorted(rows, key=lambda row: -row.seconds)),
        whole_s=sum(row.seconds for row in rows) + hooks_s + between_s,
        between_s=between_s,
        hooks_s=hooks_s,
        overhead=overhead,
        faults=sum(plain_faults) / len(plain_faults) if plain_faults else None,
        weights=counts.weights,
        peak_bytes=counts.peak_bytes,
        roof=limits,
    )


class _Clock:
    """Calls a model under hooks, and gives each second to the innermost module at work, or to the hooks."""

    def __init__(self, call: Call) -> None:
        self.call = call
        self.wait = synchronize if call.device != "cpu" else lambda: None
        self.calls: list[dict[str, float]] = []  # seconds by name, one dict for each call

    def timed(self) -> float:
        """Seconds of one call with hooks."""
        self.seconds: dict[str, float] = defaultdict(float)
        self.stack = [OUTSIDE]
        with watching(self.call.module, self.enter, self.leave):
            self.wait()
            self.last = start = perf_counter()
            self.call.run()
            self.charge()
            whole = perf_counter() - start
        self.calls.append(self.seconds)
        return whole

    def charge(self) -> float:
        """Gives the time since the last reading to the module at work."""
        self.wait()
        now = perf_counter()
        self.seconds[self.stack[-1]] += now - self.last
        return now

    def enter(self, name: str) -> None:
        now = self.charge()
        self.stack.append(name)
        self.last = perf_counter()
        self.seconds[HOOKS] += self.last - now

    def leave(self, name: str, output: object) -> None:
        now = self.charge()
        self.stack.pop()
        self.last = perf_counter()
        self.seconds[HOOKS] += self.last - now
