"""What exercise 9.1 demands: FLOPs and bytes of a layer, counted by running it, and its place under a roof."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from numbers import Real

import numpy as np
import torch
from torch import nn

from labs_lib.dispatch import Watch
from labs_lib.exercises import NotYet

NEAR = 1e-9
SWAPPED = {"memory": "compute", "compute": "memory"}


@dataclass(frozen=True)
class _Case:
    """A layer with the shape of its input, and what is true of it."""

    layer: nn.Module
    shape: tuple[int, ...]
    text: str
    flops: int
    parts: dict[str, int]  # bytes of input, weight, bias and output
    peak: float
    bandwidth: float

    @property
    def bytes_moved(self) -> int:
        return sum(self.parts.values())

    @property
    def times(self) -> tuple[float, float]:
        return self.flops / self.peak, self.bytes_moved / self.bandwidth

    @property
    def limit(self) -> str:
        compute, memory = self.times
        return "compute" if compute > memory else "memory"


def check_roof(attempt: Callable) -> str:
    rng = np.random.default_rng()
    for case in _cases(rng):
        before = {name: value.clone() for name, value in case.layer.state_dict().items()}
        found = attempt(case.layer, case.shape, case.peak, case.bandwidth)
        _demand_as_it_was(case.layer, before)
        if not isinstance(found, tuple | list) or len(found) != 4:
            raise NotYet("return four things: FLOPs, bytes, seconds, and what bounds the layer.")
        flops, moved, seconds, limit = found
        for name, value in (("FLOPs", flops), ("bytes", moved), ("seconds", seconds)):
            if not isinstance(value, Real):
                raise NotYet(f"{case.text}: {name} must be a number; you return {type(value).__name__}.")
        _demand_flops(flops, case)
        _demand_bytes(moved, case)
        _demand_place(float(seconds), limit, case)
    return (
        f"exact for 12 layers. The last, {case.text}: {case.flops / case.bytes_moved:.1f} FLOPs for each byte "
        f"(counted), so {case.limit} bounds it (modelled)."
    )


def _cases(rng: np.random.Generator) -> Iterator[_Case]:
    """From the plainest to all at once; memory and compute bound them in turn."""

    def n(low: int, high: int) -> int:
        return int(rng.integers(low, high))

    a, b, c = n(25, 40), n(41, 49), n(4, 9)
    image = (n(2, 5), 2 * c, n(11, 15), n(16, 20))
    layers = (
        (nn.Linear(a, b, bias=False), (1, a), "a Linear without bias, for 1 row"),
        (nn.Linear(a, b, bias=False), (n(50, 90), a), "a Linear without bias, for a batch"),
        (nn.Linear(b, a), (n(50, 90), b), "a Linear with bias"),
        (nn.Linear(b, a), (n(2, 5), n(6, 9), b), "a Linear on (batch, tokens, features)"),
        (nn.Linear(a, b).bfloat16(), (n(50, 90), a), "a Linear in bfloat16"),
        (nn.Conv2d(2 * c, a, 3, bias=False), image, "a Conv2d without bias"),
        (nn.Conv2d(2 * c, a, 5), image, "a Conv2d with bias"),
        (nn.Conv2d(2 * c, a, 3, stride=2, padding=1), image, "a Conv2d with stride 2 and padding 1"),
        (nn.Conv2d(2 * c, 4 * c, 3, groups=2), image, "a Conv2d with groups=2"),
        (nn.Conv2d(2 * c, 2 * c, 3, padding="same", groups=2 * c), image, 'a depthwise Conv2d with padding="same"'),
        (nn.Conv2d(2 * c, a, (1, 5), (2, 1), (0, 2), (1, 2)).double(), image,
         "a Conv2d in float64 with kernel (1, 5), stride (2, 1), padding (0, 2) and dilation (1, 2)"),
        (nn.Conv2d(2 * c, 6 * c, n(2, 5), n(1, 4), n(0, 3), groups=2).bfloat16(), image, "a Conv2d in bfloat16, drawn"),
    )  # fmt: skip
    for number, (layer, shape, text) in enumerate(layers):
        flops, parts = _count(layer, shape)
        intensity = flops / sum(parts.values())
        ridge = intensity * (rng.uniform(2, 5) if number % 2 else 1 / rng.uniform(2, 5))
        bandwidth = float(rng.uniform(1e10, 1e11))
        yield _Case(layer, shape, text, flops, parts, ridge * bandwidth, bandwidth)


def _count(layer: nn.Module, shape: tuple[int, ...]) -> tuple[int, dict[str, int]]:
    """FLOPs by the dispatcher and bytes by the tensors, from a run on the meta device, which computes nothing."""
    twin = copy.deepcopy(layer).to("meta")
    x = torch.empty(shape, dtype=twin.weight.dtype, device="meta")
    with torch.no_grad(), Watch() as watch:
        tensors = {"input": x, **dict(twin.named_parameters()), "output": twin(x)}
    return watch.flops, {name: tensor.untyped_storage().nbytes() for name, tensor in tensors.items()}


def _demand_as_it_was(layer: nn.Module, before: dict[str, torch.Tensor]) -> None:
    for name, value in layer.state_dict().items():
        if value.device != before[name].device or value.dtype != before[name].dtype:
            raise NotYet(
                f"your function moves the caller's layer: its {name} is now {value.dtype} on {value.device}. Work on "
                "a copy.deepcopy of it."
            )
        if not torch.equal(value, before[name]):
            raise NotYet(f"your function changes the {name} of the layer, which belongs to the caller.")


def _demand_flops(found: Real, case: _Case) -> None:
    if found == case.flops:
        return
    weight, batch = case.layer.weight, case.shape[0]
    outputs = case.parts["output"] // weight.element_size()
    groups = getattr(case.layer, "groups", 1)
    places = outputs // weight.shape[0]  # rows, or batch times pixels of the output
    wrong = {
        weight.numel(): "a multiply-add counts 2, and a batch has many rows",
        case.flops / 2: "a multiply-add counts 2",
        case.flops + outputs: "the additions of the bias are no products, and the ledger leaves them out",
        case.flops / batch: f"the batch has {batch} of them",
        case.flops / places: f"each weight is used once for each of {places} rows or pixels",
        case.flops * groups: f"with {groups} groups an output sees only 1 of {groups} input channels",
    }
    if weight.dim() == 4:
        pixels = case.shape[-2] * case.shape[-1]
        wrong.setdefault(2 * weight.numel() * batch * pixels, "the output has not as many pixels as the input: mind "
                         "stride, padding and dilation")  # fmt: skip
    why = next((text for value, text in wrong.items() if _near(found, value)), "count 2 for each product that is added")
    raise NotYet(f"{case.text}, input {case.shape}: {case.flops:,} FLOPs, and you say {found:,}: {why}.")


def _demand_bytes(found: Real, case: _Case) -> None:
    if found == case.bytes_moved:
        return
    size = case.layer.weight.element_size()
    whole, both = case.bytes_moved, case.parts["input"] + case.parts["output"]
    wrong = {
        case.parts["weight"]: "the input is read too, and the output written",
        whole - both: "the input is read too, and the output written",
        whole + case.parts["input"] - case.parts["output"]: "the output has a shape of its own",
    }
    wrong |= {whole - part: f"the {name} is missing" for name, part in case.parts.items()}
    wrong |= {whole // size * other: f"an element has {size} bytes here" for other in (1, 2, 4, 8)}
    why = next((text for value, text in wrong.items() if _near(found, value)), "")
    raise NotYet(
        f"{case.text}, input {case.shape}: {case.bytes_moved:,} bytes, and you say {found:,}"
        f"{': ' + why if why else ''}. Input, weight and bias are read once, the output is written once."
    )


def _demand_place(seconds: float, limit: object, case: _Case) -> None:
    compute, memory = case.times
    if not _near(seconds, max(compute, memory)):
        wrong = {
            min(compute, memory): "that is the shorter of the two. Both must be done, so the longer one is the limit",
            compute + memory: "that is their sum. Computing and moving go on at the same time, at best",
        }
        why = next((text for value, text in wrong.items() if _near(seconds, value)), "which is it")
        raise NotYet(
            f"{case.text}: computing takes {compute:.3g} s and moving {memory:.3g} s. You say {seconds:.3g} s: {why}."
        )
    if limit != case.limit:
        if limit not in SWAPPED:
            raise NotYet(f'say "memory" or "compute" for what bounds the layer; you say {limit!r}.')
        raise NotYet(f"{case.text}: {case.limit} takes longer, so it bounds the layer, and not {limit}.")


def _near(one: Real, other: Real) -> bool:
    return math.isclose(one, other, rel_tol=NEAR)
