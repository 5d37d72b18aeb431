"""Before anything is timed: calls until they get no faster, and what one call needs."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch

from labs_lib.dispatch import Watch
from labs_lib.inference_bench.calls import timed
from labs_lib.machine import synchronize
from labs_lib.peak import counted_peak

STABLE = 0.97  # of the fastest call so far: three calls in a row that gain less end the warm-up
MOST_CALLS = 50
MOST_S = 2.0


@dataclass(frozen=True)
class Warm:
    """How many calls it took, and the seconds of the fastest, without what other processes took of it."""

    calls: int
    seconds: float


def warm_up(run: Callable[[], object], device: str = "cpu") -> Warm:
    """Calls `run` until three calls in a row are not faster than those before, for at most about two seconds.

    >>> warm_up(lambda: None).calls >= 4
    True
    """
    taken: list[float] = []
    waited = 0.0
    while len(taken) < 4 or (len(taken) < MOST_CALLS and min(taken[-3:]) < STABLE * min(taken[:-3])):
        call = timed(run, device)
        taken.append(call.busy)
        waited += call.wall
        if waited > MOST_S:
            break
    return Warm(len(taken), min(taken))


def flops(run: Callable[[], object]) -> int:
    """Floating-point operations of one call, counted: products only, a multiply-add is 2.

    >>> with torch.inference_mode():
    ...     flops(lambda: torch.ones(2, 3) @ torch.ones(3, 4))
    48
    """
    with Watch() as watch:
        run()
    return watch.flops


def peak_memory(run: Callable[[], object], device: str, counted: bool = True) -> tuple[int | None, str]:
    """Bytes that one call needs at its peak, above what was there before, and which tool says so.

    On a CPU the tensors are counted, which sees none of ONNX Runtime's (`counted=False`). On a CUDA GPU torch's
    allocator tells. Metal tells no peak: there it is what the driver has given the whole process after the call.
    """
    if device == "cuda":
        synchronize()
        before = torch.cuda.memory_allocated()
        torch.cuda.reset_peak_memory_stats()
        run()
        synchronize()
        return torch.cuda.max_memory_allocated() - before, "measured by torch.cuda"
    if device == "mps":
        run()
        synchronize()
        return torch.mps.driver_allocated_memory(), "measured by the Metal driver, of the whole process"
    if not counted:
        return None, "not counted: ONNX Runtime's own memory"
    peak = counted_peak(run)
    if peak is None:
        raise MemoryError("out of memory")
    return peak, "counted"
