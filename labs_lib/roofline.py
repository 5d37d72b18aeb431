"""What this machine can do at most: floating-point operations and bytes a second, measured.

The roofline (Williams, Waterman and Patterson, 2009): a computation of F floating-point operations that moves B bytes
takes at least max(F / peak, B / bandwidth). Peak is what a large matrix product reaches, per dtype; bandwidth what the
faster of two reaches, copying an array or reading two of them (a dot product); it depends on the cache that holds them.
Both are measured with as many threads as the model is given; from the second, the time of the same call on one element
is taken off: calling costs time too, but moves nothing.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache, partial
from itertools import chain
from time import perf_counter

import torch

from labs_lib import roofline_file
from labs_lib.errors import LabError
from labs_lib.hardware import usable_cores
from labs_lib.machine import pinned_threads, preset, synchronize
from labs_lib.timing import median_interval
from labs_lib.units import size_text, time_text

SIZE = 1024  # of the matrices: 12 MiB in all, far more work than overhead
COPIED = 64 * 2**20  # bytes: more than the caches of one core hold
ROUNDS = 7  # with 6 an interval has two ends
BUDGET_S = {"ci": 2.0, "lab": 9.0, "gpu": 9.0}  # of measuring, after some tries to find the sizes
WORKING_SETS = {"cpu": [2**n for n in (18, 20, 22, 24, 26, 28)], "gpu": [2**n for n in (22, 24, 26, 28, 30)]}  # bytes
LONGEST_S = 0.03  # of one matrix product
SAMPLE_S = 2e-4  # a sample repeats a short call this long
PRODUCTS = {
    "float32": torch.mm,
    "bfloat16": torch.mm,
    "float16": torch.mm,
    "int8": torch._int_mm,  # int8 times int8 summed in int32: the only such product without a quantised layer around
}


@dataclass(frozen=True)
class Limits:
    """What this machine reaches with so many threads, measured: the best of some rounds."""

    flops: float  # a second, float32
    bandwidth: float  # bytes a second, read and written
    threads: int

    @property
    def ridge(self) -> float:
        """FLOPs for each byte above which computing, not memory, is the limit."""
        return self.flops / self.bandwidth


@cache
def limits(threads: int = 1, device: str = "cpu") -> Limits:
    """Measures one peak and one bandwidth, once in a process: about half a second. `roof` measures more."""
    a, b = torch.ones(SIZE, SIZE, device=device), torch.ones(SIZE, SIZE, device=device)
    with pinned_threads(threads), torch.inference_mode():
        product = fastest(lambda: torch.mm(a, b))
        source, target = _arrays(2 * COPIED, device)
        copy = fastest(lambda: target.copy_(source))
    return Limits(2 * SIZE**3 / product, 2 * COPIED / copy, threads)


def fastest(run: Callable[[], object], rounds: int = ROUNDS) -> float:
    """The fastest of some calls in seconds: what the machine can do when it is left alone."""
    run()
    return min(_seconds(run) for _ in range(rounds))


@dataclass(frozen=True)
class Rate:
    """FLOPs or bytes a second. The band between the two ends is what the rounds leave open."""

    low: float  # the lower end of the 95 % interval of the median
    best: float  # the fastest round: the limit


@dataclass(frozen=True)
class Roof:
    """The limits of this machine for one device and number of threads, measured."""

    device: str
    threads: int
    peaks: Mapping[str, Rate]  # dtype, such as "float32": FLOPs a second
    bandwidths: Mapping[int, Rate]  # bytes read and written by one call: bytes a second
    call_s: float  # seconds of one operator on one element: the overhead of any call
    when: str  # date and time of the measurement
    notes: tuple[str, ...] = ()  # what was left out and why; what became of the file

    def peak(self, dtype: str) -> Rate | None:
        """None for a dtype whose peak was not measured here."""
        return self.peaks.get(dtype)

    def bandwidth(self, size: float) -> Rate:
        """For a call that moves `size` bytes: between measured sizes interpolated, both on logarithmic scales."""
        sizes = sorted(self.bandwidths)
        if size <= sizes[0] or size >= sizes[-1]:
            return self.bandwidths[sizes[0] if size <= sizes[0] else sizes[-1]]
        above = next(place for place, measured in enumerate(sizes) if measured > size)
        left, right = sizes[above - 1], sizes[above]
        part = math.log(size / left) / math.log(right / left)
        a, b = self.bandwidths[left], self.bandwidths[right]
        return Rate(a.low * (b.low / a.low) ** part, a.best * (b.best / a.best) ** part)

    @property
    def memory(self) -> Rate:
        """The bandwidth of the largest measured size, which no cache holds."""
        return self.bandwidths[max(self.bandwidths)]

    @property
    def nearest_cache(self) -> Rate:
        """The highest bandwidth measured, of a small size."""
        return max(self.bandwidths.values(), key=lambda rate: rate.best)

    def as_dict(self) -> dict[str, object]:
        """Plain values for JSON; rates as [low, best], keys as text."""
        return {
            "device": self.device,
            "threads": self.threads,
            "peaks": {dtype: [rate.low, rate.best] for dtype, rate in self.peaks.items()},
            "bandwidths": {str(size): [rate.low, rate.best] for size, rate in self.bandwidths.items()},
            "call_s": self.call_s,
            "when": self.when,
            "notes": list(self.notes),
        }

    def rows(self) -> list[tuple[str, str]]:
        """(what, measured rate with its band) pairs."""
        peaks = [(f"{dtype} products", _band(rate, "GFLOP/s", 0)) for dtype, rate in self.peaks.items()]
        moves = [(f"moving {size_text(size)}", _band(rate, "GB/s", 1)) for size, rate in self.bandwidths.items()]
        return [*peaks, *moves, ("one call", time_text(self.call_s))]

    def __str__(self) -> str:
        head = f"This machine, {self.device}, {self.threads} thread{'s' * (self.threads > 1)} (measured {self.when}):"
        lines = [f"  {what:24}{text}" for what, text in self.rows()]
        return "\n".join([head, *lines, *(f"  {note}" for note in self.notes)])


def roof(threads: int = 1, device: str = "cpu", *, fresh: bool = False) -> Roof:
    """The roof of this machine, from the user's cache folder or measured: about 10 s, 3 s under LABS_PRESET=ci.

    The file belongs to this processor (and GPU), its cores, the versions of NumPy and torch, the number of threads and
    the preset. With `fresh` it is measured anew: worthwhile where the machine was busy the first time. A file that
    cannot be read or written does no harm: `notes` says so. LABS_CACHE names another folder.

    Raises LabError for a number of threads or a device that this machine does not have.
    """
    if type(threads) is not int or not 1 <= threads <= usable_cores():
        raise LabError(f"{threads!r} threads can't be measured.", f"This machine has {usable_cores()} usable cores.",
                       "Give a number of threads between 1 and that.")  # fmt: skip
    there = {"cpu": lambda: True, "cuda": torch.cuda.is_available, "mps": torch.backends.mps.is_available}
    if device not in there:
        raise LabError(f"There is no device {device!r}.", "", f"Give one of {', '.join(there)}.")
    if not there[device]():
        raise LabError(f"The device {device} is not available here.", "torch finds none.", "Take cpu.")
    place = roofline_file.location(device, threads)
    note = ""
    if not fresh:
        data, note = roofline_file.read(place)
        try:
            if data is not None:
                return _from_dict(data, device, threads)
        except (KeyError, TypeError, ValueError, AttributeError):
            note = f"{place} {roofline_file.FOREIGN}"
    found = measure(threads, device, BUDGET_S[preset()])
    written = roofline_file.write(place, found.as_dict())
    notes = tuple(filter(None, (*found.notes, note, written)))
    return Roof(**{**vars(found), "notes": notes})


def measure(threads: int, device: str, budget_s: float) -> Roof:
    """Measures for about `budget_s` seconds: in each round every point once, so that a disturbance hits them all."""
    peaks, moves, notes = {}, {}, []
    with pinned_threads(threads), torch.inference_mode():
        one = torch.ones(1, device=device)
        calling = _Point(lambda: one.relu(), 1)
        copying_one = _Point(partial(one.copy_, torch.ones_like(one)), 1)
        for dtype in PRODUCTS:
            if dtype == "float16" and device == "cpu":
                continue  # most processors have no units for it, and then it is a hundred times slower than float32
            try:
                peaks[dtype] = _product(dtype, device)
            except (RuntimeError, TypeError) as error:  # NotImplementedError is a RuntimeError
                notes.append(f"{dtype} products: {str(error).splitlines()[0][:80]}")
        for size in WORKING_SETS["cpu" if device == "cpu" else "gpu"]:
            a, b = _arrays(size, device)
            moves[size] = [_Point(partial(b.copy_, a), size), _Point(partial(torch.dot, a, b), size)]
        points = [calling, copying_one, *peaks.values(), *chain(*moves.values())]
        start = perf_counter()
        while len(calling.seconds) < ROUNDS or perf_counter() - start < budget_s:
            for point in points:
                point.sample()
    found = {dtype: point.rate() for dtype, point in peaks.items()}
    if "int8" in found and found["int8"].best <= found["float32"].best:
        del found["int8"]
        notes.append("int8 products are no faster than float32 here, so they have no roof of their own.")
    overhead = median_interval(copying_one.seconds).median
    bandwidths = {
        size: max((point.rate(overhead) for point in both), key=lambda rate: rate.best)
        for size, both in moves.items()
    }
    if any(rate.low < rate.best / 2 for rate in (*found.values(), *bandwidths.values())):
        notes.append("Some bands are wide: the machine was busy meanwhile. roof(fresh=True) measures it again.")
    call_s = median_interval(calling.seconds).median
    return Roof(device, threads, found, bandwidths, call_s, roofline_file.now(), tuple(notes))


class _Point:
    """One thing to measure: a call, the work it does, and the seconds of one call in each round."""

    def __init__(self, run: Callable[[], object], work: float) -> None:
        self.run, self.work = run, work
        self.seconds: list[float] = []
        self.calls = max(1, min(200, round(SAMPLE_S / fastest(run, 3))))

    def sample(self) -> None:
        self.run()  # brings back into the caches what the points in between have put out of them
        self.seconds.append(_seconds(self.run, self.calls))

    def rate(self, overhead: float = 0.0) -> Rate:
        """Of the time above the overhead of a call, of which at least a tenth is left: else it is all noise."""
        net = [max(seconds - overhead, seconds / 10) for seconds in self.seconds]
        return Rate(self.work / median_interval(net).high, self.work / min(net))


def _product(dtype: str, device: str) -> _Point:
    """Two square matrices, as large as the time allows up to 8192."""
    size, generator = 256, torch.Generator(device).manual_seed(0)  # a GPU multiplies equal numbers faster than others
    while True:
        a, b = (torch.randn(size, size, device=device, generator=generator).to(getattr(torch, dtype)) for _ in range(2))
        point = _Point(partial(PRODUCTS[dtype], a, b), 2 * size**3)
        if size == 8192 or 8 * fastest(point.run, 3) > LONGEST_S:
            return point
        size *= 2


def _arrays(moved: int, device: str) -> tuple[torch.Tensor, torch.Tensor]:
    """Two float32 arrays of `moved` bytes together: copying one to the other, or reading both, moves that much."""
    return torch.ones(moved // 8, device=device), torch.ones(moved // 8, device=device)


def _seconds(run: Callable[[], object], calls: int = 1) -> float:
    synchronize()
    start = perf_counter()
    for _ in range(calls):
        run()
    synchronize()
    return (perf_counter() - start) / calls


def _from_dict(data: Mapping, device: str, threads: int) -> Roof:
    """Raises KeyError, TypeError, ValueError or AttributeError where the data is not what `as_dict` gave."""

    def rate(ends: list) -> Rate:
        low, best = ends
        if not 0 < low <= best < math.inf:
            raise ValueError(ends)
        return Rate(float(low), float(best))

    peaks = {str(dtype): rate(ends) for dtype, ends in data["peaks"].items()}
    bandwidths = {int(size): rate(ends) for size, ends in data["bandwidths"].items()}
    if (data["device"], data["threads"]) != (device, threads) or not bandwidths or not 0 < data["call_s"] < 1:
        raise ValueError(data)
    return Roof(device, threads, peaks, bandwidths, data["call_s"], str(data["when"]), tuple(map(str, data["notes"])))


def _band(rate: Rate, unit: str, digits: int) -> str:
    return f"{rate.low / 1e9:,.{digits}f} to {rate.best / 1e9:,.{digits}f} {unit}"
