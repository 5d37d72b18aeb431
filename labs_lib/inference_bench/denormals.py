"""A case for a detective: a model that does the same work as its twin, and takes many times as long.

A float32 below 2**-126 (1.2e-38) is denormal (IEEE 754: subnormal): it has fewer digits, and many processors leave
their fast path for it. Weights get there by weight decay, where no gradient holds them up, and they stay there: when
a number is a few units of the smallest denormal, 2**-149, a factor such as 0.9 is lost in rounding, so it never
becomes 0. Counts can't see it. What gives it away is a layer far below its roof, and the values themselves.

How slow depends on the processor and the kernel. Recorded with torch 2.15: on a Xeon with AVX-512 a matrix product
took 210 times as long, an element-wise one 14 times. AMD's Zen 4 multiplies denormals at full speed, but the square
root of torch's x86 builds (MKL) takes another path for them, 30 times slower, and for 0 one 5 times slower. So the
planted model has both. Many ARM processors take denormals at full speed: there only the values tell.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
import torch
from torch import nn

from labs_lib.compare import Comparison, compare
from labs_lib.errors import LabError
from labs_lib.inference_bench.layers import Counts, count_layers
from labs_lib.inference_bench.modules import calling, names, output_tensors, watching, weights
from labs_lib.tables import wrapped
from labs_lib.timing import Timing, time_pair

BITS = {  # the type of the bits, those of the exponent, those of the fraction: IEEE 754; bfloat16 is a short float32
    torch.float16: (torch.int16, 0x7C00, 0x03FF),
    torch.bfloat16: (torch.int16, 0x7F80, 0x007F),
    torch.float32: (torch.int32, 0x7F800000, 0x007FFFFF),
    torch.float64: (torch.int64, 0x7FF0000000000000, 0x000FFFFFFFFFFFFF),
}
FEATURES, BANDS, HIDDEN, CLASSES, ROWS = 16, 256, 16, 10, 1024  # of the planted model and its input
RATE, STEPS = 0.1, 840  # of the decay: weights of 0.01 to 0.1 end between 1e-41 and 1e-39
SHARED = 2**16  # elements for each thread: an element-wise operator of this size is shared between them
BUDGET_S = 1.0


def count_denormals(tensor: torch.Tensor) -> int:
    """How many elements are denormal, exactly: their bits are looked at, so it holds while denormals are flushed too.

    >>> count_denormals(torch.tensor([0.0, 1.0, 1e-39, -1e-45, float("nan")]))
    2

    Integers have none; of a complex number each part counts. Raises LabError for other kinds of tensors.
    """
    if not isinstance(tensor, torch.Tensor):
        raise LabError(f"An object of type {type(tensor).__name__} is no tensor.", "", "Give a torch.Tensor.")
    if tensor.is_complex():
        tensor = torch.view_as_real(tensor.resolve_conj())
    if not tensor.is_floating_point():
        return 0
    if tensor.dtype not in BITS or tensor.layout is not torch.strided:
        raise LabError(
            f"Denormals of a {tensor.dtype} tensor ({tensor.layout}) are not counted.",
            "Its bits are laid out differently.",
            "Give a dense tensor of float16, bfloat16, float32 or float64.",
        )
    whole, exponent, fraction = BITS[tensor.dtype]
    bits = tensor.detach().contiguous().view(whole)
    return int((((bits & exponent) == 0) & ((bits & fraction) != 0)).sum())


def decayed(weight: torch.Tensor, rate: float = RATE, steps: int = STEPS) -> torch.Tensor:
    """The float32 weight after so many steps of weight decay without a gradient: each multiplies it by 1 - rate.

    >>> stuck = decayed(torch.tensor([0.05]), steps=10_000)
    >>> stuck.item() > 0, count_denormals(stuck), torch.equal(stuck, decayed(stuck, steps=1))
    (True, 1, True)
    """
    values = weight.detach().cpu().numpy().copy()  # by NumPy, which no flag of torch's threads changes
    factor = np.float32(1 - rate)
    for _ in range(steps):
        values *= factor
    return torch.from_numpy(values).to(weight.device)


class Root(nn.Module):
    """The square root, which lifts what is small: how energies in bands are compressed."""

    def forward(self, energies: torch.Tensor) -> torch.Tensor:
        return energies.sqrt()


class Tagger(nn.Module):
    """Rows of features, none negative, to classes: a small trunk, and beside it the roots of energies in bands."""

    def __init__(self) -> None:
        super().__init__()
        self.trunk = nn.Linear(FEATURES, HIDDEN)
        self.energies = nn.Linear(FEATURES, BANDS, bias=False)
        self.root = Root()
        self.mix = nn.Linear(BANDS, HIDDEN)
        self.head = nn.Linear(HIDDEN, CLASSES)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.head(self.trunk(x).relu() + self.mix(self.root(self.energies(x))))


def tagger(sick: bool = False, seed: int = 0) -> Tagger:
    """The planted model, its weights drawn by NumPy; the `sick` one has weights in `energies` that have decayed.

    >>> [count_denormals(tagger(sick).energies.weight) for sick in (False, True)]
    [0, 4096]
    """
    generator, model = np.random.default_rng(seed), Tagger()
    with torch.no_grad():
        for parameter in model.parameters():
            values = generator.uniform(0.01, 0.1, parameter.shape).astype(np.float32)
            parameter.copy_(torch.from_numpy(values))
        if sick:
            model.energies.weight.copy_(decayed(model.energies.weight))
    return model.eval()


def tagger_input(rows: int = ROWS, seed: int = 0) -> torch.Tensor:
    """Features from 0 to 1, shape (rows, 16), float32."""
    return torch.from_numpy(np.random.default_rng(seed).random((rows, FEATURES), np.float32))


def flushes() -> bool:
    """Whether this thread takes denormals for 0 now. torch can set this, but not tell it."""
    return count_denormals(torch.full((1,), 2.0**-130) * 1.0) == 0


@contextmanager
def flushing(wanted: bool = True) -> Iterator[bool]:
    """Within the block this thread takes denormals for 0, or not; then as before. Gives whether it could be set.

    The flag belongs to a thread: with more than one, only the part that this thread computes is flushed. A thread that
    starts within the block would inherit the flag, and keep it; so torch's threads are started before. Libraries may
    set it for themselves, too.

    >>> with flushing() as possible:
    ...     flushes() == possible
    True
    """
    before = flushes()
    if torch.get_num_threads() > 1:
        torch.ones(SHARED * torch.get_num_threads()).neg_()
    try:
        yield torch.set_flush_denormal(wanted)
    finally:
        torch.set_flush_denormal(before)


def cleaned(model: nn.Module) -> nn.Module:
    """A copy in which each denormal weight is 0.

    >>> sum(count_denormals(weight) for weight in cleaned(tagger(sick=True)).parameters())
    0
    """
    copied = copy.deepcopy(model)
    with torch.no_grad():
        for weight in weights(copied):
            if count_denormals(weight):
                weight[weight.abs() < torch.finfo(weight.dtype).tiny] = 0
    return copied


@dataclass(frozen=True)
class Denormals:
    """Of one layer, counted: denormal elements of its own weights and buffers, and of what it returned in a call."""

    name: str
    weights: int
    weights_of: int
    outputs: int
    outputs_of: int


def census(model: object, input: object) -> list[Denormals]:
    """The denormals of each module that has weights or returns floating-point tensors, in the order of their calls.

    See `layers` for model and input. Raises LabError as `calling` does.
    """
    outputs: dict[str, list[torch.Tensor]] = {}

    def leave(name: str, output: object) -> None:
        outputs.setdefault(name, []).extend(t for t in output_tensors(output) if t.is_floating_point())

    def both(tensors: list[torch.Tensor]) -> tuple[int, int]:
        return sum(map(count_denormals, tensors)), sum(tensor.numel() for tensor in tensors)

    with calling(model, input) as call, watching(call.module, lambda name: None, leave):
        call.run()
        parts = {name: part for part, name in names(call.module).items()}
    found = []
    for name, returned in outputs.items():
        own = [*parts[name].parameters(recurse=False), *parts[name].buffers(recurse=False)]
        found.append(Denormals(name, *both(own), *both(returned)))
    return [row for row in found if row.weights_of or row.outputs_of]


@dataclass(frozen=True)
class Case:
    """What the investigation found: equal counts, the values, the time, and what one change makes of it."""

    counts: tuple[Counts, Counts]  # of the sick model, of its healthy twin
    denormals: tuple[Denormals, ...]  # of the sick model
    slowdown: Timing  # the sick model's time over its twin's
    change: str  # what was changed
    cure: Comparison  # the sick model without the change, and with it

    @property
    def same_counts(self) -> bool:
        """Whether FLOPs, bytes and operators are the same, layer by layer."""
        sick, healthy = ([layer.as_dict() for layer in side.layers] for side in self.counts)
        return sick == healthy

    def __str__(self) -> str:
        sick, slow = self.counts[0], self.slowdown
        worst = max(self.denormals, key=lambda row: row.weights + row.outputs)
        same = "the same" if self.same_counts else "NOT the same"
        return wrapped(
            f"FLOPs ({sick.total('flops'):,}), bytes ({sick.total('bytes_moved'):,}) and operators "
            f"({sick.total('operators')}) are {same} in every layer (counted). The sick model takes {slow.ratio:.1f} "
            f"times the time of its twin (measured; 95 % interval {slow.low:.1f} to {slow.high:.1f}). In {worst.name} "
            f"{worst.weights:,} of {worst.weights_of:,} weights and {worst.outputs:,} of {worst.outputs_of:,} outputs "
            f"are denormal (counted). One change, {self.change}: {self.cure}"
        )


def investigate(sick: nn.Module, healthy: nn.Module, input: object, *, budget_s: float = BUDGET_S) -> Case:
    """Holds a slow model against its twin, and makes one change to it: denormals are taken for 0.

    Where this processor has no such flag, the weights are cleaned instead. One thread, since the flag is of one
    thread. Twice `budget_s` seconds of timing. Raises LabError as `calling` does.
    """
    counts = (count_layers(sick, input), count_layers(healthy, input))
    found = census(sick, input)
    clean = cleaned(sick)
    with calling(sick, input) as one, calling(healthy, input) as other, calling(clean, input) as third:
        slowdown = time_pair(one.run, other.run, budget_s=budget_s)
        with flushing() as possible:
            pass

        def flushed() -> object:
            with flushing():
                return one.run()

        change, run = ("denormals flushed to 0", flushed) if possible else ("denormal weights set to 0", third.run)
        cure = compare(one.run, run, budget_s=budget_s, progress=False)
    return Case(counts, tuple(found), slowdown, change, cure)
