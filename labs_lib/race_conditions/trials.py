"""Trials of a learner's code for the exercises: all schedules within a bound, and the locks that it takes.

Even what one thread does alone is run by the explorer: code that waits for itself is reported, and hangs nobody.
"""

from __future__ import annotations

from collections.abc import Callable

from labs_lib.errors import LabError
from labs_lib.exercises import NotYet
from labs_lib.race_conditions.explorer import explore, replay

PATIENCE_S = 60  # some hundred times what the exercises need: what is said to hold was run to its end


def explored(setup: Callable, threads: list[Callable], invariant: Callable, waits: str, switches: int = 2) -> int:
    """The number of schedules run, all of which hold. NotYet with the shortest one that does not."""
    try:
        report = explore(setup, threads, invariant, switches=switches, budget_s=PATIENCE_S)
    except LabError as error:  # such as a state that outlives a run
        raise NotYet(" ".join(error.sentences)) from error
    if report.verdict == "deadlock":
        raise NotYet(f"in the schedule {report.schedule} {waits}")
    if report.failure:
        stops = f" ({'; '.join(report.failure.stops)})" if report.failure.stops else ""
        raise NotYet(f"{report.failure.problem} in the schedule {report.schedule}{stops}.")
    if not report.complete:
        raise NotYet(f"{PATIENCE_S} s were too little for all schedules: it takes far more steps than it needs.")
    return report.schedules


def alone(setup: Callable, thread: Callable, invariant: Callable, waits: str) -> None:
    """NotYet where one thread alone does not end, or ends with something wrong."""
    run = replay((setup, [thread], invariant), "A")
    if not run.ok:
        raise NotYet(waits if run.kind == "deadlock" else f"{run.problem}.")


def acquisitions(setup: Callable, thread: Callable) -> int:
    """Locks taken by one thread alone."""
    return sum(replay((setup, [thread], lambda state: True), "A").acquisitions.values())
