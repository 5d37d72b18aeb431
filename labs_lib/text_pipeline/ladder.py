"""The ladder: every way to run the pipeline, each against the case's own, in one run.

Each round times all rungs once, in an order drawn at random, and the first one twice. A rung's ratio is the median,
over the rounds, of the first rung's time over its own; the interval is that of `labs_lib.timing.median_interval`.
"""

from __future__ import annotations

import gc
import math
import random
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass

import numpy as np

from labs_lib.errors import LabError
from labs_lib.ledger import ledger
from labs_lib.machine import pinned_threads
from labs_lib.text_pipeline.numba_engine import compile_kernels
from labs_lib.text_pipeline.processes import Job, Workers, in_this_process
from labs_lib.text_pipeline.rungs import CASE, RUNGS, Rung, rungs_here
from labs_lib.timing import median_interval
from labs_lib.units import time_text

SAMPLE = 200  # strings on which calls and bytes are counted
LEAST_ROUNDS = 6  # fewer have no interval of 95 %


@dataclass(frozen=True)
class Step:
    """What one rung costs. Counts are per string, on a sample, in the main process."""

    name: str
    same: bool | None  # the same rows as the reference; None where its numbers come from another generator
    calls: float  # of Python functions and of C functions from Python
    pickled: float  # bytes to the workers and back
    array_bytes: float  # of arrays and tensors that were allocated
    objects: float  # arrays, tensors or lists that the answer consists of
    seconds: float
    ratio: float
    low: float
    high: float


@dataclass(frozen=True)
class Ladder:
    """Steps in order; ratios are the first rung's time over the rung's own, so above 1 is faster."""

    steps: tuple[Step, ...]
    strings: int
    characters: int
    rounds: int
    floor: float  # the factor within which the first rung can't be told from itself
    start_seconds: float | None  # of the pool's processes, which no rung's time contains
    compile_seconds: float | None  # of numba, likewise

    def __getitem__(self, name: str) -> Step:
        return next(step for step in self.steps if step.name == name)

    @property
    def same(self) -> bool:
        """Whether all rungs that should give the same rows do."""
        return all(step.same is not False for step in self.steps)

    def table(self) -> list[tuple[str, ...]]:
        """A head, then a row for each rung, ready to print."""
        head = ("way", "same bytes", "calls", "pickled B", "array B", "objects", "time", "ratio", "95 % interval")
        answers = {None: "other numbers", True: "yes", False: "NO"}
        return [
            head,
            *(
                (
                    step.name,
                    answers[step.same],
                    *(f"{count:,.2f}" if count < 10 else f"{count:,.0f}"
                      for count in (step.calls, step.pickled, step.array_bytes, step.objects)),
                    time_text(step.seconds),
                    f"{step.ratio:.3g}x",
                    f"{step.low:.3g} to {step.high:.3g}",
                )
                for step in self.steps
            ),
        ]  # fmt: skip

    def __str__(self) -> str:
        rows = self.table()
        widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
        lines = [
            "  ".join(cell.ljust(width) if not column else cell.rjust(width)
                      for column, (cell, width) in enumerate(zip(row, widths, strict=True)))
            for row in rows
        ]  # fmt: skip
        notes = [
            f"{self.strings:,} strings, {self.characters:,} characters; calls, bytes and objects counted, per string; "
            f"times measured over {self.rounds} rounds, floor {100 * (self.floor - 1):.1f} %"
        ]
        if self.start_seconds is not None:
            notes.append(f"not in the times: {time_text(self.start_seconds)} to start the processes")
        if self.compile_seconds is not None:
            notes.append(f"not in the times: {time_text(self.compile_seconds)} for numba to compile")
        return "\n".join([*lines, *notes])

    def as_dict(self) -> dict[str, object]:
        """Plain values for JSON."""
        return asdict(self)

    def picture(self) -> object:
        """The ratios as bars, on a logarithmic axis."""
        from labs_lib.text_pipeline.pictures import ladder_picture

        return ladder_picture(self)


