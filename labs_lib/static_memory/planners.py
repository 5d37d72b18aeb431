"""Greedy planners: each places the buffers one after the other and never moves one again.

They differ in the order alone. All but the first put a buffer into the tightest hole that the buffers placed
before it leave during its lifetime, as TensorFlow Lite's arena does (Pisarchyk and Lee, "Efficient memory
management for deep neural net inference", 2020). A planner takes buffers and returns their offsets in bytes.
"""

from bisect import insort
from collections.abc import Callable, Iterable, Sequence
from itertools import accumulate

from labs_lib.static_memory.lifetimes import Buffer, lower_bound, sections


def height(buffers: Sequence[Buffer], offsets: Sequence[int]) -> int:
    """Bytes of the arena that a plan needs: where its highest buffer ends.

    >>> height([Buffer("a", 0, 1, 30), Buffer("b", 0, 1, 5)], [0, 30])
    35
    """
    return max((offset + buffer.size for buffer, offset in zip(buffers, offsets, strict=True)), default=0)


def keep_all(buffers: Sequence[Buffer]) -> list[int]:
    """Every buffer gets addresses of its own: what a program needs that frees nothing.

    >>> keep_all([Buffer("a", 0, 1, 30), Buffer("b", 1, 2, 5)])
    [0, 30]
    """
    return [end - buffer.size for buffer, end in zip(buffers, accumulate(b.size for b in buffers), strict=True)]


def online_best_fit(buffers: Sequence[Buffer]) -> list[int]:
    """In order of birth: all that an allocator can do that frees what is dead but does not know the future."""
    return place(buffers, by_birth(buffers))


def greedy_by_size(buffers: Sequence[Buffer]) -> list[int]:
    """The largest first: the small ones then fill the holes (TensorFlow Lite, IREE, TVM)."""
    return place(buffers, by_size(buffers))


def greedy_by_breadth(buffers: Sequence[Buffer]) -> list[int]:
    """The fullest step first, and of the buffers alive there the largest first (Pisarchyk and Lee, 2020)."""
    return place(buffers, by_breadth(buffers))


def best_of_orders(buffers: Sequence[Buffer]) -> list[int]:
    """The lowest plan of several orders, as XLA's heap simulator does; stops at the lower bound."""
    bound = lower_bound(buffers)
    best = None
    for order in ORDERS.values():
        offsets = place(buffers, order(buffers))
        if best is None or height(buffers, offsets) < height(buffers, best):
            best = offsets
        if height(buffers, best) == bound:
            break
    return best


PLANNERS: dict[str, Callable[[Sequence[Buffer]], list[int]]] = {
    "keep all": keep_all,
    "online best fit": online_best_fit,
    "greedy by size": greedy_by_size,
    "greedy by breadth": greedy_by_breadth,
    "best of orders": best_of_orders,
}


def by_birth(buffers: Sequence[Buffer]) -> list[int]:
    """The order in which a program allocates."""
    return sorted(range(len(buffers)), key=lambda i: buffers[i].lower)


def by_size(buffers: Sequence[Buffer]) -> list[int]:
    """Largest size first; of equal ones the longest-lived."""
    return sorted(range(len(buffers)), key=lambda i: (-buffers[i].size, -buffers[i].steps))


def by_lifetime(buffers: Sequence[Buffer]) -> list[int]:
    """Longest lifetime first; of equal ones the largest."""
    return sorted(range(len(buffers)), key=lambda i: (-buffers[i].steps, -buffers[i].size))


def by_area(buffers: Sequence[Buffer]) -> list[int]:
    """Largest size x lifetime first."""
    return sorted(range(len(buffers)), key=lambda i: (-buffers[i].size * buffers[i].steps, -buffers[i].size))


def by_breadth(buffers: Sequence[Buffer]) -> list[int]:
    """By the largest number of bytes alive during the lifetime; of those that meet there, largest first."""
    first, last = sections(buffers)
    breadth = [0] * (max(last, default=0) + 1)
    for buffer, start, end in zip(buffers, first, last, strict=True):
        breadth[start] += buffer.size
        breadth[end] -= buffer.size
    breadth = list(accumulate(breadth))
    fullest_first = sorted(range(len(breadth)), key=lambda section: -breadth[section])
    rank = {section: position for position, section in enumerate(fullest_first)}
    ranks = [rank[section] for section in range(len(breadth))]
    return sorted(range(len(buffers)), key=lambda i: (min(ranks[first[i] : last[i]]), -buffers[i].size))


ORDERS: dict[str, Callable[[Sequence[Buffer]], list[int]]] = {
    "size": by_size,
    "area": by_area,
    "breadth": by_breadth,
    "lifetime": by_lifetime,
    "birth": by_birth,
}


def place(buffers: Sequence[Buffer], order: Iterable[int]) -> list[int]:
    """Place the buffers in this order, each into the tightest hole, or on top where no hole is large enough.

    Returns offsets in bytes, one for each buffer.
    """
    first, last = sections(buffers)
    placed = TimeIndex(max(last, default=0))
    offsets = [0] * len(buffers)
    for i in order:
        size = buffers[i].size
        offset, tightest = None, None
        top = 0  # every address below it is taken or was seen as a hole
        for start, end, lower, upper in placed.near(first[i], last[i]):
            if lower < last[i] and first[i] < upper and end > top:
                hole = start - top
                if hole >= size and (tightest is None or hole < tightest):
                    offset, tightest = top, hole
                top = end
        offsets[i] = top if offset is None else offset
        if size:
            placed.add(offsets[i], offsets[i] + size, first[i], last[i])
    return offsets


class TimeIndex:
    """Placed buffers by time, so that a planner looks at those near a lifetime and not at all of them.

    Each level cuts the sections into blocks, four times finer than the level before, and every block keeps
    the buffers that touch it sorted by address. A lifetime is looked up at the finest level at which it
    touches at most two blocks.
    """

    def __init__(self, sections: int) -> None:
        self.levels: list[tuple[int, list[list[tuple[int, int, int, int]]]]] = []
        for blocks in (256, 64, 16, 4, 1):
            width = -(-sections // blocks) or 1
            self.levels.append((width, [[] for _ in range(-(-sections // width) or 1)]))

    def add(self, start: int, end: int, lower: int, upper: int) -> None:
        """Note that the addresses [start, end) are taken during the sections [lower, upper)."""
        for width, blocks in self.levels:
            for block in blocks[lower // width : (upper - 1) // width + 1]:
                insort(block, (start, end, lower, upper))

    def near(self, lower: int, upper: int) -> list[tuple[int, int, int, int]]:
        """All that was added and touches [lower, upper), and some that does not, sorted by address."""
        for width, blocks in self.levels:
            low, high = lower // width, (upper - 1) // width
            if low == high:
                return blocks[low]
            if high == low + 1:
                return sorted(blocks[low] + blocks[high])
        raise AssertionError("the last level is one block")
