"""For teachers: a folder of exported journals as one table, a row for each learner."""

from __future__ import annotations

import csv
import io
import math
from dataclasses import dataclass
from pathlib import Path
from statistics import median

from labs_lib import journal_file
from labs_lib.catalogue import LABS
from labs_lib.errors import LabError
from labs_lib.exercises import NOT_YET, SOLVED
from labs_lib.journal import Journal


@dataclass(frozen=True)
class Learner:
    """What one journal says. The name is that of its file, without the ending."""

    name: str
    solved: tuple[str, ...]  # exercises, in the order in which they were solved
    not_yet: tuple[str, ...]  # tried, and never solved
    hints: dict[str, int]  # how many were opened for an exercise
    solution_first: tuple[str, ...]  # solved, after the solution had been opened
    factors: tuple[float, ...]  # each scored prediction's distance from the truth, as a factor of at least 1
    broken_lines: int

    @property
    def median_factor(self) -> float | None:
        return median(self.factors) if self.factors else None

    def state(self, exercise: str) -> str:
        if exercise in self.solution_first:
            return "solved after the solution"
        return "solved" if exercise in self.solved else "not yet" if exercise in self.not_yet else ""

    def as_dict(self) -> dict[str, object]:
        return {**vars(self), "median_factor": self.median_factor}


@dataclass(frozen=True)
class ClassReport:
    """All learners of a folder; prints as a table, `csv()` holds every exercise."""

    learners: tuple[Learner, ...]

    def as_dict(self) -> dict[str, object]:
        return {"learners": [learner.as_dict() for learner in self.learners]}

    def csv(self) -> str:
        """A line for each learner; for each exercise what became of it, and the hints opened for it."""
        exercises = _exercises(self.learners)
        text = io.StringIO()
        table = csv.writer(text, lineterminator="\n")
        table.writerow(
            ["learner", "solved", "predictions", "median factor", "broken lines"]
            + [column for exercise in exercises for column in (exercise, f"{exercise} hints")]
        )
        for learner in self.learners:
            factor = "" if learner.median_factor is None else f"{learner.median_factor:.2f}"
            states = [cell for id in exercises for cell in (learner.state(id), learner.hints.get(id, 0))]
            counted = [len(learner.solved), len(learner.factors), factor, learner.broken_lines]
            table.writerow([learner.name, *counted, *states])
        return text.getvalue()

    def __str__(self) -> str:
        width = max(len("learner"), *(len(learner.name) for learner in self.learners))
        lines = [f"{'learner':{width}}  solved  not yet  hints  predictions  off by, in the median"]
        for learner in self.learners:
            factor = "" if learner.median_factor is None else f"a factor of {learner.median_factor:.2f}"
            lines.append(
                f"{learner.name:{width}}  {len(learner.solved):6}  {len(learner.not_yet):7}  "
                f"{sum(learner.hints.values()):5}  {len(learner.factors):11}  {factor}".rstrip()
            )
        for learner in self.learners:
            if learner.broken_lines:
                lines.append(f"{learner.name}: {learner.broken_lines} lines could not be read, and are left out")
        return "\n".join(lines)


def class_report(folder: str | Path) -> ClassReport:
    """Reads each *.jsonl file of the folder, which a learner wrote with `lab.journal().export(...)`.

    Raises LabError where there is no such folder, or no journal in it.
    """
    folder = Path(folder).expanduser()
    advice = 'Collect what learners write with lab.journal().export("NAME.jsonl").'
    if not folder.is_dir():
        raise LabError(f"There is no folder {folder}.", "", advice)
    learners = []
    for path in sorted(folder.glob("*.jsonl")):
        try:
            events, broken = journal_file.from_lines(path.read_bytes())
        except OSError as error:
            raise LabError(f"Cannot read {path}.", f"{error.strerror}.", "Check its permissions.") from error
        events.sort(key=lambda event: event["time"])
        learners.append(_learner(path.stem, Journal(path, events, broken)))
    if not learners:
        raise LabError(f"{folder} holds no .jsonl file.", "", advice)
    return ClassReport(tuple(learners))


def _learner(name: str, history: Journal) -> Learner:
    tried: dict[str, None] = {}
    first: dict[str, str] = {}  # whether an exercise was solved before its solution was opened
    hints: dict[str, int] = {}
    for event in history:
        exercise, kind = str(event.get("exercise")), event["kind"]
        if kind == "hint":
            hints[exercise] = max(hints.get(exercise, 0), event.get("number", 1))
        elif kind == "solution" or (kind == "exercise" and event.get("state") == SOLVED):
            first.setdefault(exercise, kind)
        elif kind == "exercise" and event.get("state") == NOT_YET:
            tried[exercise] = None
    return Learner(
        name=name,
        solved=tuple(history.solved),
        not_yet=tuple(exercise for exercise in tried if exercise not in history.solved),
        hints=hints,
        solution_first=tuple(exercise for exercise in history.solved if first[exercise] == "solution"),
        factors=tuple(math.exp(event["score"]) for event in history.scored),
        broken_lines=len(history.broken),
    )


def _exercises(learners: tuple[Learner, ...]) -> list[str]:
    """Those of the course, in order, then those that only journals know, such as an older course's."""
    known = [id for lab in LABS if (module := lab.module("exercises")) for id in module.EXERCISES]
    met = {id for learner in learners for id in (*learner.solved, *learner.not_yet, *learner.hints)}
    return known + sorted(met - set(known))
