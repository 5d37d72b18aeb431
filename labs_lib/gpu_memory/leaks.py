"""Find a leak: which bytes a step leaves behind, who made them, and who holds them.

A step that is healthy leaves nothing behind but what the next step replaces. So call it several times, note
every storage at its birth, and look at the end for what the *early* steps made and what is still alive. What
the first steps leave is warm-up (an optimiser's state, a workspace), what only the last ones leave is a
buffer of fixed length. What every early step leaves is a leak, and `holders` finds the name it hangs on. One
more kind leaves nothing early behind: a tensor that each step replaces by a larger one, as torch.cat does.
"""

from __future__ import annotations

import gc
import weakref
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from itertools import pairwise

import torch

from labs_lib.errors import LabError
from labs_lib.gpu_memory.entries import Entries, Entry
from labs_lib.gpu_memory.holders import (
    CYCLE,
    GRAPH,
    NOBODY,
    OTHER,
    Holder,
    Search,
    living,
    loop_above,
    saved_below,
    storage_of,
)
from labs_lib.gpu_memory.tracker import _Tracker

CULPRITS = {
    "graph": "one tensor whose autograd graph grows with every step, and keeps what each step saved for backward",
    "list": "a list (or set, or deque) that keeps a tensor of every step",
    "hook": "a hook of a module that stores what passes through",
    "cycle": "objects that refer to each other: unreachable, and kept until Python's cycle collector runs",
    "traceback": "a kept exception: its traceback holds the frames, and these all their local tensors",
    "cache": "a cache without a limit: every step puts in a tensor under a new key",
}
YOUNG = 0  # the generation of all that was made since the collector was put to rest
WALKS = 3  # survivors whose holders are searched, the largest first


@dataclass(frozen=True)
class Survivor:
    """Blocks of one origin that one step left behind."""

    size: int  # bytes in all
    count: int
    kind: str  # as in a trace: "activations", "temporaries", ...
    operator: str
    module: str
    line: str

    def __str__(self) -> str:
        where = f" in {self.module}" if self.module else ""
        return f"{self.size:,} bytes, {self.kind}: made by {self.operator}{where} at {self.line}"


