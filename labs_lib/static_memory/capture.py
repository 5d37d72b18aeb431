"""The graph of any torch model, through torch.export, on fake tensors that hold no data.

The exported program is run once on fake tensors, and what counts as a value is a storage. An operator
whose result is a storage that exists already (a view, or a change in place) produces no value; so the
question who aliases whom is answered by torch itself, not by a list of names.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, redirect_stderr
from functools import reduce
from io import StringIO
from math import prod
from typing import TYPE_CHECKING

from labs_lib.errors import LabError
from labs_lib.static_memory.graph import ALIGNMENT, CONCATENATION, ELEMENT_WISE, Graph, Operator, aligned

if TYPE_CHECKING:
    import torch

SYNONYMS = {"concat": CONCATENATION, "concatenate": CONCATENATION}


def capture(model: torch.nn.Module, *inputs: object) -> Graph:
    """The graph of `model(*inputs)`: one operator per call into ATen that computes, one value per storage.

    The model is taken as it is: call `eval()` first to see inference. Shapes, dtypes and devices of the
    inputs matter, their contents do not. Sizes are the bytes of whole storages, rounded up to 64; parameters,
    buffers and constants are no values. What an operator allocates and frees inside itself is not seen.

    >>> import torch
    >>> model = torch.nn.Sequential(torch.nn.Linear(16, 16), torch.nn.ReLU(inplace=True), torch.nn.Flatten())
    >>> graph = capture(model, torch.empty(4, 16))
    >>> [(operator.name, operator.outputs) for operator in graph.operators]
    [('linear', (1,)), ('relu_', ())]

    Raises LabError when `model` is no torch.nn.Module, when it can't be exported (for instance because its
    control flow depends on data), and when a size depends on data, as those of sparse tensors do.
    """
    import torch

    if not isinstance(model, torch.nn.Module):
        raise LabError(
            f"{type(model).__name__} is no torch.nn.Module.",
            "Only a module can be exported.",
            "Pass the model itself, not its class, its output or a function.",
        )
    with torch.no_grad(), _quiet():
        try:
            exported = torch.export.export(model, inputs, strict=False)
        except Exception as error:  # export raises many kinds, the model's own code any kind
            raise LabError(
                f"torch.export can't capture {type(model).__name__}: {_first_line(error)}",
                "The shapes may not fit the model, or its Python code depends on the data in the tensors.",
                "Call the model once on the same inputs; if that works, capture the part without such code.",
            ) from error
        return _Recorder().graph(exported)


class _Recorder:
    """Runs an exported program on fake tensors and notes which storages come, are read, and are changed."""

    def __init__(self) -> None:
        self.values: dict[int, int | None] = {}  # storage -> its value; None for parameters and constants
        self.kept: list[torch.UntypedStorage] = []  # a dead storage's address could be given to a new one
        self.sizes: list[int] = []
        self.operators: list[Operator] = []

    def graph(self, exported: torch.export.ExportedProgram) -> Graph:
        from torch._guards import detect_fake_mode
        from torch._subclasses import FakeTensorMode
        from torch.export.graph_signature import InputKind

        arguments = [node.meta["val"] for node in exported.graph.nodes if node.op == "placeholder"]
        for spec, argument in zip(exported.graph_signature.input_specs, arguments, strict=True):
            for tensor in _tensors(argument):
                self.meet(tensor, counts=spec.kind is InputKind.USER_INPUT)
        inputs = tuple(range(len(self.sizes)))
        with detect_fake_mode(arguments) or FakeTensorMode():
            results = self.run(exported.graph_module, arguments)
        outputs = tuple(dict.fromkeys(self.known(_tensors(results))))
        return Graph(tuple(self.operators), tuple(self.sizes), outputs, inputs)

    def run(self, module: torch.fx.GraphModule, arguments: Sequence[object]) -> object:
        from torch.fx.node import map_arg

        given = iter(arguments)
        results: dict[torch.fx.Node, object] = {}
        for node in module.graph.nodes:
            if node.op == "placeholder":
                results[node] = next(given)
            elif node.op == "get_attr":
                results[node] = self.attribute(module, node.target)
            else:
                args, kwargs = map_arg((node.args, node.kwargs), results.__getitem__)
                if node.op == "output":
                    break
                results[node] = self.call(node.target, args, kwargs)
        return args[0]

    def attribute(self, module: torch.fx.GraphModule, path: str) -> object:
        """A part of the program. A nested program, such as the body of `with torch.no_grad()`, is run too."""
        import torch

        part = reduce(getattr, path.split("."), module)
        if isinstance(part, torch.fx.GraphModule):
            return lambda *arguments: self.run(part, arguments)
        return part

    def call(self, target: Callable[..., object], args: tuple, kwargs: dict[str, object]) -> object:
        import torch

        if isinstance(target, torch._ops.HigherOrderOperator) and not target.name().startswith("wrap_"):
            raise LabError(
                f"The model contains torch.{target.name()}.",
                "Which values exist then depends on the data, so no fixed plan is right for every run.",
                "Capture the branches or the loop's body as models of their own.",
            )
        operands = list(_tensors((args, kwargs)))
        for tensor in operands:
            self.meet(tensor, counts=False)  # what no operator has made is a constant
        result = target(*args, **kwargs)
        outputs = [tensor for tensor in _tensors(result) if self.meet(tensor, counts=True)]
        writes = tuple(self.known(_changed(target, args, kwargs)))
        if outputs or writes:
            name = target.__name__.split(".")[0]
            name = SYNONYMS.get(name, name)
            self.operators.append(
                Operator(
                    name,
                    inputs=tuple(self.known(operands)),
                    outputs=tuple(self.known(outputs)),
                    shares=tuple(self.known(_shared(name, args, operands, outputs))),
                    writes=writes,
                )
            )
        return result

    def meet(self, tensor: torch.Tensor, counts: bool) -> bool:
        """Registers the tensor's storage, as a value if it `counts`; returns whether it is new."""
        if str(tensor.layout) != "torch.strided":
            raise LabError(
                f"The model uses a tensor of layout {tensor.layout}.",
                "Its size depends on data, so no fixed plan is right for every run.",
                "Capture the part of the model that works on dense tensors.",
            )
        storage = tensor.untyped_storage()
        if storage._cdata in self.values:
            return False
        self.kept.append(storage)
        self.values[storage._cdata] = len(self.sizes) if counts else None
        if counts:
            self.sizes.append(aligned(_known_size(storage)))
        return True

    def known(self, tensors: Iterable[torch.Tensor]) -> Iterator[int]:
        values = (self.values[tensor.untyped_storage()._cdata] for tensor in tensors)
        return (value for value in values if value is not None)


