"""A complete search: it finds a plan within a capacity, or proves that there is none.

The plan grows from the bottom up, over sections of time: the maximal live sets (`lifetimes.sections`).

skyline  the floor over each section, as runs of equal floors. Everything below it is settled.
slack    of a section: capacity - floor - unplaced bytes, which raising the floor over holes may still waste.
valley   a run lower than its walls, the runs beside it. Only plans in which no buffer can slide down are
         looked for. There an unplaced buffer that fits between the walls rests on the valley's floor or
         touches it nowhere, and one that reaches over a wall lies no lower than that wall.
cover    so each section of the floor lies below a buffer that rests on it, a tile, or is wasted.
pivot    the section with the fewest ways to cover it. The search branches on them: each tile over the pivot
         and, last, waste up to the next level at which a buffer may rest. They exclude each other, so no
         plan is met twice. Next comes a valley with one way, or none (a dead end), else the lowest valley.
blame    the sections that a dead end depends on. If the last decision changed none of them, no other
         decision in its place can help, and the search jumps back beyond it (Prosser 1993).

Of twins (equal lifetime and size) only the first is tried, failed states are remembered, and parts that no
unplaced lifetime connects are solved apart. Sets of buffers, of sections and of borders between sections are
the bits of an int. The sections and the plans in which nothing can slide are from MiniMalloc (Moffitt 2023).
"""

import math
import random
import sys
import time
from collections.abc import Sequence
from itertools import count, pairwise

from labs_lib.static_memory.bitsets import members, span, starting_and_ending
from labs_lib.static_memory.lifetimes import Buffer, lower_bound, sections

Skyline = tuple[tuple[int, int, int], ...]  # runs (start, end, floor) of the sections start .. end - 1
MEMO = 200_000  # entries after which the memos start anew, so that memory stays bounded


class Undecided(Exception):
    """Nodes or time ran out before there was a plan or a proof."""


