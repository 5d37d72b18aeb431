"""The storages that a trace knows: blocks in the making, with the moment of their death."""

from __future__ import annotations

import weakref
from collections.abc import Callable
from dataclasses import dataclass

import torch

from labs_lib.gpu_memory.origins import Origin
from labs_lib.gpu_memory.trace import ACTIVATIONS, TEMPORARIES, Block


@dataclass(eq=False)
class Entry:
    """A block in the making; see `Block`."""

    operator: str
    origin: Origin
    born: int
    kind: str | None = None  # None: an activation if it is `saved`, else a temporary
    saved: bool = False
    size: int = 0
    device: str = ""
    died: int | None = None

    def block(self) -> Block:
        kind = self.kind or (ACTIVATIONS if self.saved else TEMPORARIES)
        module, line = self.origin.module, self.origin.line
        return Block(self.size, kind, module, self.operator, line, self.born, self.died, self.device)


class Entries:
    """All entries of a trace. A weak reference to each storage tells when it dies, by the clock."""

    def __init__(self, clock: Callable[[], int]) -> None:
        self.clock = clock  # how many operators have run
        self.all: list[Entry] = []
        self.alive: dict[int, Entry] = {}  # by the number of the storage
        self.finalizers: list[weakref.finalize] = []

    def of(self, storage: torch.UntypedStorage) -> Entry | None:
        return self.alive.get(storage._cdata)

    def add(self, storage: torch.UntypedStorage, tensor: torch.Tensor, entry: Entry) -> Entry:
        """Enters a storage, seen through a tensor: a fake storage calls its device "meta", its tensor knows better."""
        entry.size, entry.device = storage.nbytes(), str(tensor.device)
        self.all.append(entry)
        if storage._cdata not in self.alive:
            finalizer = weakref.finalize(storage, self.died, storage._cdata)
            finalizer.atexit = False
            self.finalizers.append(finalizer)
        self.alive[storage._cdata] = entry
        return entry

    def died(self, number: int) -> None:
        self.alive.pop(number).died = self.clock() + 1

    def stop(self) -> None:
        """No more news from storages that live on."""
        for finalizer in self.finalizers:
            finalizer.detach()
