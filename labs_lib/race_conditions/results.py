"""What an exploration found: one run in full, and the report of all that were run."""

from __future__ import annotations

import re
from dataclasses import dataclass

from labs_lib.race_conditions.recorder import Step
from labs_lib.race_conditions.schedule import Schedule, letter

WHERE = {
    "visible": "before visible operations of your code",
    "interpreter": "where this interpreter offers its lock",
    "every": "before every bytecode",
}


@dataclass(frozen=True)
class Run:
    """One run in full."""

    kind: str  # "ok", "broken", "deadlock" or "raises"
    problem: str  # what is wrong, empty where nothing is
    schedule: Schedule
    steps: tuple[Step, ...]
    acquisitions: dict[str, int]  # locks taken by each thread, those inside of queues and conditions included
    state: object

    @property
    def ok(self) -> bool:
        return self.kind == "ok"

    @property
    def stops(self) -> list[str]:
        """Where threads were stopped that could have gone on: each with the line that it does next."""
        stops, turns = [], self.turns
        for number, (segment, turn) in enumerate(zip(self.schedule.segments, turns, strict=False)):
            following = next((each[0] for each in turns[number + 1 :] if each[0].thread == turn[0].thread), None)
            if segment.steps is not None and following is not None:
                stops.append(f"{letter(following.thread)} stops before `{following.source}`")
        return stops

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
        """"broken", "deadlock" or "raises"; "holds": within the bound; "unfinished": so far, and not all was run."""
        if self.failure is not None:
            return self.failure.kind
        return "holds" if self.complete else "unfinished"

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
            return (
                f"No schedule of {covered} fails, but this is not all of them: {self.budget_s:g} s were too little. "
                f"Give it more, fewer switches, or a smaller case."
            )
        shortest = "No shorter one fails" if self.complete else "There may be a shorter one"
        problem = self.failure.problem
        problem = problem[:1].upper() + problem[1:] if re.match("[a-z]+ ", problem) else problem
        return (
            f"{problem}. The schedule: {self.schedule}, with "
            f"{_counted(self.forced, 'forced switch', 'es')}. {shortest}; run: {covered}."
        )


def _counted(count: int, noun: str, plural: str = "s") -> str:
    return f"{count:,} {noun}{'' if count == 1 else plural}"
