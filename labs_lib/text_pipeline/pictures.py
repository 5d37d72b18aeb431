"""The pictures of lab 08: a flat corpus and a mask, the ladder, where two processes' time goes."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from labs_lib.figures import NAIVE, NEUTRAL, OPTIMISED, Picture, render, subplots
from labs_lib.units import time_text

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from labs_lib.text_pipeline.corpus import Corpus
    from labs_lib.text_pipeline.ladder import Ladder

LOOKS = {"faster": OPTIMISED, "slower": NAIVE, "not told apart": {"color": NEUTRAL, "hatch": ""}}


def ladder_picture(found: Ladder) -> Picture:
    """Each rung's ratio to the first, with its interval, on a logarithmic axis."""
    figure, axes = subplots(9, 0.9 + 0.36 * len(found.steps))
    for row, step in enumerate(found.steps):
        look = LOOKS[_verdict(step.low, step.high, found.floor)]
        axes.barh(row, step.ratio - 1, left=1, edgecolor="white", **look)
        axes.plot([step.low, step.high], [row, row], color="black", lw=1.2)
        side, shift = ("left", 6) if step.ratio >= 1 else ("right", -6)
        edge = max(step.high, step.ratio) if step.ratio >= 1 else min(step.low, step.ratio)
        axes.annotate(
            f"{step.ratio:.3g}x", (edge, row), (shift, 0), textcoords="offset points", va="center", ha=side,
            fontsize=9, annotation_clip=False,
        )  # fmt: skip
    axes.axvline(1, color=NEUTRAL, lw=1)
    axes.set_yticks(range(len(found.steps)), [step.name for step in found.steps])
    axes.invert_yaxis()
    axes.set_xscale("log")
    axes.set_xlim(0.3 * min(step.low for step in found.steps), 2.5 * max(step.high for step in found.steps))
    ticks = [tick for tick in (0.01, 0.03, 0.1, 0.3, 1, 3, 10, 30, 100, 300) if axes.get_xlim()[0] <= tick]
    ticks = [tick for tick in ticks if tick <= axes.get_xlim()[1]]
    axes.set_xticks(ticks, [f"{tick:g}x" for tick in ticks])
    axes.minorticks_off()
    axes.set_xlabel("the first one's time / own time (measured)")
    best = max(found.steps, key=lambda step: step.ratio)
    exact = "all rows that should agree do" if found.same else "SOME ROWS DIFFER"
    return render(
        figure,
        f"{found.strings:,} strings: {best.name} is {best.ratio:.3g} times as fast as {found.steps[0].name}; {exact}.",
    )


def _verdict(low: float, high: float, floor: float) -> str:
    if low > floor:
        return "faster"
    return "slower" if high < 1 / floor else "not told apart"


def overhead_picture(work: float, message: float, start: dict[str, float], n: int) -> Picture:
    """Where the time of `n` items goes, one `submit` each.

    work, message: seconds of one item's work, and of sending one item and fetching its answer. start: seconds to
    start the processes, by method.
    """
    labels = ["the work itself", "a message each", *(f"start by {method}" for method in start)]
    values = [n * work, n * message, *start.values()]
    figure, axes = subplots(8, 0.9 + 0.4 * len(labels))
    looks = [OPTIMISED, *[NAIVE] * (len(labels) - 1)]
    least = 0.3 * min(value for value in values if value > 0)  # a logarithmic axis has no zero
    for row, (value, look) in enumerate(zip(values, looks, strict=True)):
        axes.barh(row, value, edgecolor="white", **look)
        axes.annotate(f" {time_text(value)}", (max(value, least), row), va="center", annotation_clip=False, fontsize=9)
    axes.set_yticks(range(len(labels)), labels)
    axes.invert_yaxis()
    axes.set_xscale("log")
    axes.set_xlim(least, 6 * max(values))
    axes.xaxis.set_major_formatter(lambda value, _: time_text(value))
    axes.minorticks_off()
    axes.set_xlabel(f"time for {n:,} items (measured)")
    return render(
        figure,
        f"{n:,} items: {time_text(work)} of work each, {time_text(message)} to send one and fetch its answer: "
        f"{message / work:.2g} times the work.",
    )


def flat_picture(corpus: Corpus, keep: np.ndarray) -> Picture:
    """A small corpus as its flat row of characters, a mask below it, and below that what the mask leaves.

    keep: bool (characters,). The offsets, old and new, stand at the edges between strings.
    """
    figure, axes = subplots(9, 2.9)
    kept = np.concatenate([[0], np.cumsum(keep)])
    looks = [OPTIMISED if one else NAIVE for one in keep]
    _boxes(axes, 2.4, _letters(corpus.codes), looks)
    _boxes(axes, 1.4, [str(int(one)) for one in keep], looks)
    _boxes(axes, 0, _letters(corpus.codes[keep]), [OPTIMISED] * int(kept[-1]))
    for row, offsets in ((2.4, corpus.offsets), (0, kept[corpus.offsets])):
        for offset in offsets.tolist():
            axes.plot([offset, offset], [row - 0.52, row + 0.52], color="black", lw=2.5, solid_capstyle="butt")
            axes.annotate(str(offset), (offset, row + 0.55), ha="center", va="bottom", fontsize=9)
    axes.set_yticks([2.4, 1.4, 0], ["codes, offsets", "keep", "codes[keep], offsets"])
    axes.tick_params(left=False)
    axes.set_xlim(-0.3, len(keep) + 0.3)
    axes.set_ylim(-0.6, 3.4)
    axes.set_xticks([])
    for side in ("left", "bottom"):
        axes.spines[side].set_visible(False)
    was, became = corpus.offsets.tolist(), kept[corpus.offsets].tolist()
    return render(
        figure,
        f"{len(keep)} characters in a row, {int(kept[-1])} of them kept: the offsets {was} become {became}, "
        "the number of characters kept before each.",
    )


def _letters(codes: np.ndarray) -> list[str]:
    return ["\u2423" if code == ord(" ") else chr(code) for code in codes.tolist()]


def _boxes(axes: Axes, row: float, labels: list[str], looks: list[dict]) -> None:
    for place, (label, look) in enumerate(zip(labels, looks, strict=True)):
        axes.barh(row, 0.94, left=place + 0.03, height=0.7, alpha=0.4, edgecolor="white", **look)
        axes.annotate(label, (place + 0.5, row), ha="center", va="center", fontsize=10)
