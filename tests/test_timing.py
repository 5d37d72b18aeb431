"""The statistics are exact: the interval, the floor and the verdict are checked on invented samples."""

import math
import mmap
import random
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from labs_lib import page_faults, timing
from labs_lib.timing import Timing, median_interval, time_pair


@given(st.lists(st.floats(-1e6, 1e6), min_size=1, max_size=60))
def test_interval_holds_the_median_and_mirrors_with_the_data(values):
    interval = median_interval(values)
    assert interval.low <= interval.median <= interval.high
    mirrored = median_interval([-value for value in values])
    assert (mirrored.low, mirrored.high) == (-interval.high, -interval.low)


@pytest.mark.parametrize(("n", "rank"), [(5, None), (6, 1), (8, 1), (9, 2), (20, 6), (100, 40), (5000, 2431)])
def test_interval_takes_the_ranks_of_the_sign_test(n, rank):
    """Ranks from the table of the 95 % confidence interval for a median."""
    interval = median_interval(list(range(1, n + 1)))
    expected = (-math.inf, math.inf) if rank is None else (rank, n + 1 - rank)
    assert (interval.low, interval.high) == expected


def test_interval_covers_the_true_median_as_often_as_it_says():
    rng = random.Random(0)
    covered = 0
    for _ in range(2000):
        interval = median_interval([rng.lognormvariate(0, 2) for _ in range(25)])
        covered += interval.low <= 1 <= interval.high
    assert covered >= 0.94 * 2000


def make_timing(low, high, floor):
    return Timing(math.sqrt(low * high), low, high, floor, 20, 1.0, 1.0, (None, None))


@pytest.mark.parametrize(
    ("low", "high", "floor", "verdict"),
    [
        (1.10, 1.20, 1.05, "faster"),
        (1.04, 1.20, 1.05, "indistinguishable"),
        (0.98, 1.20, 1.01, "indistinguishable"),
        (0.80, 0.90, 1.05, "slower"),
        (0.80, 0.96, 1.05, "indistinguishable"),
        (0.0, math.inf, math.inf, "indistinguishable"),
    ],
)
def test_verdict_needs_the_whole_interval_outside_the_floor(low, high, floor, verdict):
    assert make_timing(low, high, floor).verdict == verdict


class FakeClock:
    """A clock that only work moves, so that what `time_pair` computes can be known exactly."""

    def __init__(self, monkeypatch):
        self.now = self.cpu = 0.0
        monkeypatch.setattr(timing, "perf_counter", lambda: self.now)
        monkeypatch.setattr(timing, "process_time", lambda: self.cpu)

    def work(self, seconds, result=None, threads=1):
        def run():
            self.now += seconds
            self.cpu += seconds * threads
            return result

        return run


def test_ratio_and_outputs_on_a_clock_without_noise(monkeypatch):
    clock = FakeClock(monkeypatch)
    result = time_pair(clock.work(0.003, "a"), clock.work(0.001, "b"), budget_s=1)
    assert result.ratio == pytest.approx(3)
    assert result.floor == pytest.approx(1)
    assert (result.naive_seconds, result.optimised_seconds) == pytest.approx((0.003, 0.001))
    assert result.verdict == "faster"
    assert result.outputs == ("a", "b")


def test_short_functions_are_repeated_until_a_sample_is_long_enough(monkeypatch):
    clock = FakeClock(monkeypatch)
    result = time_pair(clock.work(1e-7), clock.work(2e-7), budget_s=1)
    assert result.ratio == pytest.approx(0.5)
    assert result.verdict == "slower"


def test_the_budget_is_kept_and_too_few_rounds_give_no_verdict(monkeypatch):
    clock = FakeClock(monkeypatch)
    result = time_pair(clock.work(1.0), clock.work(0.1), budget_s=5)
    assert result.rounds == 2
    assert clock.now < 5 + 4  # warm-up comes on top
    assert (result.low, result.high) == (0, math.inf)
    assert result.verdict == "indistinguishable"


def test_the_cores_that_work_are_counted(monkeypatch):
    clock = FakeClock(monkeypatch)
    assert time_pair(clock.work(0.003), clock.work(0.002, threads=2), budget_s=1).cores == pytest.approx((1, 2))


def test_between_is_called_after_the_warm_up_and_each_round_and_a_sample_is_then_one_call(monkeypatch):
    clock, seen = FakeClock(monkeypatch), []
    result = time_pair(
        clock.work(1e-5, "a"), clock.work(1e-5, "b"), budget_s=1e-3, between=lambda *outputs: seen.append(outputs)
    )
    assert seen == [("a", "b")] * (1 + result.rounds)
    assert clock.now == pytest.approx(1e-5 * (2 + 3 * result.rounds))


def test_a_clock_too_coarse_for_one_call_is_no_error(monkeypatch):
    clock = FakeClock(monkeypatch)
    result = time_pair(clock.work(0.01), clock.work(0), budget_s=1, between=lambda *outputs: None)
    assert result.ratio == pytest.approx(0.01 / 1e-9)


def test_progress_ends_at_or_below_one(monkeypatch):
    clock = FakeClock(monkeypatch)
    fractions = []
    time_pair(clock.work(0.01), clock.work(0.01), budget_s=1, progress=fractions.append)
    assert fractions == sorted(fractions)
    assert 0 < fractions[-1] <= 1


@pytest.mark.skipif(page_faults.faults_so_far() is None, reason="this system counts no page faults")
def test_page_faults_of_the_timed_calls_are_told():
    """Anonymous memory straight from the system: each of its 64 pages faults at first touch."""

    def touches_new_memory():
        with mmap.mmap(-1, 64 * mmap.PAGESIZE) as memory:
            for page in range(64):
                memory[page * mmap.PAGESIZE] = 1

    naive, optimised = time_pair(touches_new_memory, lambda: None, budget_s=0.1).faults
    assert naive >= 60
    assert optimised < 1


def test_garbage_collection_is_on_again_afterwards_even_after_an_error():
    import gc

    calls = iter(range(10_000_000))

    def fails_later():
        if next(calls) > 50_000:
            raise ValueError("planted")

    with pytest.raises(ValueError, match="planted"):
        time_pair(fails_later, lambda: None, budget_s=30)
    assert gc.isenabled()


@pytest.mark.timing
def test_a_function_is_not_faster_than_itself():
    def work():
        return sum(range(2000))

    verdicts = [time_pair(work, work, budget_s=0.3).verdict for _ in range(20)]
    assert verdicts.count("indistinguishable") >= 17


@pytest.mark.timing
def test_twice_the_work_is_slower():
    result = time_pair(lambda: sum(range(4000)), lambda: sum(range(2000)), budget_s=1)
    assert result.verdict == "faster"
    start = time.perf_counter()
    time_pair(lambda: sum(range(4000)), lambda: sum(range(2000)), budget_s=0.2)
    assert time.perf_counter() - start < 5
