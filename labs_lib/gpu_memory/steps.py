"""A step that can be replayed: what a tool needs to know of your training or inference to plan its memory.

Write a function `make_step(batch)` that builds model and inputs anew and returns a `Step`. It is called on fake
tensors, which have shapes and no data: a model of any size is built in no time and takes no memory.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

import torch

from labs_lib.dispatch import tensors


def sum_of(output: object) -> torch.Tensor:
    """The sum of all floating-point tensors in a model's output: a loss where only the memory matters."""
    return torch.stack([t.sum(dtype=torch.float32) for t in tensors(output) if t.is_floating_point()]).sum()


@dataclass
class Step:
    """One training step, or one inference step where `optimizer` is None.

    >>> step = Step(torch.nn.Linear(4, 2), torch.ones(8, 4), optimizer=torch.optim.AdamW)
    >>> step.run()
    >>> len(step.state.state)  # the optimiser's, of weight and bias
    2
    """

    model: torch.nn.Module
    inputs: object  # of the model: a tensor, or a tuple of them
    loss: Callable[..., torch.Tensor] = sum_of  # loss(output, *targets), a scalar
    targets: tuple[torch.Tensor, ...] = ()
    optimizer: Callable[[Iterable[torch.nn.Parameter]], torch.optim.Optimizer] | None = None
    state: torch.optim.Optimizer | None = None  # the optimiser, made at the first step
    autocast: torch.dtype | None = None
    micro_batches: int = 1  # forward and backward passes before the optimiser steps

    @property
    def trains(self) -> bool:
        return self.optimizer is not None

    def forward(self) -> object:
        inputs = self.inputs if isinstance(self.inputs, tuple | list) else (self.inputs,)
        return self.model(*inputs)

    def prepare(self) -> None:
        """Makes the optimiser, where there is to be one and is none yet."""
        if self.trains and self.state is None:
            self.state = self.optimizer([p for p in self.model.parameters() if p.requires_grad])

    def run(self) -> object:
        """Runs the step; an inference step returns the model's output."""
        device = next(tensors(self.inputs)).device.type
        with torch.autocast(device, self.autocast or torch.bfloat16, enabled=self.autocast is not None):
            if not self.trains:
                with torch.no_grad():  # holds the same memory as inference_mode
                    return self.forward()
        self.prepare()
        self.state.zero_grad()
        for _ in range(self.micro_batches):
            with torch.autocast(device, self.autocast or torch.bfloat16, enabled=self.autocast is not None):
                loss = self.loss(self.forward(), *self.targets) / self.micro_batches
            loss.backward()
        self.state.step()
        return None
