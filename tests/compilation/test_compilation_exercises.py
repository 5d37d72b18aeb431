"""Each exercise of lab 02: starter, solution, and wrong answers, each with the message it must earn."""

import numpy as np
import pytest
import torch

from labs_lib import compilation as comp
from labs_lib.compilation import checks
from labs_lib.compilation.exercises import EXERCISES
from labs_lib.compilation.services import SERVICES, Totals
from labs_lib.exercises import SOLVED, judge
from tests.exercise_tests import ExerciseTests

# --- 2.1 --------------------------------------------------------------------------------------------


def still_reads(x, limit):
    return x * min(1.0, limit / max(x.norm().item(), 1e-12))


def branches_on_a_tensor(x, limit):
    norm = x.norm()
    if norm > limit:
        return x * (limit / norm)
    return x * 1


def always_scales(x, limit):
    return x * (limit / x.norm().clamp(min=1e-12))


def nan_at_zero(x, limit):
    return x * torch.minimum(torch.tensor(1.0), limit / x.norm() * torch.sign(x.norm()))


def clamps_each_element(x, limit):
    return x.clamp(-limit, limit)


def changes_its_input(x, limit):
    return x.mul_((limit / x.norm()).clamp(max=1.0))


def returns_the_factor(x, limit):
    return (limit / x.norm()).clamp(max=1.0)


def keeps_the_compiler_out(x, limit):
    return _hidden(x, limit) * 1


@torch.compiler.disable
def _hidden(x, limit):
    return EXERCISES["2.1"].solution(x, limit)


# --- 2.2 --------------------------------------------------------------------------------------------


def layers_of(x, weights):
    means = []
    for weight in weights:
        x = torch.tanh(x @ weight)
        means.append(x.abs().mean())
    return x, means


def one_graph_a_layer(weights, report, compile):
    step = compile(lambda x, weight: (torch.tanh(x @ weight), torch.tanh(x @ weight).abs().mean()))

    def forward(x):
        for layer, weight in enumerate(weights):
            x, mean = step(x, weight)
            report(layer, mean.item())
        return x

    return forward


def compiles_nothing(weights, report, compile):
    def forward(x):
        x, means = layers_of(x, weights)
        for layer, mean in enumerate(means):
            report(layer, mean.item())
        return x

    return forward


def compiles_the_last_layer_only(weights, report, compile):
    last = compile(lambda x: torch.tanh(x @ weights[-1]))

    def forward(x):
        before, means = layers_of(x, weights[:-1])
        x = last(before)
        for layer, mean in enumerate([*means, x.abs().mean()]):
            report(layer, mean.item())
        return x

    return forward


def reports_nothing(weights, report, compile):
    return compile(lambda x: layers_of(x, weights)[0])


def reports_tensors(weights, report, compile):
    compute = compile(lambda x: layers_of(x, weights))

    def forward(x):
        x, means = compute(x)
        for layer, mean in enumerate(means):
            report(layer, mean)
        return x

    return forward


def reports_the_inputs(weights, report, compile):
    compute = compile(lambda x: layers_of(x, weights))

    def forward(x):
        y, means = compute(x)
        for layer, _ in enumerate(means):
            report(layer, x.abs().mean().item())
        return y

    return forward


def returns_both(weights, report, compile):
    compute = compile(lambda x: layers_of(x, weights))

    def forward(x):
        x, means = compute(x)
        for layer, mean in enumerate(means):
            report(layer, mean.item())
        return x, means

    return forward


def compiles_at_each_call(weights, report, compile):
    def forward(x):
        y, means = compile(lambda x: layers_of(x, weights))(x)
        for layer, mean in enumerate(means):
            report(layer, mean.item())
        return y

    return forward


def returns_no_function(weights, report, compile):
    return None


def computes_twice(weights, report, compile):
    compute = compile(lambda x: layers_of(x, weights))

    def forward(x):
        for layer, mean in enumerate(compute(x)[1]):
            report(layer, mean.item())
        return compute(x)[0]

    return forward


# --- 2.3 --------------------------------------------------------------------------------------------


def model_with(start, advance, factor):
    """A make_model whose step starts with `start(model)`, and whose forward uses the two functions."""

    def make_model(warmup):
        class Model(torch.nn.Module):
            def __init__(self):
                super().__init__()
                start(self)

            def forward(self, x):
                advance(self)
                return x * factor(self, warmup)

        return Model()

    return make_model


def tensor_step(model):
    model.register_buffer("step", torch.zeros((), dtype=torch.int64))


def add_one(model):
    model.step += 1


def number_step(model):
    model.step = 0