def _changed(target: Callable[..., object], args: tuple, kwargs: dict[str, object]) -> Iterator[torch.Tensor]:
    """The arguments that the operator's schema declares to be written."""
    schema = getattr(target, "_schema", None)
    for place, argument in enumerate(schema.arguments if schema else ()):
        if argument.alias_info is not None and argument.alias_info.is_write:
            yield from _tensors(kwargs.get(argument.name, args[place] if place < len(args) else None))


def _shared(
    name: str, args: tuple, operands: list[torch.Tensor], outputs: list[torch.Tensor]
) -> list[torch.Tensor]:
    """The operands whose memory the result may use: see `Operator.shares`."""
    if len(outputs) != 1:
        return []
    (result,) = outputs
    if name == CONCATENATION:
        axis = args[1] if len(args) > 1 else 0
        in_one_piece = result.is_contiguous() and prod(result.shape[: axis % result.dim()]) == 1
        return operands if in_one_piece and _fit(operands, result) else []
    if name not in ELEMENT_WISE or (name == "batch_norm" and args[5]):
        return []  # batch_norm in training reads everything twice: for its statistics first
    return [
        operand
        for operand in operands
        if all(
            _layout(tensor) == _layout(result)
            for tensor in operands
            if tensor.untyped_storage()._cdata == operand.untyped_storage()._cdata
        )
    ]
@contextmanager
def _quiet() -> Iterator[None]:
    """Keeps stderr clean: before torch raises an error, it logs a traceback and prints half a graph there."""
    before = logging.root.manager.disable
    logging.disable(logging.CRITICAL)
    try:
        with redirect_stderr(StringIO()):
            yield
    finally:
        logging.disable(before)


def _first_line(error: Exception) -> str:
    return next(iter(str(error).strip().splitlines()), type(error).__name__).rstrip(".") + "."


def _tensors(tree: object) -> Iterator[torch.Tensor]:
    import torch
    from torch.utils._pytree import tree_leaves

    return (leaf for leaf in tree_leaves(tree) if isinstance(leaf, torch.Tensor))


def _layout(tensor: torch.Tensor) -> tuple[object, ...]:
    """Two tensors of equal layout have each element at the same place of their storage."""
    size = tensor.untyped_storage().nbytes()
    return tensor.shape, tensor.stride(), tensor.storage_offset(), tensor.element_size(), size


def _fit(operands: list[torch.Tensor], result: torch.Tensor) -> bool:
    """Can `result` hold the operands one after the other, each with its storage and on a boundary?"""
    sizes = [tensor.numel() * result.element_size() for tensor in operands]
    return all(size % ALIGNMENT == 0 for size in sizes[:-1]) and all(
        tensor.is_contiguous() and tensor.dtype == result.dtype and tensor.untyped_storage().nbytes() == size
        for tensor, size in zip(operands, sizes, strict=True)
    )


def _known_size(storage: torch.UntypedStorage) -> int:
    size = storage.nbytes()
    if not isinstance(size, int):
        raise LabError(
            f"The model makes a tensor of {size} bytes.",
            "That size depends on data, so no fixed plan is right for every run.",
            "Capture the part of the model whose shapes follow from the shapes of its inputs.",
        )
    return size