@dataclass(frozen=True)
class Leak:
    """What `find_leak` found. Bytes are counted, the collector resting."""

    live: tuple[int, ...]  # bytes alive after each call, of all that was made since the first
    left: tuple[int, ...]  # bytes that each counted call left behind to the end; the last ones may be replaced yet
    collected: int  # bytes of `left` that the cycle collector gave back
    survivors: tuple[Survivor, ...]  # of one call, the largest first
    holders: tuple[tuple[Holder, int], ...]  # and the bytes of that call that each one holds, the most first
    swelling: int = 0  # bytes a call, where each call replaces a tensor by a larger one, so that no early one is left

    @property
    def healthy(self) -> bool:
        return not self.survivors and not self.swelling

    @property
    def growth(self) -> int:
        """Bytes that one call leaves behind for good: the median of the early calls that leave any; 0 if healthy."""
        if self.swelling:
            return self.swelling
        early = sorted(size for size in _early(self.left) if size)
        return 0 if self.healthy else early[len(early) // 2]

    @property
    def culprit(self) -> str | None:
        """A key of CULPRITS, "other" where the way tells of none of them, None where nothing leaks."""
        return self.holders[0][0].culprit if self.holders else None

    def __str__(self) -> str:
        if self.healthy:
            return "grows by 0 bytes a step: nothing that an early step made is left."
        if self.swelling:
            held = f"; held by {self.holders[0][0]}" if self.holders else ""
            return f"grows by {self.growth:,} bytes a step: a tensor is replaced by a larger one each time{held}."
        early = _early(self.left)
        hits = sum(size > 0 for size in early)
        often = "a step" if hits == len(early) else f"in {hits} of {len(early)} steps"
        held = f"; held by {self.holders[0][0]}" if self.holders else ""
        collected = f" (the cycle collector gives back {self.collected:,} bytes)" if self.collected else ""
        return f"grows by {self.growth:,} bytes {often}{held}{collected}."


def find_leak(
    step: Callable[[], object], *, steps: int = 8, warmup: int = 2, model: torch.nn.Module | None = None
) -> Leak:
    """Calls `step()` `warmup + steps` times and finds what it leaves behind, on any device and on fake tensors.

    Give the `model` to see its modules by name. During the calls the cycle collector rests, so that the count
    does not depend on when it happens to run; then it runs, and what it frees was held by reference cycles.

    >>> history = []
    >>> weight = torch.ones(64, 256, requires_grad=True)
    >>> def step():
    ...     history.append((weight * 2).exp())
    >>> leak = find_leak(step)
    >>> print(leak.culprit, leak.growth)
    list 65536

    Raises LabError for fewer than 4 counted steps, and whatever the step raises.
    """
    if steps < 4 or warmup < 0:
        raise LabError(f"steps={steps} and warmup={warmup} show no growth.", "It takes 4 counted steps.", "Take more.")
    with _collector_resting():
        calls, live = [], []
        for _ in range(warmup + steps):
            calls.append(_born_in(step, model))
            live.append(sum(birth.size for born in calls for birth in _alive(born)))
        counted = [_alive(born) for born in calls[warmup:]]
        left = tuple(sum(birth.size for birth in born) for born in counted)
        loop = _collect({birth.number for born in counted for birth in born})
    lasting = [_alive(born) for born in counted]
    early = _early(left)
    if sum(size > 0 for size in early) < 2:
        swelling = _swelling(live[warmup:])
        grown = _grown(calls[warmup], lasting[-1]) if swelling else []
        holders = _holders([*lasting[:-1], grown], len(lasting) - 1)
        return Leak(tuple(live), left, 0, _survivors(grown), tuple(holders), swelling)
    typical = max(place for place, size in enumerate(early) if size)
    freed = left[typical] - sum(birth.size for birth in lasting[typical])
    holders = _holders(lasting, typical)
    if freed:
        holders = sorted([*holders, (Holder(CYCLE, "a reference cycle", loop), freed)], key=lambda held: -held[1])
    collected = sum(left) - sum(birth.size for born in lasting for birth in born)
    return Leak(tuple(live), left, collected, _survivors(counted[typical]), tuple(holders))


def _early(left: Sequence[int]) -> Sequence[int]:
    """The first half of the counted calls: what these left, no later call has replaced."""
    return left[: len(left) // 2]


def _swelling(live: Sequence[int]) -> int:
    """The median rise of what is alive, where it rises again and again and never falls; else 0."""
    rises = [after - before for before, after in pairwise(live)]
    real = sorted(rise for rise in rises if rise)
    return real[len(real) // 2] if len(real) >= 2 and min(real) > 0 and any(_late(rises)) else 0


def _late(rises: Sequence[int]) -> Sequence[int]:
    return rises[len(rises) // 2 :]


def _grown(first: list[_Birth], last: list[_Birth]) -> list[_Birth]:
    """What the last call made at the same place as the first one, and larger."""
    sizes: dict[tuple[str, str], int] = {}
    for birth in first:
        sizes[birth.origin] = max(birth.size, sizes.get(birth.origin, 0))
    return [birth for birth in last if birth.size > sizes.get(birth.origin, birth.size)]


@dataclass(frozen=True)
class _Birth:
    storage: weakref.ref
    number: int  # of the storage
    size: int
    entry: Entry

    @property
    def origin(self) -> tuple[str, str]:
        block = self.entry.block()
        return block.operator, block.line


class _Births(Entries):
    """Entries of a tracker that keep a weak reference to every storage that an operator of the step made."""

    def __init__(self, clock: Callable[[], int]) -> None:
        super().__init__(clock)
        self.born: list[_Birth] = []

    def add(self, storage: torch.UntypedStorage, tensor: torch.Tensor, entry: Entry) -> Entry:
        super().add(storage, tensor, entry)
        if entry.born:
            self.born.append(_Birth(weakref.ref(storage), storage._cdata, entry.size, entry))
        return entry


def _born_in(step: Callable[[], object], model: torch.nn.Module | None) -> list[_Birth]:
    """Calls the step; the storages that its operators made."""
    tracker = _Tracker(model)
    tracker.entries = births = _Births(lambda: tracker.operators)
    with tracker.watching():
        step()
    return births.born


def _alive(born: list[_Birth]) -> list[_Birth]:
    return [birth for birth in born if birth.storage() is not None]


@contextmanager
def _collector_resting() -> Iterator[None]:
    collecting = gc.isenabled()
    gc.collect()
    gc.disable()
    try:
        yield
    finally:
        if collecting:
            gc.enable()


def _collect(numbers: set[int]) -> tuple[str, ...]:
    """Collects cycles; returns in words the loop that held one of these storages, empty if none did."""
    flags, kept = gc.get_debug(), len(gc.garbage)
    gc.set_debug(gc.DEBUG_SAVEALL)  # first only gather what is unreachable, to look at it
    try:
        gc.collect(YOUNG)
    finally:
        gc.set_debug(flags)
    garbage = gc.garbage[kept:]
    held = (thing for thing in garbage if issubclass(type(thing), torch.Tensor) and _storages(thing) & numbers)
    tensor = next(held, None)
    loop = () if tensor is None else loop_above(tensor, garbage)
    del gc.garbage[kept:], garbage, held, tensor
    gc.collect(YOUNG + 1)  # looking at them has made them older
    return loop


def _storages(tensor: torch.Tensor) -> set[int]:
    return {storage_of(tensor), *saved_below(tensor)}


def _survivors(born: list[_Birth]) -> tuple[Survivor, ...]:
    """Blocks of one call, those of one origin together, the largest first."""
    sizes: dict[tuple[str, ...], list[int]] = {}
    for birth in born:
        block = birth.entry.block()
        sizes.setdefault((block.kind, block.operator, block.module, block.line), []).append(birth.size)
    groups = [Survivor(sum(group), len(group), *origin) for origin, group in sizes.items()]
    return tuple(sorted(groups, key=lambda survivor: -survivor.size))


def _holders(calls: list[list[_Birth]], place: int) -> list[tuple[Holder, int]]:
    """Who holds what the call at `place` left, and how many bytes of it, the most first."""
    call_of = {birth.number: number for number, born in enumerate(calls) for birth in born}
    ways: dict[int, list[tuple[weakref.ref, str, bool]]] = {}  # storage -> tensor, node that saved it, many calls?
    tensors, modules = living(torch.Tensor, torch.nn.Module)
    for tensor in tensors:
        saved = saved_below(tensor)
        many = len({call_of[number] for number in saved if number in call_of}) > 1
        for number, node in {**saved, storage_of(tensor): ""}.items():
            if call_of.get(number) == place:
                ways.setdefault(number, []).append((weakref.ref(tensor), node, many and bool(node)))
    held: Counter[tuple[str, str]] = Counter()  # culprit and root -> bytes
    first: dict[tuple[str, str], Holder] = {}
    search = Search(modules)
    del tensors, modules  # or the search would find these lists
    for birth in sorted(calls[place], key=lambda birth: -birth.size)[:WALKS]:
        found = [_walk(search, *way) for way in ways.get(birth.number, ())]
        # The tracker's own copies of what autograd saves have no name, and the graph is found beside them.
        named = [holder for holder in found if holder.root != NOBODY] or [Holder(OTHER, NOBODY, ())]
        for key, holder in {(holder.culprit, holder.root): holder for holder in named}.items():
            held[key] += birth.size
            first.setdefault(key, holder)
    return [(first[key], size) for key, size in held.most_common()]


def _walk(search: Search, tensor: weakref.ref, node: str, many: bool) -> Holder:
    holder = search.holder_of(tensor(), (f"graph, saved by {node}",) if node else ())
    return replace(holder, culprit=GRAPH) if many else holder
