"""The explorer finds what is planted, covers what it says, and its shortest schedule is the shortest."""

import json
import subprocess
import sys
from itertools import pairwise, product
from math import comb
from pathlib import Path
from types import SimpleNamespace as State

import pytest

from labs_lib import race_conditions as races
from labs_lib.errors import LabError
from tests.race_conditions import planted

HERE = Path(__file__).parent
FOUND = {  # kind of failure, shortest schedule
    "lost update": ("broken", "A1 B A"),
    "check-then-act": ("broken", "A1 B A"),
    "double-checked initialisation": ("broken", "A4 B A"),
    "two-lock deadlock": ("deadlock", "A1 B A"),
    "missed notify": ("deadlock", "A1 B A"),
    "wait without loop": ("raises", "A B5 A"),
    "iterate while modified": ("raises", "A3 B A"),
    "non-atomic swap": ("broken", "A3 B A"),
    "ABA on a free list": ("broken", "A8 B A"),
    "publish before initialise": ("raises", "A2 B"),
    "shared default argument": ("broken", "A6 B A"),
    "check-then-pop": ("deadlock", "A2 B A"),
    "lock per call": ("broken", "A4 B A"),
    "semaphore released twice": ("broken", "A B3 C B"),
}


def interpreters():
    """This one, and every other one in reach that runs and is one of those the course supports."""
    found = {sys.version_info[:2]: sys.executable}
    names = ["python3.11", "python3.12", "python3.13"]
    names += map(str, (Path.home() / ".pyenv" / "versions").glob("3.1[123].*/bin/python3"))
    for name in names:
        try:
            ask = [name, "-c", "import sys; print(*sys.version_info[:2])"]
            told = subprocess.run(ask, capture_output=True, text=True)
            version = tuple(map(int, told.stdout.split()))
        except (OSError, ValueError):
            continue
        if version in ((3, 11), (3, 12), (3, 13)):
            found.setdefault(version, name)
    return found


INTERPRETERS = interpreters()


@pytest.mark.parametrize("version", [(3, 11), (3, 12), (3, 13)], ids=str)
def test_planted_races_are_found_and_their_twins_hold_with_the_same_schedules_on_each_interpreter(version):
    if version not in INTERPRETERS:
        pytest.skip(f"Python {version[0]}.{version[1]} is not installed here")
    told = subprocess.run(
        [INTERPRETERS[version], HERE / "planted.py"],
        capture_output=True, text=True, env={"PYTHONPATH": str(HERE.parents[1]), "PATH": ""},
    )  # fmt: skip
    assert told.returncode == 0, told.stderr
    reports = {(report["name"], report["kind"]): report for report in map(json.loads, told.stdout.splitlines())}
    assert len(reports) == 2 * len(FOUND) == 28
    for name, found in FOUND.items():
        racy, corrected = reports[name, "racy"], reports[name, "corrected"]
        assert (racy["verdict"], racy["schedule"]) == found, name
        assert (racy["complete"], racy["forced_switches"]) == (True, 1), name
        assert (corrected["verdict"], corrected["complete"], corrected["bound"]) == ("holds", True, 2), name


# --- brute force: all orders of all steps, without the explorer's search ----------------------------------------


def words(lengths):
    """All orders of the threads' steps, as texts such as "ABBA"."""
    if not any(lengths):
        yield ""
    for thread, left in enumerate(lengths):
        if left:
            rest = [steps - (i == thread) for i, steps in enumerate(lengths)]
            yield from (chr(ord("A") + thread) + word for word in words(rest))


def spelled(word):
    return " ".join(f"{letter}1" for letter in word)


def switches(word):
    return sum(a != b for a, b in pairwise(word))


def forced(word):
    """Switches away from a thread that has steps left; in a program without locks it could have gone on."""
    return sum(a != b and a in word[i + 1 :] for i, (a, b) in enumerate(pairwise(word)))


