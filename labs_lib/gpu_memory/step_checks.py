"""What exercises 3.2 and 3.3 demand: the learner's training step is run, and the tracker counts what it holds.

First its answer is compared with that of plain code on a fresh model and fresh data, then its bytes, then its FLOPs.
"""

from __future__ import annotations

import copy
import random
from collections.abc import Callable

import torch
from torch import nn
from torch.nn import functional as F

from labs_lib.equality import difference
from labs_lib.exercises import NotYet
from labs_lib.gpu_memory.trace import Trace
from labs_lib.gpu_memory.tracker import track
from labs_lib.units import size_text

FLOAT_ERROR = 1e-4  # of the largest value: sums in another order, in float32


# --- 3.2 --------------------------------------------------------------------------------------------

SHARE = 3  # the step may hold a third of what the starter holds for a while


def check_train_step(attempt: Callable) -> str:
    for _ in range(2):
        plain, yours = _judged_step(attempt)
    return (
        f"loss and gradients are right, the step holds {size_text(yours[0])} beside model and gradients where the "
        f"starter holds {size_text(plain[0])}, and computes the same {plain[1]:,} FLOPs (counted)."
    )


def _judged_step(attempt: Callable) -> tuple[tuple[int, int], tuple[int, int]]:
    """(bytes held for a while, FLOPs) of the plain step and of the attempt, on a fresh model and batch."""
    rng = random.Random()
    width, depth, batch = rng.randrange(24, 40), rng.randrange(6, 9), rng.choice([227, 229, 233, 239, 241, 251])
    layers = [layer for _ in range(depth) for layer in (nn.Linear(width, width), nn.ReLU())]
    model = nn.Sequential(*layers, nn.Linear(width, 5))
    x, y = torch.randn(batch, width), torch.randint(0, 5, (batch,))
    twin, given = copy.deepcopy(model), (x.clone(), y.clone(), copy.deepcopy(list(model.parameters())))

    expected: list[float] = []
    plain = track(lambda: expected.append(_plain_step(twin, x, y)), model=twin, inputs=(x, y))
    answers: list[object] = []
    yours = track(lambda: answers.append(attempt(model, F.cross_entropy, x, y)), model=model, inputs=(x, y))

    if difference(given, (x, y, list(model.parameters()))).relative > 0:
        raise NotYet("your step changes its batch or the weights. It only computes gradients; the caller updates.")
    gradients = [parameter.grad for parameter in model.parameters()]
    if any(gradient is None for gradient in gradients):
        raise NotYet("after your step some parameters have no gradient. Call backward() on a loss.")
    wrong = difference([p.grad for p in twin.parameters()], gradients).relative
    if wrong > FLOAT_ERROR:
        raise NotYet(
            f"the gradients are wrong by {wrong:.1g} of the largest. The loss is a mean over all {batch} samples, and "
            "backward() adds up: each part must count by its number of samples, the last one too, and nothing may "
            "clear the gradients between them."
        )
    if not isinstance(answers[0], float) or abs(answers[0] - expected[0]) > FLOAT_ERROR * expected[0]:
        raise NotYet(
            f"the gradients are right, but you return {answers[0]} for a mean loss of {expected[0]:.6f} over the whole "
            "batch. Return it as a float."
        )
    mine, theirs = _held(yours), _held(plain)
    budget = theirs // SHARE
    if mine > budget:
        raise NotYet(
            f"right, but it holds {size_text(mine)} for a while, and the budget is {size_text(budget)}. Which values "
            "live until backward() has used them, and how many samples need them at the same time?"
        )
    if yours.flops > plain.flops:
        raise NotYet(
            f"it fits, but it computes {yours.flops / plain.flops - 1:.0%} more FLOPs than the starter: something is "
            "computed twice. There is a way to fit that computes nothing twice."
        )
    return (theirs, plain.flops), (mine, yours.flops)


def _plain_step(model: nn.Module, x: torch.Tensor, y: torch.Tensor) -> float:
    loss = F.cross_entropy(model(x), y)
    loss.backward()
    return loss.item()


def _held(trace: Trace) -> int:
    """Peak bytes beside what existed before the step, and the gradients it leaves."""
    return trace.peak - trace.live_at_end


# --- 3.3 --------------------------------------------------------------------------------------------


def check_train(attempt: Callable) -> str:
    (short, _), (long, model) = (_judged_training(attempt, steps) for steps in (4, 9))
    growth = (long - short) / 5
    if growth:
        raise NotYet(
            f"history, output and weights are right, but memory grows by {growth:,.0f} bytes with every step. What "
            "does each step add to a list or a sum that still is a tensor? One with a grad_fn holds its graph."
        )
    if model._forward_hooks:
        raise NotYet("the hook is still on the model after the training: every later call pays for it. Remove it.")
    return f"history, output and weights are right, and 9 steps need as much memory as 4: {size_text(long)} (counted)."


def _judged_training(attempt: Callable, steps: int) -> tuple[int, nn.Module]:
    """Peak bytes above the start, of a training of so many steps whose answer is right; and the model."""
    batches = [(torch.randn(16, 12), torch.randn(16, 3)) for _ in range(steps)]
    model = nn.Sequential(nn.Linear(12, 20), nn.Tanh(), nn.Linear(20, 3))
    twin = copy.deepcopy(model)
    history, largest = _train_by_hand(twin, batches)

    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
    answers: list[object] = []
    trace = track(
        lambda: answers.append(attempt(model, F.mse_loss, optimizer, batches)),
        model=model, optimizer=optimizer, inputs=batches,
    )  # fmt: skip
    answer = answers.pop()
    if not isinstance(answer, tuple | list) or len(answer) != 2 or not isinstance(answer[0], list):
        raise NotYet(f"return (history, largest) as the starter does; you return {type(answer).__name__}.")
    if len(answer[0]) != steps:
        raise NotYet(f"the history of {steps} steps must have {steps} entries; yours has {len(answer[0])}.")
    if difference(list(twin.parameters()), list(model.parameters())).relative > FLOAT_ERROR:
        raise NotYet("the model is not trained as by the starter: zero_grad, loss, backward, step, for each batch.")
    if not _near([_number(value) for value in answer[0]], history):
        raise NotYet("the history is wrong: entry n is the mean of the first n losses.")
    if not _near([_number(answer[1])], [largest]):
        raise NotYet(f"the largest output is {largest:.6f} in absolute value over all steps; you return {answer[1]}.")
    return trace.peak - trace.live_at_start, model


def _train_by_hand(model: nn.Module, batches: list[tuple[torch.Tensor, torch.Tensor]]) -> tuple[list[float], float]:
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
    losses, outputs = [], []
    for x, y in batches:
        optimizer.zero_grad()
        output = model(x)
        loss = F.mse_loss(output, y)
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
        outputs.append(output.abs().max().item())
    return [sum(losses[:count]) / count for count in range(1, len(losses) + 1)], max(outputs)


def _number(value: object) -> float:
    if isinstance(value, torch.Tensor):
        value = value.detach()
    try:
        return float(value)
    except (TypeError, ValueError) as error:
        raise NotYet(f"losses and output are numbers; one of yours is {type(value).__name__}.") from error


def _near(values: list[float], expected: list[float]) -> bool:
    return difference(expected, values).relative <= FLOAT_ERROR
