"""The exercises of lab 02: starters, solutions, hints. `labs_lib.compilation.checks` judges the answers.

Starters and solutions are ordinary functions: a learner's code is compared with the starter's source, and
`lab.solution` prints the solution's.
"""

from __future__ import annotations

import numpy as np
import torch

from labs_lib import compilation as comp  # the notebook's name for it
from labs_lib.compilation import checks
from labs_lib.exercises import Exercise


def clip_norm_starter(x, limit):
    # YOUR TURN: .item() takes a value out of the graph, and the `if` needs it
    norm = x.norm().item()
    if norm > limit:
        return x * (limit / norm)
    return x


def clip_norm_solution(x, limit):
    return x * (limit / x.norm()).clamp(max=1.0)


def make_forward_starter(weights, report, compile):
    # YOUR TURN: the graph ends at each report
    @compile
    def forward(x):
        for layer, weight in enumerate(weights):
            x = torch.tanh(x @ weight)
            report(layer, x.abs().mean().item())
        return x

    return forward


def make_forward_solution(weights, report, compile):
    @compile
    def compute(x):
        means = []
        for weight in weights:
            x = torch.tanh(x @ weight)
            means.append(x.abs().mean())
        return x, torch.stack(means)

    def forward(x):
        x, means = compute(x)
        for layer, mean in enumerate(means.tolist()):
            report(layer, mean)
        return x

    return forward


