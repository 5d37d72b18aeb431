"""A complete search: finds a plan within a capacity, or proves that there is none.

The plan is built from the bottom up. Time is reduced to sections, the maximal live sets (`lifetimes.sections`).

skyline   the floor over each section: everything below is settled. It is kept as runs of equal floors.
slack     capacity - floor - unplaced bytes, per section: what may still be wasted there. Placing a buffer
          leaves it as it is, raising the floor over a hole pays from it.
valley    a run lower than both its walls, the runs beside it. It is enough to look for plans in which no
          buffer can slide down. There, an unplaced buffer that fits into a valley rests on its floor or
          touches it nowhere, and one that reaches over a wall lies no lower than that wall.
tiling    so the floor of a valley is covered section by section, by buffers at rest or by waste that the
          slack allows. A pass from either side leaves the buffers that are part of some covering. If none
          is left, the state has failed.
pivot     the section of a valley with the fewest ways to cover it. They are the branches: each buffer that
          covers it, and last, waste up to the next level at which a buffer may rest. The branches exclude
          each other, so no plan is met in two orders. A section with one way is settled before all others.
blame     a failed state returns the sections that the failure depends on. If the last decision changed none
          of them, another one in its place fails as well, and the search jumps back beyond it
          (conflict-directed backjumping, Prosser 1993).

Besides: of buffers with equal lifetime and size (twins) only the first is tried, failed states are remembered,
and where no unplaced lifetime crosses from one section to the next the two sides are solved apart. Sets of
buffers are the bits of an int, the most urgent lowest. Which order of urgency works is a matter of luck, so
many are tried, each for a limited number of nodes (Luby, Sinclair and Zuckerman 1993).

Canonical placements and the sections go back to MiniMalloc (Moffitt, ASPLOS 2023); valleys and pivots are
our own.
"""

import math
import random
import sys
import time
from collections.abc import Sequence
from itertools import count

from labs_lib.static_memory.lifetimes import Buffer, sections

Skyline = tuple[tuple[int, int, int], ...]  # runs (start, end, floor) over the sections start .. end - 1
MEMO = 200_000  # entries after which a memo starts anew, so that memory stays bounded


class Undecided(Exception):
    """The nodes or the time ran out before the search found a plan or a proof."""


def search(buffers: Sequence[Buffer], capacity: int, deadline: float = math.inf) -> list[int] | None:
    """Offsets in bytes of a plan no higher than `capacity`, or None, which proves that there is no such plan.

    Sizes must be positive. Raises Undecided when `time.monotonic()` passes `deadline`.

    >>> search([Buffer("a", 0, 2, 3), Buffer("b", 1, 4, 2), Buffer("c", 3, 5, 3)], capacity=5)
    [0, 3, 0]
    >>> search([Buffer("a", 0, 2, 3), Buffer("b", 1, 4, 2), Buffer("c", 3, 5, 3)], capacity=4)
    """
    first, last = sections(buffers)
    size = [buffer.size for buffer in buffers]
    width = [end - start for start, end in zip(first, last, strict=True)]
    urgencies = [
        width,
        size,
        [buffer.size * buffer.steps for buffer in buffers],
        [s * w for s, w in zip(size, width, strict=True)],
    ]
    rng = random.Random(0)
    for attempt in count(1):
        if attempt <= len(urgencies):
            urgency = urgencies[attempt - 1]
        else:
            urgency = [value * rng.uniform(1, 8) for value in rng.choice(urgencies)]
        order = sorted(range(len(buffers)), key=lambda i: (-urgency[i], -size[i]))  # noqa: B023 (used at once)
        lives = [(first[i], last[i], size[i]) for i in order]
        nodes = 5 * len(buffers) // 2 * (attempt & -attempt)  # 1 2 1 4 1 2 1 8 ... times the unit
        try:
            placed = Descent(lives, capacity, nodes, deadline).run()
        except Undecided:
            if time.monotonic() > deadline:
                raise
            continue
        return None if placed is None else [offset for _, offset in sorted(zip(order, placed, strict=True))]


