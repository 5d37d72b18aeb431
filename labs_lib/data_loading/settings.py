"""Settings of a DataLoader that `tune` compares, and the measuring of one epoch under each."""

from __future__ import annotations

import os
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from torch.utils.data import DataLoader, Dataset, Subset

from labs_lib.data_loading.failures import stepped
from labs_lib.data_loading.watched import end_workers
from labs_lib.machine import synchronize


def crew(workers: int) -> str:
    """
    >>> [crew(workers) for workers in (0, 1, 2)]
    ['no workers', '1 worker', '2 workers']
    """
    return f"{workers or 'no'} worker{'s' if workers != 1 else ''}"


@dataclass(frozen=True)
class Setting:
    """One way to load a dataset."""

    workers: int = 0
    batch: int = 32
    prefetch: int = 2
    persistent: bool = False
    pinned: bool = False
    predecoded: bool = False

    def arguments(self) -> dict[str, object]:
        """The keyword arguments of DataLoader, which refuses some of them where there are no workers.

        >>> Setting().arguments()
        {'batch_size': 32, 'num_workers': 0, 'pin_memory': False}
        """
        given = {"batch_size": self.batch, "num_workers": self.workers, "pin_memory": self.pinned}
        if self.workers:
            given |= {"prefetch_factor": self.prefetch, "persistent_workers": self.persistent}
        return given

    def __str__(self) -> str:
        """
        >>> print(Setting(workers=2, persistent=True))
        2 workers, persistent, batch 32
        """
        words = [crew(self.workers)]
        words += ["persistent"] * self.persistent + [f"prefetch {self.prefetch}"] * (self.prefetch != 2)
        words += [f"batch {self.batch}"] + ["pinned"] * self.pinned + ["predecoded"] * self.predecoded
        return ", ".join(words)


def candidates(batches: tuple[int, ...], predecodable: bool, gpu: bool) -> list[Setting]:
    """The default, then settings that differ from it: each knob at a few places, not every combination.

    The batch size changes training, not only loading, so others than the first are tried only where they are given.
    They come simplest first: without a file of pixels, with few workers and short queues.
    """
    cores = os.cpu_count() or 1
    counts = sorted({1, 2, cores, 2 * cores, 4 * cores} - {0})[:5]
    first = batches[0]
    found = [Setting(batch=first)]
    found += [Setting(workers=count, batch=first, persistent=True) for count in counts]
    found.append(Setting(workers=min(2, cores), batch=first))
    found.append(Setting(workers=counts[-1], batch=first, persistent=True, prefetch=4))
    for batch in batches[1:]:
        found += [Setting(batch=batch, workers=count, persistent=count > 0) for count in (0, cores)]
    if predecodable:
        found += [Setting(batch=first, predecoded=True)]
        found += [Setting(batch=first, workers=1, persistent=True, predecoded=True)]
    if gpu:
        found += [Setting(workers=cores, batch=first, persistent=True, pinned=True)]
    return found[:1] + sorted(set(found[1:]), key=_effort)


def _effort(setting: Setting) -> tuple[object, ...]:
    return (
        setting.batch, setting.predecoded, setting.workers, setting.pinned, setting.prefetch, setting.persistent
    )  # fmt: skip


class Epochs:
    """Epochs of a dataset under different settings. Persistent workers are started once, before anything is timed.

    Of a set with more than `limit` samples only the first ones are loaded. What is measured is seconds for one
    sample of the whole set: what iter(loader) takes, where workers are started, is spread over all of it.
    """

    def __init__(
        self, datasets: dict[bool, Dataset], step: Callable[[object], object], limit: int,
        collate_fn: Callable | None = None,
    ) -> None:  # fmt: skip
        self.step, self.collate_fn = step, collate_fn
        self.total = len(datasets[False])
        self.limit = min(limit, self.total)
        self.datasets = {
            kind: dataset if self.limit == self.total else Subset(dataset, range(self.limit))
            for kind, dataset in datasets.items()
        }
        self.warm: dict[Setting, DataLoader] = {}

    def measure(self, setting: Setting) -> float:
        """Seconds for one sample."""
        loader = self.warm.get(setting)
        if loader is None:
            loader = DataLoader(self.datasets[setting.predecoded], **setting.arguments(), collate_fn=self.collate_fn)
            if setting.persistent and setting.workers:
                for _ in stepped(loader, lambda batch: None):
                    pass
                self.warm[setting] = loader
        start = time.perf_counter()
        batches = iter(loader)
        started = time.perf_counter() - start
        for _ in stepped(batches, self.step):
            pass
        synchronize()
        seconds = time.perf_counter() - start
        if setting.persistent:  # workers are there; what iter(loader) takes then is part of loading
            started = 0.0
        return (seconds - started) / self.limit + started / self.total

    def drop(self, setting: Setting) -> None:
        """Ends the workers of a setting that is out of the race."""
        loader = self.warm.pop(setting, None)
        if loader is not None:
            end_workers(loader._iterator)

    def close(self) -> None:
        """Ends all workers."""
        for setting in list(self.warm):
            self.drop(setting)


@contextmanager
def more_workers_than_cores() -> Iterator[None]:
    """Silences the one warning that more workers than cores give: `tune` tries them on purpose."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="This DataLoader will create")
        yield
