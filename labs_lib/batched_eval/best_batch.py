"""The batch to evaluate with: throughput measured and memory counted against batch size, the knee, the largest."""

from __future__ import annotations

import html
import math
import time
from collections.abc import Sequence
from dataclasses import dataclass

import torch

from labs_lib import hardware
from labs_lib.batched_eval import requests
from labs_lib.errors import LabError
from labs_lib.machine import pinned_threads, preset, synchronize
from labs_lib.peak import counted_peak
from labs_lib.timing import Interval, median_interval
from labs_lib.units import size_text, time_text

BATCHES = (1, 2, 4, 8, 16, 32, 64, 128, 256)
BUDGET_S = {"ci": 1.5, "lab": 10.0, "gpu": 10.0}
NEAR = 0.95  # of the best throughput: from the smallest batch that reaches it on, more batch buys next to nothing
ROUNDS = 7  # fewer than 6 give no 95 % interval
SAMPLE_S = 0.002  # a sample repeats a short call this long


@dataclass(frozen=True)
class Point:
    """One batch size."""

    batch: int
    peak: int | None  # counted: bytes alive at once, the batch and its answer included, the model's own bytes not
    seconds: Interval | None  # of one batch, measured; None where it does not fit
    why: str = ""  # why it was not timed

    @property
    def throughput(self) -> float:
        """Samples a second."""
        return self.batch / self.seconds.median if self.seconds else 0.0

    def as_dict(self) -> dict[str, object]:
        low, high = (self.batch / edge for edge in (self.seconds.high, self.seconds.low)) if self.seconds else (0, 0)
        return {
            "batch": self.batch,
            "peak_bytes": self.peak,
            "samples_per_second": self.throughput or None,
            "low": low or None,
            "high": high or None,
            "seconds_per_batch": self.seconds.median if self.seconds else None,
            "why_not": self.why,
        }


@dataclass(frozen=True, repr=False)
class BestBatch:
    """What `best_batch` found."""

    points: tuple[Point, ...]
    model_bytes: int  # of parameters and buffers
    budget: int | None  # bytes, for what comes on top of them
    threads: int

    @property
    def timed(self) -> list[Point]:
        return [point for point in self.points if point.seconds]

    @property
    def best(self) -> Point:
        """The batch size with the highest throughput."""
        return max(self.timed, key=lambda point: point.throughput)

    @property
    def knee(self) -> Point:
        """The smallest batch with at least 95 % of the highest throughput: the one to use."""
        return next(point for point in self.timed if point.throughput >= NEAR * self.best.throughput)

    @property
    def largest(self) -> Point:
        """The largest batch that was timed; `stopped` says what ended the search."""
        return self.timed[-1]

    @property
    def stopped(self) -> Point | None:
        """The first batch that was not timed, if there is one."""
        return next((point for point in self.points if not point.seconds), None)

    @property
    def rising(self) -> bool:
        """Whether throughput still rises at the largest batch timed, so that the knee may lie beyond it."""
        return len(self.timed) > 1 and self.knee is self.largest

    def as_dict(self) -> dict[str, object]:
        return {
            "knee": self.knee.batch,
            "best": self.best.batch,
            "largest_timed": self.largest.batch,
            "still_rising": self.rising,
            "memory_budget_bytes": self.budget,
            "model_bytes": self.model_bytes,
            "threads": self.threads,
            "points": [point.as_dict() for point in self.points],
        }

    def rows(self) -> list[tuple[str, ...]]:
        rows = []
        for point in self.points:
            marks = {"knee": self.knee, "best": self.best, "largest": self.largest}
            mark = ", ".join(name for name, marked in marks.items() if marked is point)
            peak = "not counted" if point.peak is None else _size(point.peak)
            if point.seconds is None:
                rows.append((str(point.batch), peak, "", "", point.why))
                continue
            low, high = point.batch / point.seconds.high, point.batch / point.seconds.low
            rows.append(
                (str(point.batch), peak, time_text(point.seconds.median),
                 f"{point.throughput:,.0f} ({low:,.0f} to {high:,.0f})", mark)
            )  # fmt: skip
        return rows

    @property
    def sentence(self) -> str:
        gain = self.knee.throughput / self.timed[0].throughput
        return (
            f"Evaluate with a batch of {self.knee.batch}: {self.knee.throughput:,.0f} samples a second, {gain:.1f} "
            f"times what a batch of {self.timed[0].batch} reaches; {self._end}. The model itself holds "
            f"{_size(self.model_bytes)}."
        )

    @property
    def _end(self) -> str:
        """What ended the search, and whether a larger batch may be faster."""
        rising = "still rising at the largest size timed, and " if self.rising else ""
        if self.stopped is None:
            return rising + ("larger ones may do better: give larger batches" if rising else "all sizes tried fit")
        if self.stopped.why.startswith(TOO_MUCH):
            return f"{rising}the largest within {_size(self.budget or 0)} is {self.largest.batch} of those tried"
        return f"{rising}{self.stopped.batch} was not timed: {self.stopped.why}"

    def __str__(self) -> str:
        table = [HEAD, *self.rows()]
        widths = [max(len(row[column]) for row in table) for column in range(len(HEAD))]
        lines = ["  ".join(cell.rjust(width) for cell, width in zip(row, widths, strict=True)) for row in table]
        return "\n".join([self.sentence, "", *lines])

    __repr__ = __str__

    def _repr_html_(self) -> str:
        head = "".join(f"<th>{title}</th>" for title in HEAD)
        body = "".join(
            "<tr>" + "".join(f"<td>{html.escape(cell)}</td>" for cell in row) + "</tr>" for row in self.rows()
        )
        return f"<p><b>{html.escape(self.sentence)}</b></p><table><tr>{head}</tr>{body}</table>"


