import json
import linecache

import pytest

from labs_lib import check, exercises, hint, journal, solution
from labs_lib.exercises import Exercise, NotYet, judge


def doubled(x):
    # YOUR TURN
    return x


def right(x):
    return 2 * x


def check_doubled(attempt):
    for x in (1, 5):
        if attempt(x) != 2 * x:
            raise NotYet(f"{x} doubled is {2 * x}.")
    return "right on 2 numbers."


EXERCISE = Exercise(
    "1.9", "double", 1, 1, "the answer", doubled, right, "Why not.", ("one", "two", "three"), check_doubled
)


@pytest.fixture(autouse=True)
def one_exercise(monkeypatch):
    monkeypatch.setattr(exercises, "get", lambda id: EXERCISE)


def test_the_three_states():
    assert str(judge(EXERCISE, doubled)).startswith("NOT ATTEMPTED")
    assert str(judge(EXERCISE, lambda x: x + 1)) == "NOT YET: 5 doubled is 10."
    assert str(judge(EXERCISE, right)) == "SOLVED: right on 2 numbers."


def test_a_starter_with_async_is_recognised_and_nothing_else_is():
    async def starter(x):
        return x

    async def attempt(x):
        return 2 * x

    def judged(attempt):
        return "fine"

    exercise = Exercise("1.9", "", 1, 1, "", starter, right, "", ("", "", ""), judged)
    states = [judge(exercise, one).state for one in (starter, attempt, right)]
    assert states == ["not attempted", "solved", "solved"]


def test_the_starter_is_recognised_by_its_body_alone():
    def renamed(x):
        # a comment of one's own

        return x

    def other_constant(x):
        return x if x else 7

    assert judge(EXERCISE, renamed).state == "not attempted"
    assert judge(EXERCISE, other_constant).state == "not yet"


def test_nested_functions_belong_to_the_body():
    def starter():
        return lambda x: x + 1

    def changed():
        return lambda x: x + 2

    exercise = Exercise("1.9", "", 1, 1, "", starter, right, "", ("", "", ""), lambda attempt: "fine")
    assert judge(exercise, starter).state == "not attempted"
    assert judge(exercise, changed).state == "solved"


def test_a_module_that_imports_a_name_compiles_it_differently_and_is_recognised_all_the_same():
    """CPython 3.11 calls `json.dumps(x)` by other bytecode where json is imported by the module itself."""
    source = "def starter(x):\n    return json.dumps(x)\n"
    linecache.cache["cell"] = (len(source), None, source.splitlines(keepends=True), "cell")
    namespace = {"json": json}
    exec(compile(source, "cell", "exec"), namespace)

    def starter(x):
        return json.dumps(x)

    exercise = Exercise("1.9", "", 1, 1, "", starter, right, "", ("", "", ""), lambda attempt: "fine")
    assert judge(exercise, namespace["starter"]).state == "not attempted"


def test_what_the_attempt_raises_is_told_with_its_line():
    def attempt(x):
        y = x
        return y / 0

    message = judge(EXERCISE, attempt).message
    assert message == "your code raised ZeroDivisionError: division by zero (line 3 of your function)"


@pytest.mark.parametrize("attempt", [None, 3, "x"])
def test_only_a_function_can_be_checked(attempt):
    assert "needs your function itself" in judge(EXERCISE, attempt).message


def test_check_prints_one_line_and_remembers(capsys):
    check("1.9", right)
    assert capsys.readouterr().out == "Exercise 1.9 SOLVED: right on 2 numbers.\n"
    (event,) = journal().of("exercise")
    assert (event["exercise"], event["state"]) == ("1.9", "solved")


def test_an_interrupt_goes_through():
    def attempt(x):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        check("1.9", attempt)


def test_hints_come_one_by_one_and_the_last_one_stays(capsys):
    for _ in range(4):
        hint("1.9")
    assert capsys.readouterr().out.splitlines() == [
        "Hint 1 of 3: one",
        "Hint 2 of 3: two",
        "Hint 3 of 3: three",
        "Hint 3 of 3: three",
    ]
    assert [event["number"] for event in journal().of("hint")] == [1, 2, 3, 3]


def test_the_solution_is_source_and_reason(capsys):
    solution("1.9")
    assert capsys.readouterr().out == "def right(x):\n    return 2 * x\n\nWhy not.\n"
    assert len(journal().of("solution")) == 1


@pytest.mark.parametrize("id", ["77.1", "1.77", "", "x"])
def test_an_unknown_exercise_is_said_and_not_raised(id, monkeypatch, capsys):
    monkeypatch.undo()
    for function in (lambda id: check(id, right), hint, solution):
        function(id)
        assert "There is no lab" in (out := capsys.readouterr().out) or "has no exercise" in out


def test_the_card_is_markdown():
    assert EXERCISE.card.startswith("### Exercise 1.9: double\n\n1 minutes")