SHARED = torch.zeros(())


def add_to_shared(model):
    SHARED.add_(1)


never_saturates = model_with(tensor_step, add_one, lambda model, warmup: model.step / warmup)
counts_twice = model_with(
    tensor_step, lambda model: model.step.add_(2), lambda model, warmup: (model.step / warmup).clamp(max=1.0)
)
starts_too_early = model_with(
    tensor_step, add_one, lambda model, warmup: ((model.step - 1) / warmup).clamp(max=1.0)
)
reads_the_step = model_with(tensor_step, add_one, lambda model, warmup: min(1.0, model.step.item() / warmup))
still_a_number = model_with(number_step, add_one, lambda model, warmup: min(1.0, float(model.step) / warmup))


def shares_its_step(warmup):
    total = torch.zeros(())
    SHARED.zero_()

    def forward(self, x):
        SHARED.add_(1)
        return x * (SHARED / warmup).clamp(max=1.0)

    return type("Model", (torch.nn.Module,), {"forward": forward, "total": total})()


ONE_MODEL = {}


def returns_the_same_model(warmup):
    return ONE_MODEL.setdefault("model", EXERCISES["2.3"].solution(warmup))


def keeps_the_model_eager(warmup):
    class Model(type(EXERCISES["2.3"].solution(warmup))):
        def forward(self, x):
            return torch.compiler.disable(super().forward)(x)

    return Model()


def returns_a_function(warmup):
    return lambda x: x


# --- 2.4 --------------------------------------------------------------------------------------------


def scaled_and_shifted(y, scale, shift):
    return y * scale + shift


def normal_rows(variance_of, eps_of=lambda eps: eps, tail=lambda rows: rows, affine=scaled_and_shifted, tile=16):
    """A layer_norm in float32, tile by tile, with parts that can be wrong."""

    def layer_norm(x, scale, shift, out, eps=1e-5):
        for start in range(0, tail(len(x)), tile):
            part = x[start : start + tile]
            mean = part.mean(axis=1, keepdims=True)
            deviation = np.sqrt(variance_of(part, mean) + eps_of(eps))
            out[start : start + tile] = affine((part - mean) / deviation, scale, shift)
        return out

    return layer_norm


def two_moments(part, mean):
    return (part * part).mean(axis=1, keepdims=True) - mean * mean


def right_variance(part, mean):
    return part.var(axis=1, keepdims=True)


