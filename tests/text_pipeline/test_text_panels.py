"""The panel of lab 08: each control moves something, at both of its ends; the model is what its docstring says."""

import math
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import labs_lib.text_pipeline as text
from labs_lib.errors import LabError
from labs_lib.text_pipeline import panels
from labs_lib.text_pipeline.pool_model import MOST

COSTS = text.PoolCosts(start=0.4, message=1e-4, carry=4e-6)
WORKS = {"encoding alone": 1e-5, "whole pipeline": 3e-4}
POINTS = [text.Measured("whole pipeline", 2, 100, n, pool=2e-4 * n, alone=3e-4 * n) for n in (200, 2000)]


@pytest.fixture(scope="module")
def panel():
    return text.pool_panel(COSTS, WORKS, POINTS)


def test_each_control_changes_what_is_seen_at_both_its_ends(panel):
    sweep = [picture for _, picture in panel.sweep()]
    for name, first, last in zip(panel.controls, sweep[::2], sweep[1::2], strict=True):
        assert first.png.startswith(b"\x89PNG")
        assert first.png != last.png, name
        assert "modelled" in first.says
        assert "modelled" in last.says


def test_measurements_are_shown_where_they_belong(monkeypatch):
    seen = []
    monkeypatch.setattr(panels, "pool_picture", lambda *arguments: seen.append(arguments[-1]))
    panel = text.pool_panel(COSTS, WORKS, POINTS)
    panel.set(work="whole pipeline")
    panel.set(chunk=100)
    panel.set(processes=4)
    assert seen == [[], [], POINTS, []]


def test_it_says_what_the_model_says(panel):
    start = panel.set(work="whole pipeline", processes=2, chunk=100, pool=panels.POOLS[0]).says
    assert "faster from about 2,800 strings on, and at most 1.94 times" in start
    assert "2 processes, 100 strings a task" in start
    never = panel.set(work="encoding alone", chunk=1).says
    assert "a task a string: never faster; with ever more strings the ratio nears 0.092" in never
    eight = panel.set(chunk=1, work="whole pipeline", processes=8).says
    assert "8 processes, a task a string: faster from about 2,500 strings on, and at most 2.12 times" in eight
    running = panel.set(processes=2, pool=panels.POOLS[1]).says
    assert "faster from about 2 strings on" in running


def by_hand(costs, n, work, processes, chunk):
    tasks = math.ceil(n / chunk)
    return costs.start + tasks * costs.message + n * costs.carry + n * work / max(1, min(processes, tasks))


SECONDS = st.floats(0, 1)


@given(SECONDS, SECONDS, SECONDS, st.floats(1e-7, 1), st.integers(0, 10**6), st.integers(1, 8), st.integers(1, 1000))
def test_the_model_is_its_formula(start, message, carry, work, n, processes, chunk):
    costs = text.PoolCosts(start, message, carry)
    assert float(costs.seconds(n, work, processes, chunk)) == pytest.approx(by_hand(costs, n, work, processes, chunk))


@given(
    st.floats(0, 2),
    st.floats(0, 1e-3),
    st.floats(0, 1e-4),
    st.floats(1e-6, 1e-2),
    st.integers(1, 8),
    st.integers(1, 1000),
)
def test_from_the_break_even_on_the_pool_is_faster(start, message, carry, work, processes, chunk):
    costs = text.PoolCosts(start, message, carry)
    found = costs.break_even(work, processes, chunk)
    if found is None:
        n = MOST - 1
        assert by_hand(costs, n, work, processes, chunk) >= 0.999 * n * work
        return
    for n in (found, 2 * found, 10 * found):
        assert by_hand(costs, n, work, processes, chunk) < 1.001 * n * work
    if found > 1:
        before = max(1, int(0.998 * found) - 1)
        least = min(
            n * work - by_hand(costs, n, work, processes, chunk) for n in range(before, min(found, before + 99))
        )
        assert least <= 1e-3 * found * work


def test_a_pool_of_one_is_never_faster():
    assert COSTS.break_even(1e-3, processes=1) is None
    assert replace(COSTS, message=0.0, carry=0.0, start=0.0).break_even(1e-3, processes=1) is None


@given(
    st.floats(1e-6, 1e-3), st.floats(0, 1e-5), st.floats(1e-6, 1e-3), st.integers(1, 8), st.sampled_from([2, 10, 100])
)
def test_the_costs_come_back_from_times_that_the_model_makes(message, carry, work, processes, chunk):
    costs, n = text.PoolCosts(0, message, carry), 100_000
    apart, together = (float(costs.seconds(n, work, processes, k)) / n for k in (1, chunk))
    found = text.PoolCosts.from_times(0.3, work, apart, together, processes, chunk)
    assert found.start == 0.3
    assert [found.message, found.carry] == pytest.approx([message, carry], rel=1e-4, abs=1e-9)


def test_noise_gives_no_negative_cost():
    assert text.PoolCosts.from_times(0.3, 1e-5, apart=4e-6, together=4.5e-6, processes=2, chunk=10) == text.PoolCosts(
        0.3, 0.0, 0.0
    )


@pytest.mark.parametrize("costs", [(-1, 0, 0), (0, math.nan, 0), (0, 0, math.inf)])
def test_costs_are_times(costs):
    with pytest.raises(LabError, match="no time"):
        text.PoolCosts(*costs)


def test_one_string_a_task_is_not_measured_twice():
    with pytest.raises(LabError, match="chunk=1"):
        text.PoolCosts.from_times(0, 1e-5, 1e-4, 1e-4, 2, 1)


def test_the_model_takes_arrays():
    n = np.array([1, 10, 100])
    assert COSTS.seconds(n, 1e-5, 2, 10).tolist() == [float(COSTS.seconds(k, 1e-5, 2, 10)) for k in n]
