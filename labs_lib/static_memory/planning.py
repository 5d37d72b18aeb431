"""The ladder: from the cheapest planner to the complete search, as far as needed and as time allows."""

import math
import random
import time
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from itertools import count

from labs_lib.errors import LabError
from labs_lib.static_memory.lifetimes import Buffer, lower_bound
from labs_lib.static_memory.planners import by_area, by_lifetime, by_size, height, keep_all
from labs_lib.static_memory.search import Undecided, search
from labs_lib.static_memory.skyline import lowest_valley

SEARCHABLE = 3_000  # buffers; beyond it one descent of the search outlasts any usual time limit
SHARE = 0.8  # of the time left, for each capacity that is searched


@dataclass(frozen=True, slots=True)
class Plan:
    """Where each buffer lies.

    `offsets[i]` is the address of `buffers[i]` in bytes. `height` is the size of the arena, a multiple of the
    alignment; `lower_bound` is the largest number of bytes alive at one step, each size rounded up to the
    alignment; it is proved that no plan is lower than `at_least`. `planner` names the rung that found the
    plan, `seconds` is the time that the whole ladder took.
    """

    buffers: list[Buffer]
    offsets: list[int]
    height: int
    lower_bound: int
    at_least: int
    planner: str
    seconds: float

    @property
    def proved(self) -> bool:
        """True if no plan can be lower."""
        return self.height == self.at_least

    @property
    def ratio(self) -> float:
        """Height over lower bound: 1.0 is perfect."""
        return self.height / self.lower_bound if self.lower_bound else 1.0


def plan(
    buffers: Sequence[Buffer], capacity: int | None = None, time_limit_s: float = 10.0, alignment: int = 1
) -> Plan:
    """Place all buffers in one arena, as low as is found within the time limit.

    The ladder ends at the first plan that no other can be lower than or, given a `capacity` in bytes, at the
    first that fits. Where none fits, the lowest plan found is returned: its `height` is above the capacity,
    and its `at_least` is so too if that is proved. Every offset is a multiple of `alignment`. More time
    never gives a higher plan.

    Raises LabError if the alignment is below 1 or the time limit is negative or not a number.

    >>> best = plan([Buffer("a", 0, 2, 30), Buffer("b", 1, 4, 20), Buffer("c", 3, 5, 30)])
    >>> best.offsets, best.height, best.proved
    ([0, 30, 0], 50, True)
    """
    began = time.monotonic()
    if not time_limit_s >= 0:
        raise LabError(f"The time limit is {time_limit_s} s.", "It cannot be negative.", "Give seconds.")
    if alignment < 1:
        raise LabError(f"The alignment is {alignment}.", "It is at least 1 byte.", "Give a number of bytes.")
    ladder = _Ladder(buffers, capacity, alignment)
    ladder.climb(began + time_limit_s)
    unit = ladder.unit
    offsets = [0] * len(buffers)  # a buffer of no bytes may lie anywhere
    for i, offset in zip(ladder.rows, ladder.offsets, strict=True):
        offsets[i] = offset * unit
    return Plan(
        buffers=list(buffers),
        offsets=offsets,
        height=ladder.height * unit,
        lower_bound=ladder.lower_bound * unit,
        at_least=ladder.at_least * unit,
        planner=ladder.planner,
        seconds=time.monotonic() - began,
    )


class _Ladder:
    """The best plan so far, what is proved, and the rungs.

    It works on a canonical form, so that neither the order of the rows nor the unit of the sizes matters:
    without the buffers of no bytes, sorted, sizes rounded up to the alignment and divided by the greatest
    common divisor of all, the unit.
    """

    def __init__(self, buffers: Sequence[Buffer], capacity: int | None, alignment: int) -> None:
        lives = sorted(
            (buffer.lower, buffer.upper, -(-buffer.size // alignment) * alignment, i)
            for i, buffer in enumerate(buffers)
            if buffer.size
        )
        self.rows = [i for *_, i in lives]
        self.unit = math.gcd(*(size for _, _, size, _ in lives)) or 1
        self.buffers = [Buffer(str(i), lower, upper, size // self.unit) for lower, upper, size, i in lives]
        self.lower_bound = self.at_least = lower_bound(self.buffers)
        self.capacity = self.lower_bound if capacity is None else capacity // self.unit
        self.planner, self.offsets = "keep all", keep_all(self.buffers)
        self.height = height(self.buffers, self.offsets)

    @property
    def goal(self) -> int:
        """The height to reach: the capacity, or the least possible one if that is above it."""
        return max(self.capacity, self.at_least)

    def keep(self, planner: str, offsets: list[int]) -> None:
        """Keep this plan if it is lower than the best so far."""
        found = height(self.buffers, offsets)
        if found < self.height:
            self.planner, self.offsets, self.height = planner, offsets, found

    def climb(self, deadline: float) -> None:
        """All rungs, until the goal is reached or `time.monotonic()` has passed the deadline."""
        searchable = len(self.buffers) <= SEARCHABLE
        with suppress(Undecided):
            for planner, order in self.greedy_orders(noisy=not searchable):
                if self.height <= self.goal:
                    return
                self.keep(planner, lowest_valley(self.buffers, order, self.goal, deadline))
        if searchable:
            self.search(deadline)

    def greedy_orders(self, noisy: bool) -> Iterator[tuple[str, list[int]]]:
        """Orders for the greedy planner: three plain ones and, if wanted, noisy ones without end."""
        orders = {"area": by_area, "lifetime": by_lifetime, "size": by_size}
        for name, order in orders.items():
            yield f"lowest valley, by {name}", order(self.buffers)
        rng = random.Random(0)
        for _ in count() if noisy else ():
            areas = [buffer.size * buffer.steps * rng.uniform(1, 1.5) for buffer in self.buffers]
            yield "lowest valley, by noisy area", sorted(range(len(areas)), key=lambda i, a=areas: -a[i])

    def search(self, deadline: float) -> None:
        """Search at the goal, then halve what is left between the goal and the best plan."""
        untried = target = self.goal  # below `untried` every capacity is ruled out or was given up
        while self.height > self.goal and untried < self.height:
            now = time.monotonic()
            try:
                offsets = search(self.buffers, target, now + SHARE * (deadline - now))
            except Undecided:
                untried = target + 1
            else:
                if offsets is None:
                    untried = self.at_least = target + 1
                else:
                    self.keep("complete search", offsets)
            target = (untried + self.height) // 2
