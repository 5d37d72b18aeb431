"""The two panels of lab 01: a plan growing buffer by buffer, and the memory of an MLP of any size."""

from __future__ import annotations

from collections.abc import Sequence

from labs_lib.figures import NAIVE, NEUTRAL, OPTIMISED, Picture
from labs_lib.panels import Choice, Panel
from labs_lib.static_memory import planners
from labs_lib.static_memory.graph import Graph, Operator, lifetimes
from labs_lib.static_memory.lifetimes import Buffer, lower_bound
from labs_lib.static_memory.pictures import arena_picture, kib, memory_picture
from labs_lib.static_memory.planning import plan

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


def mlp_graph(depth: int, width: int, batch: int) -> Graph:
    """An MLP of `depth` layers of `width` features, float32, by its sizes alone: no weights are made."""
    size = 4 * batch * width
    operators: list[Operator] = []
    for name in ["matmul", "add", "relu"] * (depth - 1) + ["matmul", "add"]:
        value = len(operators)
        operators.append(Operator(name, (value,), (value + 1,)))
    return Graph(tuple(operators), (size,) * (len(operators) + 1), (len(operators),), inputs=(0,))


def memory_panel() -> Panel:
    """Depth, width, batch and regime as controls; bytes with and without reuse as bars."""

    def draw(depth: int, width: int, batch: int, reuse: str) -> Picture:
        graph = mlp_graph(depth, width, batch)
        fresh, buffers = lifetimes(graph).buffers, lifetimes(graph, reuse.replace(" ", "_")).buffers
        everything, freed = sum(b.size for b in fresh), lower_bound(fresh)
        planned = plan(buffers, time_limit_s=SEARCH_LIMIT_S)
        weights = 4 * depth * (width * width + width)
        rows = [
            ("keep every value", everything, NAIVE),
            ("free what is dead", freed, NAIVE | {"alpha": 0.6}),
            (f"plan, {reuse}", planned.height, OPTIMISED),
            ("lower bound", lower_bound(buffers), {"color": NEUTRAL}),
            ("weights, for scale", weights, {"color": NEUTRAL, "alpha": 0.4}),
        ]
        return memory_picture(
            rows,
            f"Depth {depth}, width {width}, batch {batch} (counted): keeping every value takes {kib(everything)}, "
            f"freeing what is dead {kib(freed)}, the plan {kib(planned.height)}: {everything / planned.height:.1f} and "
            f"{freed / planned.height:.2f} times as much as the plan. The weights take {kib(weights)} in any case.",
        )

    return Panel(
        draw,
        depth=Choice("depth", (1, 2, 3, 4, 6, 8, 12, 16, 24, 32), 3),
        width=Choice("width", (128, 256, 512, 1024, 2048, 4096), 1024),
        batch=Choice("batch", (1, 4, 8, 16, 32, 64, 128, 256), 32),
        reuse=Choice("reuse", ("fresh", "in place"), "fresh", widget="buttons"),
    )
