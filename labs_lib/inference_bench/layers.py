"""What each layer of a model does, counted: the same on every machine.

A layer is a module together with the operators that run while it, and no module inside it, is at work. So each
operator belongs to exactly one layer, and the layers add up to the model.

Bytes are counted per operator: each storage that it reads once, and each that it writes once. This is the traffic of
an eager run, in which nothing is fused; whether it comes from a cache or from memory depends on the machine.
"""

from __future__ import annotations

import difflib
import weakref
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field

import torch

from labs_lib.dispatch import Touched, Watch
from labs_lib.errors import LabError
from labs_lib.inference_bench.modules import calling, names, output_tensors, watching, weights

OUTSIDE = "(outside of modules)"
MADE_EMPTY = {"empty", "empty_like", "empty_strided", "new_empty", "new_empty_strided"}  # nothing is written
READ_NOTHING = {"copy_", "fill_", "zero_", "normal_", "uniform_"}  # of what they write; others work in place
GATHERS = {"embedding", "index", "index_select", "gather", "take"}  # read of the first operand what they give
UNCOUNTED = {"lstm", "gru", "mkldnn_rnn_layer", "_transformer_encoder_layer_fwd", "_int_mm", "_cdist_forward"}


def attention_flops(operands: list[torch.Tensor], results: list[torch.Tensor]) -> int:
    """Of torch.nn.MultiheadAttention's fused operator: four projections, and two products of queries and keys."""
    (batch, asking, width), asked = operands[0].shape, operands[1].shape[1]
    return 4 * batch * width * (width * (asking + asked) + asking * asked)


FORMULAS = {"_native_multi_head_attention": attention_flops}  # what torch.utils.flop_counter lacks


@dataclass
class Layer:
    """The counts of one layer over one forward pass."""

    name: str  # the module's path; of a module with two names the first
    kind: str  # its class
    calls: int = 0  # of the module
    operators: int = 0  # of torch, those that only make a view too
    flops: int = 0  # a multiply-add counts 2; only products, convolutions and attention have a formula
    flops_by_dtype: Counter = field(default_factory=Counter)
    weight_bytes: int = 0  # of parameters and buffers, read or written
    other_bytes: int = 0  # of inputs, activations and outputs, read or written
    output_bytes: int = 0  # of the tensors that the module returned, the storages of one call once
    peak_bytes: int = 0  # most bytes of new tensors alive at once while it ran, those of layers before included
    by_operator: Counter = field(default_factory=Counter)
    uncounted: set = field(default_factory=set)  # operators that compute products, but have no formula

    @property
    def bytes_moved(self) -> int:
        return self.weight_bytes + self.other_bytes

    @property
    def intensity(self) -> float:
        """FLOPs for each byte moved."""
        return self.flops / self.bytes_moved if self.bytes_moved else 0.0

    def as_dict(self) -> dict[str, object]:
        return {
            **{name: getattr(self, name) for name in ("name", "kind", "calls", "operators", "flops")},
            **{name: getattr(self, name) for name in ("weight_bytes", "other_bytes", "output_bytes", "peak_bytes")},
            "intensity": self.intensity,
            "flops_by_dtype": dict(self.flops_by_dtype),
            "by_operator": dict(self.by_operator),
            "uncounted": sorted(self.uncounted),
        }


@dataclass(frozen=True)
class Counts:
    """All layers that ran an operator, in the order in which they were first called."""

    layers: tuple[Layer, ...]
    weights: int  # bytes of all parameters and buffers that the model holds, each storage once
    peak_bytes: int  # most bytes alive at once above what was alive before, weights and input

    def total(self, what: str) -> int:
        """The sum over the layers of "flops", "bytes_moved", "operators", ..."""
        return sum(getattr(layer, what) for layer in self.layers)

    def __getitem__(self, name: str) -> Layer:
        """The layer of that name. Raises LabError where there is none."""
        return named(name, self.layers)


def named(name: str, layers: Sequence) -> object:
    """The one with that name, of layers or what else has a `name`."""
    for layer in layers:
        if layer.name == name:
            return layer
    near = difflib.get_close_matches(str(name), [layer.name for layer in layers], n=1, cutoff=0)
    raise LabError(
        f"There is no layer {name!r}.", "Those without operators of their own are none.", f"Did you mean {near[0]!r}?"
    )


