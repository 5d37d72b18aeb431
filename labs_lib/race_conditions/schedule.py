"""A schedule in words: "A4 B A" lets thread A do 4 steps, then B as far as it gets, then A."""

from __future__ import annotations

import re
from dataclasses import dataclass

from labs_lib.errors import LabError

SEGMENT = re.compile(r"([A-Z])([0-9]*)")


def letter(thread: int) -> str:
    """The name of a thread by its place in the list: A, B, C, ..."""
    return chr(ord("A") + thread)


@dataclass(frozen=True)
class Segment:
    """One thread's turn: so many steps; None for as far as it gets until it ends, waits or sleeps."""

    thread: int
    steps: int | None

    def __str__(self) -> str:
        return letter(self.thread) + ("" if self.steps is None else str(self.steps))


@dataclass(frozen=True)
class Schedule:
    """Turns, one after the other. What comes after the last one is up to the threads.

    >>> str(Schedule.parse("A4 B A"))
    'A4 B A'
    """

    segments: tuple[Segment, ...]

    @classmethod
    def parse(cls, text: str) -> Schedule:
        """Raises LabError where the text is no schedule."""
        segments = []
        for word in text.replace(",", " ").split():
            match = SEGMENT.fullmatch(word)
            if match is None or match[2] == "0":
                raise LabError(
                    f"{word!r} is no turn of a thread.",
                    "A turn is a thread's letter and its number of steps; without a number it runs as far as it gets.",
                    'Write for instance "A4 B A".',
                )
            segments.append(Segment(ord(match[1]) - ord("A"), int(match[2]) if match[2] else None))
        if not segments:
            raise LabError("The schedule is empty.", "", 'Write for instance "A4 B A".')
        return cls(tuple(segments))

    def __str__(self) -> str:
        return " ".join(map(str, self.segments))

    @property
    def switches(self) -> int:
        """Changes from one thread to another."""
        return len(self.segments) - 1
