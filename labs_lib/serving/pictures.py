"""The pictures of lab 07: who waits for what, how far each stage goes, and what a closed loop hides."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from labs_lib.errors import LabError
from labs_lib.figures import NAIVE, NEUTRAL, OPTIMISED, Picture, render, subplots
from labs_lib.serving.results import LoadResult
from labs_lib.serving.simulate import US, Simulation

if TYPE_CHECKING:
    from matplotlib.axes import Axes

# One look for each stage, in measured and modelled curves alike; a name that is not here takes one that is free.
LOOKS = {
    "per-request": (NAIVE["color"], "x"),
    "once": ("#f89c20", "s"),
    "pool": ("#7a21dd", "^"),
    "batch": (OPTIMISED["color"], "o"),
}
SPARE = (("#964a8b", "D"), ("#656364", "v"), ("#86c8dd", "P"))
DEADLINE_MS = 250.0
KEPT = 0.9  # of the requests, in time: below that a service has passed its knee


def knee(results: Sequence[LoadResult], deadline_ms: float = DEADLINE_MS) -> float:
    """The highest offered load, in requests/s, of which at least 90 % came back right and in time; 0 where none did."""
    return max((one.rate for one in results if _in_time(one, deadline_ms) >= KEPT * one.rate), default=0.0)


def load_picture(
    measured: Mapping[str, Sequence[LoadResult]],
    modelled: Mapping[str, Sequence[tuple[float, Simulation]]] | None = None,
    deadline_ms: float = DEADLINE_MS,
) -> Picture:
    """Goodput and p99 against offered load: measured points with 95 % intervals, modelled curves in broken lines.

    measured: load tests of each stage. modelled: (requests/s, simulation) of each, in the same colours where the
        names are the same.
    """
    if not any(measured.values()):
        raise LabError("There is nothing to draw.", "", "Give the load tests of at least one stage.")
    modelled = modelled or {}
    looks = _looks([*measured, *(name for name in modelled if name not in measured)])
    figure, (good, tail) = subplots(10, 4.0, columns=2)
    most = max(result.rate for results in measured.values() for result in results)
    good.plot([0, most], [0, most], color=NEUTRAL, lw=1)
    good.annotate("all in time", (most, most), (-4, 0), textcoords="offset points", ha="right", va="center",
                  fontsize=9, color=NEUTRAL)  # fmt: skip
    for name, results in measured.items():
        color, marker = looks[name]
        rates = [result.rate for result in results]
        good.plot(rates, [_in_time(result, deadline_ms) for result in results], marker, color=color,
                  ls="-" if name not in modelled else "", ms=6, label=name)  # fmt: skip
        known = [(result.rate, result.p99) for result in results if result.right]
        tail.plot([rate for rate, _ in known], [p99.value for _, p99 in known], marker, color=color,
                  ls="-" if name not in modelled else "", ms=6)  # fmt: skip
        _intervals(tail, known, color)
    for name, points in modelled.items():
        color, _ = looks[name]
        rates = [rate for rate, _ in points]
        shown = [min(rate, one.goodput(deadline_ms)) for rate, one in points]
        good.plot(rates, shown, "--", color=color, lw=1.5, label=f"{name} (modelled)")
        tail.plot(rates, [one.p99_ms for _, one in points], "--", color=color, lw=1.5)
    good.set_ylabel(f"right answers within {deadline_ms:.0f} ms, per second")
    log_scale(tail)
    tail.axhline(deadline_ms, color=NEUTRAL, lw=1)
    tail.set_ylabel("p99 in ms (bars: 95 % interval)")
    for axes in (good, tail):
        axes.set_xlim(0, 1.05 * most)
        axes.set_xlabel("offered load in requests/s")
    good.set_ylim(0, 1.08 * most)
    figure.legend(loc="outside upper left", ncols=4, frameon=False, fontsize=9)
    knees = (f"{name} up to {knee(results, deadline_ms):.0f}/s" for name, results in measured.items())
    broken = " Broken lines: modelled." if modelled else ""
    return render(figure, f"At least 90 % right within {deadline_ms:.0f} ms: {', '.join(knees)} (measured).{broken}")


def log_scale(axes: Axes) -> None:
    """A logarithmic y axis whose labels are plain numbers."""
    from matplotlib.ticker import LogLocator, NullLocator

    axes.set_yscale("log")
    axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axes.yaxis.set_minor_locator(NullLocator())
    axes.yaxis.set_major_formatter(lambda value, _: f"{value:g}")


def _looks(names: Sequence[str]) -> dict[str, tuple[str, str]]:
    spare = iter(SPARE * len(names))
    return {name: LOOKS.get(name) or next(spare) for name in names}


def _in_time(result: LoadResult, deadline_ms: float) -> float:
    """Right answers in time as a rate: their share of the offered load."""
    in_time = sum(latency <= deadline_ms for latency in result.latencies_ms)
    return result.rate * in_time / len(result.outcomes)


def _intervals(axes: Axes, known: Sequence[tuple[float, object]], color: str) -> None:
    """A bar from end to end; where too few requests bound it above, an arrow."""
    for rate, p99 in known:
        low = p99.low if math.isfinite(p99.low) else p99.value
        if math.isfinite(p99.high):
            axes.vlines(rate, low, p99.high, color=color, lw=3, alpha=0.4)
        else:
            axes.vlines(rate, low, 1.6 * p99.value, color=color, lw=3, alpha=0.25)
            axes.plot(rate, 1.6 * p99.value, "^", color=color, ms=5, alpha=0.4)


def queue_picture(
    simulations: Mapping[str, Simulation], arrivals: Sequence[int], service_s: Mapping[int, float]
) -> Picture:
    """When each request waits and when it is computed, on the virtual clock: one row a request, one block a policy.

    The arrivals and the service times are those of the simulations. Policies with one worker only.
    """
    figure, blocks = subplots(
        10, 0.9 + 0.2 * len(arrivals), columns=len(simulations), sharex=True, sharey=True, squeeze=False
    )
    waited = []
    for axes, (name, one) in zip(blocks[0], simulations.items(), strict=True):
        batches: dict[int, list[int]] = defaultdict(list)
        for index, latency in enumerate(one.latencies):
            if latency is not None:
                batches[arrivals[index] + latency].append(index)
        total = 0
        for done, batch in batches.items():
            start = done - round(US * np.interp(len(batch), *_columns(service_s)))
            for index in batch:
                total += start - arrivals[index]
                axes.barh(index, (start - arrivals[index]) / 1000, left=arrivals[index] / 1000, height=0.8,
                          color="#fbd5d8", hatch=NAIVE["hatch"], edgecolor="white", lw=0.4)  # fmt: skip
                axes.barh(index, (done - start) / 1000, left=start / 1000, height=0.8, color=OPTIMISED["color"],
                          edgecolor="white", lw=0.4)  # fmt: skip
            if len(batch) > 1:
                axes.text(done / 1000, batch[-1], f" {len(batch)} at once", va="center", fontsize=8)
        waited.append(f"{name} {total / 1000:.0f}")
        axes.set_ylim(len(arrivals) - 0.4, -0.6)
        axes.set_yticks([0, len(arrivals) - 1], ["first", "last"])
        axes.set_title(name, fontsize=10, loc="left")
        axes.set_xlabel("virtual ms (hatched: waits; blue: is computed)")
    says = f"{len(arrivals)} requests; they wait, in virtual ms added up: {', '.join(waited)} (modelled)."
    return render(figure, says)


def _columns(service_s: Mapping[int, float]) -> tuple[list[int], list[float]]:
    known = {0: 0.0, **service_s} if len(service_s) == 1 else service_s
    sizes = sorted(known)
    return sizes, [known[size] for size in sizes]


def mean_batch(simulation: Simulation) -> float:
    served = len(simulation.latencies) - simulation.rejected
    return served / sum(simulation.batches.values())


def draw_batches(axes: Axes, simulation: Simulation, widest: int) -> None:
    served = len(simulation.latencies) - simulation.rejected
    for size, count in simulation.batches.items():
        share = 100 * size * count / served
        axes.bar(size, share, color=OPTIMISED["color"], width=0.8)
        if share >= 0.5 and widest <= 16:
            axes.annotate(f"{share:.0f}", (size, share), (0, 1), textcoords="offset points", ha="center", fontsize=7)
    axes.xaxis.get_major_locator().set_params(integer=True)
    axes.set_xlim(0.3, widest + 0.7)
    axes.set_xlabel("batch size")


def omission_picture(closed: LoadResult, opened: LoadResult) -> Picture:
    """Each request's latency over time, from a loop that waits for its answers and from one that does not."""
    figure, axes = subplots(9, 3.2)
    for name, result, color, marker in (
        ("closed loop", closed, NAIVE["color"], "x"),
        ("open loop", opened, OPTIMISED["color"], "o"),
    ):
        right = [outcome for outcome in result.outcomes if outcome.right]
        axes.plot([one.intended for one in right], [1000 * (one.done - one.intended) for one in right], marker,
                  color=color, ms=4, label=f"{name}: {len(right)} right, p99 {result.p99.value:.0f} ms")  # fmt: skip
    axes.set_xlabel("when the request was to leave, in s")
    axes.set_ylabel("latency in ms")
    axes.set_ylim(bottom=0)
    figure.legend(loc="outside upper left", ncols=2, frameon=False, fontsize=9)
    return render(
        figure,
        f"At about {closed.rate:.0f} requests/s: closed loop p99 {closed.p99.value:.0f} ms, open loop p99 "
        f"{opened.p99.value:.0f} ms (measured).",
    )
