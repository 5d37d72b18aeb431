"""The pictures of lab 01: lifetimes as bars, a plan as rectangles in time and address, memory side by side."""

from __future__ import annotations

from collections.abc import Sequence

from labs_lib.compare import Comparison
from labs_lib.figures import NEUTRAL, OPTIMISED, Picture, bars, render, subplots
from labs_lib.static_memory.lifetimes import Buffer, live_bytes, lower_bound
from labs_lib.static_memory.planners import height
from labs_lib.units import size_text


def lifetimes_picture(buffers: Sequence[Buffer]) -> Picture:
    """Left, a bar for each buffer from birth to death; right, the bytes alive at each step."""
    figure, (chart, profile) = subplots(9, 0.9 + 0.27 * max(len(buffers), 7), columns=2, sharex=True)
    for row, buffer in enumerate(buffers):
        chart.barh(row, buffer.steps, left=buffer.lower, height=0.7, color=_color(row), edgecolor="white")
        chart.text(buffer.lower + 0.1, row, size_text(buffer.size), va="center", fontsize=8)
    chart.set_yticks(range(len(buffers)), [buffer.id for buffer in buffers], fontsize=8)
    chart.invert_yaxis()
    chart.set(xlabel="step", title="lifetimes (counted)")
    steps, alive = zip(*live_bytes(buffers), strict=True)
    bound, total = lower_bound(buffers), sum(buffer.size for buffer in buffers)
    profile.stairs([size / 2**10 for size in alive[:-1]], steps, fill=True, color=NEUTRAL, alpha=0.35)
    profile.axhline(bound / 2**10, color="black", lw=1)
    profile.annotate(f"lower bound {size_text(bound)}", (steps[0], bound / 2**10), (2, 3), textcoords="offset points")
    profile.set(xlabel="step", ylabel="KiB alive", title="alive at each step (counted)")
    profile.margins(y=0.15)
    return render(
        figure,
        f"{len(buffers)} buffers of {size_text(total)} in all. At most {size_text(bound)} of them are alive at one "
        "step: no plan can need less.",
    )


def arena_picture(buffers: Sequence[Buffer], offsets: Sequence[int], placed: Sequence[int], title: str) -> Picture:
    """The arena as a rectangle, time from left to right and addresses upwards.

    `placed` are the indices of the buffers to draw, in the order in which a planner placed them; the last
    one is framed.
    """
    figure, axes = subplots(8, 4.2)
    bound = lower_bound(buffers)
    for index in placed:
        buffer, offset = buffers[index], offsets[index] / 2**10
        last = index == placed[-1] and len(placed) < len(buffers)
        axes.add_patch(
            _rectangle(
                (buffer.lower, offset),
                buffer.steps,
                buffer.size / 2**10,
                facecolor=_color(index),
                edgecolor="black" if last else "white",
                lw=2 if last else 0.6,
                zorder=3 if last else 2,
            )
        )
    top = height([buffers[i] for i in placed], [offsets[i] for i in placed])
    axes.axhline(bound / 2**10, color="black", lw=1.2, ls="--", zorder=4)
    axes.annotate(
        f"lower bound {size_text(bound)}", (1, bound / 2**10), (-2, 3), xycoords=("axes fraction", "data"),
        textcoords="offset points", ha="right", zorder=5,
    )  # fmt: skip
    axes.set_xlim(min(b.lower for b in buffers), max(b.upper for b in buffers))
    axes.set_ylim(0, 1.12 * max(bound, height(buffers, offsets)) / 2**10)
    axes.set(xlabel="step", ylabel="address, KiB", title=f"{title} (counted)")
    if len(placed) < len(buffers):
        says = f"{title}: {len(placed)} of {len(buffers)} buffers placed, up to address {size_text(top)}."
    else:
        says = f"{title}: {size_text(top)} of arena, {top / bound:.3f} times the lower bound of {size_text(bound)}."
    return render(figure, says)


def memory_picture(rows: Sequence[tuple[str, int, dict]], says: str) -> Picture:
    """Horizontal bars of bytes, one for each (label, bytes, look)."""
    unit, size = ("MiB", 2**20) if max(row[1] for row in rows) >= 2**22 else ("KiB", 2**10)
    figure, axes = subplots(8, 0.8 + 0.4 * len(rows))
    labels, values, looks = zip(*rows, strict=True)
    bars(axes, labels, [value / size for value in values], looks, unit, digits=1)
    return render(figure, says)


def gain_picture(rows: Sequence[tuple[int, Comparison]]) -> Picture:
    """Ratio with interval and noise floor, and page faults, for each (bytes of an array, comparison)."""
    figure, axes = subplots(8, 2.6)
    edge = 2 * max(max(found.ratio, 1 / found.ratio) for _, found in rows)  # where an interval may have no end
    for row, (_, found) in enumerate(rows):
        floor, high = min(found.floor, edge), min(found.high, edge)
        axes.barh(row, floor - 1 / floor, left=1 / floor, color=NEUTRAL, alpha=0.25)
        axes.plot([found.low, high], [row, row], color=OPTIMISED["color"], lw=4, solid_capstyle="butt")
        axes.plot(found.ratio, row, "o", ms=8, color=OPTIMISED["color"], mec="white")
        counted = "" if None in found.faults else f", page faults {found.faults[0]:,.0f} to {found.faults[1]:,.0f}"
        label = f"{found.ratio:.2f}x, {found.verdict}{counted}"
        axes.annotate(label, (high, row), (8, 0), textcoords="offset points", va="center", fontsize=9)
    axes.axvline(1, color=NEUTRAL, lw=1)
    axes.set_yticks(range(len(rows)), [size_text(size) for size, _ in rows])
    axes.invert_yaxis()
    axes.set_xlim(0, 1.3 * edge)
    axes.set(ylabel="array", xlabel="naive time / planned time (measured; grey: the noise floor)")
    best = max(rows, key=lambda row: row[1].ratio)
    return render(figure, f"Reuse pays most for arrays of {size_text(best[0])}: {best[1].ratio:.2f} times as fast.")


def _color(index: int) -> object:
    from matplotlib import colormaps

    return colormaps["tab20"](index % 10 * 2 + index // 10 % 2)


def _rectangle(*arguments: object, **options: object) -> object:
    from matplotlib.patches import Rectangle

    return Rectangle(*arguments, **options)