def outcomes_by_brute_force(case, most_steps):
    """What each order of the steps leads to; orders that the program does not have are refused by the replay."""
    found = {}
    for lengths in product(range(1, most_steps + 1), repeat=len(case.threads)):
        for word in words(list(lengths)):
            try:
                run = case.replay(spelled(word))
            except LabError:
                continue
            if len(run.steps) == len(word):
                found[word] = run
    return found


def add(counter):
    counter.value += 1


def add_and_look(counter):
    counter.value += 1
    counter.seen = counter.value


def write_one(state):
    state.a = 1
    state.b = 1


def read_other_way(state):
    state.seen = (state.b, state.a)


def take(state):
    if state.left > 0:
        state.left -= 1
        state.sold += 1


SMALL = {
    "three updates": races.Case(lambda: State(value=0), [add] * 3, lambda counter: counter.value > 1),
    "all is well": races.Case(lambda: State(value=0, seen=0), [add, add_and_look], lambda counter: counter.seen),
    "too small": races.Case(lambda: State(value=0, seen=0), [add, add_and_look], lambda c: c.value == 2),
    "half seen": races.Case(
        lambda: State(a=0, b=0, seen=None), [write_one, read_other_way], lambda s: s.seen in ((0, 0), (1, 1))
    ),
    "ticket": races.Case(lambda: State(left=1, sold=0), [take, take], lambda s: s.sold <= 1),
    "ticket lost": races.Case(lambda: State(left=2, sold=0), [take, take], lambda s: s.left + s.sold == 2),
    "swap": planted.non_atomic_swap[0],
}


@pytest.mark.parametrize("name", SMALL)
def test_the_shortest_schedule_is_the_shortest_of_all(name):
    case = SMALL[name]
    most = max(len(races.steps(thread, case.setup())) for thread in case.threads)
    runs = outcomes_by_brute_force(case, most)
    failing = [(forced(word), switches(word), len(word)) for word, run in runs.items() if not run.ok]
    report = case.explore()
    if not failing:
        assert report.verdict == "holds"
        return
    word = "".join("ABC"[step.thread] for step in report.failure.steps)
    assert (report.forced, switches(word), len(word)) == min(failing)
    assert not runs[word].ok


def test_without_a_tight_bound_the_explorer_runs_each_order_of_the_steps_once():
    """Two threads of m and n steps have (m + n)! / m! n! orders."""
    for setup, thread, count in ((lambda: State(value=0), add, 2), (lambda: State(a=0, b=0), write_one, 2)):
        assert len(races.steps(thread, setup())) == count
        report = races.explore(setup, [thread] * 2, lambda state: True, switches=9)
        assert (report.schedules, report.complete) == (comb(2 * count, count), True)
    report = races.explore(lambda: State(value=0), [add] * 3, lambda state: True, switches=9)
    assert report.schedules == 90  # 6! / 2! 2! 2!


def test_the_bound_counts_forced_switches():
    """Of the orders of 2 x 2 steps, 2 need no forced switch, 2 more need one, and the last two need two."""
    counts = [
        races.explore(lambda: State(value=0), [add] * 2, lambda state: True, switches=bound).schedules
        for bound in range(4)
    ]
    by_hand = [sum(forced(word) <= bound for word in words([2, 2])) for bound in range(4)]
    assert counts == by_hand


def test_a_bug_beyond_the_bound_is_not_found_and_the_report_does_not_claim_more():
    def write_twice(state):
        state.x = 1
        state.x = 2

    def read_twice(state):
        state.seen = state.x, state.x

    case = races.Case(lambda: State(x=0, seen=None), [write_twice, read_twice], lambda state: state.seen != (0, 1))
    assert case.explore(switches=1).verdict == "holds"
    assert str(case.explore(switches=1)).endswith("Of more switches this says nothing.")
    assert (case.explore(switches=2).verdict, str(case.explore(switches=2).schedule)) == ("broken", "B1 A1 B A")


def test_a_budget_that_ends_is_reported():
    report = planted.aba[1].explore(budget_s=0.05)
    assert (report.verdict, report.complete) == ("unfinished", False)
    assert "this is not all of them: 0.05 s were too little" in str(report)


