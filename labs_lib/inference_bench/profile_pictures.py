"""Tables and pictures of a profile: layers under the roof, and time beside the least possible time."""

from __future__ import annotations

import html
import math
import re
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from labs_lib.figures import NAIVE, NEUTRAL, OPTIMISED, Picture, render, subplots
from labs_lib.inference_bench.least import Least
from labs_lib.inference_bench.profile import Profile, TimedLayer
from labs_lib.roofline import Roof
from labs_lib.timing import Interval
from labs_lib.units import size_text, time_text

if TYPE_CHECKING:
    from matplotlib.axes import Axes

TOP = 12  # layers in a table or picture
LABELLED = 6  # layers with their names in the picture of the roof
HEAD = ("layer", "kind", "calls", "time", "share", "FLOPs", "bytes", "FLOP/B", "least", "reached", "limit")
COLORS = {"computing": OPTIMISED["color"], "memory": "#f89c20", "calls": NEUTRAL, "unexplained": NAIVE["color"]}
MARKERS = {"computing": "o", "memory": "s", "calls": "^", "unexplained": "X"}


def grouped(profile: Profile) -> list[tuple[TimedLayer, ...]]:
    """Layers whose names differ in a number only and that count the same, as in equal blocks; slowest first.

    A deep model has as many rows as blocks for each kind of layer, and they would hide all others.
    """
    found: dict[tuple, list[TimedLayer]] = {}
    for row in profile.rows:
        layer = row.layer
        counts = layer.calls, layer.operators, layer.flops, layer.weight_bytes, layer.other_bytes
        found.setdefault((re.sub(r"\d+", "*", layer.name), layer.kind, *counts), []).append(row)
    return sorted(map(tuple, found.values()), key=lambda group: -sum(row.seconds for row in group))


def together(group: tuple[TimedLayer, ...]) -> TimedLayer:
    """One row for a group, with its sums. The ends of the intervals are added, so theirs is rather too wide."""
    if len(group) == 1:
        return group[0]
    layers, leasts, intervals = zip(*((row.layer, row.least, row.interval) for row in group), strict=True)

    def total(things: Iterable[object], name: str) -> float:
        return sum(getattr(thing, name) for thing in things)

    sums = {name: total(layers, name) for name in ("calls", "operators", "flops", "weight_bytes", "other_bytes")}
    by_dtype = sum((layer.flops_by_dtype for layer in layers), Counter())
    layer = replace(layers[0], name=re.sub(r"\d+", "*", layers[0].name), flops_by_dtype=by_dtype, **sums)
    ends = {name: total(intervals, name) for name in ("median", "low", "high")}
    times = {name: total(leasts, name) for name in ("computing", "memory", "high", "calling")}
    return TimedLayer(layer, total(group, "seconds"), Interval(**ends), Least(**times, missing=leasts[0].missing))


def rows(profile: Profile, top: int = TOP) -> list[tuple[str, ...]]:
    """The slowest layers, the rest of them, what is no layer, and the whole: cells as text, HEAD above them."""
    found, groups = [], grouped(profile)
    for row in map(together, groups[:top]):
        layer = row.layer
        found.append(
            (layer.name, layer.kind, f"{layer.calls:,}", time_text(row.seconds), f"{row.seconds / profile.whole_s:.1%}",
             f"{layer.flops:,}" + "+" * bool(layer.uncounted), f"{layer.bytes_moved:,}", f"{layer.intensity:.1f}",
             time_text(row.least.low), _percent(row.reached), row.limit)
        )  # fmt: skip
    rest = [row for group in groups[top:] for row in group]
    sums = [(f"{len(rest)} other layers", sum(row.seconds for row in rest), rest)] if rest else []
    sums += [("between layers", profile.between_s, ()), ("hooks", profile.hooks_s, ())]
    sums += [("whole", profile.whole_s, profile.rows)]
    for name, seconds, part in sums:
        flops, moved = (sum(getattr(row.layer, what) for row in part) for what in ("flops", "bytes_moved"))
        low, high = (sum(getattr(row.least, end) for row in part) for end in ("low", "high"))
        counted = (f"{flops:,}", f"{moved:,}", f"{flops / moved:.1f}" if moved else "") if part else ("", "", "")
        modelled = (time_text(low), _percent((low / seconds, high / seconds))) if part else ("", "")
        found.append((name, "", "", time_text(seconds), f"{seconds / profile.whole_s:.1%}", *counted, *modelled, ""))
    return found


