"""A control: fixed work, timed beside every sample. Where it slows down the machine did, and not the model.

Three kernels, because a model lies somewhere between them: a matrix product, which waits for arithmetic; a copy that
the last cache holds; and one that it does not hold, which waits for memory. A busy neighbour slows each differently.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch

from labs_lib.inference_bench.calls import timed

# Of a CPU and of a GPU, chosen to last about a millisecond on one core and on a large GPU. Runs with other sizes
# cannot be compared: change them together with rows.SCHEMA.
ROWS = {"cpu": 384, "gpu": 4096}  # and columns of the matrices, in float32
NEAR = {"cpu": 4 * 2**20, "gpu": 8 * 2**20}  # bytes copied: more than the cache of one core, less than the last one
FAR = {"cpu": 32 * 2**20, "gpu": 512 * 2**20}  # more than the last cache holds of them and of their copy
TIMES = 3  # of which the fastest counts: what interrupts one of them is no speed of the machine


@dataclass(frozen=True)
class Speed:
    """Seconds of one product, one near copy and one far copy."""

    product: float
    near: float
    far: float


class Control:
    """The kernels on a device, with their data in place."""

    def __init__(self, device: str) -> None:
        self._device = device
        size = ROWS[kind(device)]
        values = np.random.default_rng(0).standard_normal((size, size), np.float32)
        self._matrix = torch.from_numpy(values).to(device)
        self._product = torch.empty_like(self._matrix)
        # Ones, because zeros may have no memory of their own.
        self._near, self._far = (torch.ones(2, size[kind(device)] // 4, device=device) for size in (NEAR, FAR))
        self.speed()  # the first time is that of page faults and of choosing a kernel

    def speed(self) -> Speed:
        """How fast the machine is now, in some milliseconds."""
        with torch.inference_mode():
            return Speed(
                self._fastest(lambda: torch.mm(self._matrix, self._matrix, out=self._product)),
                self._fastest(lambda: self._near[0].copy_(self._near[1])),
                self._fastest(lambda: self._far[0].copy_(self._far[1])),
            )

    def _fastest(self, run: Callable[[], object]) -> float:
        return min(timed(run, self._device).busy for _ in range(TIMES))


def kind(device: str) -> str:
    return "cpu" if device == "cpu" else "gpu"


def modelled_seconds(flops: int, size: int, speed: Speed, device: str) -> tuple[float, float]:
    """What `flops` operations and `size` bytes take at the speed of the control, from the last cache and from memory.

    Arithmetic and bytes one after the other: the model of a roofline (Williams et al. 2009), without overlap. A copy
    reads and writes.

    >>> near, far = modelled_seconds(2 * 384**3, 2**20, Speed(0.001, near=0.001, far=0.064), "cpu")
    >>> round(near, 6), round(far, 6)
    (0.001125, 0.002)
    """
    computing = flops * speed.product / (2 * ROWS[kind(device)] ** 3)
    return (
        computing + size * speed.near / (2 * NEAR[kind(device)]),
        computing + size * speed.far / (2 * FAR[kind(device)]),
    )
