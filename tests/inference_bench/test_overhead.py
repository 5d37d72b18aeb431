"""What watching costs: the arithmetic on calls whose seconds are given, and counts of calling."""

import json
import random

import pytest
import torch
from torch import nn

from labs_lib.inference_bench.overhead import Overhead, interleave, python_cost, seconds_of


def test_the_factor_of_given_seconds():
    found = interleave("doubling", lambda: 1.0, lambda: 2.0, budget_s=0)
    assert (found.factor, found.low, found.high, found.floor) == pytest.approx((2, 2, 2, 1))
    assert (found.rounds, found.plain_s, found.seen) == (7, 1.0, True)
    assert "doubling: 2.000 times the time of the plain call" in str(found)


def test_noise_is_no_overhead():
    generator = random.Random(0)

    def noisy():
        return generator.uniform(1, 2)

    found = interleave("nothing", noisy, noisy, budget_s=0)
    assert not found.seen
    assert found.low < 1 < found.high
    assert found.floor > 1
    assert str(found).endswith("indistinguishable")


def test_each_round_has_two_plain_calls_and_one_watched():
    calls = []
    interleave("x", lambda: calls.append("plain") or 1.0, lambda: calls.append("watched") or 1.0, budget_s=0)
    rounds = [calls[2:][place : place + 3] for place in range(0, 21, 3)]
    assert all(sorted(one) == ["plain", "plain", "watched"] for one in rounds)
    assert len({tuple(one) for one in rounds}) > 1  # in random order


def test_python_is_counted():
    class Nested(nn.Module):
        def __init__(self, depth):
            super().__init__()
            self.inner = Nested(depth - 1) if depth else nn.ReLU()

        def forward(self, x):
            return self.inner(x)

    def cost(depth, limits):
        return python_cost(Nested(depth), torch.ones(4), limits=limits, budget_s=0.01)

    from labs_lib.roofline import Rate, Roof

    limits = Roof("cpu", 1, {"float32": Rate(1, 1)}, {1: Rate(1, 1)}, 2e-6, "")
    shallow, middle, deep = (cost(depth, limits) for depth in (1, 2, 3))
    each = middle.function_calls - shallow.function_calls
    assert each >= 2  # forward, and the call of the module
    assert deep.function_calls - middle.function_calls == each
    assert shallow.operators == deep.operators == 1
    assert deep.dispatch_s == 2e-6
    assert "forward" in {name for name, _, _ in deep.slowest}
    assert json.loads(json.dumps(deep.as_dict()))["operators"] == 1
    assert "1 operators (counted) x 2 us (measured) = 2 us (modelled)" in str(deep)


def test_a_call_takes_time():
    assert seconds_of(lambda: sum(range(1000))) > 0


def test_an_interval_around_one_is_not_seen():
    assert not Overhead("x", 1.02, 0.99, 1.05, 1.01, 9, 1.0).seen
    assert not Overhead("x", 1.02, 1.01, 1.05, 1.03, 9, 1.0).seen
    assert Overhead("x", 1.05, 1.04, 1.06, 1.03, 9, 1.0).seen


@pytest.mark.timing
def test_cprofile_slows_a_model_of_many_small_calls():
    """A third of the smallest factor seen, 1.5 and more, would be below 1: so the sign, and the count behind it."""
    from labs_lib.roofline import Rate, Roof

    limits = Roof("cpu", 1, {"float32": Rate(1, 1)}, {1: Rate(1, 1)}, 1e-6, "")
    found = python_cost(nn.Sequential(*[nn.ReLU() for _ in range(100)]), torch.ones(4), limits=limits, budget_s=0.5)
    assert found.operators == 100
    assert found.function_calls > 300
    assert found.inflation.factor > 1