def ends(case, points, switches):
    """Every state that the program can end in, and every way it can fail, within a bound."""
    found = set()

    def note(state):
        found.add(str(sorted((name, value) for name, value in vars(state).items() if name != "lock")))
        return True

    assert races.explore(case.setup, case.threads, note, switches, points=points).complete
    return found


@pytest.mark.parametrize("switches", [0, 1, 2])
@pytest.mark.parametrize("name", [*SMALL, "locked"])
def test_to_stop_before_visible_operations_alone_loses_no_end_of_the_program(name, switches):
    case = SMALL.get(name, planted.lost_update[1])
    assert ends(case, "visible", switches) == ends(case, "every", switches)


# --- where this interpreter offers its lock -----------------------------------------------------------------------


def add_result(counter):
    counter.value += one()


def one():
    return 1


def add_in_a_loop(counter):
    for _ in range(2):
        counter.value += 1


@pytest.mark.skipif(not getattr(sys, "_is_gil_enabled", lambda: True)(), reason="there is no such lock here")
def test_plain_addition_is_whole_where_the_interpreter_switches_and_addition_of_a_result_is_not():
    def verdict(thread, points, total=2):
        return races.explore(
            lambda: State(value=0), [thread] * 2, lambda counter: counter.value == total, points=points
        ).verdict

    assert [verdict(add, points) for points in ("visible", "interpreter")] == ["broken", "holds"]
    assert [verdict(add_in_a_loop, points, 4) for points in ("visible", "interpreter")] == ["broken", "holds"]
    assert [verdict(add_result, points) for points in ("visible", "interpreter")] == ["broken", "broken"]


def test_unknown_points_are_refused():
    with pytest.raises(LabError, match="no 'lines' set of switch points"):
        races.explore(dict, [add], bool, points="lines")


# --- replay -------------------------------------------------------------------------------------------------------


def test_a_replay_is_always_the_same():
    for racy, _ in planted.PAIRS.values():
        report = racy.explore()
        texts = {str(racy.replay(str(report.schedule))) for _ in range(10)}
        assert texts == {str(report.failure)}


def test_a_run_tells_what_was_read_and_written():
    run = races.replay((lambda: State(value=0), [add, add], lambda counter: counter.value == 2), "A1 B A")
    assert [(step.thread, step.kind, step.expression, step.value) for step in run.steps] == [
        (0, "read", "counter.value", "0"),
        (1, "read", "counter.value", "0"),
        (1, "write", "counter.value", "1"),
        (0, "write", "counter.value", "1"),
    ]
    assert {step.source for step in run.steps} == {"counter.value += 1"}
    assert (run.ok, run.state.value) == (False, 1)


def test_acquisitions_are_counted_by_thread():
    case = planted.lost_update[1]
    assert case.replay("A B").acquisitions == {"A": 1, "B": 1}
    assert planted.lost_update[0].replay("A B").acquisitions == {"A": 0, "B": 0}


@pytest.mark.parametrize(
    ("schedule", "message"),
    [
        ("A9 B", "Thread A ends after 2 steps, and the schedule gives it 9"),
        ("A B A", "all threads have ended|which has ended"),
        ("A1 C", "There is no thread C"),
        ("A0 B", "'A0' is no turn"),
        ("", "The schedule is empty"),
    ],
)
def test_a_schedule_that_the_program_does_not_have_is_refused(schedule, message):
    with pytest.raises(LabError, match=message):
        races.replay((lambda: State(value=0), [add, add], bool), schedule)


def test_a_thread_that_waits_cannot_be_chosen():
    with pytest.raises(LabError, match="goes on with B, which waits for a lock"):
        planted.lost_update[1].replay("A1 B1 B1 A B")


def test_the_invariant_may_return_a_text_or_assert():
    def asserts(counter):
        if counter.value != 2:
            raise AssertionError(f"it is {counter.value}\nand should be 2")

    for invariant, told in ((asserts, "it is 1"), (lambda counter: counter.value == 2, "the invariant does not hold")):
        assert races.explore(lambda: State(value=0), [add] * 2, invariant).failure.problem == told
