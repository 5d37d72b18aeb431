"""The pictures of lab 02: bytes before and after fusion, calls against total time, bits that differ."""

from __future__ import annotations

from collections.abc import Sequence

from labs_lib.compare import Comparison
from labs_lib.compilation.capture import Capture
from labs_lib.compilation.payoff import Call, Costs
from labs_lib.figures import NAIVE, NEUTRAL, OPTIMISED, Picture, bars, render, subplots
from labs_lib.units import size_text, time_text

CALLS = [10 ** (tenth / 10) for tenth in range(71)]  # 1 to 10 million
PARTS = (("overhead", "#9c9ca1", ""), ("pointwise", "#f89c20", ".."), ("products", "#7a21dd", "xx"))


def traffic_picture(found: Capture) -> Picture:
    """Bytes of one call: eager, fused, and the least possible."""
    values = [found.eager.bytes, found.bytes, found.least_bytes]
    figure, axes = subplots(8, 1.8)
    kernels = found.kernels + found.library_calls
    labels = [f"eager, {found.eager.operators} operators", f"fused, {kernels} kernel{'s' if kernels != 1 else ''}"]
    bars(
        axes, [*labels, "least possible"], [value / 2**20 for value in values],
        [NAIVE, OPTIMISED, {"color": NEUTRAL}], "MiB", digits=1,
    )  # fmt: skip
    axes.set_xlabel("MiB read and written in one call (counted)")
    eager, fused, least = map(size_text, values)
    return render(figure, f"Eager code moves {eager} in one call, the fused kernels {fused}; the least is {least}.")


def payoff_picture(costs: Costs, width: int, depth: int, batch: int, mode: str) -> Picture:
    """Left, total time against calls for eager and compiled; right, what one call consists of."""
    eager, compiled = costs.eager(width, depth, batch), costs.compiled(width, depth, batch, mode)
    first, crossing = costs.first_call(depth, mode), costs.break_even(width, depth, batch, mode)
    figure, (lines, parts) = subplots(9, 3.4, columns=2, gridspec_kw={"width_ratios": [3, 2]})
    lines.plot(CALLS, [n * eager.total for n in CALLS], color=NAIVE["color"], ls="--", lw=2, label="eager")
    lines.plot(
        CALLS, [first + n * compiled.total for n in CALLS], color=OPTIMISED["color"], lw=2, label="compiled, cold"
    )
    if crossing is not None and crossing <= CALLS[-1]:
        lines.axvline(crossing, color=NEUTRAL, ls=":")
        lines.plot(crossing, crossing * eager.total, "o", color="black", ms=6)
    lines.set(xscale="log", yscale="log", xlabel="calls", ylabel="seconds in all")
    lines.set_title(f"modelled (prices {costs.origin})")
    lines.minorticks_off()
    lines.legend(frameon=False, loc="upper left")
    _stack(parts, (eager, compiled))
    pays = f"it pays from {crossing:,} calls on" if crossing is not None else "it never pays"
    return render(
        figure,
        f"Width {width}, depth {depth}, batch {batch}, {mode} (modelled; prices {costs.origin}): a call takes "
        f"{time_text(eager.total)} eager and {time_text(compiled.total)} compiled, the first "
        f"{time_text(first)}: {pays}.",
    )


def _stack(axes: object, calls: tuple[Call, Call]) -> None:
    """Two bars, eager and compiled, each made of the parts of one call."""
    unit, name = (1e-3, "ms") if max(call.total for call in calls) >= 1e-3 else (1e-6, "us")
    for row, call in enumerate(calls):
        left = 0.0
        for part, color, hatch in PARTS:
            value = getattr(call, part) / unit
            axes.barh(row, value, left=left, color=color, hatch=hatch, edgecolor="white", label=None if row else part)
            left += value
        axes.annotate(f" {left:,.3g} {name}", (left, row), va="center", annotation_clip=False, fontsize=9)
    axes.set_yticks(range(2), ["eager", "compiled"])
    axes.set_ylim(1.6, -0.6)
    axes.margins(x=0.25)
    axes.set(xlabel=f"{name} in one call", title="what a call consists of")
    axes.legend(frameon=False, loc="upper center", bbox_to_anchor=(0.45, -0.22), ncols=3, fontsize=9)


def ratios_picture(rows: Sequence[tuple[str, Comparison]]) -> Picture:
    """Ratio with interval and noise floor for each (label, comparison), eager over compiled."""
    figure, axes = subplots(8, 0.9 + 0.45 * len(rows))
    edge = 1.2 * max(1.2, *(found.ratio for _, found in rows))  # where an interval may have no end
    for row, (_, found) in enumerate(rows):
        floor, low, high = min(found.floor, edge), max(found.low, 1 / edge), min(found.high, edge)
        color = {"faster": OPTIMISED["color"], "slower": NAIVE["color"]}.get(found.verdict, NEUTRAL)
        axes.barh(row, floor - 1 / floor, left=1 / floor, color=NEUTRAL, alpha=0.25)
        axes.plot([low, high], [row, row], color=color, lw=5, solid_capstyle="butt")
        axes.plot(found.ratio, row, "o", ms=8, color=color, mec="white")
        axes.annotate(
            f"{found.ratio:.2f}x, {found.verdict}", (max(high, floor), row), (8, 0),
            textcoords="offset points", va="center",
        )
    axes.axvline(1, color=NEUTRAL, lw=1)
    axes.set_yticks(range(len(rows)), [label for label, _ in rows])
    axes.set_ylim(len(rows) - 0.4, -0.6)
    axes.set_xlim(0, 1.5 * edge)
    axes.set_xlabel("eager time / compiled time (measured; grey: the noise floor)")
    told = "; ".join(f"{label}: {found.ratio:.2f}x, {found.verdict}" for label, found in rows)
    return render(figure, f"Compiled against eager. {told}.")
