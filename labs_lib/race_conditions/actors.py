"""What the stage knows of each thread and of a run, and who tells it what to do."""

from __future__ import annotations

import _thread
from collections.abc import Callable
from dataclasses import dataclass, field
from types import FrameType
from typing import Protocol

from labs_lib.race_conditions.locks import StageLock
from labs_lib.race_conditions.schedule import Schedule, Segment
from labs_lib.race_conditions.visible import Operation


class Director(Protocol):
    """Who goes on? The first option is the thread that goes on by itself; the costs are of choosing each one."""

    def choose(self, options: list[int], costs: list[int], place: tuple[object, ...]) -> int: ...


class Watcher(Protocol):
    """Is told each step just before it happens, and when the thread has done it."""

    def before(self, thread: int, frame: FrameType, operation: Operation) -> None: ...
    def after(self, thread: int) -> None: ...


class Aborted(BaseException):
    """Raised in a thread whose run is over, to unwind it."""


@dataclass
class Actor:
    """One thread on the stage."""

    number: int
    function: Callable[[object], object]
    gate: object = field(default_factory=_thread.allocate_lock)  # closed while it is not its turn
    started: bool = False  # it has come to its first point
    done: bool = False
    lock: StageLock | None = None  # that it waits for
    deadline: float | None = None  # when that waiting ends
    frame: FrameType | None = None  # of its last step
    unwound: int = 0  # how often it was told that the run is over
    acquisitions: int = 0

    @property
    def ready(self) -> bool:
        return not self.done and (self.lock is None or self.lock.holder is None)


@dataclass
class Outcome:
    """How one run ended."""

    problem: str = ""  # empty where all threads came to their end
    kind: str = "ended"  # "ended", "deadlock" or "raises"
    turns: list[list[int | None]] = field(default_factory=list)  # thread, steps done, 1 if it was stopped
    steps: int = 0
    acquisitions: dict[str, int] = field(default_factory=dict)

    @property
    def schedule(self) -> Schedule:
        """The turns, with a number of steps where a thread was stopped that could have gone on."""
        return Schedule(tuple(Segment(thread, steps if stopped else None) for thread, steps, stopped in self.turns))
