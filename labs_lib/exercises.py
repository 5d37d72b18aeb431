"""Exercises: cards, and check, hint and solution on the learner's own object."""

from __future__ import annotations

import ast
import inspect
import textwrap
from collections.abc import Callable
from dataclasses import dataclass
from types import FunctionType

from labs_lib.catalogue import find
from labs_lib.errors import LabError
from labs_lib.journal import journal, record

NOT_ATTEMPTED, NOT_YET, SOLVED = "not attempted", "not yet", "solved"


class NotYet(Exception):
    """Raised by an exercise's `check` with the message that tells the learner what is wrong."""


@dataclass(frozen=True)
class Exercise:
    """One exercise. `starter` and `solution` are functions of the lab's module; their source is shown.

    `check` gets the learner's object. It returns a sentence on what was proved, or raises `NotYet`
    with the message for the learner. It must judge by answers and counts of that object alone.
    """

    id: str
    title: str
    minutes: int
    difficulty: int  # of 5
    checked: str  # what the check looks at, one sentence
    starter: FunctionType
    solution: FunctionType
    why: str  # why the solution is better, with the count that shows it
    hints: tuple[str, str, str]
    check: Callable[[object], str]

    @property
    def card(self) -> str:
        """The card as Markdown, the same text in the notebook."""
        stars = "●" * self.difficulty + "○" * (5 - self.difficulty)
        return (
            f"### Exercise {self.id}: {self.title}\n\n"
            f"{self.minutes} minutes · difficulty {stars} · checked: {self.checked}"
        )


@dataclass(frozen=True)
class Judgement:
    state: str  # one of NOT_ATTEMPTED, NOT_YET, SOLVED
    message: str

    def __str__(self) -> str:
        return f"{self.state.upper()}: {self.message}"


def judge(exercise: Exercise, attempt: object) -> Judgement:
    """The judgement on an attempt. Whatever the attempt raises becomes part of the message."""
    if not callable(attempt):
        return Judgement(NOT_YET, f"check() needs your function itself, and got {type(attempt).__name__}.")
    if _is_starter(attempt, exercise):
        return Judgement(NOT_ATTEMPTED, "this is still the starter. Change it, run the cell, check again.")
    try:
        return Judgement(SOLVED, exercise.check(attempt))
    except NotYet as reason:
        return Judgement(NOT_YET, str(reason))
    except Exception as error:  # the learner's own code may raise anything
        return Judgement(NOT_YET, f"your code raised {type(error).__name__}: {error}{_place(error, attempt)}")


def check(id: str, attempt: object) -> None:
    """Checks your solution of an exercise and prints what is true of it: not attempted, not yet or solved.

    The answer is checked on fresh inputs, then the count that the exercise is about. Never raises.

    >>> check("1.1", 42)
    Exercise 1.1 NOT YET: check() needs your function itself, and got int.
    """
    exercise = _find(id)
    if exercise is None:
        return
    judgement = judge(exercise, attempt)
    record("exercise", exercise=id, state=judgement.state)
    print(f"Exercise {id} {judgement}")


def hint(id: str) -> None:
    """Prints the next of the exercise's three hints; the journal remembers how far you looked.

    >>> hint("1.1")
    Hint 1 of 3: Write down, for one step, which buffers are alive there: lower <= step < upper.
    """
    exercise = _find(id)
    if exercise is None:
        return
    seen = sum(event.get("exercise") == id for event in journal().of("hint"))
    number = min(seen, len(exercise.hints) - 1)
    record("hint", exercise=id, number=number + 1)
    print(f"Hint {number + 1} of {len(exercise.hints)}: {exercise.hints[number]}")


def solution(id: str) -> None:
    """Prints the solution of an exercise and why it is better; the journal remembers that you looked.

    >>> solution("1.1")
    def lower_bound_solution(buffers):
    ...
    The bytes alive change only when a buffer is born or dies...
    """
    exercise = _find(id)
    if exercise is None:
        return
    record("solution", exercise=id)
    print(textwrap.dedent(inspect.getsource(exercise.solution)))
    print(exercise.why)


def get(id: str) -> Exercise:
    """The exercise with that id, such as "1.2". Raises LabError where there is none."""
    id = str(id)
    lab = find(id.partition(".")[0])
    exercises = lab.module("exercises").EXERCISES
    if id not in exercises:
        raise LabError(
            f"Lab {lab.number} has no exercise {id!r}.", f"It has {', '.join(exercises)}.", "Use one of these."
        )
    return exercises[id]


def _find(id: str) -> Exercise | None:
    """The exercise, or None after printing that there is none: a wrong id must not stop Run All."""
    try:
        return get(id)
    except LabError as error:
        print(error)
        return None


def _is_starter(attempt: object, exercise: Exercise) -> bool:
    """Whether the attempt's source is the starter's, whatever its name, comments and blank lines.

    Bytecode would not do: the compiler treats names that a module imports differently in a notebook.
    """
    return isinstance(attempt, FunctionType) and _syntax(attempt) == _syntax(exercise.starter)


def _syntax(function: FunctionType) -> str | None:
    try:
        tree = ast.parse(textwrap.dedent(inspect.getsource(function)))
    except (OSError, SyntaxError):  # no source kept, or a lambda inside a longer line: no starter of ours
        return None
    definition = tree.body[0]
    if not isinstance(definition, ast.FunctionDef | ast.AsyncFunctionDef):
        return None
    return ast.dump(ast.Module(definition.body, []))


def _place(error: BaseException, attempt: object) -> str:
    """", in line N of your function" where the error came through the attempt's own code."""
    code = getattr(attempt, "__code__", None)
    step = error.__traceback__
    line = None
    while step is not None:
        if step.tb_frame.f_code is code:
            line = step.tb_lineno - code.co_firstlineno + 1
        step = step.tb_next
    return f" (line {line} of your function)" if line else ""
