"""The pictures and the panel of lab 07 say what the numbers behind them say."""

import math
import re

import pytest

import labs_lib.serving as serving
from labs_lib.errors import LabError

PASS = {1: 0.004, 2: 0.006, 4: 0.010, 8: 0.018, 16: 0.034}
PNG = b"\x89PNG"


def load(rate, latency_ms, late=0, wrong=0, refused=0, count=100):
    """A load test of `count` requests: those refused and wrong come first, then those that take a second longer."""
    outcomes = []
    for n in range(count):
        took = (latency_ms + 1000 * (n < refused + wrong + late)) / 1000
        status = 503 if n < refused else 200
        outcomes.append(serving.Outcome(n / rate, n / rate, n / rate + took, status, n >= refused + wrong))
    return serving.LoadResult(rate, tuple(outcomes))


@pytest.mark.parametrize("fault", ["late", "wrong", "refused"])
def test_the_knee_counts_only_right_answers_in_time(fault):
    results = [load(10, 5), load(20, 5, **{fault: 10}), load(40, 5, **{fault: 11})]
    assert serving.knee(results) == 20


def test_the_knee_depends_on_the_deadline_and_is_0_where_nothing_keeps_up():
    results = [load(10, 100), load(20, 300)]
    assert [serving.knee(results, deadline) for deadline in (50, 100.1, 400)] == [0, 10, 20]
    assert serving.knee([]) == 0


def test_the_load_picture_names_each_knee_with_few_or_no_right_answers_too():
    measured = {
        "once": [load(10, 5), load(40, 5, late=60)],
        "batch": [load(10, 5), load(40, 8, count=800)],
        "my own": [load(10, 5, refused=100)],
    }
    arrivals = serving.poisson_arrivals(10, 5)
    modelled = {"batch": [(10, serving.simulate(arrivals, PASS))], "other": [(10, serving.simulate(arrivals, PASS))]}
    assert math.isinf(measured["once"][0].p99.high)
    assert not math.isinf(measured["batch"][1].p99.high)
    for curves in (None, modelled):
        picture = serving.load_picture(measured, curves)
        assert picture.png.startswith(PNG)
        assert "once up to 10/s, batch up to 40/s, my own up to 0/s" in picture.says
    for nothing in ({}, {"once": []}):
        with pytest.raises(LabError, match="nothing to draw"):
            serving.load_picture(nothing)


def test_the_queue_picture_adds_up_the_waiting():
    arrivals = [0, 1000, 2000]  # one at a time they start at 0, 4 and 8 ms; together the last two start at 4
    runs = {policy: serving.simulate(arrivals, PASS, policy) for policy in ("once", "batch")}
    picture = serving.queue_picture(runs, arrivals, PASS)
    assert picture.png.startswith(PNG)
    assert picture.says.endswith("once 9, batch 5 (modelled).")


def test_the_queue_picture_leaves_out_who_is_rejected():
    run = serving.simulate([0, 0, 0, 0], {1: 0.004}, max_batch=1, max_queue=2)
    assert run.rejected == 2
    assert serving.queue_picture({"batch": run}, [0, 0, 0, 0], {1: 0.004}).says.endswith("batch 4 (modelled).")


def test_the_omission_picture_says_both_p99():
    picture = serving.omission_picture(load(50, 5), load(50, 80))
    assert picture.says == "At about 50 requests/s: closed loop p99 5 ms, open loop p99 80 ms (measured)."


@pytest.fixture(scope="module")
def panel():
    return serving.serving_panel(PASS, [load(10, 5), load(40, 8), load(80, 9, refused=100)])


def test_every_control_works_at_both_ends_and_changes_what_is_said(panel):
    swept = list(panel.sweep())
    assert all(picture.png.startswith(PNG) for _, picture in swept)
    for name, control in panel.controls.items():
        said = {picture.says for state, picture in swept if state[name] != control.value}
        assert said - {panel.picture.says}


def test_the_panel_says_what_the_virtual_clock_says(panel):
    arrivals = serving.poisson_arrivals(300, 2000 / 300)
    run = serving.simulate(arrivals, PASS, "batch", max_batch=4, max_wait_s=0.005)
    said = panel.set(rate=300, max_batch=4, wait=5).says
    assert f"p50 {run.p50_ms:.1f}, p99 {run.p99_ms:.1f} virtual ms, goodput {run.goodput(250):.0f}/s" in said
    assert f"{run.rejected} of 2000 rejected" in said


def test_a_window_costs_itself_at_low_load_and_batches_carry_what_singles_cannot(panel):
    def p50(**setting):
        return float(re.search(r"p50 ([\d.]+)", panel.set(**setting).says)[1])

    assert p50(rate=10, max_batch=16, wait=10) == p50(wait=0) + 10
    assert p50(rate=400, max_batch=1) > 5 * p50(max_batch=16)


def test_the_panel_needs_no_measured_points():
    assert serving.serving_panel(PASS).picture.png.startswith(PNG)