def notes(profile: Profile) -> list[str]:
    """What the table's numbers are, what watching cost, and what is missing."""
    lines = [
        profile.sentence,
        str(profile.overhead),
        f"time measured, by hooks; FLOPs and bytes counted ({size_text(profile.weights)} of weights, peak "
        f"{size_text(profile.peak_bytes)} above them); least modelled: max(FLOPs / peak, bytes / bandwidth); limit: "
        f"the larger of the two, or calls where operators x {time_text(profile.roof.call_s)} take longer.",
    ]
    if len(grouped(profile)) < len(profile.rows):
        lines.append("* stands for the numbers of layers that count the same: one row with their sums.")
    missing = sorted({name for row in profile.rows for name in row.least.missing})
    if missing:
        lines.append(f"Without a formula or a peak, so not in FLOPs or least: {', '.join(missing)}.")
    if any(row.reached[0] > 1 for row in profile.rows):
        lines.append(
            "Above 100 %: what it read was in a nearer cache than the model of least time assumes, or the machine was "
            "busy when its limits were measured; roof(fresh=True) measures them again."
        )
    if any(row.limit == "unexplained" for row in profile.rows):
        lines.append("Unexplained: the least time and that of the calls are together a tenth of its time or less.")
    if profile.faults is not None and profile.faults >= 1:
        lines.append(f"A call takes {profile.faults:,.0f} page faults (measured): memory newly given by the system.")
    return [*lines, *profile.roof.notes]


def table_text(profile: Profile) -> str:
    lines = [HEAD, *rows(profile)]
    widths = [max(len(line[column]) for line in lines) for column in range(len(HEAD))]
    texts = [
        "  ".join(f"{cell:{'<' if column in (0, 1, 10) else '>'}{width}}" for column, (cell, width) in
                  enumerate(zip(line, widths, strict=True))).rstrip()
        for line in lines
    ]  # fmt: skip
    return "\n".join([*texts, "", *notes(profile)])


def table_html(profile: Profile) -> str:
    head = "".join(f"<th>{cell}</th>" for cell in HEAD)
    body = "".join(
        "<tr>" + "".join(f"<td>{html.escape(cell)}</td>" for cell in line) + "</tr>" for line in rows(profile)
    )
    said = "".join(f"<p>{html.escape(line)}</p>" for line in notes(profile))
    return f"<table><tr>{head}</tr>{body}</table>{said}"


@dataclass(frozen=True)
class Point:
    """A layer in the picture of the roof."""

    name: str
    intensity: float  # FLOPs for each byte
    rate: float  # FLOPs a second
    weight: float  # its area: the share of the time
    look: str  # "computing", "memory", "calls" or "unexplained"


def roofline_picture(profile: Profile, dtype: str | None = None) -> Picture:
    """Layers that compute products under the measured roof. Area: time. Layers without FLOPs have no place in it."""
    points = [
        Point(row.name, row.layer.intensity, row.layer.flops / row.seconds, row.seconds / profile.whole_s, row.limit)
        for row in map(together, grouped(profile))
        if row.layer.flops
    ]
    used = sorted({name for row in profile.rows for name in row.layer.flops_by_dtype})
    dtype = dtype or next((name for name in used if profile.roof.peak(name)), "float32")
    without = [row for row in profile.rows if not row.layer.flops]
    share = sum(row.seconds for row in without) / profile.whole_s
    says = f"{profile.sentence} Not drawn: layers without products ({len(without)}, {share:.0%} of the time)."
    return roof_picture(profile.roof, points, dtype, says, "measured")


def roof_picture(roof: Roof, points: Iterable[Point], dtype: str, says: str, kind: str) -> Picture:
    """A picture of the roof and points under it, alone."""
    figure, axes = subplots(9, 5)
    draw_roof(axes, roof, points, dtype, kind)
    return render(figure, says)


