"""Explore all schedules with few switches, report the shortest one that breaks an invariant, and replay it.

The search is iterative context bounding (Musuvathi and Qadeer, "Iterative context bounding for systematic testing
of multithreaded programs", PLDI 2007): first all schedules without a forced switch, then with one, then with two.
A switch is forced where it takes the turn from a thread that could go on; a thread that ends, waits or sleeps gives
it up, and every choice of who is next is explored. Most bugs need one or two forced switches. The number of
schedules grows like (steps x threads) to the power of the switches, so a bound is needed, and is reported.
"""

from __future__ import annotations

import math
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from labs_lib.errors import LabError
from labs_lib.race_conditions.actors import Outcome
from labs_lib.race_conditions.directors import Prefix, Script, Search, not_determined
from labs_lib.race_conditions.recorder import Recorder, Step
from labs_lib.race_conditions.results import Report, Run
from labs_lib.race_conditions.schedule import Schedule
from labs_lib.race_conditions.stage import Stage
from labs_lib.race_conditions.visible import is_suspended, told

State = object


@dataclass(frozen=True)
class Case:
    """A program to explore: a fresh state, the functions that threads run on it, and what must hold at the end.

    `setup()` makes the state, anew for each schedule, together with its locks. Each of `threads` is a function of
    the state. `invariant(state)` returns True where all is well, or a text that says what is wrong (False does
    too); an assert that fails counts as well. A thread that raises breaks the program whatever the invariant says.
    """

    setup: Callable[[], State]
    threads: Sequence[Callable[[State], object]]
    invariant: Callable[[State], object]

    def __post_init__(self) -> None:
        if not callable(self.setup) or not callable(self.invariant):
            raise LabError("setup and invariant must be functions.", "", "Give setup() and invariant(state).")
        if not isinstance(self.threads, list | tuple) or not all(map(callable, self.threads)):
            raise LabError("threads is no list of functions.", "", "Give one such as [add, add]; each gets the state.")
        for thread in self.threads:
            if is_suspended(thread):
                raise LabError(
                    f"{thread.__name__} is a coroutine or generator function.",
                    "To call it runs none of its code.",
                    "Give a plain function, which runs the loop or the generator itself.",
                )

    def explore(self, switches: int = 2, budget_s: float = 10.0, points: str = "visible") -> Report:
        """See `explore`."""
        return explore(self.setup, self.threads, self.invariant, switches, budget_s, points)

    def replay(self, schedule: Schedule | str, points: str = "visible") -> Run:
        """See `replay`."""
        return replay(self, schedule, points)


def explore(
    setup: Callable[[], State],
    threads: Sequence[Callable[[State], object]],
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
    something that the explorer does not know; where one schedule changes what the next one does; and whatever
    setup() raises.
    """
    case = Case(setup, threads, invariant)
    if not isinstance(switches, int) or switches < 0:
        raise LabError(f"switches={switches!r} is no number of switches.", "", "Give a whole number, 0 or more.")
    if not isinstance(budget_s, int | float) or not 0 < budget_s < math.inf:
        raise LabError(f"budget_s={budget_s!r} is no time.", "", "Give seconds above 0.")
    clock = time.monotonic  # the stage replaces the name
    end = clock() + budget_s
    levels = [deque[Prefix]() for _ in range(switches + 1)]
    levels[0].append(Prefix((), 0))
    tried, best, told_before = 0, None, ""

    def report(bound: int, forced: int | None, complete: bool = True) -> Report:
        failure = None if best is None else replay(case, best.schedule, points)
        if failure is not None and failure.problem != told_before:
            raise not_determined()
        return Report(failure, tried, bound, forced, complete, points, len(case.threads), budget_s)

    stage = Stage(case.threads, points)
    with stage.open(setup, invariant):
        _check_fresh(stage, case)
        for forced, level in enumerate(levels):
            while level:
                if tried and clock() > end:
                    return report(switches, None if best is None else forced, complete=False)
                director = Search(level.popleft())
                outcome, problem = _run(stage, case, director)
                tried += 1
                if problem and (best is None or _length(outcome) < _length(best)):
                    best, told_before = outcome, problem
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
    if not isinstance(schedule, str | Schedule):
        raise LabError(f"{schedule!r} is no schedule.", "", 'Write one such as "A4 B A".')
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


def _check_fresh(stage: Stage, case: Case) -> None:
    """What one schedule leaves behind must not reach the next: the first one twice gives the same twice."""
    if len({_run(stage, case, Search(Prefix((), 0)))[1] for _ in range(2)}) == 2:
        raise not_determined()


def _judged(outcome: Outcome, case: Case, state: State) -> tuple[str, str]:
    """(kind, problem) of a run."""
    if outcome.problem:
        return outcome.kind, outcome.problem
    try:
        found = case.invariant(state)
    except AssertionError as error:
        return "broken", str(error).partition("\n")[0] or "an assert of the invariant fails"
    except LabError:
        raise
    except Exception as error:  # such as a KeyError, where something is missing
        return "broken", f"the invariant raised {told(error)}"
    if isinstance(found, str) and found:
        return "broken", found
    return ("broken", "the invariant does not hold") if found is not None and not found else ("ok", "")


def _length(outcome: Outcome) -> tuple[int, int]:
    return len(outcome.turns), outcome.steps
