"""The panel of lab 08: where a pool of processes pays, by a model with this machine's own costs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from labs_lib.figures import NAIVE, NEUTRAL, OPTIMISED, Picture, render, subplots
from labs_lib.panels import Choice, Panel
from labs_lib.text_pipeline.pool_model import PoolCosts
from labs_lib.units import time_text

POOLS = ("started for this", "already running")
CHUNKS, PROCESSES = (1, 10, 100, 1000), (1, 2, 4, 8)
STRINGS = (10, 10**6)  # the axis


@dataclass(frozen=True)
class Measured:
    """Seconds that a running pool took for `strings` strings, in tasks of `chunk`; and one process alone."""

    work: str  # the name of the work
    processes: int
    chunk: int
    strings: int
    pool: float
    alone: float


def pool_panel(costs: PoolCosts, works: Mapping[str, float], measured: Sequence[Measured] = ()) -> Panel:
    """Work per string, processes, strings per task and whether the pool must be started, as controls.

    works: the names of some kinds of work and the seconds of each for one string. The picture has the modelled time
    against the number of strings, the break-even, and those measurements that belong to what the controls say.
    """

    def draw(work: str, processes: int, chunk: int, pool: str) -> Picture:
        ready = replace(costs, start=0.0) if pool == POOLS[1] else costs
        points = [point for point in measured if (point.work, point.processes, point.chunk) == (work, processes, chunk)]
        return pool_picture(ready, work, works[work], processes, chunk, points)

    return Panel(
        draw,
        work=Choice("work per string", tuple(works), next(iter(works)), widget="buttons"),
        processes=Choice("processes", PROCESSES, 2),
        chunk=Choice("strings per task", CHUNKS, 1),
        pool=Choice("the pool", POOLS, POOLS[0], widget="buttons"),
    )


def pool_picture(
    costs: PoolCosts, name: str, work: float, processes: int, chunk: int, measured: Sequence[Measured] = ()
) -> Picture:
    """Modelled seconds of one process and of the pool against the number of strings; `costs.start` may be 0."""
    n = np.unique(np.geomspace(*STRINGS, 400).astype(np.int64))
    figure, axes = subplots(8, 4)
    axes.plot(n, n * work, color=NAIVE["color"], ls="--", lw=2, label="one process (modelled)")
    axes.plot(n, costs.seconds(n, work, processes, chunk), color=OPTIMISED["color"], lw=2,
              label=f"{_count(processes)}, {_tasks(chunk)} (modelled)")  # fmt: skip
    if measured:
        strings = [point.strings for point in measured]
        axes.plot(strings, [point.alone for point in measured], "o", color=NAIVE["color"],
                  label="one process (measured)")  # fmt: skip
        axes.plot(strings, [costs.start + point.pool for point in measured], "s", color=OPTIMISED["color"],
                  label="pool with its start (measured)" if costs.start else "pool (measured)")  # fmt: skip
    axes.set_xscale("log")
    axes.set_yscale("log")
    axes.minorticks_off()
    axes.set_xlim(*STRINGS)
    low, high = axes.get_ylim()
    even = costs.break_even(work, processes, chunk)
    if even is not None and STRINGS[0] < even < STRINGS[1]:
        axes.plot([even, even], [low, even * work], color=NEUTRAL, lw=1)
        axes.annotate(f"about {_rounded(even)} strings", (even, low), (4, 6), textcoords="offset points", color=NEUTRAL)
        axes.set_ylim(low, high)
    times = [10.0**power for power in range(-5, 5) if low <= 10.0**power <= high]
    axes.set_yticks(times, [time_text(seconds) for seconds in times])
    axes.set_xticks([10**power for power in range(1, 7)], [f"{10**power:,}" for power in range(1, 7)])
    axes.set_xlabel("strings")
    axes.set_ylabel("time")
    axes.set_title(
        f"{time_text(costs.start) if costs.start else '0 s'} + tasks x {time_text(costs.message)} + strings x "
        f"({time_text(costs.carry)} + {time_text(work)} / {processes})",
        fontsize=10,
    )
    axes.legend(loc="upper left", framealpha=1, edgecolor="none")
    return render(figure, _sentence(costs, name, work, processes, chunk, even))


def _sentence(costs: PoolCosts, name: str, work: float, processes: int, chunk: int, even: int | None) -> str:
    limit = costs.limit(work, processes, chunk)
    what = f"{name}, {_count(processes)}, {_tasks(chunk)}:"
    cores = f"{processes} cores" if processes > 1 else "a core of its own"
    if even is None:
        return f"{what} never faster; with ever more strings the ratio nears {limit:.2g} (modelled, for {cores})."
    start = "from the first string on" if even == 1 else f"from about {_rounded(even)} strings on"
    return f"{what} faster {start}, and at most {limit:.3g} times (modelled, for {cores})."


def _count(processes: int) -> str:
    return "1 process in a pool" if processes == 1 else f"{processes} processes"


def _tasks(chunk: int) -> str:
    return "a task a string" if chunk == 1 else f"{chunk:,} strings a task"


def _rounded(n: int) -> str:
    """To two digits: the model knows no more."""
    return f"{float(f'{n:.2g}'):,.0f}"
