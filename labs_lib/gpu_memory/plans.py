"""What can be changed about a step so that it needs less memory, and the changes themselves."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial

import torch
from torch import nn
from torch.utils._pytree import tree_map_only
from torch.utils.checkpoint import checkpoint

from labs_lib.errors import LabError
from labs_lib.gpu_memory.eight_bit import AdamW8bit
from labs_lib.gpu_memory.steps import Step

OPTIMIZERS = {
    "SGD with momentum": partial(torch.optim.SGD, lr=1e-2, momentum=0.9),
    "plain SGD": partial(torch.optim.SGD, lr=1e-2),
    "8-bit AdamW": AdamW8bit,
}


@dataclass(frozen=True)
class Plan:
    """A batch, and the ways to run it in less memory.

    >>> print(Plan(32, micro_batches=4, checkpoint=True))
    batch 32 in 4 micro-batches, checkpointing
    """

    batch: int
    micro_batches: int = 1  # run one after the other; the gradients are added up
    checkpoint: bool = False  # of every repeated block: its inside is computed again in the backward pass
    half: bool = False  # bfloat16: by autocast in training, of the weights themselves in inference
    optimizer: str = ""  # one of OPTIMIZERS; "" is the step's own
    freeze: bool = False  # all but the last repeated block and what comes behind it

    def __post_init__(self) -> None:
        if self.batch < 1:
            raise LabError(f"A batch of {self.batch} holds nothing.", "", "Give 1 or more.")
        if self.micro_batches < 1 or self.micro_batches < 1 or self.batch % self.micro_batches:
            raise LabError(
                f"A batch of {self.batch} can't be run in {self.micro_batches} micro-batches.",
                "Each of them must have the same number of samples.",
                "Take a number that divides the batch.",
            )
        if self.optimizer and self.optimizer not in OPTIMIZERS:
            raise LabError(
                f"{self.optimizer!r} is no optimiser of a plan.", f"There are {', '.join(OPTIMIZERS)}.", "Use one."
            )

    def __str__(self) -> str:
        parts = [f"batch {self.batch}" + (f" in {self.micro_batches} micro-batches" if self.micro_batches > 1 else "")]
        parts += [text for text, on in (("checkpointing", self.checkpoint), ("bfloat16", self.half)) if on]
        parts += [self.optimizer] if self.optimizer else []
        parts += ["frozen but for the last block"] if self.freeze else []
        return ", ".join(parts)


def apply(plan: Plan, step: Step) -> Step:
    """Changes a step that was made for one micro-batch of the plan; returns it.

    Raises LabError for a change that the model does not allow.
    """
    blocks = repeated_blocks(step.model)
    if plan.checkpoint:
        if not blocks:
            raise LabError(
                "This model has no repeated blocks to checkpoint.",
                "A block is a module with modules inside, of which a ModuleList or Sequential holds several.",
                "Checkpoint by hand where much is computed from little.",
            )
        for block in blocks:
            block.forward = partial(checkpoint, block.forward, use_reentrant=False)
    if plan.freeze:
        freeze_but_last(step.model)
    if plan.optimizer:
        step.optimizer = OPTIMIZERS[plan.optimizer]
    if plan.half and step.trains:
        step.autocast = torch.bfloat16
    elif plan.half:
        halve_weights(step.model)
        step.inputs = tree_map_only(torch.Tensor, _halved, step.inputs)
    step.micro_batches = plan.micro_batches
    return step


def halve_weights(model: nn.Module) -> None:
    """`model.bfloat16()`, which refuses fake tensors. Tied weights stay tied."""
    halves = {weight: nn.Parameter(_halved(weight.detach()), weight.requires_grad) for weight in model.parameters()}
    for module in model.modules():
        module._parameters.update(
            {name: halves[weight] for name, weight in module._parameters.items() if weight is not None}
        )
        for name, buffer in module._buffers.items():
            module._buffers[name] = buffer if buffer is None else _halved(buffer)


def _halved(tensor: torch.Tensor) -> torch.Tensor:
    return tensor.bfloat16() if tensor.is_floating_point() else tensor


def repeated_blocks(model: nn.Module) -> list[nn.Module]:
    """The blocks that a model is built of: several of one class in a ModuleList or Sequential, each with parts.

    >>> [type(block).__name__ for block in repeated_blocks(nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 2)))]
    []
    """
    found: list[nn.Module] = []
    for module in model.modules():
        if isinstance(module, nn.ModuleList | nn.Sequential) and not any(module in set(b.modules()) for b in found):
            parts = [part for part in module if any(True for _ in part.children())]
            found += [part for part in parts if sum(type(other) is type(part) for other in parts) > 1]
    return found


def freeze_but_last(model: nn.Module) -> None:
    """Leaves only the last repeated block trainable, and what is registered behind it; else the last layer."""
    blocks = repeated_blocks(model) or [module for module in model.modules() if module._parameters]
    last = {id(parameter) for parameter in blocks[-1].parameters()} if blocks else set()
    trainable = False
    for parameter in model.parameters():  # in the order of registration, tied ones where they first appear
        trainable = trainable or id(parameter) in last
        parameter.requires_grad_(trainable and parameter.requires_grad)
