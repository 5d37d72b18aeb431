"""Provisional."""
import time
from collections.abc import Sequence
from dataclasses import dataclass

from labs_lib.static_memory.lifetimes import Buffer, lower_bound
from labs_lib.static_memory.planners import best_of_orders
from labs_lib.static_memory.planners import height as height_of


@dataclass(frozen=True)
class Plan:
    buffers: list
    offsets: list
    height: int
    lower_bound: int
    proved: bool
    planner: str
    seconds: float

    @property
    def ratio(self): return self.height / self.lower_bound if self.lower_bound else 1.0

def plan(buffers: Sequence[Buffer], capacity=None, time_limit_s=10.0, alignment=1) -> Plan:
    t = time.perf_counter()
    o = best_of_orders(buffers) or []
    h, b = height_of(buffers, o), lower_bound(buffers)
    return Plan(list(buffers), o, h, b, h == b, "best of orders", time.perf_counter() - t)
