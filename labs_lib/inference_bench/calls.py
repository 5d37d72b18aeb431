"""One timed call: how long it took, and how long it would have taken on a core of its own."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from time import perf_counter, process_time

from labs_lib.machine import synchronize

try:
    import resource
except ImportError:  # Windows
    resource = None


@dataclass(frozen=True)
class Call:
    """Seconds of one call. `busy` leaves out those in which another process had the core; see `timed`."""

    wall: float
    busy: float


def timed(run: Callable[[], object], device: str = "cpu") -> Call:
    """Calls `run()` once, and waits for the GPU where there is one.

    On a CPU a call computes from its start to its end, so what is missing in its CPU time went to other processes:
    `busy` is the CPU time. Not where the call gave the core away by itself, to sleep or to wait for a file or a
    thread, which the system counts as voluntary switches; and not on a GPU: there `busy` is the whole time.

    >>> import time
    >>> call = timed(lambda: time.sleep(0.01))
    >>> call.busy == call.wall > 0.01
    True
    """
    synchronize()
    switches, cpu = _switches(), process_time()
    start = perf_counter()
    run()
    synchronize()
    wall = perf_counter() - start
    cpu = process_time() - cpu
    waited = device != "cpu" or switches is None or _switches() != switches
    return Call(wall, wall if waited else min(wall, cpu))


def _switches() -> int | None:
    """How often this thread has given its core away by itself; of the whole process where threads aren't told apart."""
    if resource is None:
        return None
    return resource.getrusage(getattr(resource, "RUSAGE_THREAD", resource.RUSAGE_SELF)).ru_nvcsw
