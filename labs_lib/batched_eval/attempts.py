"""What the checks of lab 05 give to a learner's function, and what they note of its run."""

from __future__ import annotations

import math
import sys
from collections.abc import Callable
from functools import wraps
from unittest import mock

import numpy as np
import torch
from torch import nn

from labs_lib.batched_eval.ladder import Counts, count
from labs_lib.exercises import NotYet

CLASSES, SIDE = 7, 5
MOST_QUESTIONS = 1000  # whoever asks more will ask forever


class Watched(nn.Module):
    """A small network in eval mode that notes the shape of each batch. In training mode it drops out half."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network, self.dropout, self.shapes = network, nn.Dropout(0.5), []
        self.recorded = False  # whether autograd was on in a call
        self.eval()

    def forward(self, batch: torch.Tensor) -> torch.Tensor:
        self.shapes.append(tuple(batch.shape))
        self.recorded |= torch.is_grad_enabled()
        return self.network(self.dropout(batch) if batch.is_floating_point() else batch)

    @property
    def calls(self) -> int:
        return len(self.shapes)


class Words(nn.Module):
    """A mean of embeddings that leaves padding out: as cheap as a text encoder can be."""

    def __init__(self) -> None:
        super().__init__()
        self.embed, self.classify = nn.Embedding(1000, 16, padding_idx=0), nn.Linear(16, CLASSES)

    def forward(self, ids: torch.Tensor) -> torch.Tensor:
        return self.classify(self.embed(ids).sum(1) / (ids != 0).sum(1, keepdim=True))


def image_model() -> Watched:
    return Watched(nn.Sequential(nn.Flatten(), nn.Linear(SIDE * SIDE, 16), nn.ReLU(), nn.Linear(16, CLASSES)))


def images_of(n: int) -> torch.Tensor:
    return 3 * torch.randn(n, 1, SIDE, SIDE)  # so far apart that the classes of a fresh network all occur


def logits_of(model: Watched, images: torch.Tensor) -> torch.Tensor:
    """By the network itself, so that no call is noted."""
    with torch.no_grad():
        return model.network(images)


class Memory:
    """Counted bytes that grow with the batch, and not quite in proportion: weights are copied, blocks rounded up."""

    def __init__(self, rng: np.random.Generator, largest: int, exact: bool = False) -> None:
        self.base, self.each = int(rng.integers(1000, 5000)), int(rng.integers(300, 700))
        slack = 0 if exact else int(rng.integers(1, self.each // 2))
        self.budget = self.bytes(largest) + slack if largest else self.bytes(1) - 1
        self.asked = 0

    def bytes(self, n: int) -> int:
        return self.base + n * self.each + 7 * math.isqrt(n)

    def peak_of(self, n: int) -> int:
        self.asked += 1
        if self.asked > MOST_QUESTIONS:
            raise NotYet(f"you have asked peak_of {MOST_QUESTIONS} times, and go on asking.")
        return self.bytes(n)


def run(attempt: Callable, model: Watched, *inputs: object) -> tuple[object, list[tuple[int, ...]], Counts]:
    """(answer, shapes of the model's calls, counts) of `attempt(model, *inputs)`, which runs more than once."""
    before = [value.clone() for value in inputs if isinstance(value, torch.Tensor)]
    answer = attempt(model, *inputs)
    calls = list(model.shapes)
    reads = 0

    def reading(method: Callable) -> Callable:
        def read(*arguments: object, **options: object) -> object:
            nonlocal reads
            reads += not sys._getframe(1).f_globals.get("__name__", "").startswith("torch.utils.data")
            return method(*arguments, **options)

        return read

    with (
        mock.patch.object(torch.Tensor, "tolist", reading(torch.Tensor.tolist)),  # these two read many values at once,
        mock.patch.object(torch.Tensor, "numpy", reading(torch.Tensor.numpy)),  # and no operator shows them
    ):
        counts = count(lambda: attempt(model, *inputs))
        runs = len(model.shapes) // len(calls) - 1 if calls else 1
    after = [value for value in inputs if isinstance(value, torch.Tensor)]
    if not all(map(torch.equal, before, after)):
        raise NotYet("your function changes what it is given, which belongs to the caller.")
    return answer, calls, Counts(counts.operators, (counts.reads or 0) + math.ceil(reads / max(1, runs)), counts.saved)


def with_autograd_on(check: Callable[[Callable], str]) -> Callable[[Callable], str]:
    """A check that starts with autograd on, leaves the mode as it was, and refuses attempts that change it."""

    @wraps(check)
    def judge(attempt: Callable) -> str:
        def watched(*inputs: object) -> object:
            answer = attempt(*inputs)
            if not torch.is_grad_enabled():
                raise NotYet(
                    "autograd stays off after your function: whoever trains next gets no gradients. Write "
                    "`with torch.inference_mode():` around the loop, which ends with it."
                )
            return answer

        with torch.inference_mode(False), torch.enable_grad():
            return check(watched)

    return judge
