"""The learner's local history: predictions, exercises, hints. It never leaves this machine by itself."""

from __future__ import annotations

import math
import os
import sys
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from labs_lib import journal_file
from labs_lib.errors import LabError
from labs_lib.tables import html_table

VERSION = 1  # of an event's layout: readers keep the fields that they do not know
RESERVED = ("time", "id", "kind", "version")

_unsaved: dict[Path, list[dict]] = {}  # what could not be written: kept for this process, and tried again
_unsaved_lock = threading.Lock()
_warned = False


@dataclass(frozen=True, repr=False)
class Journal:
    """All readable events, oldest first, and the lines that could not be read as (line number, what it is).

    >>> _ = record("exercise", exercise="1.1", state="solved")
    >>> history = journal()
    >>> len(history), history.of("exercise")[0]["state"]
    (1, 'solved')
    >>> print(history)
    labs begun            01
    exercises solved      1.1
    predictions scored    0
    """

    path: Path
    events: list[dict]
    broken: list[tuple[int, str]]

    def __len__(self) -> int:
        return len(self.events)

    def __iter__(self) -> Iterator[dict]:
        return iter(self.events)

    def of(self, kind: str) -> list[dict]:
        """The events of one kind, oldest first."""
        return [event for event in self.events if event["kind"] == kind]

    @property
    def solved(self) -> list[str]:
        """Ids of the exercises solved at least once, in the order in which that happened."""
        solved = [event for event in self.of("exercise") if event.get("state") == "solved"]
        return list(dict.fromkeys(str(event.get("exercise")) for event in solved))

    def export(self, path: str | Path) -> Path:
        """Writes all readable events to one file, to keep or to take elsewhere, and returns its path.

        An older export of that name is replaced. Raises LabError where it cannot be written.
        """
        target = Path(path).expanduser()
        part = target.with_name(target.name + ".part")
        try:
            if target.exists() and self.path.exists() and target.samefile(self.path):
                why = "It is only ever appended to."
                raise LabError(f"{path} is the journal itself.", why, "Export to another name.")
            part.write_bytes(journal_file.to_lines(self.events))
            part.replace(target)
        except OSError as error:
            raise LabError(f"Cannot write {path}.", f"{error.strerror}.", "Choose another place.") from error
        return target

    def restore(self, path: str | Path) -> int:
        """Appends the events of an exported file that the journal lacks, and returns their number.

        Restoring twice adds nothing. Call `journal()` anew to see them. Raises LabError where the file
        cannot be read or holds no events, or where the journal cannot be written.
        """
        source, advice = Path(path).expanduser(), "Give a file that export() wrote."
        try:
            events, broken = journal_file.from_lines(source.read_bytes())
        except OSError as error:
            raise LabError(f"Cannot read {path}.", f"{error.strerror}.", advice) from error
        if broken and not events:
            raise LabError(f"{path} is no journal.", f"Line {broken[0][0]} is {broken[0][1]}.", advice)
        try:
            with journal_file.opened(self.path) as file:  # so that two restores do not add the same
                known = {event["id"] for event in journal_file.from_lines(self.path.read_bytes())[0]}
                missing = [event for event in events if event["id"] not in known]
                if missing:
                    journal_file.append(file, missing)
        except OSError as error:
            raise LabError(
                f"Cannot write the journal {self.path}.", f"{error.strerror}.", "Set LABS_JOURNAL to a file."
            ) from error
        return len(missing)

    @property
    def begun(self) -> list[str]:
        """Numbers of the labs of which an exercise has been checked."""
        exercises = [str(event.get("exercise")) for event in self.of("exercise")]
        return sorted({exercise.partition(".")[0].zfill(2) for exercise in exercises})

    @property
    def scored(self) -> list[dict]:
        """The scored answers to predictions, one for each question: where journals were merged, the first."""
        answers = [event for event in self.of("truth") if event.get("score") is not None]
        return list({(event["key"], event["unit"]): event for event in reversed(answers)}.values())[::-1]

    def as_dict(self) -> dict[str, object]:
        """The summary as plain values for JSON."""
        return {
            "path": str(self.path),
            "events": len(self.events),
            "labs_begun": self.begun,
            "exercises_solved": self.solved,
            "predictions_scored": len(self.scored),
            "broken_lines": self.broken,
        }

    def rows(self) -> list[tuple[str, str]]:
        """(label, text) pairs of the summary."""
        rows = [
            ("labs begun", ", ".join(self.begun) or "none"),
            ("exercises solved", ", ".join(self.solved) or "none"),
            ("predictions scored", str(len(self.scored))),
        ]
        if self.broken:
            number, reason = self.broken[0]
            rows.append(("broken lines skipped", f"{len(self.broken)} (line {number} is {reason})"))
        return rows

    def __str__(self) -> str:
        return "\n".join(f"{label:22}{text}" for label, text in self.rows())

    __repr__ = __str__

    def _repr_html_(self) -> str:
        return html_table(self.rows())


def journal() -> Journal:
    """Your history on this machine. Its `export` and `restore` carry it to another.

    >>> len(journal())
    0

    Where the file is there and cannot be read, that is said once on stderr, and the history is empty.
    """
    path = journal_file.location()
    try:
        data = path.read_bytes()
    except FileNotFoundError:
        data = b""
    except OSError as error:
        _warn(f"{path}: {error.strerror}.")
        data = b""
    events, broken = journal_file.from_lines(data)
    events += _unsaved.get(path, [])
    return Journal(path, sorted(events, key=lambda event: event["time"]), broken)


def record(kind: str, **fields: object) -> dict:
    """Appends one event with these fields to the journal and returns it.

    NumPy's numbers become plain ones; NaN and the infinities, which JSON lacks, become the text that
    `float` reads back. A journal that cannot be written does not stop the learner: it is said once on
    stderr, and the event is kept for as long as this process lives.

    >>> record("exercise", exercise="1.2", state="not yet")["state"]
    'not yet'

    Raises TypeError for a field that JSON has no form for, ValueError for one that every event has.
    """
    if taken := [name for name in fields if name in RESERVED]:
        raise ValueError(f"every event has its own field {taken[0]!r}")
    event = {
        "time": datetime.now(UTC).isoformat(timespec="microseconds"),
        "id": os.urandom(8).hex(),
        "kind": kind,
        "version": VERSION,
        **{name: _plain(value) for name, value in fields.items()},
    }
    journal_file.to_lines([event])  # a field that cannot be written raises here, before anything is kept
    path = journal_file.location()
    with _unsaved_lock:
        waiting = _unsaved.setdefault(path, [])
        waiting.append(event)
        try:
            with journal_file.opened(path) as file:
                journal_file.append(file, waiting)
            waiting.clear()
        except LabError as error:
            _warn(" ".join(error.sentences))
        except OSError as error:
            _warn(f"{path}: {error.strerror}. Set LABS_JOURNAL to a file that can be written.")
    return event


def _plain(value: object) -> object:
    """The value in JSON's own types."""
    if isinstance(value, float):
        return float(value) if math.isfinite(value) else str(float(value))
    if isinstance(value, dict):
        return {str(key): _plain(each) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(each) for each in value]
    if hasattr(value, "item"):  # a NumPy scalar, or a tensor of one element
        return _plain(value.item())
    return value


def _warn(reason: str) -> None:
    """Once per process: a lab records dozens of events."""
    global _warned
    if not _warned:
        _warned = True
        print(f"labs_lib: your journal is not being saved. {reason}", file=sys.stderr)
