"""Pictures of a run: how much each variant computes against the batch size, and how long a call takes."""

from __future__ import annotations

import math
from collections.abc import Sequence

from labs_lib.errors import LabError
from labs_lib.figures import NAIVE, NEUTRAL, OPTIMISED, Picture, render, subplots
from labs_lib.inference_bench.results import Result, Run

# Colour and marker of each variant. Eager is the naive way.
LOOKS = {
    "eager": (NAIVE["color"], "X"),
    "inference_mode": (OPTIMISED["color"], "o"),
    "channels_last": ("#f89c20", "s"),
    "bf16": ("#7a21dd", "^"),
    "compile": ("#964a8b", "D"),
    "onnx": ("#656364", "v"),
    "int8": ("#86c8dd", "P"),
}


def results_of(run: Run, model: str, device: str) -> list[Result]:
    """The measured ones of a model on a device. Raises LabError where there is none."""
    found = [result for result in run.measured if (result.key.model, result.key.device) == (model, device)]
    if not found:
        raise LabError(f"Nothing was measured of {model} on {device}.", "", "Take a model that the run names.")
    return found


def speed_picture(run: Run, model: str, device: str = "cpu") -> Picture:
    """Samples a second against the batch size, a line for each variant, with 95 % intervals."""
    results = results_of(run, model, device)
    figure, axes = subplots(8, 4)
    for place, (variant, (color, marker)) in enumerate(LOOKS.items()):
        own = [result for result in results if result.key.variant == variant]
        if not own:
            continue
        speeds = [result.throughput for result in own]
        aside = 1 + 0.02 * (place - len(LOOKS) / 2)  # so that no interval hides another
        batches = [aside * result.key.batch for result in own]
        axes.plot(batches, [speed.median for speed in speeds], marker, ls="-", color=color, ms=6, label=variant)
        for batch, speed in zip(batches, speeds, strict=True):
            if math.isfinite(speed.low):
                axes.plot([batch, batch], [speed.low, speed.high], color=color, lw=1.5)
    batches = sorted({result.key.batch for result in results})
    axes.set_xscale("log")
    axes.set_yscale("log")
    axes.set_xticks(batches, [str(batch) for batch in batches])
    axes.tick_params(axis="x", which="minor", bottom=False, labelbottom=False)
    axes.yaxis.set_major_formatter("{x:g}")
    axes.yaxis.set_minor_formatter("{x:g}")
    axes.tick_params(axis="y", which="minor", labelsize=8)
    axes.set_xlabel("samples in a batch")
    axes.set_ylabel("samples/s (measured)")
    axes.legend(fontsize=9, loc="center left", bbox_to_anchor=(1.0, 0.5))
    return render(figure, fastest(results))


def fastest(results: Sequence[Result]) -> str:
    """Which variant has the highest throughput, at which batch, against eager's highest."""
    best = max(results, key=lambda result: result.throughput.median)
    says = f"{best.key.model} on {best.key.device}: the most is {_rate(best)} with {best.key.variant}"
    eager = [result for result in results if result.key.variant == "eager"]
    if not eager or best.key.variant == "eager":
        return f"{says} at batch {best.key.batch} (measured)."
    plain = max(eager, key=lambda result: result.throughput.median)
    factor = best.throughput.median / plain.throughput.median
    apart = best.throughput.low > plain.throughput.high
    unsure = "" if apart else ", though their intervals overlap"
    return (
        f"{says} at batch {best.key.batch}, {factor:.1f} times eager's {_rate(plain)} at batch {plain.key.batch}"
        f"{unsure} (measured)."
    )


def latency_picture(run: Run, model: str, device: str = "cpu") -> Picture:
    """Half of the calls take no longer than the bar, 99 % than the tick: at the smallest and the largest batch."""
    results = results_of(run, model, device)
    batches = sorted({result.key.batch for result in results})
    ends = [batches[0], batches[-1]] if len(batches) > 1 else batches
    rows = len({result.key.variant for result in results})
    figure, panels = subplots(5 * len(ends), 1.2 + 0.35 * rows, columns=len(ends), squeeze=False)
    for axes, batch in zip(panels[0], ends, strict=True):
        own = [result for result in results if result.key.batch == batch]
        for row, result in enumerate(own):
            half, most = (1000 * result.latency(percent).value for percent in (50, 99))
            look = NAIVE if result.key.variant == "eager" else OPTIMISED
            axes.barh(row, half, edgecolor="white", **look)
            axes.plot([half, most], [row, row], color=NEUTRAL, lw=1)
            axes.plot(most, row, "|", color="black", ms=10)
            axes.annotate(f" {half:.3g}, {most:.3g}", (most, row), va="center", fontsize=9, annotation_clip=False)
        axes.set_yticks(range(len(own)), [result.key.variant for result in own])
        axes.invert_yaxis()
        axes.margins(x=0.25)
        axes.set_title(f"batch {batch}", fontsize=10)
        axes.set_xlabel("ms a call: bar p50, tick p99 (measured)")
    return render(figure, shortest([result for result in results if result.key.batch == batches[0]]))


def shortest(results: Sequence[Result]) -> str:
    """Which variant answers soonest at one batch size, and how far its slowest calls are from its usual ones."""
    best = min(results, key=lambda result: result.latency(50).value)
    half, most = best.latency(50), best.latency(99)
    few = "" if math.isfinite(most.high) else f", of {len(best.calls)} calls, too few to bound it"
    return (
        f"{best.key.model} on {best.key.device}: at batch {best.key.batch} {best.key.variant} answers soonest, in "
        f"{1000 * half.value:.3g} ms (p50) and {1000 * most.value:.3g} ms (p99{few}) (measured)."
    )


def _rate(result: Result) -> str:
    return f"{result.throughput.median:,.4g} samples/s"
