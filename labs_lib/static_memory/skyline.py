"""A greedy planner that builds from the bottom up: always into the lowest valley.

The planners in `planners.py` take the next buffer and look for a place. This one takes the lowest place and
looks for a buffer, as the skyline heuristics of strip packing do (Burke, Kendall and Whitwell, "A new
placement heuristic for the orthogonal stock-cutting problem", 2004). Its plans are lower, and its work
hardly depends on how many buffers are alive at once. `search.py` explains skyline, valley and section.
"""

import math
import time
from collections.abc import Sequence
from heapq import heappop, heappush
from itertools import accumulate, islice

from labs_lib.static_memory.bitsets import members, starting_and_ending
from labs_lib.static_memory.lifetimes import Buffer, sections
from labs_lib.static_memory.search import Undecided

CANDIDATES = 16  # buffers looked at for one place


def lowest_valley(
    buffers: Sequence[Buffer], order: Sequence[int], target: int, deadline: float = math.inf
) -> list[int]:
    """Offsets of a plan that tries to stay within `target` bytes; it may be higher.

    Sizes must be positive. At each place the buffers are tried in `order`. Raises Undecided once
    `time.monotonic()` is past `deadline`.

    >>> buffers = [Buffer("a", 0, 2, 3), Buffer("b", 1, 4, 2), Buffer("c", 3, 5, 3)]
    >>> lowest_valley(buffers, [0, 1, 2], target=5)
    [0, 3, 0]
    """
    first, last = sections(buffers)
    valleys = _Valleys([(first[i], last[i], buffers[i].size) for i in order], target)
    offsets = [0] * len(buffers)
    while valleys.unplaced:
        if time.monotonic() > deadline:
            raise Undecided
        start, end, floor = valleys.lowest()
        chosen = valleys.choose(start, end)
        if chosen is None:
            valleys.waste(start, end)
        else:
            offsets[order[chosen]] = floor
            valleys.place(chosen, start, end)
    return offsets


class _Valleys:
    """The skyline and what is left to place; `lives` holds (first section, last excluded, size), in order."""

    def __init__(self, lives: list[tuple[int, int, int]], target: int) -> None:
        self.lives, self.target = lives, target
        self.starting, self.ending = starting_and_ending(lives)
        width = len(self.starting) - 1
        change = [0] * (width + 1)
        for first, last, size in lives:
            change[first] += size
            change[last] -= size
        self.unplaced = (1 << len(lives)) - 1
        self.needed = list(accumulate(change))  # floor + unplaced bytes: no plan from here on is lower
        self.run_at: dict[int, tuple[int, int]] = {}  # start of a run of equal floors: (end, floor)
        self.start_of: dict[int, int] = {}  # end of a run: start
        self.heap: list[tuple[int, int, int]] = []
        self.add(0, width, 0)

    def lowest(self) -> tuple[int, int, int]:
        """The lowest run: start, end, floor."""
        while True:
            floor, start, end = heappop(self.heap)
            if self.run_at.get(start) == (end, floor):
                return start, end, floor

    def add(self, start: int, end: int, floor: int) -> None:
        """Put a run into the skyline and join it with neighbours of the same floor."""
        left = self.start_of.get(start)
        if left is not None and self.run_at[left] == (start, floor):
            self.remove(left)
            start = left
        if end in self.run_at and self.run_at[end][1] == floor:
            end = self.remove(end)
        self.run_at[start], self.start_of[end] = (end, floor), start
        heappush(self.heap, (floor, start, end))

    def remove(self, start: int) -> int:
        """Take a run out of the skyline; returns its end."""
        end, _ = self.run_at.pop(start)
        del self.start_of[end]
        return end

    def walls(self, start: int, end: int) -> tuple[float, float]:
        """The floors left and right of a run; infinite at either end of time."""
        left = self.run_at[self.start_of[start]][1] if start in self.start_of else math.inf
        return left, self.run_at[end][1] if end in self.run_at else math.inf

    def place(self, i: int, start: int, end: int) -> None:
        """Let buffer i rest on the floor of the run [start, end)."""
        first, last, size = self.lives[i]
        _, floor = self.run_at[start]
        self.remove(start)
        if start < first:
            self.add(start, first, floor)
        if last < end:
            self.add(last, end, floor)
        self.add(first, last, floor + size)
        self.unplaced ^= 1 << i

    def waste(self, start: int, end: int) -> None:
        """Nothing fits into the valley [start, end): raise its floor to the lower wall."""
        _, floor = self.run_at[start]
        wall = min(self.walls(start, end))
        self.remove(start)
        self.needed[start:end] = [needed + wall - floor for needed in self.needed[start:end]]
        self.add(start, end, wall)

    def choose(self, start: int, end: int) -> int | None:
        """The buffer to place on the floor of the valley [start, end), or None if nothing fits.

        It covers the section that can least afford waste. Of those it is the first that leaves no gap
        beside it which lifts the plan above the target, else the one whose gap lifts it least.
        """
        inside = self.fitting(start, end)
        if not inside:
            return None
        left, right = self.walls(start, end)
        best, least = None, math.inf
        for i in islice(members(self.covering(start, end, inside) or inside), CANDIDATES):
            first, last, size = self.lives[i]
            top = self.run_at[start][1] + size
            lift = max(self.lift(start, first, min(left, top), start), self.lift(last, end, min(right, top), start))
            if lift < least:
                best, least = i, lift
            if not lift:
                break
        return best

    def fitting(self, start: int, end: int) -> int:
        """The unplaced buffers that live within [start, end)."""
        return self.unplaced & self.starting[start] & self.ending[end]

    def covering(self, start: int, end: int, group: int) -> int:
        """Those of the group that live in the most critical section of [start, end)."""
        critical = start + max(range(end - start), key=self.needed[start:end].__getitem__)
        return group & ~self.starting[critical + 1] & ~self.ending[critical]

    def lift(self, start: int, end: int, wall: float, run: int) -> float:
        """Bytes above the target if the gap [start, end) beside a buffer has to be wasted up to its wall."""
        if start == end:
            return 0
        over = max(self.needed[start:end]) + wall - self.run_at[run][1] - self.target
        return over if over > 0 and not self.covering(start, end, self.fitting(start, end)) else 0
