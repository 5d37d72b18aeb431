"""A copy of a DataLoader whose workers note what they do, and hand the notes on beside each batch.

The copy has the same settings, so it goes the same way through PyTorch. Three callables are wrapped: the dataset
notes when a batch begins and how many items it takes, the collate function when the items are complete and the
batch is made, and the batch itself notes how long pickling takes when it goes to another process. time.perf_counter
reads one clock for all processes of a machine (CLOCK_MONOTONIC on Linux, mach_absolute_time on macOS,
QueryPerformanceCounter on Windows), so that notes of different processes can be compared.
"""

from __future__ import annotations

import copy
import io
import pickle
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from multiprocessing.reduction import ForkingPickler
from pathlib import Path

import torch
from torch.utils._pytree import tree_leaves
from torch.utils.data import DataLoader, Dataset, IterableDataset, get_worker_info

from labs_lib.errors import LabError

RUN_QUEUE = Path("/proc/thread-self/schedstat")  # Linux: its second number is the ns that a thread waited for a core


@dataclass(frozen=True)
class Stamp:
    """One moment in one thread, in seconds: the clock, the thread's CPU time, and its waiting for a core."""

    wall: float
    cpu: float
    queue: float

    @staticmethod
    def now() -> Stamp:
        try:
            queue = int(RUN_QUEUE.read_bytes().split()[1]) * 1e-9
        except (OSError, IndexError, ValueError):  # not Linux: waiting for a core then looks like waiting for storage
            queue = 0.0
        return Stamp(time.perf_counter(), time.thread_time(), queue)


@dataclass(frozen=True)
class Spent:
    """What a stretch of work in one thread took, in seconds."""

    wall: float
    cpu: float
    queue: float

    @staticmethod
    def between(start: Stamp, stop: Stamp) -> Spent:
        wall, cpu = stop.wall - start.wall, stop.cpu - start.cpu
        return Spent(wall, min(cpu, wall), max(0.0, min(stop.queue - start.queue, wall - min(cpu, wall))))

    @property
    def own(self) -> float:
        """Without waiting for a core, which is the neighbours' doing."""
        return self.wall - self.queue

    @property
    def asleep(self) -> float:
        """Neither at work nor in want of a core: waiting for a disk, a network, a lock."""
        return self.wall - self.cpu - self.queue


@dataclass
class Notes:
    """What is known of one batch."""

    worker: int | None  # None: made by the consumer itself
    items: int
    fetch_start: float
    fetch: Spent
    collate_start: float
    collate: Spent
    counted: dict[str, int]  # by the dataset, for this batch
    worker_ready: float | None  # when its worker had started
    pickled: tuple[float, float] | None = None
    unpickled: tuple[float, float] | None = None
    pickled_bytes: int = 0  # through the pipe
    shared_bytes: int = 0  # of tensors, through shared memory

    @property
    def done(self) -> float:
        return self.collate_start + self.collate.wall


class _Here(threading.local):
    """Where this thread stands: the moment its batch began, its items so far, the counters before it."""

    begun: Stamp | None = None
    items = 0
    counted: dict[str, int] = {}  # noqa: RUF012 - only ever replaced
    ready: float | None = None


HERE = _Here()


def _begin(dataset: object) -> None:
    if HERE.begun is None:
        HERE.counted = dict(getattr(dataset, "counted", {}))
        HERE.begun = Stamp.now()


class WatchedMap(Dataset):
    """A map-style dataset that notes when a batch begins and how many items it has."""

    def __init__(self, dataset: object) -> None:
        self.dataset = dataset

    def __len__(self) -> int:
        return len(self.dataset)

    def __getitem__(self, index: object) -> object:
        if HERE.begun is None:
            _begin(self.dataset)
        HERE.items += 1
        return self.dataset[index]

    @property
    def __getitems__(self) -> Callable | None:
        """None where the dataset has none: then DataLoader takes the items one by one."""
        return self._getitems if getattr(self.dataset, "__getitems__", None) else None

    def _getitems(self, indices: list[object]) -> object:
        _begin(self.dataset)
        HERE.items += len(indices)
        return self.dataset.__getitems__(indices)


class WatchedIterable(IterableDataset):
    """The same for an iterable dataset."""

    def __init__(self, dataset: IterableDataset) -> None:
        self.dataset = dataset

    def __len__(self) -> int:
        return len(self.dataset)

    def __iter__(self) -> Iterator[object]:
        items = iter(self.dataset)
        while True:
            _begin(self.dataset)
            try:
                item = next(items)
            except StopIteration:
                return
            HERE.items += 1
            yield item


