"""What the explorer refuses, and what it says of programs that it can't judge."""

import itertools
import sys
import threading
import time
from types import SimpleNamespace

import pytest

from labs_lib import race_conditions as races
from labs_lib.cli import main
from labs_lib.errors import LabError


def state():
    return SimpleNamespace(value=0)


def add(counter):
    counter.value += 1


def holds(counter):
    return True


async def coroutine(counter):
    counter.value += 1


def generator(counter):
    yield counter.value


@pytest.mark.parametrize("function", [coroutine, generator])
def test_a_function_whose_call_runs_nothing_is_refused(function):
    with pytest.raises(LabError, match="runs none of its code"):
        races.explore(state, [function, add], holds)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((state, add, holds), "threads is no list"),
        ((state, [3], holds), "threads is no list"),
        ((None, [add], holds), "must be functions"),
        ((state, [add], None), "must be functions"),
        ((state, [add], holds, "2"), "switches='2'"),
        ((state, [add], holds, 2.0), "switches=2.0"),
        ((state, [add], holds, 2, "a"), "budget_s='a'"),
        ((state, [add], holds, 2, 0), "budget_s=0"),
        ((state, [add], holds, 2, float("nan")), "budget_s=nan"),
    ],
)
def test_wrong_arguments(arguments, message):
    with pytest.raises(LabError, match=message):
        races.explore(*arguments)


def test_what_is_no_schedule_and_no_function():
    with pytest.raises(LabError, match="None is no schedule"):
        races.replay((state, [add], holds), None)
    with pytest.raises(LabError, match="threads is no list"):
        races.steps(3, state())


def test_a_state_that_is_not_fresh_is_no_bug_of_the_threads():
    shared = state()
    with pytest.raises(LabError, match="something else the second time"):
        races.explore(lambda: shared, [add, add], lambda counter: counter.value == 2)


counted = itertools.count()


def test_what_a_global_carries_into_the_next_schedule_is_no_bug_of_the_threads():
    first = next(counted)

    def number(counter):
        counter.value = next(counted) - first

    with pytest.raises(LabError, match="led to something else the second time"):
        races.explore(state, [number], lambda counter: counter.value == 1)


def test_a_shared_generator_is_asked_by_two_threads_at_once():
    def endless():
        number = 0
        while True:
            yield number
            number += 1

    def draw(shared):
        shared.got.append(next(shared.numbers))

    report = races.explore(
        lambda: SimpleNamespace(numbers=endless(), got=[]), [draw, draw], lambda shared: len(set(shared.got)) == 2
    )
    assert report.verdict == "raises"
    assert "generator already executing" in report.failure.problem


def test_an_invariant_that_raises_has_found_something():
    report = races.explore(dict, [lambda seen: seen.clear()], lambda seen: seen["n"] == 1)
    assert report.verdict == "broken"
    assert "the invariant raised KeyError: 'n'" in report.failure.problem


def test_sleepers_do_not_starve_the_one_that_holds_the_lock():
    def work(shared):
        while not shared.lock.acquire(blocking=False):
            time.sleep(0)
        shared.value += 1
        shared.lock.release()

    def locked():
        return SimpleNamespace(value=0, lock=threading.Lock())

    report = races.explore(locked, [work] * 3, lambda shared: shared.value == 3, switches=1, budget_s=1)
    assert report.failure is None, "and no schedule is said to spin"


def test_an_import_that_fails_in_a_thread_is_the_explorers_limit():
    def load(counter):
        import no_such_module  # noqa: F401

    with pytest.raises(LabError, match="Import it at the top"):
        races.explore(state, [load], holds)


def test_an_error_names_a_line_of_your_code_only():
    failure = races.explore(state, [lambda: None], holds).failure
    assert "_perform" not in failure.problem
    assert "TypeError" in failure.problem


def test_where_a_thread_was_stopped():
    report = races.explore(state, [add, add], lambda counter: counter.value == 2)
    assert report.failure.stops == ["A stops before `counter.value += 1`"]


OWN = """
from labs_lib.race_conditions import Case

def work(state):
    for _ in range(20):
        state["n"] = state.get("n", 0)

long = Case(dict, [work] * 3, lambda state: True)

def fails():
    raise RuntimeError("no database")

no_setup = Case(fails, [work], lambda state: True)
"""


@pytest.fixture
def own(tmp_path, monkeypatch):
    """A module of the learner's in the current folder."""
    (tmp_path / "own_cases.py").write_text(OWN)
    monkeypatch.chdir(tmp_path)
    yield
    sys.modules.pop("own_cases", None)


def test_an_exploration_that_did_not_finish_is_no_pass_for_a_build(own, capsys):
    assert main(["explore", "own_cases:long", "--budget", "0.05"]) == 1
    assert "this is not all of them" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["explore", "my"], "labs_lib.race_conditions.cases:lazy_model"),
        (["explore", "labs_lib.race_conditions.cases:lazy_model", "--switches", "-1"], "no whole number, 0 or more"),
        (["explore", "own_cases:no_setup"], "setup() failed with RuntimeError: no database"),
    ],
)
def test_what_the_command_refuses(own, capsys, arguments, message):
    assert main(arguments) == 2
    assert message in capsys.readouterr().err
