"""Pictures of lab 05's ladder."""

from __future__ import annotations

from labs_lib.batched_eval.ladder import Ladder
from labs_lib.figures import NAIVE, OPTIMISED, Picture, render, subplots


def ladder_picture(ladder: Ladder) -> Picture:
    """How many times faster than the first rung each one is, with its interval, on a logarithmic axis."""
    figure, axes = subplots(8, 0.9 + 0.45 * len(ladder.steps))
    for row, step in enumerate(ladder.steps):
        timing = step.timing
        ratio, look = (timing.ratio, OPTIMISED) if row else (1.0, NAIVE)
        axes.barh(row, ratio - LEFT, left=LEFT, edgecolor="white", **look)
        low, high = max(timing.low, LEFT), min(timing.high, 3 * ratio)
        if row:
            axes.plot([low, high], [row, row], color="black", lw=1.5)
        axes.annotate(f"{ratio:.1f}x", (max(ratio, high if row else ratio), row), (5, 0),
                      textcoords="offset points", va="center", fontsize=9)  # fmt: skip
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


LEFT = 0.4
