"""What a ticket costs with each remedy: nanoseconds, measured against the plain counter by real threads."""

from __future__ import annotations

from dataclasses import dataclass

from labs_lib.figures import NAIVE, NEUTRAL, OPTIMISED, Picture, render, subplots
from labs_lib.machine import preset
from labs_lib.race_conditions.counters import LYING, REMEDIES, Owned, Plain, handed_out
from labs_lib.timing import time_pair
from labs_lib.units import time_text

TICKETS = 50_000  # enough of them that starting the threads is a few per cent of the time
TICKETS_BY_QUEUE = 1_000
BUDGET_S = {"ci": 0.3, "lab": 1.0, "gpu": 1.0}


@dataclass(frozen=True)
class Price:
    """Measured: seconds for one ticket, and how many times that of the plain counter, with its 95 % interval."""

    remedy: str
    threads: int
    seconds: float
    times: float
    low: float
    high: float
    floor: float  # the factor under which this machine cannot tell plain from plain

    def __str__(self) -> str:
        return (
            f"{self.remedy}, {self.threads} threads: {time_text(self.seconds)} a ticket, {factor(self.times)} times "
            f"plain (measured; 95 % interval {factor(self.low)} to {factor(self.high)}; this machine cannot tell plain "
            f"from plain within {100 * (self.floor - 1):.0f} %)"
        )


def factor(times: float) -> str:
    """To two digits, or whole.

    >>> factor(3.14), factor(255.1)
    ('3.1', '255')
    """
    return f"{times:.1f}" if times < 10 else f"{times:.0f}"


def price(remedy: str, threads: int = 4, budget_s: float | None = None) -> Price:
    """Times handing out tickets, interleaved with the plain counter; see `labs_lib.timing` for the method.

    A ticket that goes through queues and an owner takes so long that fewer of them are timed.
    """
    make = REMEDIES[remedy]
    tickets = TICKETS_BY_QUEUE if make is Owned else TICKETS
    timing = time_pair(
        lambda: handed_out(Plain(TICKETS), threads),
        lambda: handed_out(make(tickets), threads),
        budget_s=BUDGET_S[preset()] if budget_s is None else budget_s,
    )
    scale = TICKETS / tickets  # from whole runs to single tickets
    return Price(
        remedy=remedy,
        threads=threads,
        seconds=timing.optimised_seconds / tickets,
        times=scale / timing.ratio,
        low=scale / timing.high,
        high=scale / timing.low if timing.low else float("inf"),
        floor=timing.floor,
    )


def price_picture(prices: list[Price]) -> Picture:
    """How many times the plain counter's time a ticket takes, with its interval, on a logarithmic axis."""
    figure, axes = subplots(8, 1.1 + 0.42 * len(prices))
    floor = max(one.floor for one in prices)
    edge = 3 * max(one.times for one in prices)
    if floor < edge:
        axes.axvspan(1 / floor, floor, color=NEUTRAL, alpha=0.25, lw=0)
    axes.axvline(1, color=NEUTRAL, lw=1)
    for row, one in enumerate(prices):
        look = NAIVE if one.remedy in LYING else OPTIMISED
        color, interval = look["color"], (max(one.low, 0.3), min(one.high, edge))
        axes.plot(interval, [row, row], lw=5, color=color, solid_capstyle="butt")
        axes.plot(one.times, row, "X" if look is NAIVE else "o", ms=9, color=color, mec="white")
        axes.annotate(
            f"{factor(one.times)}x, {time_text(one.seconds)}", (one.times, row), (0, 8), textcoords="offset points",
            ha="center", fontsize=9,
        )  # fmt: skip
    axes.set_xscale("log")
    axes.set_xlim(0.3, edge)
    ticks = [tick for tick in (0.5, 1, 2, 5, 10, 30, 100, 300, 1000, 3000) if tick < edge]
    axes.set_xticks(ticks, [f"{tick:g}x" for tick in ticks])
    axes.minorticks_off()
    axes.set_yticks(range(len(prices)), [one.remedy for one in prices])
    axes.set_ylim(len(prices) - 0.5, -0.9)
    axes.set_xlabel(f"time of a ticket / of a plain one, {prices[0].threads} threads (measured; grey: the noise floor)")
    told = ", ".join(f"{one.remedy} {factor(one.times)}" for one in prices)
    return render(figure, f"Times of what a plain ticket takes: {told} (measured; X: it still hands out too many).")
