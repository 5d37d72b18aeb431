"""Peak memory of one call, every tensor counted. The ledger leaves out blocks below 1 KiB: here they are the answer."""

from __future__ import annotations

import gc
import weakref
from collections.abc import Callable

import torch

from labs_lib.compiled_code import runs_compiled
from labs_lib.dispatch import Watch
from labs_lib.ledger import ledger


def counted_peak(run: Callable[[], object]) -> int | None:
    """Most bytes of tensors alive at once in `run()`, above what was alive before; None where memory runs out.

    In compiled code, whose tensors the dispatcher does not see, only blocks of 1 KiB and more are counted.

    >>> counted_peak(lambda: torch.ones(4).exp())
    32
    """
    try:
        if runs_compiled(run):
            return ledger(run).peak_bytes
        with _Alive() as alive:
            answer = run()  # the name keeps it alive until the counting ends
        del answer
        return alive.peak
    except (torch.OutOfMemoryError, MemoryError):
        pass
    except RuntimeError as error:
        if not out_of_memory(error):
            raise
    # Only here, behind the except block, are the error, its traceback and all tensors in its frames let go.
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
    return None


def out_of_memory(error: BaseException) -> bool:
    """Whether memory ran out; torch's allocator for the CPU says so in a RuntimeError's text."""
    return isinstance(error, (torch.OutOfMemoryError, MemoryError)) or "not enough memory" in str(error)


class _Alive(Watch):
    """Storages that first appear in results are counted until they are freed."""

    def __init__(self) -> None:
        super().__init__()
        self.known: weakref.WeakSet[torch.UntypedStorage] = weakref.WeakSet()
        self.live = self.peak = 0

    def before(self, operator, operands):
        self.known.update(tensor.untyped_storage() for tensor in operands)

    def after(self, operator, operands, results):
        for storage in (tensor.untyped_storage() for tensor in results):
            if storage not in self.known:
                self.known.add(storage)
                self.live += storage.nbytes()
                self.peak = max(self.peak, self.live)
                weakref.finalize(storage, self._freed, storage.nbytes()).atexit = False

    def _freed(self, size: int) -> None:
        self.live -= size
