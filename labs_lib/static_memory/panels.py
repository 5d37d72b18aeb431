"""The two panels of lab 01: a plan growing buffer by buffer, and the memory of an MLP of any size."""

from __future__ import annotations

from collections.abc import Sequence

from labs_lib.figures import NAIVE, NEUTRAL, OPTIMISED, Picture
from labs_lib.panels import Choice, Panel
from labs_lib.static_memory import planners
from labs_lib.static_memory.graph import Graph, Operator, lifetimes
from labs_lib.static_memory.lifetimes import Buffer, lower_bound
from labs_lib.static_memory.pictures import arena_picture, memory_picture
from labs_lib.static_memory.planning import plan
from labs_lib.units import size_text

SEARCH = "complete search"
SEARCH_LIMIT_S = 1.5  # a control answers within two seconds
# The order in which each planner places; the search has none, so its plan is shown from the floor upwards.
PLACING_ORDER = {
    "online best fit": planners.by_birth,
    "greedy by size": planners.by_size,
    "greedy by breadth": planners.by_breadth,
}


def packing_panel(buffers: Sequence[Buffer]) -> Panel:
    """Planner and number of placed buffers as controls; the arena, time x address, as the picture."""
    buffers = list(buffers)
    plans = {name: planners.PLANNERS[name](buffers) for name in PLACING_ORDER}
    best = plan(buffers, time_limit_s=SEARCH_LIMIT_S)
    plans[SEARCH] = best.offsets
    orders = {name: order(buffers) for name, order in PLACING_ORDER.items()}
    orders[SEARCH] = sorted(range(len(buffers)), key=lambda i: (best.offsets[i], buffers[i].lower))

    def draw(planner: str, placed: int) -> Picture:
        return arena_picture(buffers, plans[planner], orders[planner][:placed], planner)

    return Panel(
        draw,
        planner=Choice("planner", tuple(plans), "greedy by size", widget="buttons"),
        placed=Choice("buffers placed", tuple(range(1, len(buffers) + 1)), len(buffers)),
    )


def mlp_graph(depth: int, width: int, batch: int, expansion: int = 1) -> Graph:
    """An MLP of `depth` layers, float32, by its sizes alone: no weights are made.

    Every other layer has `expansion` times `width` features, as the feed-forward part of a transformer has.
    """
    operators: list[Operator] = []
    sizes = [4 * batch * width]
    for layer in range(depth):
        features = width * (expansion if layer % 2 == 0 and layer < depth - 1 else 1)
        for name in ("matmul", "add", "relu") if layer < depth - 1 else ("matmul", "add"):
            operators.append(Operator(name, (len(sizes) - 1,), (len(sizes),)))
            sizes.append(4 * batch * features)
    return Graph(tuple(operators), tuple(sizes), outputs=(len(sizes) - 1,), inputs=(0,))


def memory_panel() -> Panel:
    """Depth, width, batch, regime and planner as controls; bytes with and without reuse as bars."""
    planner_of = {name: planners.PLANNERS[name] for name in PLACING_ORDER}
    planner_of[SEARCH] = lambda buffers: plan(buffers, time_limit_s=SEARCH_LIMIT_S).offsets

    def draw(depth: int, width: int, batch: int, reuse: str, planner: str) -> Picture:
        graph = mlp_graph(depth, width, batch, expansion=4)
        everything = sum(buffer.size for buffer in lifetimes(graph).buffers)
        buffers = lifetimes(graph, reuse.replace(" ", "_")).buffers
        bound, arena = lower_bound(buffers), planners.height(buffers, planner_of[planner](buffers))
        rows = [
            ("keep every value", everything, NAIVE),
            (planner, arena, OPTIMISED),
            ("lower bound", bound, {"color": NEUTRAL}),
        ]
        return memory_picture(
            rows,
            f"Depth {depth}, width {width}, batch {batch}, {reuse} (counted): keeping every value takes "
            f"{size_text(everything)}, {planner} {size_text(arena)}, {arena / bound:.3f} times the lower bound of "
            f"{size_text(bound)}.",
        )

    return Panel(
        draw,
        depth=Choice("depth", (1, 2, 3, 4, 6, 8, 12, 16, 24, 32), 4),
        width=Choice("width", (128, 256, 512, 1024, 2048, 4096), 1024),
        batch=Choice("batch", (1, 4, 8, 16, 32, 64, 128, 256), 32),
        reuse=Choice("reuse", ("fresh", "in place"), "fresh", widget="buttons"),
        planner=Choice("planner", tuple(planner_of), "online best fit", widget="menu"),
    )
