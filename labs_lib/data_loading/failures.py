"""What went wrong in code that is not ours: the learner's step, dataset or collate function."""

from __future__ import annotations

import traceback
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

from labs_lib.errors import LabError


def failed(doing: str, batch: int, error: Exception) -> LabError:
    """What to raise `from error`, where `doing` a batch failed: which batch, with what, and in which line.

    An error of a worker process comes as text, with the worker's own traceback; its last line says what it was.
    """
    lines = str(error).strip().splitlines()
    said = lines[-1] if lines else ""
    if type(error).__name__ not in said:
        said = f"{type(error).__name__}: {said}"
    last = traceback.extract_tb(error.__traceback__)[-1]
    place = f"Raised in {last.name}, line {last.lineno} of {Path(last.filename).name}."
    if len(lines) > 1 and lines[0].startswith("Caught "):
        frames = [line.strip() for line in lines if line.strip().startswith("File ")]
        place = f"In a worker process: {frames[-1]}." if frames else lines[0]
    return LabError(f"{doing} batch {batch} (counted from 0) failed with {said}", place, "")


def refuse_unless_a_step(step: object) -> None:
    """Raises LabError for what can't be called, before any worker is started for it."""
    if not callable(step):
        raise LabError(
            f"step={step!r} is no function.",
            "It is called with each batch.",
            "Give a function of one batch, or leave it out to look at the loader alone.",
        )


def stepped(batches: Iterable[object], step: Callable[[object], object]) -> Iterator[int]:
    """Calls `step` with each batch and yields its number, from 0; what fails is raised as by `failed`."""
    number, doing = 0, "Loading"
    try:
        for batch in batches:
            doing = "The step on"
            step(batch)
            yield number
            number, doing = number + 1, "Loading"
    except LabError:
        raise
    except Exception as error:  # the learner's own code
        raise failed(doing, number, error) from error
