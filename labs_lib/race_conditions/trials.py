"""Trials of a learner's code for the exercises: all schedules within a bound, and the locks that it takes.

Even what one thread does alone is run by the explorer: code that waits for itself is reported, and hangs nobody.
"""

from __future__ import annotations

from collections.abc import Callable

from labs_lib.exercises import NotYet
from labs_lib.race_conditions.explorer import explore, replay

PATIENCE_S = 60  # some hundred times what the exercises need: what is said to hold was run to its end


def explored(setup: Callable, threads: list[Callable], invariant: Callable, waits: str, switches: int = 2) -> int:
    """The number of schedules run, all of which hold. NotYet with the shortest one that does not."""
    report = explore(setup, threads, invariant, switches=switches, budget_s=PATIENCE_S)
    if report.verdict == "holds":
        return report.schedules
    if report.verdict == "deadlock":
        raise NotYet(waits if len(threads) == 1 else f"in the schedule {report.schedule} {waits}")
    where = "" if len(threads) == 1 else f" in the schedule {report.schedule}"
    raise NotYet(f"{report.failure.problem}{where}.")


def acquisitions(setup: Callable, thread: Callable) -> int:
    """Locks taken by one thread alone."""
    return sum(replay((setup, [thread], lambda state: True), "A").acquisitions.values())
