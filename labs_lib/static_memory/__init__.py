"""Static memory planning: lifetimes, planners, a complete search, and an engine that runs the plan.

The way of a model through this package: `capture` (its graph), `lifetimes` (its buffers), `plan` (their
offsets), `Arena` (a run in one block). `lower_bound` and `verify` judge every plan.
"""

from labs_lib.catalogue import DATA
from labs_lib.static_memory.arena import Arena, Program, Step
from labs_lib.static_memory.capture import capture
from labs_lib.static_memory.graph import Graph, Lifetimes, Operator, lifetimes
from labs_lib.static_memory.lifetimes import Buffer, live_bytes, lower_bound, read_csv, verify, write_csv
from labs_lib.static_memory.mlp import MLP
from labs_lib.static_memory.panels import memory_panel, mlp_graph, packing_panel
from labs_lib.static_memory.pictures import arena_picture, gain_picture, lifetimes_picture, memory_picture
from labs_lib.static_memory.planners import (
    PLANNERS,
    best_of_orders,
    greedy_by_breadth,
    greedy_by_size,
    height,
    keep_all,
    online_best_fit,
    place,
)
from labs_lib.static_memory.planning import Plan, plan