def count_layers(model: object, input: object) -> Counts:
    """Counts one forward pass of `model` on `input`, layer by layer; `calling` says what both may be.

    >>> found = count_layers(torch.nn.Sequential(torch.nn.Linear(64, 10), torch.nn.ReLU()), torch.ones(32, 64))
    >>> [(layer.name, layer.kind, layer.flops, layer.bytes_moved) for layer in found.layers]
    [('0', 'Linear', 40960, 12072), ('1', 'ReLU', 0, 2560)]
    """
    with calling(model, input) as call:
        counting = _Counting(call.module)
        try:
            with watching(call.module, counting.enter, counting.leave), counting:
                answer = call.run()  # the name keeps it alive until the counting ends
        except NotImplementedError as error:  # there is no storage behind a sparse tensor
            said = str(error).splitlines()[0][:100]
            raise LabError(f"This model can't be counted: {said}.", "", "Give one without sparse tensors.") from error
        del answer
        held = Touched()
        held.add(weights(call.module))
    return Counts(tuple(layer for layer in counting.layers.values() if layer.operators), held.bytes, counting.peak)


class _Counting(Watch):
    def __init__(self, module: torch.nn.Module) -> None:
        super().__init__()
        kinds = {name: type(part).__name__ for part, name in names(module).items()}
        self.kinds = kinds | {OUTSIDE: ""}
        self.weights = weakref.WeakSet(tensor.untyped_storage() for tensor in weights(module))
        self.layers: dict[str, Layer] = {}
        self.stack = [OUTSIDE]
        self.known: weakref.WeakSet[torch.UntypedStorage] = weakref.WeakSet()
        self.flops_before = self.live = self.peak = 0

    def layer(self, name: str) -> Layer:
        return self.layers.setdefault(name, Layer(name, self.kinds[name]))

    def enter(self, name: str) -> None:
        self.stack.append(name)
        self.layer(name).calls += 1

    def leave(self, name: str, output: object) -> None:
        self.stack.pop()
        returned = Touched()
        returned.add(output_tensors(output))
        self.layer(name).output_bytes += returned.bytes

    def before(self, operator, operands):
        self.known.update(tensor.untyped_storage() for tensor in operands)
        self.flops_before = self.flops

    def after(self, operator, operands, results):
        layer, name = self.layer(self.stack[-1]), operator._overloadpacket.__name__
        layer.operators += 1
        layer.by_operator[name] += 1
        flops = self.flops - self.flops_before  # by the formula that Watch found
        formula = FORMULAS.get(name)
        if formula and not operands[0].is_nested:
            flops = formula(operands, results)
        if flops:
            layer.flops += flops
            layer.flops_by_dtype[str(results[0].dtype).removeprefix("torch.")] += flops
        elif name in UNCOUNTED or operator.namespace != "aten":
            layer.uncounted.add(name)
        for storage, size in moved(operator, operands, results):
            if storage in self.weights:
                layer.weight_bytes += size
            else:
                layer.other_bytes += size
        for storage in (tensor.untyped_storage() for tensor in results):
            if storage not in self.known:
                self.known.add(storage)
                self.live += storage.nbytes()
                weakref.finalize(storage, self.freed, storage.nbytes()).atexit = False
        layer.peak_bytes = max(layer.peak_bytes, self.live)
        self.peak = max(self.peak, self.live)

    def freed(self, size: int) -> None:
        self.live -= size


def moved(
    operator: torch._ops.OpOverload, operands: list[torch.Tensor], results: list[torch.Tensor]
) -> list[tuple[torch.UntypedStorage, int]]:
    """(storage, bytes) for each storage that the operator reads, and for each that it writes."""
    name, changes = operator._overloadpacket.__name__, operator._schema.is_mutable
    given = {tensor.untyped_storage() for tensor in operands}
    returned = {tensor.untyped_storage() for tensor in results}
    if operator.is_view or name in MADE_EMPTY or (returned and not changes and returned <= given):
        return []  # the last: an operator that gave a view, or its operand back, without being declared a view
    read, written = Touched(), Touched()
    overwrites = changes and (name in READ_NOTHING or "out" in operator._overloadname)
    read.add(tensor for tensor in operands if not (overwrites and tensor.untyped_storage() in returned))
    written.add(results or operands[:1])  # an operator that returns nothing changes its first operand
    reads = read.by_storage
    if name in GATHERS and operands[0].untyped_storage() in reads:
        table = operands[0].untyped_storage()
        reads[table] = min(reads[table], written.bytes)
    return [*reads.items(), *written.by_storage.items()]
