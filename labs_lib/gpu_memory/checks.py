"""What exercises 3.1 and 3.4 demand: each check gets the learner's function and judges what it does.

A check tries edge cases first, so that its message says where the mistake is, then fresh random inputs,
then the count that the exercise is about. None calls a solution in the learner's place.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from unittest import mock

import torch
from torch import nn

from labs_lib.exercises import NotYet
from labs_lib.gpu_memory.trace import KINDS, OPTIMISER_STATE, Block, Operator, Trace
from labs_lib.gpu_memory.tracker import track

# --- 3.1 --------------------------------------------------------------------------------------------

# Rows of (module, kind, bytes, born, died); the answer; why.
HOLDER_CASES = (
    ([("a", 0, 10, 0, None)], ("a", 10), "the only block is the largest holder"),
    (
        [("a", 0, 60, 1, 3), ("b", 0, 50, 4, None), ("c", 0, 40, 4, None)],
        ("b", 50),
        "a's block is dead before the peak, which is at operator 4",
    ),
    (
        [("b", 0, 60, 0, 3), ("b", 0, 50, 2, None), ("c", 0, 70, 3, None)],
        ("c", 70),
        "the peak is at operator 3, where b's first block is dead: it is alive at born <= index < died",
    ),
    (
        [("a", 0, 40, 0, None), ("b", 0, 30, 1, None), ("b", 0, 30, 2, None)],
        ("b", 60),
        "b holds two blocks, and together they are larger than a's",
    ),
    (
        [("a", 0, 50, 0, None), ("b", 0, 30, 0, None), ("b", 3, 35, 1, None)],
        ("b", 65),
        "b holds parameters and gradients, and both count",
    ),
    ([("", 1, 90, 0, None), ("a", 0, 20, 1, None)], ("a", 20), '"" stands for no module, and does not compete'),
    (
        [("a", 0, 30, 0, None), ("b", 5, 90, 1, 2), ("a", 5, 30, 4, None)],
        ("b", 90),
        "at the end a holds most, but the peak is at operator 1",
    ),
)


def check_largest_holder(attempt: Callable) -> str:
    for rows, expected, why in HOLDER_CASES:
        answer = attempt(trace_of(rows))
        if not isinstance(answer, tuple | list) or len(answer) != 2 or not isinstance(answer[0], str):
            raise NotYet(f"return (module, bytes), a name and a number; you return {str(answer)[:60]}.")
        if tuple(answer) != expected:
            raise NotYet(
                f"for (module, bytes, born, died) = {[(m, s, b, d) for m, _, s, b, d in rows]} you return "
                f"{tuple(answer)}, not {expected}: {why}."
            )
    rng = random.Random()
    for _ in range(20):
        trace = trace_of(random_rows(rng))
        names = {block.module for block in trace.blocks} - {""}
        held = {name: sum(b.size for b in trace.alive(trace.peak_at) if b.module == name) for name in names}
        expected = max(held.items(), key=lambda item: item[1])
        answer = tuple(attempt(trace))
        if answer != expected:
            raise NotYet(
                f"on random blocks you return {answer}; at the peak, operator {trace.peak_at}, {expected} holds most."
            )
    return f"right on {len(HOLDER_CASES)} small traces and on 20 random ones."


def trace_of(rows: list[tuple]) -> Trace:
    blocks = tuple(Block(size, KINDS[kind], module, "", "", born, died) for module, kind, size, born, died in rows)
    return Trace(blocks, (Operator("aten.mm", "forward", ""),) * 40, 0)


def random_rows(rng: random.Random) -> list[tuple]:
    """Blocks of six modules and of none, with sizes so odd that no two modules hold the same."""
    rows = []
    for power in range(24):
        born = rng.randrange(40)
        died = rng.choice([None, born + rng.randint(1, 12)])
        size = (rng.randrange(2**20) << 24) + 2**power
        rows.append((rng.choice(["", *"abcdef"]), rng.randrange(6), size, born, died))
    return rows


# --- 3.4 --------------------------------------------------------------------------------------------


def _tied() -> nn.Module:
    model = nn.Sequential(nn.Embedding(50, 8), nn.Linear(8, 50, bias=False))
    model[1].weight = model[0].weight
    return model


def _frozen() -> nn.Module:
    model = nn.Sequential(nn.Linear(8, 16), nn.Linear(16, 4))
    model[0].requires_grad_(False)
    return model


MODEL_CASES = (
    (lambda: nn.Linear(8, 4), "two moments of 36 values, and a step counter of 4 bytes for weight and for bias"),
    (lambda: nn.BatchNorm1d(8), "running mean, variance and counter are buffers: no optimiser sees them"),
    (_frozen, "the first layer is frozen, so it has no gradient and no state"),
    (_tied, "head and embedding share one weight: it has one state"),
    (lambda: nn.Linear(8, 4).bfloat16(), "the moments have the dtype of their parameter, here 2 bytes a value"),
    (lambda: nn.PReLU(), "a parameter of one value has two moments and a step counter too"),
    (lambda: nn.ReLU(), "no parameters, no state"),
)


def check_adamw_bytes(attempt: Callable) -> str:
    for make, why in MODEL_CASES:
        model = make()
        _judge_bytes(attempt, model, f"{why}.\n{model}")
    for _ in range(15):
        model = random_model(random.Random())
        _judge_bytes(attempt, model, f"frozen, tied and 16-bit parameters may be mixed.\n{model}")
    return f"right on {len(MODEL_CASES)} models that are special in one way, and on 15 random ones (counted)."


def _judge_bytes(attempt: Callable, model: nn.Module, why: str) -> None:
    before = [(parameter.dtype, parameter.requires_grad) for parameter in model.parameters()]
    with mock.patch.object(torch.optim.AdamW, "step", _refuse_step):
        answer = attempt(model)
    if [(parameter.dtype, parameter.requires_grad) for parameter in model.parameters()] != before:
        raise NotYet("your function changes the model. It is only to be looked at.")
    expected = adamw_bytes(model)
    if answer != expected:
        raise NotYet(f"you predict {answer} bytes, and AdamW takes {expected}: {why}")


def _refuse_step(*arguments: object, **options: object) -> None:
    raise NotYet("you run AdamW to see what it takes. Predict it from the parameters alone.")


def adamw_bytes(model: nn.Module) -> int:
    """Bytes of AdamW's state after its first step, by the tracker."""
    trainable = [parameter for parameter in model.parameters() if parameter.requires_grad]
    if not trainable:
        return 0
    optimizer = torch.optim.AdamW(trainable)
    for parameter in trainable:
        parameter.grad = torch.zeros_like(parameter)
    trace = track(optimizer.step, model=model, optimizer=optimizer)
    return trace.at(len(trace.operators)).get(OPTIMISER_STATE, 0)


def random_model(rng: random.Random) -> nn.Module:
    """A stack of layers of random sizes; some frozen, some in 16 bits, two of them perhaps tied."""
    layers = nn.ModuleList()
    for _ in range(rng.randint(2, 6)):
        n, m = rng.randint(1, 40), rng.randint(1, 40)
        make = rng.choice(
            [lambda n, m: nn.Linear(n, m), lambda n, m: nn.Embedding(n, m), lambda n, m: nn.BatchNorm1d(n),
             lambda n, m: nn.Conv1d(n, m, 3), lambda n, m: nn.LSTM(n, m)]
        )  # fmt: skip
        layers.append(make(n, m))
    if rng.random() < 0.5:
        first, second = nn.Linear(30, 20), nn.Linear(30, 20)
        second.weight = first.weight
        layers.extend([first, second])
    for layer in layers:
        for parameter in layer.parameters():
            parameter.requires_grad_(parameter.requires_grad and rng.random() < 0.8)
        if rng.random() < 0.3 and not isinstance(layer, nn.Linear):
            layer.bfloat16()
    return layers
