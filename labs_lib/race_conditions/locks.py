"""Locks that tell the stage when a thread would wait, in place of the real ones, while a schedule runs.

Only two kinds are written here, Lock and RLock. Condition, Event, Semaphore, Barrier and queue.Queue are Python
code of the standard library over these two, and run unchanged. Other threads of the process (a notebook has some)
go on with real locks: each stand-in is used by the threads on the stage alone.
"""

from __future__ import annotations

import _thread
import queue
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from functools import partial
from types import CellType, FunctionType, MethodType
from typing import TYPE_CHECKING

from labs_lib.errors import LabError

if TYPE_CHECKING:
    from labs_lib.race_conditions.stage import Stage

LOCK_TYPE, RLOCK_TYPE = type(threading.Lock()), type(threading.RLock())


class StageLock:
    """threading.Lock for the threads of a stage."""

    def __init__(self, stage: Stage) -> None:
        self.stage, self.holder = stage, None

    def acquire(self, blocking: bool = True, timeout: float = -1) -> bool:
        if not blocking and timeout != -1:
            raise ValueError("can't specify a timeout for a non-blocking call")
        if self.holder is not None and not (blocking and self.stage.wait_for(self, timeout)):
            return False
        self.take()
        return True

    def take(self) -> None:
        self.holder = _thread.get_ident()
        self.stage.count_acquisition()

    def release(self) -> None:
        if self.holder is None:
            raise RuntimeError("release unlocked lock")
        self.holder = None

    def locked(self) -> bool:
        return self.holder is not None

    def __enter__(self) -> bool:
        return self.acquire()

    def __exit__(self, *error: object) -> None:
        self.release()

    def forget(self) -> None:
        """Free again, for the next schedule."""
        self.holder = None


class StageRLock(StageLock):
    """threading.RLock for the threads of a stage, with what Condition asks of it."""

    def __init__(self, stage: Stage) -> None:
        super().__init__(stage)
        self.depth = 0

    def acquire(self, blocking: bool = True, timeout: float = -1) -> bool:
        if self._is_owned():
            self.depth += 1
            return True
        if not super().acquire(blocking, timeout):
            return False
        self.depth = 1
        return True

    def release(self) -> None:
        if not self._is_owned():
            raise RuntimeError("cannot release un-acquired lock")
        self.depth -= 1
        if self.depth == 0:
            super().release()

    def _is_owned(self) -> bool:
        return self.holder == _thread.get_ident()

    def _release_save(self) -> int:
        depth, self.depth = self.depth, 1
        self.release()
        return depth

    def _acquire_restore(self, depth: int) -> None:
        self.acquire()
        self.depth = depth


@contextmanager
def stand_ins(stage: Stage, functions: list[Callable[..., object]]) -> Iterator[list[StageLock]]:
    """Within the block the threads of the stage get its locks and its clock; all names are put back after it.

    Names that the functions' modules have imported (`from threading import Lock`), and locks that stand in their
    globals or closures, are replaced too; yields the locks that stand in for the latter.
    """
    makers = _makers(stage)
    locks: dict[int, StageLock] = {}  # by the id of the lock that each stands in for, wherever that is named
    undo: list[Callable[[], None]] = []

    def stand_in(value: object) -> object:
        if isinstance(value, LOCK_TYPE | RLOCK_TYPE):
            make = StageLock if isinstance(value, LOCK_TYPE) else StageRLock
            return locks.setdefault(id(value), make(stage))
        return next((new for old, new in makers if old is value), value)

    def replace(owner: object, name: str) -> None:
        old = getattr(owner, name)
        if (new := stand_in(old)) is not old:
            undo.append(partial(setattr, owner, name, old))
            setattr(owner, name, new)

    try:
        for owner, names in (
            (threading, ("Lock", "RLock", "_allocate_lock", "_time")),
            (threading.Thread, ("start",)),
            (queue, ("time",)),
            (time, ("sleep",)),
        ):
            for name in names:
                replace(owner, name)
        for names, cells in _reach(functions):
            for name, old in list(names.items()):
                if (new := stand_in(old)) is not old:
                    undo.append(partial(names.__setitem__, name, old))
                    names[name] = new
            for cell in cells:
                replace(cell, "cell_contents")
        yield list(locks.values())
    finally:
        for step in reversed(undo):
            step()


def _makers(stage: Stage) -> list[tuple[object, Callable[..., object]]]:
    """(the real thing, what stands in for it), which asks each time whether it is called from the stage."""
    lock, rlock, sleep, clock, start = (
        threading.Lock, threading.RLock, time.sleep, time.monotonic, threading.Thread.start,
    )  # fmt: skip

    def refuse(thread: threading.Thread) -> None:
        if stage.is_mine():
            raise LabError(
                "A thread of the schedule starts another thread.",
                "The explorer runs only the threads that it is given.",
                "Give it that thread's function too, and start none.",
            )
        start(thread)

    def make_lock() -> object:
        return StageLock(stage) if stage.is_mine() else lock()

    return [
        (lock, make_lock),
        (threading._allocate_lock, make_lock),
        (rlock, lambda: StageRLock(stage) if stage.is_mine() else rlock()),
        (sleep, lambda seconds: stage.sleep(seconds) if stage.is_mine() else sleep(seconds)),
        (threading._time, lambda: stage.now if stage.is_mine() else clock()),
        (start, refuse),
    ]


def _reach(functions: Iterable[Callable[..., object]]) -> Iterator[tuple[dict[str, object], list[CellType]]]:
    """The globals of each function, and the variables that it has from around it; functions among these included."""
    waiting, seen = list(functions), set()
    while waiting:
        function = waiting.pop()
        while isinstance(function, partial | MethodType):
            function = function.func if isinstance(function, partial) else function.__func__
        if not hasattr(function, "__globals__"):
            function = type(function).__call__
        if id(function) in seen:
            continue
        seen.add(id(function))
        cells = [cell for cell in getattr(function, "__closure__", None) or () if _is_bound(cell)]
        waiting += [cell.cell_contents for cell in cells if isinstance(cell.cell_contents, FunctionType | partial)]
        yield getattr(function, "__globals__", {}), cells


def _is_bound(cell: CellType) -> bool:
    try:
        cell.cell_contents  # noqa: B018
    except ValueError:
        return False
    return True