def draw_roof(axes: Axes, roof: Roof, points: Iterable[Point], dtype: str, kind: str) -> None:
    """The roof as a band, for data in memory and in the nearest cache, and points under it. Both axes logarithmic.

    `kind` says what the points' rates are: "measured" or "modelled".
    """
    import numpy as np

    points, peak = sorted(points, key=lambda point: -point.weight), roof.peak(dtype)
    xs = [point.intensity for point in points]
    left, right = min([0.1, *xs]) / 2, max([1000.0, *xs]) * 2
    axes.set(xscale="log", yscale="log", xlim=(left, right), xlabel="FLOPs for each byte moved (counted)",
             ylim=(min([peak.best / 1000, *(point.rate for point in points)]) / 2, peak.best * 3),
             ylabel=f"FLOP/s ({kind})")  # fmt: skip
    x = np.geomspace(left, right, 200)
    lines = (("memory", roof.memory, NEUTRAL), ("cache", roof.nearest_cache, OPTIMISED["color"]))
    for name, bandwidth, color in lines:
        low, high = np.minimum(x * bandwidth.low, peak.low), np.minimum(x * bandwidth.best, peak.best)
        axes.fill_between(x, low, high, color=color, alpha=0.35, lw=0)
        rates = f"{bandwidth.low / 1e9:.0f} to {bandwidth.best / 1e9:.0f} GB/s"
        axes.plot(x, high, color=color, lw=1.2, label=f"{name}, {rates}")
    seen = set()
    for point in points:
        axes.scatter(point.intensity, point.rate, s=20 + 900 * point.weight, color=COLORS[point.look],
                     marker=MARKERS[point.look], alpha=0.7, edgecolor="white", lw=0.6,
                     label=None if point.look in seen else f"limit: {point.look}")  # fmt: skip
        seen.add(point.look)
    _label(axes, points[:LABELLED])
    axes.set_title(f"{dtype}: {peak.low / 1e9:,.0f} to {peak.best / 1e9:,.0f} GFLOP/s", loc="right", fontsize=10)
    legend = axes.legend(loc="lower right", frameon=False, fontsize=8,
                         title=f"{roof.device}, {roof.threads} thread{'s' * (roof.threads > 1)}")  # fmt: skip
    for handle in legend.legend_handles[2:]:
        handle.set_sizes([40])


def _label(axes: Axes, points: list[Point]) -> None:
    """Names beside the largest points, each where no other name stands: a step lower until there is room."""
    (left, right), (bottom, top) = axes.get_xlim(), axes.get_ylim()
    taken: list[tuple[float, float]] = []
    for point in points:
        x = math.log(point.intensity / left) / math.log(right / left)
        y = math.log(point.rate / bottom) / math.log(top / bottom)
        place = y
        while any(abs(x - other_x) < 0.35 and abs(place - other_y) < 0.045 for other_x, other_y in taken):
            place -= 0.045
        taken.append((x, place))
        axes.annotate(_short(point.name), (point.intensity, point.rate), (x - 0.015, place), fontsize=8,
                      textcoords="axes fraction", ha="right", va="center", annotation_clip=False,
                      arrowprops={"arrowstyle": "-", "lw": 0.5, "color": NEUTRAL, "relpos": (1, 0.5)})  # fmt: skip


def _short(name: str) -> str:
    """The last parts of a long path.

    >>> _short("model.transformer.h.11.attn.c_attn")
    'h.11.attn.c_attn'
    """
    parts = name.split(".")
    while len(".".join(parts)) > 24 and len(parts) > 2:
        del parts[0]
    return ".".join(parts)


def time_picture(profile: Profile, top: int = TOP) -> Picture:
    """Bars: the measured time of the slowest layers with its interval, beside the least possible time."""
    shown = [together(group) for group in grouped(profile)[:top]]
    figure, axes = subplots(9, 1.0 + 0.42 * len(shown))
    for place, row in enumerate(shown):
        axes.barh(place - 0.2, row.seconds * 1e3, height=0.38, edgecolor="white", **NAIVE,
                  label=None if place else "measured")  # fmt: skip
        axes.barh(place + 0.2, row.least.low * 1e3, height=0.38, edgecolor="white", **OPTIMISED,
                  label=None if place else "least possible (modelled)")  # fmt: skip
        axes.plot([row.interval.low * 1e3, row.interval.high * 1e3], [place - 0.2] * 2, color="black", lw=1.5)
        axes.plot([row.least.low * 1e3, row.least.high * 1e3], [place + 0.2] * 2, color="black", lw=1.5)
        axes.annotate(f" {time_text(row.seconds)}, {_percent(row.reached)} reached, {row.limit}",
                      (max(row.seconds, row.interval.high) * 1e3, place - 0.2), va="center", fontsize=8,
                      annotation_clip=False)  # fmt: skip
    axes.set_yticks(range(len(shown)), [f"{_short(row.name)} ({row.layer.kind})" for row in shown], fontsize=8)
    axes.invert_yaxis()
    axes.set_xlabel("ms in one call (lines: 95 % interval of the median; band of the measured limits)")
    axes.margins(x=0.65)
    axes.legend(loc="lower left", bbox_to_anchor=(0, 1), ncols=2, frameon=False)
    return render(figure, profile.sentence)


def _percent(ends: tuple[float, float]) -> str:
    low, high = (f"{100 * end:.0f}" for end in ends)
    return f"{low} %" if low == high else f"{low}-{high} %"