def make_model_starter(warmup):
    # YOUR TURN: the step is an int attribute, and the compiler takes each value of it for a constant
    class Model(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.step = 0

        def forward(self, x):
            self.step += 1
            return x * min(1.0, self.step / warmup)

    return Model()


def make_model_solution(warmup):
    class Model(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.register_buffer("step", torch.zeros((), dtype=torch.int64))

        def forward(self, x):
            self.step += 1
            return x * (self.step / warmup).clamp(max=1.0)

    return Model()


def layer_norm_starter(x, scale, shift, out, eps=1e-5):
    # YOUR TURN: each of these operations makes an array as large as x
    centred = x - x.mean(axis=1, keepdims=True)
    variance = (centred**2).mean(axis=1, keepdims=True)
    out[:] = centred / np.sqrt(variance + eps) * scale + shift
    return out


def layer_norm_solution(x, scale, shift, out, eps=1e-5):
    rows = max(1, 16 * 1024 // x.shape[1])
    squares = np.empty((rows, x.shape[1]), x.dtype)  # 64 KiB, taken once
    for start in range(0, len(x), rows):
        part, result = x[start : start + rows], out[start : start + rows]
        np.subtract(part, part.mean(axis=1, keepdims=True), out=result)
        np.multiply(result, result, out=squares[: len(part)])
        variance = squares[: len(part)].mean(axis=1, keepdims=True)
        np.divide(result, np.sqrt(variance + eps), out=result)
        np.multiply(result, scale, out=result)
        np.add(result, shift, out=result)
    return out


def choose_starter(service):
    # YOUR TURN: is compiling always right?
    return "compile"


def choose_solution(service):
    found = comp.report(service.model(), torch.ones(service.shape), budget_s=2)
    pays_from = found.measured.break_even
    return "compile" if pays_from is not None and pays_from < service.calls else "eager"


EXERCISES = {
    exercise.id: exercise
    for exercise in (
        Exercise(
            id="2.1",
            title="a value that leaves the graph",
            minutes=5,
            difficulty=1,
            checked="the answer on edge cases and fresh tensors, then graphs and breaks: 1 and 0",
            starter=clip_norm_starter,
            solution=clip_norm_solution,
            why=(
                "The factor stays a tensor, so there is nothing to decide in Python: where the norm is below the "
                "limit the factor is clamped to 1, which changes no bit of x. One graph serves both cases. For a "
                "tensor of zeros the factor is infinite before it is clamped, and 1 after."
            ),
            hints=(
                "What does the function multiply x by, in each of its two cases?",
                "Both cases are x * factor. Compute the factor as a tensor: never .item(), never float().",
                "The factor is limit / norm, but at most 1: a tensor has .clamp(max=...).",
            ),
            check=checks.check_clip_norm,
        ),
        Exercise(
            id="2.2",
            title="a model that talks while it works",
            minutes=10,
            difficulty=3,
            checked="the answer and each report, then that all layers run in one graph, launched once a call",
            starter=make_forward_starter,
            solution=make_forward_solution,
            why=(
                "A side effect needs Python, and Python is outside of the graph. So the compiled part returns what is "
                "to be reported, as one tensor, and the reporting is done after it. On a GPU this also makes one "
                "synchronisation of what was one for each layer."
            ),
            hints=(
                "report() can't be in the graph. What would it need, if it were called after the graph?",
                "Compile an inner function that returns two things, x and the means of all layers.",
                "Collect the means in a list and torch.stack it. Outside, means.tolist() gives the numbers to report.",
            ),
            check=checks.check_make_forward,
        ),
        Exercise(
            id="2.3",
            title="stop a recompilation storm",
            minutes=10,
            difficulty=2,
            checked="the factor at each of 20 steps, in two models at once, then the graphs compiled: at most 2",
            starter=make_model_starter,
            solution=make_model_solution,
            why=(
                "An int attribute of a module is a constant to the compiler, held by a guard: each new value fails "
                "it. (A float attribute becomes a variable at its second value.) As a tensor the step is data, read "
                "and written inside the graph; as a buffer it is also saved with the model and moves with it to a GPU."
            ),
            hints=(
                "comp.report(model, x, more=[(x,)] * 10) tells which guard fails.",
                "The compiler guards the value of an int attribute, but only the shape and dtype of a tensor.",
                "self.register_buffer('step', torch.zeros((), dtype=torch.int64)), and min(1.0, ...) becomes "
                ".clamp(max=1.0).",
            ),
            check=checks.check_make_model,
        ),
        Exercise(
            id="2.4",
            title="fuse by hand",
            minutes=15,
            difficulty=4,
            checked="the answer on fresh arrays, then the bytes that one operation works on, and those of scratch "
            f"arrays at a time: at most {checks.TILE // 1024} KiB each",
            starter=layer_norm_starter,
            solution=layer_norm_solution,
            why=(
                "A tile of a few rows goes through both passes while it is in the cache: once for mean and variance, "
                "once to be normalised. So each element comes from memory once and goes back once, as in the kernel "
                "that the compiler wrote. With out= one tile of scratch space, taken once, is all that is allocated; "
                "temporaries of the size of a tile would do as well, since the allocator hands out the same hot block."
            ),
            hints=(
                "The rows do not depend on one another: how many do you need at a time?",
                "Loop over tiles of rows. out[start:stop] is a view, so operations can write there with out=.",
                "Take scratch space for the squares of one tile before the loop. In it: np.subtract, np.multiply and "
                "np.divide with out=; the last tile may have fewer rows.",
            ),
            check=checks.check_layer_norm,
        ),
        Exercise(
            id="2.5",
            title="compile or not?",
            minutes=10,
            difficulty=3,
            checked="your choice for five services, against what this machine measures",
            starter=choose_starter,
            solution=choose_solution,
            why=(
                "Compiling is a loan: the first call costs seconds, and each call after it pays back what it saves. A "
                "process that ends before the break-even never gets there, and a model of tiny operators pays back "
                "nothing. Only a measurement tells, and it takes seconds."
            ),
            hints=(
                "A service has name, description, model(), shape and calls. Print the five of comp.SERVICES.",
                "Two questions each: is a compiled call faster at all, and do the calls of one process reach the "
                "break-even?",
                "comp.report(service.model(), torch.ones(service.shape)).measured.break_even answers both.",
            ),
            check=checks.check_choose,
        ),
    )
}
