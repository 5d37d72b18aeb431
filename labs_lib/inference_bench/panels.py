"""The panel of lab 09: where the layers of a transformer block fall under this machine's roof, before anyone runs it.

With b samples of t tokens, width d and s bytes for each number, counted by formula:

    a linear layer from n to m     2 b t n m FLOPs    s (n m + m) weight bytes    s b t (n + m) other bytes
    attention                      4 b t t d FLOPs                                s 4 b t d, and 4 b t for each head
    a norm                         none               s 2 d weight bytes          s 2 b t d, and 8 b t
    the GELU                       none                                           s 8 b t d
"""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

from labs_lib.figures import NEUTRAL, OPTIMISED, Picture, render, subplots
from labs_lib.inference_bench.layers import Layer
from labs_lib.inference_bench.least import Least, least
from labs_lib.inference_bench.profile_pictures import Point, draw_roof
from labs_lib.panels import Choice, Panel
from labs_lib.roofline import Roof
from labs_lib.units import time_text

if TYPE_CHECKING:
    from matplotlib.axes import Axes

HEAD = 64  # the width of an attention head
BYTES = {"float32": 4, "bfloat16": 2}


def block_layers(batch: int, tokens: int, width: int, dtype: str = "float32") -> list[Layer]:
    """The layers of a pre-norm transformer block on (batch, tokens, width), by the formulas above; one call of each."""
    rows, size = batch * tokens, BYTES[dtype]

    def linear(name: str, n: int, m: int) -> Layer:
        return Layer(name, "Linear", weight_bytes=size * (n * m + m), other_bytes=size * rows * (n + m),
                     flops=2 * rows * n * m)  # fmt: skip

    def norm(name: str) -> Layer:
        return Layer(name, "LayerNorm", weight_bytes=size * 2 * width, other_bytes=size * 2 * rows * width + 8 * rows)

    found = [
        norm("norm_1"),
        linear("qkv", width, 3 * width),
        Layer("attention", "Attention", flops=4 * rows * tokens * width,
              other_bytes=size * 4 * rows * width + 4 * rows * (width // HEAD)),
        linear("out", width, width),
        norm("norm_2"),
        linear("up", width, 4 * width),
        Layer("gelu", "GELU", other_bytes=size * 8 * rows * width),
        linear("down", 4 * width, width),
    ]  # fmt: skip
    for layer in found:
        layer.calls = layer.operators = 1
        if layer.flops:
            layer.flops_by_dtype = Counter({dtype: layer.flops})
    return found


def roofline_panel(roof: Roof) -> Panel:
    """Batch size, width and dtype as controls; the layers under the measured roof, and the least possible time."""

    def draw(batch: int, tokens: int, width: int, dtype: str) -> Picture:
        layers = block_layers(batch, tokens, width, dtype)
        weights = sum(layer.weight_bytes for layer in layers)
        found = [(layer, least(layer, weights, roof)) for layer in layers]
        whole = sum(one.low for _, one in found)
        points = [
            Point(layer.name, layer.intensity, layer.flops / one.low, one.low / whole, one.limit)
            for layer, one in found
            if layer.flops
        ]
        memory = [layer.name for layer, one in found if one.memory > one.computing]
        limited = ", ".join(memory) or "no layer"
        says = (
            f"A block of width {width} on {batch} x {tokens} tokens in {dtype} takes at least {time_text(whole)} to "
            f"{time_text(sum(one.high for _, one in found))}, {time_text(whole / batch)} for each sample (modelled: "
            f"the sum of max(FLOPs / peak, bytes / bandwidth); {sum(layer.flops for layer in layers):,} FLOPs and "
            f"{sum(layer.bytes_moved for layer in layers):,} bytes by formula). Bound by memory: {limited}."
        )
        figure, (left, right) = subplots(11, 4.5, columns=2, width_ratios=(3, 2))
        draw_roof(left, roof, points, dtype, "modelled")
        _bars(right, found)
        return render(figure, says)

    dtypes = tuple(dtype for dtype in BYTES if roof.peak(dtype))
    return Panel(
        draw,
        batch=Choice("batch size", (1, 2, 4, 8, 16, 32, 64, 128), 8),
        tokens=Choice("tokens each", (1, 4, 16, 64, 256), 64),
        width=Choice("width", (64, 128, 256, 512, 1024, 2048), 256),
        dtype=Choice("dtype", dtypes, dtypes[0], widget="buttons"),
    )


def _bars(axes: Axes, found: list[tuple[Layer, Least]]) -> None:
    """For each layer the two times of which the larger is the least."""
    for place, (_, one) in enumerate(found):
        axes.barh(place - 0.2, one.computing * 1e3, height=0.38, **OPTIMISED, label=None if place else "FLOPs / peak")
        axes.barh(place + 0.2, one.memory * 1e3, height=0.38, color=NEUTRAL, hatch="..", edgecolor="white",
                  label=None if place else "bytes / bandwidth")  # fmt: skip
    axes.set_yticks(range(len(found)), [layer.name for layer, _ in found])
    axes.invert_yaxis()
    axes.set_xlabel("ms (modelled)")
    axes.legend(loc="lower left", bbox_to_anchor=(0, 1), frameon=False, fontsize=8)
