"""A model while it runs: one call of it, and which of its modules is at work.

The hooks are torch's global ones. Hooks on the modules themselves would change the program: a
torch.nn.TransformerEncoderLayer that finds any takes its slow path. A hook sees calls of modules only; what a
`forward` computes with functions, such as an addition or scaled_dot_product_attention, belongs to its own module.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, fields, is_dataclass

import torch
from torch import nn
from torch._dynamo import OptimizedModule
from torch.nn.modules.module import register_module_forward_hook, register_module_forward_pre_hook

from labs_lib.errors import LabError


@dataclass(frozen=True)
class Call:
    """One forward pass: `run()` makes it, without gradients; `module` is what runs."""

    module: nn.Module
    run: Callable[[], object]

    @property
    def device(self) -> str:
        """Of the first weight: "cpu", "cuda" or "mps"."""
        return next((tensor.device.type for tensor in weights(self.module)), "cpu")


@contextmanager
def calling(model: object, input: object) -> Iterator[Call]:
    """The call of `model` on `input`, tried once; within the block the model is in evaluation mode.

    `model` is a torch.nn.Module, whose input is a tensor, a tuple or list of arguments, or a dict of keyword
    arguments; or an object with `forward(input)` and the torch.nn.Module behind it as `module`.

    Raises LabError for any other model, for a compiled one, and where it can't take this input.
    """
    module = model if isinstance(model, nn.Module) else getattr(model, "module", None)
    if not isinstance(module, nn.Module):
        raise LabError(
            f"An object of type {type(model).__name__} has no layers.",
            "Layers are the modules of a torch.nn.Module.",
            "Give a module, or an object that has one as its attribute `module`.",
        )
    if any(isinstance(part, OptimizedModule) for part in module.modules()):
        raise LabError(
            "A compiled model has no layers left.", "The compiler merges them.", "Give the model as it was before."
        )

    def run() -> object:
        with torch.inference_mode():
            if model is not module:
                return model.forward(input)
            if isinstance(input, Mapping):
                return model(**input)
            return model(*input) if isinstance(input, tuple | list) else model(input)

    training = [part for part in module.modules() if part.training]
    module.eval()
    try:
        try:
            run()
        except LabError:
            raise
        except Exception as error:  # the learner's own code
            said = " ".join(str(error).split())[:200]
            raise LabError(
                f"The model can't take this input: {type(error).__name__}: {said}.",
                "",
                "Give a tensor, a tuple of arguments, or a dict of keyword arguments.",
            ) from error
        yield Call(module, run)
    finally:
        for part in training:
            part.training = True


def names(module: nn.Module) -> dict[nn.Module, str]:
    """The name of each module, its path from the root; a module with two names has the first. The root is its type."""
    return {part: name or type(module).__name__ for name, part in module.named_modules()}


def weights(module: nn.Module) -> list[torch.Tensor]:
    """Parameters and buffers."""
    return [*module.parameters(), *module.buffers()]


@contextmanager
def watching(
    module: nn.Module, enter: Callable[[str], object], leave: Callable[[str, object], object]
) -> Iterator[None]:
    """Within the block, `enter(name)` is called before each module in `module`, `leave(name, output)` after it."""
    known = names(module)

    def before(part, inputs):
        if (name := known.get(part)) is not None:
            enter(name)

    def after(part, inputs, output):
        if (name := known.get(part)) is not None:
            leave(name, output)

    handles = [register_module_forward_pre_hook(before), register_module_forward_hook(after, always_call=True)]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def output_tensors(tree: object) -> Iterator[torch.Tensor]:
    """The tensors in a module's output: in tuples, lists, mappings (transformers' outputs) and dataclasses."""
    if isinstance(tree, torch.Tensor):
        yield tree
    elif isinstance(tree, Mapping):
        for part in tree.values():
            yield from output_tensors(part)
    elif isinstance(tree, tuple | list | set):
        for part in tree:
            yield from output_tensors(part)
    elif is_dataclass(tree) and not isinstance(tree, type):
        for field in fields(tree):
            yield from output_tensors(getattr(tree, field.name))
