"""The virtual clock: small cases by hand, what queueing theory says, and what holds for any arrivals."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from labs_lib.errors import LabError
from labs_lib.serving import POLICIES, percentile, poisson_arrivals, simulate

MS = 1000
FLAT = {1: 0.010, 16: 0.010}  # a batch costs as much as one
LINEAR = {1: 0.010, 16: 0.160}  # a batch saves nothing


def test_one_at_a_time():
    found = simulate([0, 0, 5 * MS, 50 * MS], {1: 0.010}, "once")
    assert found.latencies == (10 * MS, 20 * MS, 25 * MS, 10 * MS)
    assert found.batches == {1: 4}


def test_two_workers():
    assert simulate([0, 0, 5 * MS], {1: 0.010}, "pool", workers=2).latencies == (10 * MS, 10 * MS, 15 * MS)
    # A worker that was idle all along does not start before its request arrives.
    assert simulate([MS, MS], {1: 0.010}, "pool", workers=2).latencies == (10 * MS, 10 * MS)


def test_the_batch_forms_while_the_model_is_busy():
    found = simulate([0, 1 * MS, 2 * MS, 3 * MS], FLAT, "batch", max_batch=2)
    assert found.latencies == (10 * MS, 19 * MS, 18 * MS, 27 * MS)
    assert found.batches == {1: 2, 2: 1}


def test_a_window_waits_for_the_oldest_and_ends_when_the_batch_is_full():
    found = simulate([0, 1 * MS, 20 * MS, 26 * MS], FLAT, "batch", max_batch=2, max_wait_s=0.005)
    assert found.latencies == (11 * MS, 10 * MS, 15 * MS, 19 * MS)
    # Who waited for the busy model longer than the window goes at once.
    assert simulate([0, 1 * MS], FLAT, "batch", max_batch=1, max_wait_s=0.005).latencies == (10 * MS, 19 * MS)


def test_the_sleeping_batcher_sleeps_though_the_queue_is_full():
    found = simulate([0] * 4, FLAT, "sleep", max_batch=2, max_wait_s=0.005)
    assert found.latencies == (15 * MS, 15 * MS, 30 * MS, 30 * MS)


def test_who_finds_the_queue_full_is_rejected():
    found = simulate([0, 1, 2, 3], FLAT, "batch", max_batch=1, max_queue=2)
    assert found.latencies == (10 * MS, 20 * MS - 1, 30 * MS - 2, None)
    assert found.rejected == 1


def test_deterministic_service_waits_as_pollaczek_and_khinchine_say():
    # M/D/1: the mean wait is rho * s / (2 * (1 - rho)); 50 % load of 10 ms: 5 ms.
    arrivals = poisson_arrivals(50, 2000, seed=1)
    latencies = simulate(arrivals, {1: 0.010}, "once").latencies
    assert sum(latencies) / len(latencies) / MS == pytest.approx(15, abs=0.3)


def test_a_known_run_to_the_microsecond():
    found = simulate(poisson_arrivals(300, 10), {1: 0.004, 8: 0.018, 16: 0.034}, "batch")
    assert found.batches == {1: 747, 2: 339, 3: 200, 4: 129, 5: 51, 6: 20, 7: 6, 8: 4, 10: 1}
    assert (found.rejected, found.p50_ms, found.p99_ms) == (0, 10.186, 25.69)


arrivals_lists = st.lists(st.integers(0, 300 * MS), min_size=1, max_size=60).map(sorted)


@given(
    arrivals_lists, st.sampled_from(POLICIES), st.integers(1, 5), st.integers(0, 20), st.integers(1, 8),
    st.sampled_from([FLAT, LINEAR]),
)  # fmt: skip
def test_any_run_answers_or_rejects_each_once(arrivals, policy, max_batch, wait_ms, max_queue, service):
    found = simulate(arrivals, service, policy, max_batch, wait_ms / 1000, max_queue)
    assert len(found.latencies) == len(arrivals)
    assert sum(size * count for size, count in found.batches.items()) + found.rejected == len(arrivals)
    assert all(latency is None or latency >= 10 * MS for latency in found.latencies)
    assert max(found.batches) <= (max_batch if policy in ("batch", "sleep") else 1)
    if policy in ("once", "pool"):
        assert found.rejected == 0


@given(arrivals_lists)
def test_batches_of_one_are_one_at_a_time(arrivals):
    one = simulate(arrivals, FLAT, "once")
    assert one == simulate(arrivals, FLAT, "batch", max_batch=1, max_queue=1000)
    assert one == simulate(arrivals, FLAT, "pool", workers=1)


@given(arrivals_lists)
def test_where_a_batch_costs_as_much_as_one_nobody_is_later_than_one_by_one(arrivals):
    batched = simulate(arrivals, FLAT, "batch", max_queue=1000).latencies
    single = simulate(arrivals, FLAT, "once").latencies
    assert all(a <= b for a, b in zip(batched, single, strict=True))


def test_percentiles_are_nearest_ranks():
    assert [percentile(range(1, 101), p) for p in (0, 1, 50, 99, 100)] == [1, 1, 50, 99, 100]
    assert math.isnan(percentile([], 99))


def test_mistakes_are_one_sentence():
    with pytest.raises(LabError, match="no policy 'fast'"):
        simulate([0], FLAT, "fast")
    for setting in ({"max_batch": 0}, {"max_batch": 1.5}, {"workers": "2"}, {"max_wait_s": math.inf}):
        with pytest.raises(LabError, match="serve nobody"):
            simulate([0], FLAT, **setting)
    with pytest.raises(LabError, match="nothing arrives"):
        poisson_arrivals(0.1, 1)


@pytest.mark.parametrize(("rate", "seconds"), [(1e9, 1), (float("nan"), 1), (float("inf"), 1), (-1, 1), (5, 0)])
def test_a_load_that_is_none(rate, seconds):
    with pytest.raises(LabError, match="is no load"):
        poisson_arrivals(rate, seconds)


@pytest.mark.parametrize("service_s", [{1: 0}, {1: -0.1}, {1: float("nan")}, {"1": 0.1}, {0: 0.1}])
def test_a_batch_that_takes_no_time(service_s):
    with pytest.raises(LabError, match="takes no time"):
        simulate([0], service_s)


def test_arrivals_out_of_order():
    with pytest.raises(LabError, match="not in order"):
        simulate([5, 0], {1: 0.1})
