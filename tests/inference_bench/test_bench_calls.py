"""labs_lib.inference_bench.calls: what a call took, and what other processes took of it."""

from types import SimpleNamespace

import pytest

from labs_lib.inference_bench import calls


@pytest.fixture
def clock(monkeypatch):
    """Hands that a test moves: wall time, CPU time, and how often the core was given away."""
    hands = SimpleNamespace(wall=0.0, cpu=0.0, switches=0)
    monkeypatch.setattr(calls, "perf_counter", lambda: hands.wall)
    monkeypatch.setattr(calls, "process_time", lambda: hands.cpu)
    monkeypatch.setattr(calls, "_switches", lambda: hands.switches)
    return hands


def moves(clock, wall, cpu, switches=0):
    def run():
        clock.wall += wall
        clock.cpu += cpu
        clock.switches = switches if switches is None else clock.switches + switches

    return run


def test_what_other_processes_took_is_left_out(clock):
    assert calls.timed(moves(clock, wall=3.0, cpu=1.0)) == calls.Call(wall=3.0, busy=1.0)


def test_a_call_that_waited_by_itself_is_busy_all_the_time(clock):
    assert calls.timed(moves(clock, 3.0, 1.0, switches=1)).busy == 3.0


def test_several_threads_are_no_more_than_the_whole_time(clock):
    assert calls.timed(moves(clock, 3.0, 5.0)).busy == 3.0


def test_on_a_gpu_the_whole_time_counts(clock):
    assert calls.timed(moves(clock, 3.0, 1.0), "cuda").busy == 3.0


def test_where_nobody_counts_switches_the_whole_time_counts(clock):
    clock.switches = None
    assert calls.timed(moves(clock, 3.0, 1.0, switches=None)).busy == 3.0


def test_computing_gives_no_core_away():
    before = calls._switches()
    sum(range(1000))
    assert before is None or calls._switches() - before <= 1
