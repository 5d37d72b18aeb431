"""Five services for which somebody has to choose: compile the model, or leave it eager?"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING

from labs_lib.compilation.payoff import block_stack
from labs_lib.compilation.watch import watch
from labs_lib.machine import pinned_threads
from labs_lib.timing import Timing, time_pair
from labs_lib.toolchain import cold_cache, one_compile_thread

if TYPE_CHECKING:
    import torch

@dataclass(frozen=True)
class Service:
    """One process from its start to its end. Its compile cache is empty when it starts."""

    name: str
    description: str
    model: Callable[[], torch.nn.Module]
    shape: tuple[int, ...]  # of the one float32 input of each call
    calls: int  # in the life of the process


def _blocks() -> torch.nn.Module:
    return block_stack(256, 2)


def _scorer() -> torch.nn.Module:
    """Layer norm and GELU by hand, nothing else: all of it can be fused."""
    import torch
    from torch import nn

    class Scorer(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            centred = x - x.mean(-1, keepdim=True)
            x = centred / torch.sqrt((centred**2).mean(-1, keepdim=True) + 1e-5)
            return 0.5 * x * (1 + torch.tanh(0.8 * (x + 0.045 * x**3)))

    return Scorer()


def _controller() -> torch.nn.Module:
    """Nothing between the products: what calling costs is all there is."""
    from torch import nn

    return nn.Sequential(*(nn.Linear(16, 16) for _ in range(3))).eval()


SERVICES = (
    Service("notebook", "an analyst tries a model on 20 batches, then closes the notebook",
            _blocks, (64, 256), 20),
    Service("ranking", "a server normalises and activates the features of each query, two million times a day",
            _scorer, (512, 1024), 2_000_000),
    Service("controller", "a controller applies three linear maps, 16 x 16, to one row, ten million times",
            _controller, (1, 16), 10_000_000),
    Service("short job", "a function in the cloud scores 50 arrays and ends; the next one starts from nothing",
            _scorer, (512, 1024), 50),
    Service("nightly run", "a batch job runs two blocks over three million batches, in one process",
            _blocks, (64, 256), 3_000_000),
)  # fmt: skip


@dataclass(frozen=True)
class Totals:
    """Seconds over the life of the process: measured for one call, multiplied out."""

    eager: float
    compiled: tuple[float, float]  # at both ends of the interval of what one call saves

    @property
    def right(self) -> tuple[str, ...]:
        """The choices that are right here: both where the measurement can't tell which total is the smaller."""
        low, high = self.compiled
        if low < self.eager < high:
            return ("compile", "eager")
        return ("compile",) if high <= self.eager else ("eager",)


def totals(service: Service) -> Totals:
    """What the calls of a service take on this machine, with one thread."""
    first, timing = _measured(service.model, service.shape)
    eager = service.calls * timing.naive_seconds
    # The noise floor widens the interval: within it, this machine can't tell the two apart.
    fastest, slowest = timing.high * timing.floor, timing.low / timing.floor
    return Totals(eager, (first + eager / fastest, first + eager / slowest if slowest else math.inf))


@cache
def _measured(make: Callable[[], torch.nn.Module], shape: tuple[int, ...]) -> tuple[float, Timing]:
    """Seconds of the first compiled call, and eager against compiled; once in a process for each model."""
    import torch

    model, x = make(), torch.ones(shape)
    with pinned_threads(1), cold_cache(), one_compile_thread(), watch(), torch.inference_mode():
        compiled = torch.compile(model)
        start = time.perf_counter()
        compiled(x)
        first = time.perf_counter() - start
        return first, time_pair(lambda: model(x), lambda: compiled(x), budget_s=0.5)
