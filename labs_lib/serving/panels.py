"""The panel of lab 07: a dynamic batcher under load on the virtual clock, and what this machine measured."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cache

from labs_lib.figures import NEUTRAL, OPTIMISED, Picture, render, subplots
from labs_lib.panels import Choice, Panel
from labs_lib.serving.pictures import DEADLINE_MS, draw_batches, log_scale, mean_batch
from labs_lib.serving.results import LoadResult
from labs_lib.serving.simulate import Simulation, poisson_arrivals, simulate

REQUESTS = 2000  # of each run: 20 beyond the p99
RATES = (10, 25, 50, 75, 100, 150, 200, 250, 300, 400, 500, 600, 800)


def serving_panel(service_s: Mapping[int, float], measured: Sequence[LoadResult] | None = None) -> Panel:
    """Arrival rate, largest batch and waiting window as controls; the latencies and batches that they give.

    service_s: seconds that the model takes for a batch of each size. measured: load tests of a real service, drawn
        as points over the curve.
    """

    @cache  # a move of the rate alone draws the same curve again
    def run(rate: int, max_batch: int, wait_ms: int) -> Simulation:
        arrivals = poisson_arrivals(rate, REQUESTS / rate)
        return simulate(arrivals, service_s, "batch", max_batch, wait_ms / 1000)

    def draw(rate: int, max_batch: int, wait: int) -> Picture:
        chosen = run(rate, max_batch, wait)
        curve = [run(each, max_batch, wait) for each in RATES]
        figure, (latency, sizes) = subplots(9, 3.4, columns=2, width_ratios=(2, 1))
        latency.plot(RATES, [one.p99_ms for one in curve], "--", color=OPTIMISED["color"], label="p99, modelled")
        latency.plot(RATES, [one.p50_ms for one in curve], ":", color=OPTIMISED["color"], label="p50, modelled")
        latency.plot([rate, rate], [chosen.p50_ms, chosen.p99_ms], "-", color=NEUTRAL, lw=1)
        latency.plot([rate, rate], [chosen.p50_ms, chosen.p99_ms], "D", color=NEUTRAL, ms=7, label="your setting")
        points = [(result.rate, result.p99.value) for result in measured or () if result.right]
        if points:
            latency.plot(*zip(*points, strict=True), "o", color=OPTIMISED["color"], ms=6, label="p99, measured")
        latency.axhline(DEADLINE_MS, color=NEUTRAL, lw=1)
        log_scale(latency)
        latency.set(xlim=(0, 1.02 * RATES[-1]), xlabel="offered load in requests/s", ylabel="ms")
        figure.legend(loc="outside upper left", ncols=4, frameon=False, fontsize=9)
        draw_batches(sizes, chosen, max(chosen.batches))
        sizes.set_ylabel("requests, %")
        says = (
            f"{rate} requests/s, batches of at most {max_batch}, window {wait}: p50 {chosen.p50_ms:.1f}, p99 "
            f"{chosen.p99_ms:.1f} virtual ms, goodput {chosen.goodput(DEADLINE_MS):.0f}/s, mean batch "
            f"{mean_batch(chosen):.1f}, {chosen.rejected} of {REQUESTS} rejected (modelled)."
        )
        return render(figure, says)

    return Panel(
        draw,
        rate=Choice("requests/s", RATES, 200),
        max_batch=Choice("largest batch", (1, 2, 4, 8, 16, 32), 16),
        wait=Choice("window (ms)", (0, 2, 5, 10, 20), 0),
    )
