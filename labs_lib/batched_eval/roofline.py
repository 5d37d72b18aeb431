"""How far from the limit? FLOPs and bytes of a model, counted, against what this machine can do, measured.

The roofline (Williams, Waterman and Patterson, 2009): a computation of F floating-point operations that moves B
bytes to and from memory takes at least max(F / peak, B / bandwidth). Peak is what a large matrix product reaches
here, bandwidth what copying a large array reaches, both with as many threads as the model is given. B is the traffic
that no cache and no fusing can spare: each tensor that was there before is read once, each answer written once.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable
from dataclasses import dataclass, replace

import torch

from labs_lib.dispatch import Touched, Watch, tensors
from labs_lib.errors import LabError
from labs_lib.machine import pinned_threads
from labs_lib.roofline import Limits, fastest, limits
from labs_lib.units import time_text


@dataclass(frozen=True)
class Roofline:
    """A computation under the roof."""

    flops: int  # counted; only products and convolutions have a formula
    bytes_moved: int  # counted: inputs and weights read once, answers written once
    seconds: float  # measured, the best of some rounds
    limits: Limits

    @property
    def intensity(self) -> float:
        """FLOPs for each byte."""
        return self.flops / self.bytes_moved

    @property
    def least_seconds(self) -> float:
        """Modelled: max(FLOPs / peak, bytes / bandwidth)."""
        return max(self.flops / self.limits.flops, self.bytes_moved / self.limits.bandwidth)

    @property
    def share(self) -> float:
        """Of the roof, the part that is reached. Above 1 where the data was in a cache, or the peak was disturbed."""
        return self.least_seconds / self.seconds

    @property
    def limit(self) -> str:
        return "computing" if self.intensity > self.limits.ridge else "memory"

    def __str__(self) -> str:
        return (
            f"{time_text(self.seconds)} measured; the roof allows {time_text(self.least_seconds)} (modelled: "
            f"{self.flops:,} FLOPs and {self.bytes_moved:,} bytes counted; {self.limits.flops / 1e9:.0f} GFLOP/s and "
            f"{self.limits.bandwidth / 1e9:.1f} GB/s measured; the limit is {self.limit}). {self._reached}"
        )

    @property
    def _reached(self) -> str:
        if self.share <= 1:
            return f"{self.share:.0%} of it is reached."
        why = "the peak was measured while the machine was busy"
        return f"Above 100 %: {why}{', or the data was in a cache' if self.limit == 'memory' else ''}; run again."


def roofline(run: Callable[[], object], threads: int = 1, device: str = "cpu") -> Roofline:
    """Counts one call of `run()`, measures it, and places it under this machine's roof.

    >>> x = torch.ones(64, 64)
    >>> found = roofline(lambda: torch.mm(x, x))
    >>> found.flops, found.bytes_moved
    (524288, 32768)

    Raises LabError where no tensor is read or written.
    """
    with torch.inference_mode():
        run()
        with _Traffic() as traffic:
            written = list(tensors(run()))
        traffic.moved.add(written)
        moved = traffic.moved.bytes
        if not moved:
            raise LabError("run() moves no tensor.", "A roof is over FLOPs and bytes.", "Call your model in it.")
        with pinned_threads(threads):
            seconds = fastest(run)
    found = Roofline(traffic.flops, moved, seconds, limits(threads, device))
    if found.share > 1:  # the peak was disturbed: the machine can do what it just did
        limits.cache_clear()
        found = replace(found, limits=limits(threads, device))
    return found


class _Traffic(Watch):
    """What is read and no operator has made, by storage and view: a part of a tensor is not the whole of it."""

    def __init__(self) -> None:
        super().__init__()
        self.moved = Touched()
        self.made: weakref.WeakSet[torch.UntypedStorage] = weakref.WeakSet()

    def before(self, operator, operands):
        if not operator.is_view:  # a view reads nothing
            self.moved.add(tensor for tensor in operands if tensor.untyped_storage() not in self.made)

    def after(self, operator, operands, results):
        if not operator.is_view:
            self.made.update({tensor.untyped_storage() for tensor in results}.difference(self.moved.views))
