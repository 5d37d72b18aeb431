"""The report names the planted cause in each planted model."""

import json
from dataclasses import replace

import pytest
import torch
from torch import nn

from labs_lib.compilation import Report, report
from labs_lib.compilation.capture import capture
from labs_lib.compilation.report import Measured, _verdict
from labs_lib.equality import Difference
from labs_lib.timing import Timing
from tests.compilation.planted import (
    Branches,
    BreaksInALoop,
    Counts,
    NormGelu,
    Prints,
    Reads,
    Selects,
    products,
    rows,
    small,
)

SIZES = [(rows(n),) for n in range(3, 15)]
PLANTED = {
    "value read": (Reads(), rows(2), {}, "graph break (value read)"),
    "branch on data": (Branches(), rows(2), {}, "graph break (branch on data)"),
    "side effect": (Prints(), rows(2), {}, "graph break (side effect)"),
    "shape from data": (Selects(), rows(2), {}, "graph break (shape from data)"),
    "in a loop": (BreaksInALoop(), rows(2), {}, "graph break (branch on data)"),
    "a counter": (Counts(), rows(2), {"more": [(rows(2),)] * 3}, "recompilation"),
    "random numbers": (nn.Sequential(nn.Dropout(), nn.Tanh()), rows(2), {}, "the answers differ"),
    "changing sizes": (NormGelu(64), rows(2), {"more": SIZES, "dynamic": False}, "recompilation"),
    "too small": (nn.ReLU(), rows(1, 16), {}, "too small"),  # one operator: any more and a call can win
    "matrix products": (products(), rows(256, 512), {}, "library kernels"),
    "nothing": (NormGelu(1024), rows(512, 1024), {}, "none"),
}


@pytest.mark.timing
@pytest.mark.parametrize("name", PLANTED)
def test_the_planted_cause_is_named(name):
    model, x, calls, cause = PLANTED[name]
    for budget_s in (0.4, 2.0, 6.0):  # a machine that is too busy to tell gets more time
        found = report(model, x, budget_s=budget_s, **calls)
        if found.cause != "cannot tell here":
            break
    assert found.cause == cause, str(found)
    assert found.advice.endswith(".")
    json.dumps(found.as_dict(), allow_nan=False)
    assert cause in str(found)
    assert cause in found._repr_html_()
    if cause == "none":
        assert found.measured.difference.relative < 1e-5
        low, high = found.measured.break_even_range
        assert 1 < low <= found.measured.break_even <= high
        assert found.measured.warm < found.measured.cold


def measured(naive, optimised, low, high, cold=2.0, dispatch=1e-6):
    timing = Timing(naive / optimised, low, high, 1.02, 50, naive, optimised, (1, 1))
    return Measured(cold, cold / 10, timing, Difference(0, 0), dispatch)


def test_break_even_by_hand():
    found = measured(0.010, 0.006, 1.6, 1.7)
    assert found.break_even == 499  # 1.994 s to earn, 4 ms a call: 498.5
    assert found.break_even_range == (485, 532)  # with 1.7: 4.12 ms a call; with 1.6: 3.75 ms
    assert measured(0.010, 0.010, 0.99, 1.01).break_even is None
    assert measured(0.006, 0.010, 0.5, 0.7).break_even is None
    assert measured(1.0, 0.1, 9, 11, cold=0.5).break_even == 1


def test_the_order_of_causes():
    slower = measured(1e-2, 2e-2, 0.4, 0.6)
    assert _verdict(capture(Reads(), rows(2), more=SIZES), slower)[0] == "graph break (value read)"
    storm = capture(NormGelu(64), rows(2), more=SIZES, dynamic=False)
    assert _verdict(storm, slower)[0] == "recompilation"
    once = capture(NormGelu(64), rows(2), more=SIZES)
    assert len(once.recompiles) == 1
    assert _verdict(once, measured(1e-2, 5e-3, 1.8, 2.2))[0] == "none"
    whole = capture(small(), rows(1, 16))
    assert _verdict(whole, measured(1e-2, 5e-3, 1.8, 2.2))[0] == "none"
    wrong = replace(measured(1e-2, 5e-3, 1.8, 2.2), difference=Difference(1e-2, 1e-7))
    assert _verdict(whole, wrong)[0] == "the answers differ"
    assert _verdict(whole, measured(3 * 19e-6, 6e-5, 0.8, 0.9))[0] == "too small"
    slow = measured(3 * 21e-6, 7e-5, 0.8, 0.9)
    assert _verdict(whole, slow)[0] == "nothing to fuse"
    assert _verdict(capture(products(), rows(2, 512)), slow)[0] == "library kernels"
    assert _verdict(whole, measured(2e-5, 4e-4, 0.04, 0.06))[0] == "slow kernels"
    noisy = replace(slow, timing=replace(slow.timing, low=0.5, high=2.0, floor=1.6))
    assert _verdict(whole, noisy)[0] == "cannot tell here"
    assert _verdict(capture(lambda x: x, rows(2)), slow)[0] == "nothing to compile"
    assert _verdict(whole, None)[0] == "not timed"


def test_a_model_that_never_settles_is_not_timed():
    found = report(Counts(), rows(2))
    assert (found.cause, found.measured) == ("recompilation", None)


def test_without_a_compiler_all_counts_are_there(monkeypatch):
    monkeypatch.setattr("labs_lib.hardware.compiler", lambda: None)
    found = report(NormGelu(64), rows(2))
    assert isinstance(found, Report)
    assert (found.cause, found.measured, found.capture.kernels) == ("not timed", None, 1)
    assert "no C++ compiler" in found.advice
    json.dumps(found.as_dict())


def test_the_same_model_twice_gives_the_same_counts():
    model = NormGelu(64)
    first, second = (capture(model, rows(2)) for _ in range(2))
    assert str(first) == str(second)
    assert torch.equal(model(rows(2)), model(rows(2)))
