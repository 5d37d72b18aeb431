"""What a batch costs, part by part, and what an epoch would take without one of the parts.

The parts are medians over the batches of a measured timeline. Waiting for a core is in none of them: a neighbour
that keeps the cores busy passes neither for a slow storage nor for a slow decode.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cache
from statistics import median

import numpy as np
import torch
from torch.utils._pytree import tree_map
from torch.utils.data import default_collate

from labs_lib.data_loading.timeline import Taken, Timeline
from labs_lib.data_loading.watched import Spent, Stamp
from labs_lib.machine import synchronize

DOUBLING_S = 1.0  # how long a step is timed on one batch and on two in one
DOUBLING_ROUNDS = 5
OVERHEAD = 3  # items and batches up to so many times as dear as the cheapest ones count as Python overhead


@dataclass(frozen=True)
class Costs:
    """Seconds for one batch, but for `start`, which is once an epoch."""

    storage: float  # in __getitem__, asleep
    decode: float  # in __getitem__, at work, beyond the price of a call
    collate: float  # beyond the price of putting small items together
    overhead: float  # Python calling Python: the part of every item and batch
    pickle: float  # in the worker
    receive: float  # the pipe and unpickling, in the consumer
    step_fixed: float  # what a step takes however small the batch is
    step_growing: float  # what grows with the batch
    start: float  # of workers
    workers: int
    batches: int  # in an epoch
    cores: int = 1_000_000  # that the workers may use

    @property
    def making(self) -> float:
        """Seconds that whoever makes a batch spends on it."""
        return self.storage + self.decode + self.collate + self.overhead + self.pickle

    @property
    def step(self) -> float:
        return self.step_fixed + self.step_growing

    @property
    def epoch(self) -> float:
        """Seconds of an epoch (modelled).

        Without workers making and using a batch follow one another. With workers they overlap, so the slower
        side sets the pace: start + batches * max(making / workers, work / cores, receive + step), where work is what
        needs a core.
        """
        if not self.workers:
            return self.batches * (self.making + self.step)
        work = (self.making - self.storage) / min(self.workers, self.cores)
        return self.start + self.batches * max(self.making / self.workers, work, self.receive + self.step)

    def without(self, *parts: str) -> float:
        """Seconds of an epoch in which these parts take no time (modelled)."""
        return replace(self, **dict.fromkeys(parts, 0.0)).epoch


def costs(line: Timeline, step: Callable[[object], object], batches: int, persistent: bool) -> Costs:
    """The parts of a batch from a timeline; `step` is called some more times to see how it grows with the batch."""
    taken = _later(line.taken)
    items = median(one.notes.items for one in taken)
    fetch, collate = [one.notes.fetch for one in taken], [one.notes.collate for one in taken]
    asleep, working = median(spent.asleep for spent in fetch), median(spent.cpu for spent in fetch)
    collating = median(spent.own for spent in collate)
    item, first, further = _cheapest()
    called = min(working, OVERHEAD * item * items)
    joined = min(median(spent.cpu for spent in collate), OVERHEAD * (first + further * items))
    around = 0.0
    if not line.workers:
        around = median(one.wait - one.notes.fetch.wall - one.notes.collate.wall for one in taken)
    pickling = min(one.notes.pickled[1] - one.notes.pickled[0] if one.notes.pickled else 0.0 for one in taken)
    receiving = _receiving(line)
    fixed = fixed_share(step, line.last_batch)
    start = 0.0
    if line.workers and not persistent:
        made = line.taken[0].notes  # the first batch, with all that it waited for a core
        start = max(0.0, line.started + line.taken[0].wait - made.fetch.wall - made.collate.wall - pickling - receiving)
    step_s = median(one.step_own for one in taken)
    return Costs(
        storage=asleep,
        decode=working - called,
        collate=collating - joined,
        overhead=called + joined + max(0.0, around),
        pickle=pickling,
        receive=receiving,
        step_fixed=step_s * fixed,
        step_growing=step_s * (1 - fixed),
        start=start,
        workers=line.workers,
        batches=batches,
        cores=os.cpu_count() or 1,
    )


def _later(taken: list[Taken]) -> list[Taken]:
    """Without the first batch of each worker, in which modules are imported and caches are cold."""
    seen: set[int | None] = set()
    later = []
    for one in taken:
        if one.notes.worker in seen:
            later.append(one)
        seen.add(one.notes.worker)
    return later or taken


def _receiving(line: Timeline) -> float:
    """The least time from "pickled" or "asked for", whichever is later, to "unpickled".

    The least, because waiting for a core is part of all others and nobody says how much.
    """
    arrivals = sorted((one.notes for one in line.taken if one.notes.unpickled), key=lambda notes: notes.unpickled)
    seconds, before, place = [], 0.0, 0
    for notes in arrivals:
        start, stop = notes.unpickled
        while place + 1 < len(line.taken) and line.taken[place].received < start:
            place += 1
        seconds.append(stop - min(start, max(line.taken[place].asked, notes.pickled[1], before)))
        before = stop
    return min(seconds, default=0.0)


@cache
def _cheapest() -> tuple[float, float, float]:
    """CPU seconds of the cheapest item with two tensors; of joining one such item; and of each further one."""
    rows, labels = torch.zeros(256, 8), torch.zeros(256, dtype=torch.int64)
    items = [(rows[i], labels[i]) for i in range(256)]
    taking = _least(lambda: [(rows[i], labels[i]) for i in range(256)]) / 256
    one, many = _least(lambda: default_collate(items[:1])), _least(lambda: default_collate(items))
    return taking, one, max(0.0, many - one) / 255


def _least(function: Callable[[], object]) -> float:
    seconds = []
    for _ in range(20):
        start = time.thread_time()
        function()
        seconds.append(time.thread_time() - start)
    return min(seconds)


def fixed_share(step: Callable[[object], object], batch: object) -> float:
    """The share of a step that doesn't grow with the batch: 2 - t(two batches in one) / t(one), within 0 and 1.

    With t(B) = a + b B this is a / (a + b B). The shortest of several alternating runs is taken of each. 0 where
    the batch has no parts that can be doubled, or the step refuses the doubled batch.
    """
    doubled = tree_map(_twice, batch)
    shortest = [float("inf"), float("inf")]
    stop = time.perf_counter() + DOUBLING_S
    rounds = 0
    try:
        while rounds < DOUBLING_ROUNDS or (time.perf_counter() < stop and rounds < 200):
            for which, one in enumerate((batch, doubled)):
                start = Stamp.now()
                step(one)
                synchronize()
                shortest[which] = min(shortest[which], Spent.between(start, Stamp.now()).own)
            rounds += 1
    except Exception:  # a step may be made for one size of batch
        return 0.0
    return min(1.0, max(0.0, 2 - shortest[1] / max(shortest[0], 1e-9)))


def _twice(leaf: object) -> object:
    if isinstance(leaf, torch.Tensor) and leaf.ndim:
        return torch.cat([leaf, leaf])
    if isinstance(leaf, np.ndarray) and leaf.ndim:
        return np.concatenate([leaf, leaf])
    return leaf