def ladder(
    strings: Sequence[str],
    rungs: Sequence[str] | None = None,
    job: Job | None = None,
    budget_s: float = 10.0,
    method: str = "spawn",
    progress: bool = True,
) -> Ladder:
    """Runs, checks, counts and times the rungs, for about `budget_s` seconds, at least six rounds.

    `rungs` are names of `RUNGS`, in any order; the case's own is always the first. One thread, two processes or
    threads where the name says so.

    Raises LabError for a name that is none, or without strings.
    """
    names = list(dict.fromkeys([CASE, *(rungs_here() if rungs is None else rungs)]))
    if unknown := [name for name in names if name not in RUNGS]:
        raise LabError(f"There is no rung {unknown[0]!r}.", f"They are: {'; '.join(RUNGS)}.", "Name these.")
    if not strings:
        raise LabError("There are no strings.", "", "Give at least one.")
    job = job or Job()
    chosen = [RUNGS[name] for name in names]
    with ExitStack() as stack:
        stack.enter_context(pinned_threads(1))
        compiled = compile_kernels() if any("numba" in name for name in names) else None
        workers = stack.enter_context(Workers(2, method)) if any(rung.pool for rung in chosen) else None
        sample = strings[:SAMPLE]
        counts = [_counts(rung, sample, job, workers) for rung in chosen]
        expected = in_this_process(strings, job)
        same = [
            np.array_equal(expected, rung.run(strings, job, workers)) if rung.exact else None for rung in chosen
        ]
        calls = [lambda rung=rung: rung.run(strings, job, workers) for rung in chosen]
        times, again = _times(calls, budget_s, progress)
    logs = [[math.log(a / b) for a, b in zip(times[0], mine, strict=True)] for mine in times]
    null = median_interval([math.log(a / b) for a, b in zip(times[0], again, strict=True)])
    steps = []
    for rung, answer, count, mine, log in zip(chosen, same, counts, times, logs, strict=True):
        found = median_interval(log)
        steps.append(
            Step(
                rung.name, answer, *count, median_interval(mine).median,
                *(math.exp(value) for value in (found.median, found.low, found.high)),
            )
        )  # fmt: skip
    return Ladder(
        tuple(steps),
        len(strings),
        sum(map(len, strings)),
        len(times[0]),
        math.exp(max(-null.low, null.high)),
        workers.start_seconds if workers else None,
        compiled,
    )


def _times(
    functions: Sequence[Callable[[], object]], budget_s: float, progress: bool
) -> tuple[list[list[float]], list[float]]:
    """Seconds of each function in each round, and of the first one once more."""
    from tqdm.auto import tqdm

    seen = progress and (sys.stderr.isatty() or "ipykernel" in sys.modules)
    times: list[list[float]] = [[] for _ in range(len(functions) + 1)]
    order = [*enumerate(functions), (len(functions), functions[0])]
    collecting = gc.isenabled()
    start = time.perf_counter()
    with tqdm(total=LEAST_ROUNDS, desc="measuring", unit="round", leave=False, disable=not seen) as bar:
        while len(times[0]) < LEAST_ROUNDS or (time.perf_counter() - start) * (1 + 1 / len(times[0])) < budget_s:
            random.shuffle(order)
            gc.disable()
            try:
                for place, function in order:
                    begin = time.perf_counter()
                    function()
                    times[place].append(time.perf_counter() - begin)
            finally:
                if collecting:
                    gc.enable()
            bar.total = max(bar.total, len(times[0]))
            bar.update()
    return times[:-1], times[-1]


def _counts(rung: Rung, sample: Sequence[str], job: Job, workers: Workers | None) -> tuple[float, float, float, float]:
    """Calls, pickled bytes, bytes of arrays, and objects of the answer; each per string."""
    answer = rung.run(sample, job, workers)
    calls = 0

    def count(frame: object, event: str, argument: object) -> None:
        nonlocal calls
        calls += event in ("call", "c_call")

    before = sys.getprofile()
    sys.setprofile(count)
    try:
        rung.run(sample, job, workers)
    finally:
        sys.setprofile(before)
    allocated = ledger(lambda: rung.run(sample, job, workers)).bytes_allocated
    objects = len(answer) if isinstance(answer, list) else 1
    return tuple(value / len(sample) for value in (calls, rung.pickled(sample, job), allocated, objects))
