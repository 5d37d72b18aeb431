"""Explore all schedules with few switches, report the shortest one that breaks an invariant, and replay it.

The search is iterative context bounding (Musuvathi and Qadeer, "Iterative context bounding for systematic testing
of multithreaded programs", PLDI 2007): first all schedules without a forced switch, then with one, then with two.
A switch is forced where it takes the turn from a thread that could go on; a thread that ends, waits or sleeps gives
it up, and every choice of who is next is explored. Most bugs need one or two forced switches. The number of
schedules grows like (steps x threads) to the power of the switches, so a bound is needed, and is reported.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from labs_lib.errors import LabError
from labs_lib.race_conditions.actors import Outcome
from labs_lib.race_conditions.directors import Prefix, Script, Search, not_determined
from labs_lib.race_conditions.recorder import Recorder, Step
from labs_lib.race_conditions.schedule import Schedule
from labs_lib.race_conditions.stage import Stage

State = object
WHERE = {
    "visible": "before visible operations of your code",
    "interpreter": "where this interpreter offers its lock",
    "every": "before every bytecode",
}


@dataclass(frozen=True)
class Case:
    """A program to explore: a fresh state, the functions that threads run on it, and what must hold at the end.

    `setup()` makes the state, anew for each schedule, together with its locks. Each of `threads` is a function of
    the state. `invariant(state)` returns True where all is well, or a text that says what is wrong (False does
    too); an assert that fails counts as well. A thread that raises breaks the program whatever the invariant says.
    """

    setup: Callable[[], State]
    threads: list[Callable[[State], object]]
    invariant: Callable[[State], object]

    def explore(self, switches: int = 2, budget_s: float = 10.0, points: str = "visible") -> Report:
        """See `explore`."""
        return explore(self.setup, self.threads, self.invariant, switches, budget_s, points)

    def replay(self, schedule: Schedule | str, points: str = "visible") -> Run:
        """See `replay`."""
        return replay(self, schedule, points)


@dataclass(frozen=True)
class Run:
    """One run in full."""

    kind: str  # "ok", "broken", "deadlock" or "raises"
    problem: str  # what is wrong, empty where nothing is
    schedule: Schedule
    steps: tuple[Step, ...]
    acquisitions: dict[str, int]  # locks taken by each thread, those inside of queues and conditions included
    state: State

    @property
    def ok(self) -> bool:
        return self.kind == "ok"

    @property
    def turns(self) -> list[list[Step]]:
        """The steps, those of one turn together."""
        turns: list[list[Step]] = []
        for step in self.steps:
            if not turns or turns[-1][0].thread != step.thread:
                turns.append([])
            turns[-1].append(step)
        return turns

    def __str__(self) -> str:
        return "\n".join([f"{self.schedule}: {self.problem or 'all is well'}", *map(str, self.steps)])

    def as_dict(self) -> dict[str, object]:
        return {
            "kind": self.kind,
            "problem": self.problem,
            "schedule": str(self.schedule),
            "steps": [str(step) for step in self.steps],
            "acquisitions": self.acquisitions,
        }


@dataclass(frozen=True)
class Report:
    """What `explore` found, and what it covered."""

    failure: Run | None  # the shortest failing run
    schedules: int  # that were run
    bound: int  # forced switches in each, at most
    forced: int | None  # forced switches in the failing schedule
    complete: bool  # whether all schedules within the bound were run, up to those of the failure's length
    points: str
    threads: int
    budget_s: float

    @property
    def verdict(self) -> str:
        """"broken", "deadlock", "raises", or "holds": within the bound."""
        return "holds" if self.failure is None else self.failure.kind

    @property
    def schedule(self) -> Schedule | None:
        """Of the shortest failing run: fewest forced switches first, then fewest turns, then fewest steps."""
        return None if self.failure is None else self.failure.schedule

    def as_dict(self) -> dict[str, object]:
        return {
            "verdict": self.verdict,
            "problem": self.failure.problem if self.failure else None,
            "schedule": str(self.schedule) if self.failure else None,
            "forced_switches": self.forced,
            "schedules": self.schedules,
            "bound": self.bound,
            "complete": self.complete,
            "points": self.points,
            "threads": self.threads,
        }

    def __str__(self) -> str:
        covered = (
            f"{_counted(self.schedules, 'schedule')} of {_counted(self.threads, 'thread')} with up to "
            f"{_counted(self.bound, 'forced switch', 'es')} {WHERE[self.points]}"
        )
        if self.failure is None:
            if self.complete:
                return f"It holds in all {covered}. Of more switches this says nothing."
            return f"It holds in {covered}; others within this bound were not run in {self.budget_s:g} s."
        shortest = "No shorter one fails" if self.complete else "There may be a shorter one"
        return (
            f"{self.failure.problem[:1].upper()}{self.failure.problem[1:]}. The schedule: {self.schedule}, with "
            f"{_counted(self.forced, 'forced switch', 'es')}. {shortest}; run: {covered}."
        )


def explore(
    setup: Callable[[], State],
    threads: Iterable[Callable[[State], object]],
    invariant: Callable[[State], object],
    switches: int = 2,
    budget_s: float = 10.0,
    points: str = "visible",
) -> Report:
    """Runs the program of a `Case` under all schedules with at most `switches` forced switches, fewest first.

    The functions run in real threads, one at a time; a switch is possible before each visible bytecode of your
    code (`points`: see `labs_lib.race_conditions.visible`). Where a schedule fails, all others with as many forced
    switches are run too, to report the shortest. `budget_s` seconds end the search early; the report says so.

    >>> from types import SimpleNamespace
    >>> def add(counter):
    ...     counter.value += 1
    >>> report = explore(lambda: SimpleNamespace(value=0), [add, add], lambda counter: counter.value == 2)
    >>> report.verdict, str(report.schedule)
    ('broken', 'A1 B A')

    Raises LabError where the functions do not do the same under the same schedule, where one spins, or waits for
    something that the explorer does not know; and whatever setup() and the invariant raise.
    """
    case = Case(setup, list(threads), invariant)
    if switches < 0:
        raise LabError(f"switches={switches} is below 0.", "", "Give the largest number of forced switches to try.")
    clock = time.monotonic  # the stage replaces the name
    end = clock() + budget_s
    levels = [deque[Prefix]() for _ in range(switches + 1)]
    levels[0].append(Prefix((), 0))
    tried, best, told = 0, None, ""

    def report(bound: int, forced: int | None, complete: bool = True) -> Report:
        failure = None if best is None else replay(case, best.schedule, points)
        if failure is not None and failure.problem != told:
            raise not_determined()
        return Report(failure, tried, bound, forced, complete, points, len(case.threads), budget_s)

    stage = Stage(case.threads, points)
    with stage.open(setup, invariant):
        for forced, level in enumerate(levels):
            while level:
                if tried and clock() > end:
                    return report(switches, None if best is None else forced, complete=False)
                director = Search(level.popleft())
                outcome, problem = _run(stage, case, director)
                tried += 1
                if problem and (best is None or _length(outcome) < _length(best)):
                    best, told = outcome, problem
                for alternative, cost in director.alternatives():
                    if forced + cost <= switches:
                        levels[forced + cost].append(alternative)
            if best is not None:
                return report(forced, forced)
    return report(switches, None)


def replay(case: Case | tuple, schedule: Schedule | str, points: str = "visible") -> Run:
    """Runs a case (or its three parts) under one schedule, always the same, and records every step.

    `schedule` is such as "A4 B A": thread A does 4 steps, then B runs as far as it gets, then A. Whoever is left
    at its end goes on by itself, A first. `steps` numbers the steps of a function.

    Raises LabError where the schedule asks for a thread that has ended or waits.
    """
    case = case if isinstance(case, Case) else Case(*case)
    schedule = Schedule.parse(schedule) if isinstance(schedule, str) else schedule
    stage, recorder = Stage(case.threads, points), Recorder()
    with stage.open(case.setup, case.invariant):
        state = case.setup()
        script = Script(schedule, stage)
        outcome = stage.run(state, script, recorder)
        script.check_end()
        kind, problem = _judged(outcome, case, state)
    return Run(kind, problem, outcome.schedule, tuple(recorder.steps), outcome.acquisitions, state)


def steps(function: Callable[[State], object], state: State, points: str = "visible") -> tuple[Step, ...]:
    """The steps of a function that runs alone: what a schedule counts."""
    return replay(Case(lambda: state, [function], lambda state: True), "A", points).steps


def _run(stage: Stage, case: Case, director: Search) -> tuple[Outcome, str]:
    state = case.setup()
    outcome = stage.run(state, director)
    return outcome, _judged(outcome, case, state)[1]


def _judged(outcome: Outcome, case: Case, state: State) -> tuple[str, str]:
    """(kind, problem) of a run."""
    if outcome.problem:
        return outcome.kind, outcome.problem
    try:
        found = case.invariant(state)
    except AssertionError as error:
        return "broken", str(error).partition("\n")[0] or "an assert of the invariant fails"
    if isinstance(found, str) and found:
        return "broken", found
    return ("broken", "the invariant does not hold") if found is not None and not found else ("ok", "")


def _length(outcome: Outcome) -> tuple[int, int]:
    return len(outcome.turns), outcome.steps


def _counted(count: int, noun: str, plural: str = "s") -> str:
    return f"{count:,} {noun}{'' if count == 1 else plural}"