@dataclass
class WatchedInit:
    """Runs the learner's worker_init_fn, which must see the learner's own dataset."""

    dataset: object
    function: Callable[[int], object] | None

    def __call__(self, worker: int) -> None:
        object.__setattr__(get_worker_info(), "dataset", self.dataset)  # it is read-only to everybody else
        if self.function is not None:
            self.function(worker)
        HERE.begun, HERE.items, HERE.ready = None, 0, time.perf_counter()


@dataclass
class WatchedCollate:
    """Runs the learner's collate function and puts the notes beside the batch."""

    dataset: object
    function: Callable[[object], object]

    def __call__(self, items: object) -> Noted:
        complete = Stamp.now()
        begun = HERE.begun or complete
        batch = self.function(items)
        made = Stamp.now()
        info = get_worker_info()
        after = getattr(self.dataset, "counted", {})
        notes = Notes(
            worker=None if info is None else info.id,
            items=HERE.items,
            fetch_start=begun.wall,
            fetch=Spent.between(begun, complete),
            collate_start=complete.wall,
            collate=Spent.between(complete, made),
            counted={name: count - HERE.counted.get(name, 0) for name, count in after.items()},
            worker_ready=HERE.ready,
        )
        HERE.begun, HERE.items = None, 0
        return Noted(batch, notes)


@dataclass
class Noted:
    """A batch with its notes; it pickles the batch itself, and so knows what that takes."""

    batch: object
    notes: Notes = field(repr=False)

    def __reduce__(self) -> tuple[Callable, tuple]:
        start = time.perf_counter()
        buffer = io.BytesIO()
        ForkingPickler(buffer, pickle.HIGHEST_PROTOCOL).dump(self.batch)
        self.notes.shared_bytes = sum(
            leaf.untyped_storage().nbytes() for leaf in tree_leaves(self.batch) if isinstance(leaf, torch.Tensor)
        )
        payload = buffer.getvalue()
        self.notes.pickled_bytes, self.notes.pickled = len(payload), (start, time.perf_counter())
        return _unpack, (payload, self.notes)

    def pin_memory(self) -> Noted:
        """What DataLoader calls under pin_memory=True."""
        from torch.utils.data._utils.pin_memory import pin_memory

        return Noted(pin_memory(self.batch), self.notes)


def _unpack(payload: bytes, notes: Notes) -> Noted:
    start = time.perf_counter()
    batch = pickle.loads(payload)
    notes.unpickled = (start, time.perf_counter())
    return Noted(batch, notes)


def watched(loader: DataLoader) -> DataLoader:
    """A copy of `loader` that yields `Noted` batches; `loader` and its sampler stay as they are.

    The copy has samplers and generators of its own, in the state of the originals. What can't be copied, such as
    a sampler that holds an open file, is shared and moves on.

    Raises LabError for anything but a DataLoader.
    """
    if not isinstance(loader, DataLoader):
        raise LabError(
            f"{type(loader).__name__} is no DataLoader.",
            "What the workers do can be noted only where their dataset and collate function can be wrapped.",
            "Give a torch.utils.data.DataLoader, the one inside your wrapper.",
        )
    dataset = loader.dataset
    wrapper = WatchedIterable if isinstance(dataset, IterableDataset) else WatchedMap
    memo: dict[int, object] = {id(dataset): dataset}
    twin = copy.copy(loader)
    # DataLoader forbids to set these attributes after __init__, because its own iterators may be under way.
    state = twin.__dict__
    state["generator"] = _generator(loader.generator, memo)
    for name in ("sampler", "batch_sampler"):
        state[name] = _copied(state[name], memo)
    state["dataset"] = wrapper(dataset)
    state["collate_fn"] = WatchedCollate(dataset, loader.collate_fn)
    state["worker_init_fn"] = WatchedInit(dataset, loader.worker_init_fn)
    state["_iterator"] = None
    return twin


def _generator(generator: torch.Generator | None, memo: dict[int, object]) -> torch.Generator | None:
    if generator is None:
        return None
    twin = torch.Generator(generator.device)
    twin.set_state(generator.get_state())
    memo[id(generator)] = twin
    return twin


def _copied(sampler: object, memo: dict[int, object]) -> object:
    try:
        return copy.deepcopy(sampler, memo)
    except Exception:  # a learner's sampler may hold anything
        return sampler


def end_workers(iterator: object) -> None:
    """Ends the workers of a DataLoader's iterator now.

    Left to the garbage collector, it may be collected in a worker that is forked later, and which complains that
    the workers are not its own children.
    """
    end = getattr(iterator, "_shutdown_workers", None)
    if end is not None:
        end()
