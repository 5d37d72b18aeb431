"""Exact counts: what a function allocates, computes and dispatches, the same on every machine.

NumPy's allocations are counted in its allocator. torch shows every operator to a `TorchDispatchMode`,
below autograd and on any device, so tensors are counted without a GPU: by the storages behind them.

Compiled code (torch.compile) does not go through the dispatcher; with a mode in its way it would run eagerly
instead, and the count would be that of another program. Its allocations are taken from torch's profiler.
"""

from __future__ import annotations

import sys
import tracemalloc
import weakref
from collections.abc import Callable
from contextlib import AbstractContextManager, ExitStack
from dataclasses import asdict, dataclass, field

from labs_lib.compiled_code import runs_compiled, torch_blocks
from labs_lib.numpy_allocator import counted

SMALL_BLOCK = 1024  # bytes: NumPy keeps freed blocks below this size and serves them again, without malloc


@dataclass(frozen=True)
class Ledger:
    """Counts of one call. Bytes are of array and tensor data; `operators` and `flops` are torch's."""

    allocations: int
    bytes_allocated: int
    peak_bytes: int  # most bytes alive at once, above what was alive before the call
    operators: int | None  # None where compiled code ran: its kernels are not torch's operators
    flops: int | None  # a multiply-add counts 2; only operators with a formula in torch.utils.flop_counter

    def as_dict(self) -> dict[str, int | None]:
        return asdict(self)

    def rows(self) -> list[tuple[str, int | None]]:
        """(label, value) pairs; torch's only where torch worked, and None where compiled code hid it."""
        rows = [
            ("bytes allocated", self.bytes_allocated),
            ("allocations", self.allocations),
            ("peak bytes", self.peak_bytes),
        ]
        if self.operators != 0:
            rows += [("torch operators", self.operators), ("FLOPs (products)", self.flops)]
        return rows

    def __str__(self) -> str:
        return "\n".join(
            f"{label:16}{'not counted' if value is None else f'{value:,}':>16}" for label, value in self.rows()
        )


def ledger(fn: Callable[..., object], *inputs: object) -> Ledger:
    """Counts what one call of `fn(*inputs)` does, after a first call that fills its caches.

    Counted is array data in blocks of 1 KiB and more: NumPy's in the calling thread, torch's on any
    device. Not counted are Python objects, the scratch space of kernels and NumPy's ufunc buffers
    (`traced_peak` sees these last). The output is part of the peak.

    >>> import numpy as np
    >>> x = np.ones((32, 1024), np.float32)
    >>> print(ledger(lambda x: x + x, x))
    bytes allocated          131,072
    allocations                    1
    peak bytes               131,072
    >>> ledger(lambda x: np.add(x, x, out=x), x).allocations
    0
    """
    compiled = runs_compiled(fn, *inputs)
    tally = _Tally()
    with ExitStack() as doors:
        if compiled:
            doors.enter_context(torch_blocks(tally.take, tally.give))
        elif "torch" in sys.modules:
            doors.enter_context(_dispatch_mode(tally))
        if "numpy" in sys.modules:
            doors.enter_context(counted(tally.take, tally.give))
        output = fn(*inputs)  # the name keeps the output alive until the counting ends
    del output
    work = (None, None) if compiled else (tally.operators, tally.flops)
    return Ledger(tally.allocations, tally.allocated, tally.peak, *work)


def traced_peak(fn: Callable[..., object], *inputs: object) -> int:
    """Peak of bytes alive during `fn(*inputs)` by tracemalloc, above what was alive before the call.

    Sees Python's objects, NumPy's arrays and NumPy's ufunc buffers; blind to torch's tensors. Tracing
    slows Python several times over, so never time what runs in here.

    >>> traced_peak(lambda: bytearray(10**6)) > 10**6
    True

    Raises RuntimeError where tracemalloc is already running: it has one state for the whole process.
    """
    if tracemalloc.is_tracing():
        raise RuntimeError("tracemalloc is already running, and it has one state for the whole process")
    fn(*inputs)
    tracemalloc.start()
    try:
        before, _ = tracemalloc.get_traced_memory()
        fn(*inputs)
        return tracemalloc.get_traced_memory()[1] - before
    finally:
        tracemalloc.stop()


@dataclass
class _Tally:
    """Running counts. Blocks are known by address (NumPy) or by a storage's number (torch)."""

    allocations: int = 0
    allocated: int = 0
    live: int = 0
    peak: int = 0
    operators: int = 0
    flops: int = 0
    blocks: dict[object, int] = field(default_factory=dict)

    def take(self, block: object, size: int) -> None:
        if size < SMALL_BLOCK:
            return
        self.blocks[block] = size
        self.allocations += 1
        self.allocated += size
        self.live += size
        self.peak = max(self.peak, self.live)

    def give(self, block: object) -> None:
        """Blocks from before the counting are not ours to subtract."""
        self.live -= self.blocks.pop(block, 0)


def _dispatch_mode(tally: _Tally) -> AbstractContextManager:
    """A mode that counts torch's operators, their FLOPs, and the storages that first appear in outputs."""
    import torch

    from labs_lib.dispatch import Watch

    known: weakref.WeakSet[torch.UntypedStorage] = weakref.WeakSet()

    class Counting(Watch):
        def before(self, operator, operands):
            known.update(tensor.untyped_storage() for tensor in operands)  # alive before the call, or counted already

        def after(self, operator, operands, results):
            tally.operators, tally.flops = self.operators, self.flops
            for storage in (tensor.untyped_storage() for tensor in results):
                if storage not in known:
                    known.add(storage)
                    name = ("torch", storage._cdata, self.operators)
                    tally.take(name, storage.nbytes())
                    weakref.finalize(storage, tally.give, name).atexit = False

    return Counting()
