"""Pictures of lab 05: the ladder, and throughput and memory against batch size."""

from __future__ import annotations

from labs_lib.batched_eval.best_batch import BestBatch
from labs_lib.batched_eval.ladder import Ladder
from labs_lib.figures import NAIVE, NEUTRAL, OPTIMISED, Picture, render, subplots

LEFT = 0.4  # where the bars begin


def ladder_picture(ladder: Ladder) -> Picture:
    """How many times faster than the first rung each one is, with its interval, on a logarithmic axis."""
    figure, axes = subplots(8, 0.9 + 0.45 * len(ladder.steps))
    for row, step in enumerate(ladder.steps):
        timing = step.timing
        ratio, look = (timing.ratio, OPTIMISED) if row else (1.0, NAIVE)
        axes.barh(row, ratio - LEFT, left=LEFT, edgecolor="white", **look)
        low, high = max(timing.low, LEFT), min(timing.high, 3 * ratio)
        if row and timing.low:  # else there were too few rounds for an interval
            axes.plot([low, high], [row, row], color="black", lw=1.5)
        axes.annotate(f"{ratio:.1f}x", (ratio, row), (4, 5), textcoords="offset points", fontsize=9)
    axes.set_xscale("log")
    edge = 2 * max(2.0, *(step.timing.ratio for step in ladder.steps))
    axes.set_xlim(LEFT, edge)
    ticks = [tick for tick in (0.5, 1, 2, 5, 10, 20, 50, 100, 200) if LEFT <= tick <= edge]
    axes.set_xticks(ticks, [f"{tick:g}x" for tick in ticks])
    axes.minorticks_off()
    axes.set_yticks(range(len(ladder.steps)), [step.rung.name for step in ladder.steps])
    axes.invert_yaxis()
    axes.set_xlabel("time of the first rung / time of this one (measured; lines: 95 % intervals)")
    best = ladder.best
    return render(
        figure,
        f"{best.rung.name} is {best.timing.ratio:.1f} times as fast as {ladder.steps[0].rung.name} on "
        f"{ladder.samples:,} samples (measured).",
    )



def batch_picture(found: BestBatch) -> Picture:
    """Throughput with its intervals and counted peak bytes, both against batch size."""
    figure, (left, right) = subplots(9, 3.2, columns=2)
    sizes = [point.batch for point in found.timed]
    values = [point.throughput for point in found.timed]
    lows = [point.batch / point.seconds.high for point in found.timed]
    highs = [point.batch / point.seconds.low for point in found.timed]
    left.fill_between(sizes, lows, highs, color=OPTIMISED["color"], alpha=0.25, lw=0)
    left.plot(sizes, values, "o-", color=OPTIMISED["color"])
    left.plot(found.knee.batch, found.knee.throughput, "D", ms=11, mfc="none", color=NEUTRAL)
    left.annotate(f"knee: {found.knee.batch}", (found.knee.batch, found.knee.throughput), (0, -22),
                  textcoords="offset points", ha="center")  # fmt: skip
    left.set_ylim(0, 1.15 * max(values))
    left.set_ylabel("samples/s (measured)")
    counted = [point for point in found.points if point.peak is not None]
    right.plot([point.batch for point in counted], [point.peak / 2**20 for point in counted], "s-", color=NEUTRAL)
    if found.budget is not None:
        right.axhline(found.budget / 2**20, color=NAIVE["color"], ls="--")
        right.annotate("budget", (counted[0].batch, found.budget / 2**20), (0, 4), textcoords="offset points")
    right.set_ylim(0, None)
    right.set_ylabel("peak MiB above the model (counted)")
    for axes in (left, right):
        axes.set_xscale("log", base=2)
        axes.set_xticks([point.batch for point in counted], [str(point.batch) for point in counted])
        axes.minorticks_off()
        axes.set_xlabel("batch size")
    return render(figure, found.sentence)