cancels = normal_rows(two_moments)
divides_by_n_minus_1 = normal_rows(lambda part, mean: part.var(axis=1, ddof=1, keepdims=True))
forgets_eps = normal_rows(right_variance, eps_of=lambda eps: 0)
forgets_the_last_tile = normal_rows(right_variance, tail=lambda rows: rows // 16 * 16)
forgets_shift = normal_rows(right_variance, affine=lambda y, scale, shift: y * scale)
tiles_too_large = normal_rows(right_variance, tile=256)


def untiled(x, scale, shift, out, eps=1e-5):
    np.subtract(x, x.mean(axis=1, keepdims=True), out=out)
    out /= np.sqrt(np.einsum("ij,ij->i", out, out) / x.shape[1] + eps)[:, None]
    out *= scale
    out += shift
    return out


def allocates_beside_its_tiles(x, scale, shift, out, eps=1e-5):
    everything = [np.empty(len(row), row.dtype) for row in x]
    right_in_small_tiles(x, scale, shift, out, eps)
    del everything
    return out


right_in_small_tiles = normal_rows(right_variance)


def returns_an_array_of_its_own(x, scale, shift, out, eps=1e-5):
    return EXERCISES["2.4"].solution(x, scale, shift, out.copy(), eps)


def normalises_in_place(x, scale, shift, out, eps=1e-5):
    EXERCISES["2.4"].solution(x.copy(), scale, shift, out, eps)
    x[:] = out
    return out


# --- 2.5 --------------------------------------------------------------------------------------------


def always_eager(service):
    return "eager"


def by_calls_alone(service):
    return "compile" if service.calls > 1000 else "eager"


def says_maybe(service):
    return "maybe"


def the_other_way_round(service):
    return {"compile": "eager", "eager": "compile"}[RIGHT[service.name]]


RIGHT = {
    "notebook": "eager", "ranking": "compile", "controller": "eager", "short job": "eager", "nightly run": "compile"
}  # fmt: skip

WRONG = {
    "2.1": [
        (still_reads, "the graph breaks at `return x * min"),
        (branches_on_a_tensor, "the graph breaks at `if norm > limit:`"),
        (always_scales, "leaves x as it is"),
        (nan_at_zero, "a tensor of zeros stays as it is"),
        (clamps_each_element, "the whole tensor is scaled"),
        (changes_its_input, "changes its input"),
        (returns_the_factor, "return a tensor of that shape"),
        (keeps_the_compiler_out, "compiler switched off"),
    ],
    "2.2": [
        (one_graph_a_layer, "calls launch the graph"),
        (compiles_nothing, "no graph holds the layers"),
        (compiles_the_last_layer_only, "the graph holds 1 of the"),
        (reports_nothing, "report was called for the layers []"),
        (reports_tensors, "a Python float, not a tensor"),
        (reports_the_inputs, "a reported number is wrong"),
        (returns_both, "the tensor after the last layer"),
        (compiles_at_each_call, "call compile once, outside of forward"),
        (returns_no_function, "must return a function"),
        (computes_twice, "calls launch the graph 6 times"),
    ],
    "2.3": [
        (never_saturates, "the factor must be 1.000"),
        (counts_twice, "at step 1 of a warm-up"),
        (starts_too_early, "at step 1 of a warm-up"),
        (reads_the_step, "the graph breaks at"),
        (still_a_number, "20 calls compiled 8 graphs"),
        (shares_its_step, "must be"),
        (returns_the_same_model, "one and the same model"),
        (keeps_the_model_eager, "compiler switched off"),
        (returns_a_function, "must return a torch.nn.Module"),
    ],
    "2.4": [
        (cancels, "far from zero"),
        (divides_by_n_minus_1, "a few short rows"),
        (forgets_eps, "without any variance"),
        (forgets_the_last_tile, "wrong for"),
        (forgets_shift, "a few short rows"),
        (untiled, "works on 8.00 MiB at once"),
        (tiles_too_large, "works on 1.00 MiB at once"),
        (allocates_beside_its_tiles, "of arrays of its own at a time"),
        (returns_an_array_of_its_own, "return out itself"),
        (normalises_in_place, "writes into its input"),
    ],
    "2.5": [
        (always_eager, "3 of 5 are right"),
        (by_calls_alone, "4 of 5 are right"),
        (says_maybe, 'return "compile" or "eager"'),
        (the_other_way_round, "0 of 5 are right"),
    ],
}


@pytest.fixture(autouse=True)
def measured(monkeypatch, request):
    """Fixed totals in place of what this machine measures; the one timing test measures."""
    if "timing" not in request.keywords:
        made_up = {"compile": Totals(3.0, (0.9, 1.1)), "eager": Totals(1.0, (2.9, 3.1))}
        monkeypatch.setattr(checks, "totals", lambda service: made_up[RIGHT[service.name]])
        monkeypatch.setattr("labs_lib.hardware.compiler", lambda: "c++")


def read_by_clamp(x, limit):
    return x / (x.norm() / limit).clamp(min=1.0)


class TestExercises(ExerciseTests):
    exercises, wrong = EXERCISES, WRONG
    right = (("2.1", read_by_clamp), ("2.4", right_in_small_tiles))

    def solution(self, number):
        """2.5's measures, which the timing test does."""
        return super().solution(number) if number != "2.5" else lambda service: RIGHT[service.name]


def test_without_a_compiler_the_choice_cannot_be_told(monkeypatch):
    monkeypatch.setattr("labs_lib.hardware.compiler", lambda: None)
    assert "cannot tell here" in judge(EXERCISES["2.5"], lambda service: RIGHT[service.name]).message


def test_what_the_measurement_cannot_tell_is_right_either_way(monkeypatch):
    assert Totals(1.0, (0.9, 1.1)).right == ("compile", "eager")
    assert Totals(1.2, (0.9, 1.1)).right == ("compile",)
    assert Totals(1.0, (1.1, 1.2)).right == ("eager",)
    monkeypatch.setattr(checks, "totals", lambda service: Totals(1.0, (0.9, 1.1)))
    assert "For notebook, ranking," in judge(EXERCISES["2.5"], lambda service: "eager").message


@pytest.mark.timing
def test_the_solution_of_choosing_agrees_with_this_machine(monkeypatch):
    """Two of the five services have the model of another one: each model is measured once."""
    report, reports = comp.report, {}

    def report_once(model, x, budget_s):
        if x.shape not in reports:
            reports[x.shape] = report(model, x, budget_s=budget_s)
        return reports[x.shape]

    monkeypatch.setattr(comp, "report", report_once)
    judgement = judge(EXERCISES["2.5"], EXERCISES["2.5"].solution)
    assert judgement.state == SOLVED, judgement.message
    assert len(reports) == 3
    assert {service.name for service in SERVICES} == set(RIGHT)
