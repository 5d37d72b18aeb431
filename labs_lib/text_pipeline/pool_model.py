"""A model of what a pool of processes costs, and of the number of strings from which on it pays."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cache

import numpy as np

from labs_lib.errors import LabError

MOST = 10**8  # strings up to which a break-even is looked for


@dataclass(frozen=True)
class PoolCosts:
    """Seconds: to start the processes; of a message, for each task; to carry a string and its row in a message.

    For n strings of `work` seconds each, in tasks of k strings for p processes, as `seconds` has it:

        start + ceil(n / k) * message + n * carry + n * work / min(p, ceil(n / k))

    Tasks are of nearly equal size, at most k. Messages are made by one process, one after another, whatever the
    number of workers (Amdahl, 1967). The model knows nothing of cores: it takes one for each process.

    >>> costs = PoolCosts(start=0.5, message=100e-6, carry=2e-6)
    >>> round(float(costs.seconds(1000, work=50e-6, processes=2)), 3)  # a task a string: worse than 0.05 s alone
    0.627
    >>> costs.break_even(work=50e-6, processes=2) is None
    True
    >>> costs.break_even(work=50e-6, processes=2, chunk=100)
    22742
    >>> round(costs.limit(work=50e-6, processes=2, chunk=100), 2)
    1.79
    """

    start: float
    message: float
    carry: float

    def __post_init__(self) -> None:
        if not all(0 <= value < math.inf for value in (self.start, self.message, self.carry)):
            raise LabError(f"{self} has a cost that is no time.", "", "Give seconds from 0 on.")

    @classmethod
    def from_times(
        cls, start: float, work: float, apart: float, together: float, processes: int, chunk: int
    ) -> PoolCosts:
        """Solves the model for its two costs from two measurements of a running pool, in seconds for each string.

        `apart` was measured with a task for each string, `together` with `chunk` strings a task, both with the same
        `work`. A cost that noise makes negative is taken as 0.

        >>> PoolCosts.from_times(start=0.5, work=10e-6, apart=107e-6, together=8e-6, processes=2, chunk=100)
        PoolCosts(start=0.5, message=0.0001, carry=2e-06)
        """
        if chunk < 2:
            raise LabError(f"chunk={chunk} is a task for each string again.", "", "Measure with 2 or more.")
        message = max(0.0, (apart - together) / (1 - 1 / chunk))
        carry = max(0.0, together - message / chunk - work / processes)
        return cls(start, float(f"{message:.6g}"), float(f"{carry:.6g}"))

    def seconds(self, n: np.ndarray | int, work: float, processes: int, chunk: int = 1) -> np.ndarray:
        """Of the pool, its start included; broadcasts over `n`."""
        n = np.asarray(n, np.float64)
        tasks = np.ceil(n / chunk)
        return self.start + tasks * self.message + n * (self.carry + work / np.clip(tasks, 1, processes))

    def limit(self, work: float, processes: int, chunk: int = 1) -> float:
        """The ratio of one process's time to the pool's that many strings come near to."""
        return work / (self.message / chunk + self.carry + work / processes)

    def break_even(self, work: float, processes: int, chunk: int = 1) -> int | None:
        """The number of strings from which on the pool is always faster than one process; None for never.

        To one part in a thousand: it is looked for among numbers that lie so close.
        """
        if self.limit(work, processes, chunk) <= 1:
            return None
        n = _numbers()
        slower = np.flatnonzero(self.seconds(n, work, processes, chunk) >= n * work)
        if not len(slower):
            return 1
        return int(n[slower[-1] + 1]) if slower[-1] + 1 < len(n) else None


@cache
def _numbers() -> np.ndarray:
    """1 to 1999, then each a thousandth above the one before: whole numbers, the same ones on every machine."""
    numbers = [1]
    while numbers[-1] < MOST:
        numbers.append(numbers[-1] + max(1, numbers[-1] // 1000))
    return np.array(numbers)