class Descent:
    """One search with one order of urgency. `lives` holds (first section, last section, size), by urgency."""

    def __init__(self, lives: list[tuple[int, int, int]], capacity: int, nodes: int, deadline: float) -> None:
        self.lives, self.capacity, self.nodes, self.deadline = lives, capacity, nodes, deadline
        self.width = max((last for _, last, _ in lives), default=0)
        self.offsets = [0] * len(lives)
        self.failed: dict[tuple[int, Skyline], int] = {}
        self.covers: dict[tuple, tuple] = {}
        self.here = 0  # the section where the last decision was made
        # Sets of buffers, as bits: those that start at a section or later, that end there or earlier, that
        # are alive in it, that are alive both before and in it, that have a size, and each one's next twin.
        self.starting, self.ending = [0] * (self.width + 1), [0] * (self.width + 1)
        self.sized: dict[int, int] = {}
        self.next_twin = [0] * len(lives)
        self.untried = 0  # the first of each group of twins
        twins: dict[tuple[int, int, int], int] = {}
        for i, (first, last, size) in enumerate(lives):
            self.starting[first] |= 1 << i
            self.ending[last] |= 1 << i
            self.sized[size] = self.sized.get(size, 0) | 1 << i
            if lives[i] in twins:
                self.next_twin[twins[lives[i]]] = 1 << i
            else:
                self.untried |= 1 << i
            twins[lives[i]] = i
        for s in range(self.width):
            self.starting[-2 - s] |= self.starting[-1 - s]
            self.ending[s + 1] |= self.ending[s]
        everything = self.starting[0]
        self.alive = [everything & ~self.starting[s + 1] & ~self.ending[s] for s in range(self.width)]
        self.crossing = [everything & ~self.starting[s] & ~self.ending[s] for s in range(self.width)]

    def run(self) -> list[int] | None:
        """Offsets in the order of `lives`, or None if there is no plan. Raises Undecided."""
        slack = [self.capacity] * self.width
        for first, last, size in self.lives:
            for s in range(first, last):
                slack[s] -= size
        if min(slack, default=0) < 0:
            return None
        recursion_limit = sys.getrecursionlimit()
        sys.setrecursionlimit(1_000_000_000)  # depth is bounded by the nodes; frames of Python lie on the heap
        try:
            skyline = ((0, self.width, 0),)
            blame = self.solve_parts(self.untried, skyline, tuple(slack), range(1, self.width))
        finally:
            sys.setrecursionlimit(recursion_limit)
        return None if blame else self.offsets

    def solve_parts(self, unplaced: int, skyline: Skyline, slack: tuple[int, ...], borders: range) -> int:
        """Solve apart what no unplaced lifetime connects. A new separation can only be at `borders`.

        Like `solve`, returns the blame as bits of sections, or 0 when all is placed.
        """
        for s in borders:
            if not unplaced & self.crossing[s]:
                left = tuple((start, min(end, s), floor) for start, end, floor in skyline if start < s)
                right = tuple((max(start, s), end, floor) for start, end, floor in skyline if end > s)
                return self.solve_parts(unplaced & self.ending[s], left, slack, range(0)) or self.solve_parts(
                    unplaced & self.starting[s], right, slack, range(s + 1, borders.stop)
                )
        return self.solve(unplaced, skyline, slack) if unplaced else 0

    def solve(self, unplaced: int, skyline: Skyline, slack: tuple[int, ...]) -> int:
        """Place everything in `unplaced` (of twins the next one stands for all) above the skyline."""
        blame = self.failed.get((unplaced, skyline))
        if blame is None:
            self.nodes -= 1
            if self.nodes < 0 or time.monotonic() > self.deadline:
                raise Undecided
            if len(self.failed) + len(self.covers) > MEMO:
                self.failed.clear()
                self.covers.clear()
            blame = self.branch(unplaced, skyline, slack)
            if blame:
                self.failed[unplaced, skyline] = blame
        return blame

    def branch(self, unplaced: int, skyline: Skyline, slack: tuple[int, ...]) -> int:
        """One step of `solve`: choose a valley and its pivot, and try every way to cover the pivot."""
        chosen = None
        for k, (start, end, floor) in enumerate(skyline):
            left = skyline[k - 1][2] if k else self.capacity
            right = skyline[k + 1][2] if k + 1 < len(skyline) else self.capacity
            if left > floor < right:
                inside = unplaced & self.starting[start] & self.ending[end]
                valley = (start, end, inside, min(left, right) - floor, slack[start:end])
                cover = self.covers.get(valley)
                if cover is None:
                    cover = self.covers[valley] = self.cover(*valley)
                # What has one way or none comes first. Then stay close to the last decision, so that a
                # dead end shows itself soon.
                rank = (cover[0] > 1, abs(start - self.here), cover[0], floor)
                if chosen is None or rank < chosen[0]:
                    chosen = rank, k, cover, left, right
                    if cover[0] < 2:
                        break
        _, k, (_, tiles, low, high, rise), left, right = chosen
        start, end, floor = skyline[k]
        blame = bits(max(start - 1, 0), end + 1)
        # Buffers that end level with the wall they stand at come first: they leave no step.
        level = tiles & self.sized.get(left - floor, 0) & ~self.starting[start + 1]
        level |= tiles & self.sized.get(right - floor, 0) & ~self.ending[end - 1]
        for group in (level, tiles & ~level):
            while group:
                bit = group & -group
                group ^= bit
                i = bit.bit_length() - 1
                first, last, size = self.lives[i]
                self.here = first
                why = self.solve_parts(
                    unplaced ^ bit | self.next_twin[i],
                    raised(skyline, k, first, last, floor + size),
                    slack,
                    range(first + 1, last),
                )
                if not why:
                    self.offsets[i] = floor
                    return 0
                if not why & bits(first, last):
                    return why
                blame |= why
        if rise:
            paid = (*slack[:low], *(left - rise for left in slack[low:high]), *slack[high:])
            why = self.solve(unplaced, raised(skyline, k, low, high, floor + rise), paid)
            if not why or not why & bits(low, high):
                return why
            blame |= why
        return blame

    def cover(self, start: int, end: int, inside: int, depth: int, slack: tuple[int, ...]) -> tuple:
        """How the floor of the valley [start, end) can be covered by the buffers `inside` and by waste.

        `depth` is the height of the lower wall. Returns (ways, tiles, low, high, rise) for the pivot: the
        number of ways to cover it, the buffers that may, and how far the sections [low, high) must rise if
        none of them does (0 if the slack forbids it). No ways at all: the floor cannot be covered.
        """
        tiles_at: list[list[tuple[int, int]]] = [[] for _ in slack]
        least = depth  # that can be wasted: what rests above is on a wall or on another buffer
        group = inside
        while group:
            bit = group & -group
            group ^= bit
            first, last, size = self.lives[bit.bit_length() - 1]
            tiles_at[first - start].append((last - start, bit))
            least = min(least, size)
        # Borders between sections that a covering can reach from the left and, of these, from the right.
        width = end - start
        from_left, from_right = [True] + [False] * width, [False] * width + [True]
        for s in range(width):
            if from_left[s]:
                if slack[s] >= least:
                    from_left[s + 1] = True
                for last, _ in tiles_at[s]:
                    from_left[last] = True
        tiles, wasted = 0, [False] * width
        for s in reversed(range(width)):
            for last, bit in tiles_at[s]:
                if from_right[last] and from_left[s]:
                    from_right[s] = True
                    tiles |= bit
            if from_right[s + 1] and from_left[s] and slack[s] >= least:
                from_right[s] = wasted[s] = True
        if not from_right[0]:
            return 0, 0, 0, 0, 0
        options = [(tiles & alive).bit_count() for alive in self.alive[start:end]]
        ways, pivot = min((options[s] + wasted[s], s) for s in range(width))
        tiles_here = tiles & self.alive[start + pivot]
        if not wasted[pivot]:
            return ways, tiles_here, 0, 0, 0
        # Without these tiles the neighbours that no other tile covers are wasted as well. The lowest buffer
        # above rests on a wall or on one that does not cover the pivot.
        low = high = start + pivot
        while low > start and not tiles & self.alive[low - 1] & ~tiles_here:
            low -= 1
        while high < end and not tiles & self.alive[high] & ~tiles_here:
            high += 1
        rise, group = depth, inside & ~self.alive[start + pivot]
        while group:
            bit = group & -group
            group ^= bit
            rise = min(rise, self.lives[bit.bit_length() - 1][2])
        if min(slack[low - start : high - start]) < rise:
            return ways - 1, tiles_here, 0, 0, 0
        return ways, tiles_here, low, high, rise


def bits(start: int, end: int) -> int:
    """The sections start .. end - 1 as a set."""
    return (1 << end) - (1 << start)


def raised(skyline: Skyline, k: int, start: int, end: int, floor: int) -> Skyline:
    """The skyline with part [start, end) of run k at a new floor, merged with neighbours of that floor."""
    run_start, run_end, old = skyline[k]
    before, after = skyline[:k], skyline[k + 1 :]
    if run_start < start:
        before += ((run_start, start, old),)
    elif before and before[-1][2] == floor:
        start, before = before[-1][0], before[:-1]
    if end < run_end:
        after = ((end, run_end, old), *after)
    elif after and after[0][2] == floor:
        end, after = after[0][1], after[1:]
    return (*before, (start, end, floor), *after)