def search(buffers: Sequence[Buffer], capacity: int, deadline: float = math.inf) -> list[int] | None:
    """Offsets of a plan of at most `capacity` bytes, or None, which proves that there is no such plan.

    Sizes must be positive. Raises Undecided once `time.monotonic()` is past `deadline`.

    >>> buffers = [Buffer("a", 0, 2, 3), Buffer("b", 1, 4, 2), Buffer("c", 3, 5, 3)]
    >>> search(buffers, capacity=5), search(buffers, capacity=4)
    ([2, 0, 2], None)
    """
    if lower_bound(buffers) > capacity:
        return None
    lives = [(*life, b.size) for *life, b in zip(*sections(buffers), buffers, strict=True)]
    urgencies = [(end - start, size, (end - start) * size) for start, end, size in lives]
    rng = random.Random(0)
    for attempt in count():  # which buffer to try first is a matter of luck: try many orders, each briefly
        column, noise = (attempt, 1.0) if attempt < 3 else (rng.randrange(3), 2 ** rng.uniform(0.5, 3.5))
        rank = [(values[column] * rng.uniform(1, noise), *life) for values, life in zip(urgencies, lives, strict=True)]
        order = sorted(range(len(lives)), key=rank.__getitem__, reverse=True)
        nodes = round(2.5 * len(lives) * 1.5 ** (attempt // 20))
        try:
            placed = Descent([lives[i] for i in order], capacity, nodes, deadline).run()
        except Undecided:
            if time.monotonic() > deadline:
                raise
        else:
            return placed and [offset for _, offset in sorted(zip(order, placed, strict=True))]


class Descent:
    """The search in one order. `lives` holds (first section, last section excluded, size), urgent first."""

    def __init__(self, lives: list[tuple[int, int, int]], capacity: int, nodes: int, deadline: float) -> None:
        self.lives, self.capacity, self.nodes, self.deadline = lives, capacity, nodes, deadline
        self.offsets = [0] * len(lives)
        self.failed: dict[tuple[int, Skyline], int] = {}
        self.covers: dict[tuple, tuple[int, int, int, int, int]] = {}
        self.starting, self.ending = starting, ending = starting_and_ending(lives)
        self.alive = [starting[0] & ~later & ~gone for later, gone in zip(starting[1:], ending, strict=False)]
        self.crossing = [starting[0] & ~later & ~gone for later, gone in zip(starting, ending, strict=True)]
        self.sized, self.next_twin, twin = {}, [0] * len(lives), {}
        for i, life in enumerate(lives):
            self.sized[life[2]] = self.sized.get(life[2], 0) | 1 << i
            if life in twin:
                self.next_twin[twin[life]] = 1 << i
            twin[life] = i

    def run(self) -> list[int] | None:
        """Offsets in the order of `lives`, or None if there is no plan. Raises Undecided."""
        slack = tuple(self.capacity - sum(self.lives[i][2] for i in members(alive)) for alive in self.alive)
        recursion_limit = sys.getrecursionlimit()
        sys.setrecursionlimit(10**9)  # the depth is bounded by the nodes
        try:
            firsts, ground = self.starting[0] & ~sum(self.next_twin), ((0, len(slack), 0),)
            blame = self.solve(firsts, ground, slack, range(1, len(slack)))
        finally:
            sys.setrecursionlimit(recursion_limit)
        return None if blame else self.offsets

    def solve(self, unplaced: int, skyline: Skyline, slack: tuple[int, ...], borders: range = range(0)) -> int:
        """Place `unplaced` (of twins the next) above the skyline. Returns 0, or if that is impossible the blame."""
        for s in borders:  # the only ones that a lifetime may have ceased to cross
            if not unplaced & self.crossing[s]:
                left = tuple((start, min(end, s), floor) for start, end, floor in skyline if start < s)
                right = tuple((max(start, s), end, floor) for start, end, floor in skyline if end > s)
                return self.solve(unplaced & self.ending[s], left, slack) or self.solve(
                    unplaced & self.starting[s], right, slack, range(s + 1, borders.stop)
                )
        state = unplaced, skyline
        if not unplaced or state in self.failed:
            return self.failed.get(state, 0)
        self.nodes -= 1
        if self.nodes < 0 or time.monotonic() > self.deadline:
            raise Undecided
        if len(self.failed) + len(self.covers) > MEMO:
            self.failed.clear()
            self.covers.clear()
        blame = self.branch(unplaced, skyline, slack)
        if blame:
            self.failed[state] = blame
        return blame

    def branch(self, unplaced: int, skyline: Skyline, slack: tuple[int, ...]) -> int:
        """One step of `solve`: choose a valley, and try every way to cover its pivot."""
        best, left = None, self.capacity
        for k, ((start, end, floor), (_, _, right)) in enumerate(pairwise((*skyline, (0, 0, self.capacity)))):
            if left > floor < right:
                inside = unplaced & self.starting[start] & self.ending[end]
                valley = (start, end, inside, min(left, right) - floor, slack[start:end])
                cover = self.covers.get(valley)
                if cover is None:
                    cover = self.covers[valley] = self.cover(*valley)
                if best is None or cover[0] < 2 or (floor, cover[0]) < best[0]:
                    best = (floor, cover[0]), k, start, end, left, right, cover
                if cover[0] < 2:
                    break
            left = floor
        (floor, _), k, start, end, left, right, (_, tiles, low, high, rise) = best
        blame = span(max(start - 1, 0), end + 1)
        # Tiles that end level with a wall they stand at leave no step: they come first.
        level = tiles & self.sized.get(left - floor, 0) & ~self.starting[start + 1]
        level |= tiles & self.sized.get(right - floor, 0) & ~self.ending[end - 1]
        for i in (*members(level), *members(tiles & ~level)):
            first, last, size = self.lives[i]
            rest, above = unplaced ^ 1 << i | self.next_twin[i], raised(skyline, k, first, last, floor + size)
            why = self.solve(rest, above, slack, range(first + 1, last))
            if not why:
                self.offsets[i] = floor
            if not why & span(first, last):
                return why
            blame |= why
        if rise:
            paid = (*slack[:low], *(waste - rise for waste in slack[low:high]), *slack[high:])
            why = self.solve(unplaced, raised(skyline, k, low, high, floor + rise), paid)
            blame = blame | why if why & span(low, high) else why
        return blame

    def cover(self, start: int, end: int, inside: int, depth: int, slack: tuple[int, ...]) -> tuple:
        """How the valley [start, end) with its lower wall at `depth` can be covered by `inside` and by waste.

        Returns (ways, tiles, low, high, rise): the ways at the pivot, the tiles among them, and that [low, high)
        rises by `rise` without these tiles, 0 if that is impossible.
        """
        lives = [(1 << i, *self.lives[i]) for i in members(inside)]
        least = min([depth, *(size for *_, size in lives)])  # waste ends at a wall or on top of a buffer
        steps = [(waste >= least) << s for s, waste in enumerate(slack, start + 1)]  # from border to borders
        for _, first, last, _ in lives:
            steps[first - start] |= 1 << last
        forth, back = 1 << start, 1 << end  # borders that covers reach from the left; of them, from the right
        for s in range(start, end):
            if forth >> s & 1:
                forth |= steps[s - start]
        for s in reversed(range(start, end)):
            if forth >> s & 1 and steps[s - start] & back:
                back |= 1 << s
        if not back >> start & 1:
            return 0, 0, 0, 0, 0
        tiles = sum(tile for tile, first, last, _ in lives if back >> first & back >> last & 1)
        wasted = [waste >= least and back >> s & back >> s + 1 & 1 for s, waste in enumerate(slack, start)]
        ways, pivot = min(((tiles & self.alive[s]).bit_count() + wasted[s - start], s) for s in range(start, end))
        here = tiles & self.alive[pivot]
        rise = min([depth, *(size for tile, _, _, size in lives if not tile & self.alive[pivot])])
        low, high = pivot, pivot + 1  # without the tiles here, neighbours that no other covers are wasted too
        while low > start and not tiles & ~here & self.alive[low - 1]:
            low -= 1
        while high < end and not tiles & ~here & self.alive[high]:
            high += 1
        if not wasted[pivot - start] or min(slack[low - start : high - start]) < rise:
            return here.bit_count(), here, 0, 0, 0
        return ways, here, low, high, rise


def raised(skyline: Skyline, k: int, start: int, end: int, floor: int) -> Skyline:
    """The skyline with [start, end), a part of run k, at a higher floor; equal neighbours become one run."""
    run_start, run_end, old = skyline[k]
    before = (*skyline[:k], (run_start, start, old)) if run_start < start else skyline[:k]
    after = ((end, run_end, old), *skyline[k + 1 :]) if end < run_end else skyline[k + 1 :]
    if before and before[-1][2] == floor:
        start, before = before[-1][0], before[:-1]
    if after and after[0][2] == floor:
        end, after = after[0][1], after[1:]
    return (*before, (start, end, floor), *after)
