"""The service on a virtual clock: the same policies, in whole microseconds, the same result on every machine.

A discrete-event simulation of one queue before one model, or before several for the thread pool. What it leaves out
is all that is not the model: HTTP, decoding, and that these share the cores with it. So the gap between its curve
and the measured one is the price of the rest.
"""

from __future__ import annotations

import heapq
import math
from collections import Counter, deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from numbers import Integral

import numpy as np

from labs_lib.errors import LabError
from labs_lib.percentiles import percentile

POLICIES = ("once", "pool", "batch", "sleep")
US = 1_000_000
MOST_ARRIVALS = 10_000_000


def poisson_arrivals(rate: float, seconds: float, seed: int = 0) -> list[int]:
    """When `rate` x `seconds` requests arrive, in whole microseconds, in order.

    A Poisson process, given how many arrive, is that many independent uniform times; whole numbers make them the
    same on every machine.

    >>> poisson_arrivals(rate=2, seconds=2)
    [539573, 1022272, 1273923, 1701248]

    Raises LabError unless at least one arrives.
    """
    if not 0 < rate * seconds <= MOST_ARRIVALS:
        raise LabError(f"{rate}/s for {seconds} s is no load.", "", f"Give numbers above 0, {MOST_ARRIVALS:,} in all.")
    count = round(rate * seconds)
    if count < 1:
        raise LabError(f"At {rate}/s nothing arrives in {seconds} s.", "", "Give a higher rate or more seconds.")
    return sorted(np.random.default_rng(seed).integers(0, round(seconds * US), count).tolist())


@dataclass(frozen=True)
class Simulation:
    """What became of the requests, in virtual microseconds. `latencies[i]` is None where request i was rejected."""

    latencies: tuple[int | None, ...]
    batches: dict[int, int]  # how many batches of each size
    span: int  # from 0 to the last answer, or the last arrival

    @property
    def rejected(self) -> int:
        return self.latencies.count(None)

    @property
    def p50_ms(self) -> float:
        return self.percentile_ms(50)

    @property
    def p99_ms(self) -> float:
        return self.percentile_ms(99)

    def percentile_ms(self, percent: float) -> float:
        """Of the latencies of those answered, in virtual milliseconds."""
        return percentile(sorted(latency for latency in self.latencies if latency is not None), percent) / 1000

    def goodput(self, deadline_ms: float = math.inf) -> float:
        """Answers a virtual second that came within the deadline."""
        good = sum(latency is not None and latency <= 1000 * deadline_ms for latency in self.latencies)
        return good * US / self.span

    def __str__(self) -> str:
        return (
            f"{len(self.latencies) - self.rejected} answered, {self.rejected} rejected, "
            f"{sum(self.batches.values())} batches; p50 {self.p50_ms:.1f} ms, p99 {self.p99_ms:.1f} ms (virtual)"
        )


def simulate(
    arrivals: Sequence[int],
    service_s: Mapping[int, float],
    policy: str = "batch",
    max_batch: int = 16,
    max_wait_s: float = 0.0,
    max_queue: int = 64,
    workers: int = 2,
) -> Simulation:
    """Serves requests that arrive at `arrivals` (sorted, in microseconds) by one of four policies.

    service_s: seconds that the model takes for a batch of each size; between two sizes a straight line.
    policy: "once" runs one at a time; "pool" one at a time in each of `workers`, as if each had a core; "batch"
        is `Batcher`; "sleep" is the batcher that sleeps `max_wait_s` before each batch, whatever is queued.
        "once" and "pool" reject nobody.

    >>> print(simulate([0, 0, 0, 9000], {1: 0.004, 2: 0.005}, max_batch=2))
    4 answered, 0 rejected, 3 batches; p50 5.0 ms, p99 9.0 ms (virtual)
    """
    if policy not in POLICIES:
        raise LabError(f"There is no policy {policy!r}.", "", f"Use one of {', '.join(POLICIES)}.")
    whole = all(isinstance(number, Integral) and number >= 1 for number in (max_batch, max_queue, workers))
    if not whole or not 0 <= max_wait_s < math.inf or not service_s:
        raise LabError(
            "These settings serve nobody.",
            "Batch, queue and workers are whole numbers from 1 on, the wait is at least 0, and service_s has a size.",
        )
    if not all(isinstance(size, int) and size > 0 and 0 < cost < math.inf for size, cost in service_s.items()):
        raise LabError("A batch of some size takes no time.", "", "Give service_s as {size: seconds}, all above 0.")
    if any(early > late for early, late in pairwise(arrivals)):
        raise LabError("The arrivals are not in order.", "", "Sort them: whole microseconds from 0 on.")
    single = policy in ("once", "pool")
    costs = _costs(service_s, 1 if single else max_batch)
    limit = len(arrivals) if single else max_queue
    window = 0 if single else round(max_wait_s * US)
    free = [0] * (workers if policy == "pool" else 1)  # when each worker is free: a heap
    queue: deque[int] = deque()  # indices of those that wait
    latencies: list[int | None] = [None] * len(arrivals)
    batches: Counter[int] = Counter()
    coming = 0

    def admit(until: int) -> None:
        """Lets in, or turns away, who arrives up to and at that time."""
        nonlocal coming
        while coming < len(arrivals) and arrivals[coming] <= until:
            if len(queue) < limit:
                queue.append(coming)
            coming += 1

    while queue or coming < len(arrivals):
        now = heapq.heappop(free)
        admit(now)
        if not queue:
            admit(arrivals[coming])
        now = max(now, arrivals[queue[0]])  # an idle worker starts when its request arrives, and not before
        if policy == "sleep":
            now += window
            admit(now)
        else:
            due = arrivals[queue[0]] + window
            while len(queue) < len(costs) and now < due:  # the window, cut short by a full batch
                now = min(due, arrivals[coming]) if coming < len(arrivals) else due
                admit(now)
        batch = [queue.popleft() for _ in range(min(len(queue), len(costs)))]
        done = now + costs[len(batch) - 1]
        batches[len(batch)] += 1
        for index in batch:
            latencies[index] = done - arrivals[index]
        heapq.heappush(free, done)
    return Simulation(tuple(latencies), dict(sorted(batches.items())), max([*free, *arrivals[-1:], 1]))


def _costs(service_s: Mapping[int, float], max_batch: int) -> list[int]:
    """Microseconds for batches of 1 to `max_batch`, in a straight line from each measured size to the next.

    Beyond the largest measured size the last line goes on, or the cost grows with the size where only one is known.
    """
    known = {0: 0.0, **service_s} if len(service_s) == 1 else dict(service_s)
    sizes = sorted(known)
    costs = []
    for size in range(1, max_batch + 1):
        right = next((i for i, known_size in enumerate(sizes) if known_size >= size), len(sizes) - 1)
        a, b = sizes[max(right, 1) - 1], sizes[max(right, 1)]
        slope = (known[b] - known[a]) / (b - a)
        costs.append(max(1, round(US * (known[a] + slope * (size - a)))))
    return costs
