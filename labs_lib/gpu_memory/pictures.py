"""The pictures of lab 03: a step, owners, compositions, an allocator, a leak, predictions against recordings."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from itertools import groupby

from labs_lib.figures import NAIVE, NEUTRAL, OPTIMISED, Picture, render, subplots
from labs_lib.gpu_memory.caching_allocator import CachingAllocator
from labs_lib.gpu_memory.leaks import Leak
from labs_lib.gpu_memory.recordings import Recorded
from labs_lib.gpu_memory.trace import (
    ACTIVATIONS,
    GRADIENTS,
    INPUTS,
    KINDS,
    OPTIMISER_STATE,
    PARAMETERS,
    TEMPORARIES,
    Trace,
)
from labs_lib.units import size_text

# Each kind has a colour and a hatch, the same in every picture.
LOOKS = {
    PARAMETERS: {"facecolor": "#3f90da", "hatch": ""},
    INPUTS: {"facecolor": "#94a4a2", "hatch": "oo"},
    OPTIMISER_STATE: {"facecolor": "#832db6", "hatch": ".."},
    GRADIENTS: {"facecolor": "#ffa90e", "hatch": "\\\\"},
    ACTIVATIONS: {"facecolor": "#bd1f01", "hatch": "//"},
    TEMPORARIES: {"facecolor": "#b9ac70", "hatch": "xx"},
}
NEAR = 20  # operators before and after the peak in the close-up
LIMIT = {"color": "black", "lw": 1.2, "ls": "--"}


def _unit(largest: float) -> tuple[str, int]:
    return ("GiB", 2**30) if largest >= 2**31 else ("MiB", 2**20) if largest >= 2**21 else ("KiB", 2**10)


def timeline_picture(trace: Trace, title: str = "one training step") -> Picture:
    """Live bytes of each kind over the operators of a step, stacked; on the right, the operators around the peak."""
    name, unit = _unit(trace.peak)
    live, at, last = trace.timeline(), trace.peak_at, len(trace.operators)
    kinds = [kind for kind in KINDS if live[kind].any()]
    figure, (whole, near) = subplots(11, 3.9, columns=2, sharey=True, width_ratios=(2, 1))
    for axes in (whole, near):
        bottom = 0 * live[kinds[0]] / unit
        for kind in kinds:
            top = bottom + live[kind] / unit
            label = f"{kind}, {size_text(live[kind][at])}"
            axes.fill_between(
                range(last + 1), bottom, top, step="post", label=label, edgecolor="white", lw=0, **LOOKS[kind]
            )
            bottom = top
    whole.plot([at], [trace.peak / unit], "v", color="black", ms=8, clip_on=False)
    whole.annotate(f"peak {size_text(trace.peak)}", (at, trace.peak / unit), (8, 2), textcoords="offset points")
    _phases(whole, trace)
    whole.set(xlabel="operators executed", ylabel=f"{name} alive (counted)", xlim=(0, last), ylim=(0, 1.16 * top.max()))
    near.set(xlabel="operators around the peak", xlim=(max(0, at - NEAR), min(last, at + NEAR)))
    legend = _reversed(whole)
    figure.legend(*legend, loc="outside lower center", ncols=3, frameon=False, fontsize=9, title="alive at the peak")
    parts = ", ".join(f"{kind} {size_text(size)}" for kind, size in _by_size(trace.at(at)))
    return render(figure, f"{title}: peak {size_text(trace.peak)} after operator {at} of {last}: {parts}.")


def _phases(axes: object, trace: Trace) -> None:
    """Names the phases of a step above the axes, where there is room for the name."""
    first = 0
    for phase, operators in groupby(trace.operators, key=lambda operator: operator.phase):
        length = len(list(operators))
        axes.axvline(first, color=NEUTRAL, lw=0.8, ls=":")
        if length > len(trace.operators) / 12:
            middle = (first + length / 2, 1.0)
            axes.annotate(phase, middle, xycoords=("data", "axes fraction"), ha="center", color=NEUTRAL)
        first += length


def _reversed(axes: object) -> tuple[list, list]:
    """Legend entries from top to bottom, as the areas lie."""
    handles, labels = axes.get_legend_handles_labels()
    return handles[::-1], labels[::-1]


def _by_size(parts: Mapping[str, int]) -> list[tuple[str, int]]:
    return sorted(parts.items(), key=lambda part: -part[1])


def owners(trace: Trace, at: int | None = None) -> list[tuple[str, int, str]]:
    """Who holds the memory at one index (the peak): (name, bytes, kind), the largest first.

    The name is the module's, the repeated blocks of a model taken together as "blocks.*"; outside any module it
    is the source line.
    """
    sizes: Counter[tuple[str, str]] = Counter()
    for block in trace.alive(trace.peak_at if at is None else at):
        name = re.sub(r"\.\d+(?=\.|$)", ".*", block.module) or block.line.partition("  ")[2] or "before the step"
        sizes[name, block.kind] += block.size
    return [(name, size, kind) for (name, kind), size in sizes.most_common()]


def owners_picture(trace: Trace, most: int = 8) -> Picture:
    """Who holds the memory at the peak, the largest holders first."""
    rows = owners(trace)[:most]
    name, unit = _unit(rows[0][1])
    figure, axes = subplots(9, 1.1 + 0.34 * len(rows))
    for row, (_, size, kind) in enumerate(rows):
        axes.barh(row, size / unit, edgecolor="white", label=kind, **LOOKS[kind])
        axes.annotate(f" {size_text(size)}, {size / trace.peak:.0%}", (size / unit, row), va="center", fontsize=9)
    axes.set_yticks(range(len(rows)), [_short(owner) for owner, _, _ in rows], fontsize=8)
    axes.invert_yaxis()
    axes.set(xlabel=f"{name} at the peak (counted)", xlim=(0, 1.25 * rows[0][1] / unit))
    handles = dict(zip(*reversed(axes.get_legend_handles_labels()), strict=True))
    axes.legend(handles.values(), handles.keys(), loc="lower right", frameon=False, fontsize=9)
    largest = rows[0]
    return render(
        figure,
        f"The largest holder at the peak of {size_text(trace.peak)}: {largest[0]}, {size_text(largest[1])} of "
        f"{largest[2]}, {largest[1] / trace.peak:.0%}.",
    )


def _short(label: str, most: int = 45) -> str:
    return label if len(label) <= most else label[: most - 3] + "..."


def composition_picture(
    rows: Sequence[tuple[str, Mapping[str, int]]], says: str, limit: int = 0, limit_name: str = ""
) -> Picture:
    """Stacked bars of bytes by kind, one for each (label, bytes by kind), against the memory of a device."""
    totals = [sum(parts.values()) for _, parts in rows]
    name, unit = _unit(max(*totals, limit))
    figure, axes = subplots(9, 1.7 + 0.36 * len(rows))
    for row, (_, parts) in enumerate(rows):
        left = 0.0
        for kind in KINDS:
            size = parts.get(kind, 0) / unit
            if size:
                axes.barh(row, size, left=left, edgecolor="white", lw=0.5, label=kind, **LOOKS[kind])
            left += size
        fits = "" if not limit else ", fits" if totals[row] <= limit else ", does not fit"
        axes.annotate(
            f"{size_text(totals[row])}{fits}", (left, row), (5, 0), textcoords="offset points", va="center",
            fontsize=9, zorder=4, bbox={"facecolor": "white", "edgecolor": "none", "pad": 1},
        )  # fmt: skip
    if limit:
        axes.axvline(limit / unit, **LIMIT)
        axes.annotate(
            limit_name, (limit / unit, 1.0), (0, 3), xycoords=("data", "axes fraction"),
            textcoords="offset points", ha="center", fontsize=9,
        )  # fmt: skip
    axes.set_yticks(range(len(rows)), [label for label, _ in rows])
    axes.invert_yaxis()
    axes.set(xlabel=f"{name} at the peak (counted)", xlim=(0, 1.3 * max(*totals, limit) / unit))
    handles = dict(zip(*reversed(axes.get_legend_handles_labels()), strict=True))
    shown = [kind for kind in KINDS if kind in handles]
    looks = [handles[kind] for kind in shown]
    figure.legend(looks, shown, loc="outside lower center", ncols=6, frameon=False, fontsize=9)
    return render(figure, says)


def segments_picture(allocator: CachingAllocator, title: str = "") -> Picture:
    """Each segment as a row, its spans in order of address: used ones named, free ones hatched."""
    rows = allocator.segments
    figure, axes = subplots(9, 1.2 + 0.42 * max(len(rows), 2))
    for row, segment in enumerate(rows):
        for span in segment.spans:
            used = {"facecolor": OPTIMISED["color"]} if span.name else {"facecolor": "white", "hatch": "///"}
            axes.barh(row, span.size / 2**20, left=span.start / 2**20, height=0.7, edgecolor=NEUTRAL, lw=0.8, **used)
            if span.name and span.size * 16 > max(segment.spans[-1].end for segment in rows):
                axes.text(
                    (span.start + span.size / 2) / 2**20, row, span.name,
                    ha="center", va="center", fontsize=8, color="white",
                )  # fmt: skip
    axes.set_yticks(range(len(rows)), [f"{segment.pool} {row + 1}" for row, segment in enumerate(rows)], fontsize=8)
    axes.set_ylim(max(len(rows), 2) - 0.5, -0.5)
    axes.set(xlabel="MiB from the start of the segment (hatched: free)", title=_title(title))
    largest = f", largest free piece {size_text(allocator.largest_free)}" if allocator.largest_free else ""
    back = allocator.reserved - allocator.allocated - allocator.stuck
    return render(
        figure,
        f"{title + ': ' if title else ''}{size_text(allocator.allocated)} allocated of {size_text(allocator.reserved)} "
        f"reserved{largest}, empty_cache can give back {size_text(back)} (modelled).",
    )


def _title(title: str) -> str:
    return f"{title} (modelled)" if title else "the caching allocator (modelled)"


def reserved_picture(samples: Sequence[tuple[int, int]], title: str) -> Picture:
    """Allocated and reserved bytes after each request to an allocator: (allocated, reserved) pairs."""
    name, unit = _unit(max(reserved for _, reserved in samples))
    allocated, reserved = ([size / unit for size in sizes] for sizes in zip(*samples, strict=True))
    steps = range(len(samples))
    figure, axes = subplots(9, 2.8)
    axes.fill_between(steps, 0, allocated, step="post", color=OPTIMISED["color"], label="allocated")
    axes.step(steps, reserved, where="post", color=NAIVE["color"], lw=1.6, ls="-", label="reserved")
    axes.set(xlabel="requests to the allocator", ylabel=f"{name} (modelled)", xlim=(0, len(samples) - 1))
    axes.set_ylim(0, 1.1 * max(reserved))
    axes.legend(loc="upper left", bbox_to_anchor=(1.0, 1.0), frameon=False)
    peak, top = max(a for a, _ in samples), max(r for _, r in samples)
    return render(
        figure,
        f"{title}: at most {size_text(peak)} allocated and {size_text(top)} reserved, {top / peak - 1:.1%} more "
        "(modelled).",
    )


def growth_picture(rows: Iterable[tuple[str, Leak]]) -> Picture:
    """Bytes alive after each call of a step: first the loop as it is, then the loop with one change."""
    rows = list(rows)
    name, unit = _unit(max(max(leak.live) for _, leak in rows))
    figure, axes = subplots(8, 2.6)
    for (label, leak), look, marker in zip(rows, (NAIVE, OPTIMISED), "os", strict=False):
        calls = range(1, len(leak.live) + 1)
        axes.plot(calls, [size / unit for size in leak.live], marker=marker, color=look["color"], label=label, lw=1.6)
    axes.set(xlabel="calls of the step", ylabel=f"{name} alive (counted)")
    axes.set_ylim(bottom=0)
    axes.legend(loc="upper left", bbox_to_anchor=(1.0, 1.0), frameon=False)
    return render(figure, " ".join(f"{label}: grows by {leak.growth:,} bytes a step." for label, leak in rows))


def recorded_picture(recorded: Sequence[Recorded]) -> Picture:
    """By how much predictions missed the peaks that real GPUs have recorded, one row for each model and mode."""
    figure, axes = subplots(9, 1.1 + 0.26 * len(recorded))
    axes.axvspan(-3, 3, color=NEUTRAL, alpha=0.2, lw=0)
    axes.axvline(0, color=NEUTRAL, lw=1)
    for row, one in enumerate(recorded):
        axes.plot(100 * one.error, row, "D", mfc="white", mec=OPTIMISED["color"], mew=1.8, ms=7)
    axes.set_yticks(range(len(recorded)), [str(one.case) for one in recorded], fontsize=8)
    axes.invert_yaxis()
    edge = 1.2 * max(4, *(abs(100 * one.error) for one in recorded))
    axes.set(xlim=(-edge, edge), xlabel="prediction over recorded peak, % too high (grey: 3 %)")
    axes.set_title("; ".join(sorted({one.says for one in recorded})), fontsize=9)
    worst = max(recorded, key=lambda one: abs(one.error))
    within = sum(abs(one.error) <= 0.03 for one in recorded)
    return render(
        figure,
        f"{within} of {len(recorded)} predictions are within 3 % of the peak that the GPU reported; the worst is "
        f"{100 * worst.error:+.1f} %, {worst.case} (recorded).",
    )