TOO_MUCH = "more bytes than "
HEAD = ("batch", "peak bytes (counted)", "a batch (measured)", "samples/s (95 %)", "")


def _size(size: int) -> str:
    return size_text(size) if size >= 1024 else f"{size} B"


def best_batch(
    model: torch.nn.Module,
    sample: torch.Tensor,
    memory_budget: float | str | None = None,
    batches: Sequence[int] = BATCHES,
    budget_s: float | None = None,
    threads: int = 1,
) -> BestBatch:
    """Measures throughput against batch size, and counts the memory of each before it is run for time.

    `sample` is one input without its batch dimension; the batches are copies of it on its device. The model is run in
    eval mode, and its modes come back after. `memory_budget` is in bytes or a text such as "1GiB", for what comes on
    top of the model itself, every tensor counted; a batch that needs more is not timed. An out-of-memory
    error ends the search at that size: what it held is given back, and the sizes below stay measured. On a CPU, where
    the system may kill a process that takes too much, a size that would by the one before (in proportion) need more
    memory than is available is not tried. Sizes are timed in turns, so that a machine that slows down slows all of
    them, in `budget_s` seconds (10; 1.5 under LABS_PRESET=ci): sizes for which 7 turns do not fit are left out.

    >>> found = best_batch(torch.nn.Linear(512, 512), torch.ones(512), batches=(1, 4), budget_s=0.1)
    >>> [point.peak for point in found.points], found.model_bytes
    ([4096, 16384], 1050624)

    Raises LabError where not even the smallest batch fits, for arguments of another kind, where the model fails, and
    where its answers are not one for each sample, independent of the others.
    """
    requests.demand_model(model)
    requests.demand_sample(sample)
    batches, memory_budget = requests.growing(batches), requests.bytes_allowed(memory_budget)
    budget_s = requests.seconds_allowed(BUDGET_S[preset()] if budget_s is None else budget_s)
    with pinned_threads(threads), torch.inference_mode(), requests.in_eval_mode(model):
        requests.demand_samples_apart(model, sample)
        points = _counted(model, sample, memory_budget, batches, budget_s)
        fitting = [point for point in points if not point.why]
        if not fitting:
            raise LabError(
                f"Not even a batch of {points[0].batch} fits: {points[0].why}.",
                f"It needs {_size(points[0].peak)}." if points[0].peak is not None else "",
                "Give more memory or a smaller sample.",
            )
        seconds = _timed(model, sample, [point.batch for point in fitting], budget_s)
    done = tuple(Point(point.batch, point.peak, seconds.get(point.batch), point.why) for point in points)
    held = sum(tensor.numel() * tensor.element_size() for tensor in (*model.parameters(), *model.buffers()))
    return BestBatch(done, held, memory_budget, threads)


def _counted(
    model: torch.nn.Module, sample: torch.Tensor, memory_budget: int | None, batches: Sequence[int], budget_s: float
) -> list[Point]:
    """Peak bytes of each size, up to the first one that does not fit into memory, or into the time."""
    points: list[Point] = []
    turn = last = 0.0  # seconds of one call of each size so far, and of the last one
    for batch in batches:
        if points:
            factor = batch / points[-1].batch
            if ROUNDS * (turn + factor * last) > budget_s:
                points.append(Point(batch, None, None, f"{ROUNDS} turns do not fit into {budget_s:g} s (modelled)"))
                break
            if sample.device.type == "cpu" and factor * points[-1].peak > hardware.memory()[1]:
                points.append(Point(batch, None, None, "more than the memory available (modelled)"))
                break
        peak = counted_peak(lambda batch=batch: requests.answer(model, _inputs(sample, batch)))
        if peak is None:
            points.append(Point(batch, None, None, "out of memory"))
            break
        if memory_budget is not None and peak > memory_budget:
            points.append(Point(batch, peak, None, f"{TOO_MUCH}{_size(memory_budget)}"))
            break
        points.append(Point(batch, peak, None))
        last = _seconds(model, _inputs(sample, batch), 1)
        turn += last
    return points


def _timed(
    model: torch.nn.Module, sample: torch.Tensor, batches: list[int], budget_s: float
) -> dict[int, Interval]:
    """Seconds of one batch, the sizes in turns."""
    largest = _inputs(sample, batches[-1])
    inputs = {batch: largest[:batch] for batch in batches}
    calls = {}
    for batch, x in inputs.items():
        model(x)
        calls[batch] = max(1, math.ceil(SAMPLE_S / _seconds(model, x, 1)))
    taken: dict[int, list[float]] = {batch: [] for batch in batches}
    start = time.perf_counter()
    while len(taken[batches[0]]) < ROUNDS or time.perf_counter() - start < budget_s:
        for batch, x in inputs.items():
            taken[batch].append(_seconds(model, x, calls[batch]))
    return {batch: median_interval(values) for batch, values in taken.items()}


def _seconds(model: torch.nn.Module, x: torch.Tensor, calls: int) -> float:
    """Of one call, the mean of `calls` calls."""
    synchronize()
    start = time.perf_counter()
    for _ in range(calls):
        model(x)
    synchronize()
    return (time.perf_counter() - start) / calls


def _inputs(sample: torch.Tensor, batch: int) -> torch.Tensor:
    """`batch` copies of the sample, shape (batch, ...), in memory of their own."""
    return sample.repeat(batch, *(1 for _ in sample.shape))
