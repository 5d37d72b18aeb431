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
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import TYPE_CHECKING

from labs_lib.errors import LabError
from labs_lib.race_conditions.reach import places

if TYPE_CHECKING:
    from labs_lib.race_conditions.stage import Stage

LOCK_TYPE, RLOCK_TYPE = type(threading.Lock()), type(threading.RLock())
KEEPS_CONTENT = (threading.Condition, threading.Event, threading.Semaphore, threading.Barrier, queue.Queue)


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

    Names that your modules have imported (`from threading import Lock`), and locks that were made before, are
    replaced wherever the functions reach them; yields the locks that stand in for the latter.
    """
    makers = _makers(stage)
    locks: dict[int, StageLock] = {}  # by the id of the lock that each stands in for, wherever that is named
    undo: list[Callable[[], None]] = []

    def stand_in(value: object) -> object:
        if isinstance(value, LOCK_TYPE | RLOCK_TYPE):
            make = StageLock if isinstance(value, LOCK_TYPE) else StageRLock
            return locks.setdefault(id(value), make(stage))
        if isinstance(value, KEEPS_CONTENT):
            raise LabError(
                f"The program uses a {type(value).__name__} that setup() did not make.",
                "It would keep what it holds from one schedule to the next.",
                "Make it in setup(), as part of the state.",
            )
        return next((new for old, new in makers if old is value), value)

    def replace(old: object, put: Callable[[object], None]) -> None:
        if (new := stand_in(old)) is not old:
            undo.append(partial(put, old))
            put(new)

    try:
        for owner, names in (
            (threading, ("Lock", "RLock", "_allocate_lock", "_time", "current_thread", "get_ident")),
            (threading.Thread, ("start",)),
            (queue, ("time", "SimpleQueue")),
            (time, ("sleep", "monotonic", "perf_counter", "time")),
        ):
            for name in names:
                replace(getattr(owner, name), partial(setattr, owner, name))
        for old, put in places(functions):
            replace(old, put)
        yield list(locks.values())
    finally:
        for step in reversed(undo):
            step()


def _makers(stage: Stage) -> list[tuple[object, Callable[..., object]]]:
    """(the real thing, what stands in for it), which asks each time whether it is called from the stage."""
    start = threading.Thread.start

    def refuse(thread: threading.Thread) -> None:
        if stage.is_mine():
            raise LabError(
                "A thread of the schedule starts another thread.",
                "The explorer runs only the threads that it is given.",
                "Give it that thread's function too, and start none.",
            )
        start(thread)

    def on_stage(real: Callable[..., object], other: Callable[..., object]) -> tuple[object, Callable[..., object]]:
        return real, lambda *args, **options: (other if stage.is_mine() else real)(*args, **options)

    def now() -> float:
        return stage.now

    return [
        (start, refuse),
        on_stage(threading.Lock, lambda: StageLock(stage)),
        on_stage(threading.RLock, lambda: StageRLock(stage)),
        on_stage(threading._allocate_lock, lambda: StageLock(stage)),
        on_stage(threading.current_thread, stage.current_thread),
        on_stage(threading.get_ident, stage.get_ident),
        on_stage(queue.SimpleQueue, queue._PySimpleQueue),
        on_stage(time.sleep, stage.sleep),
        *(on_stage(clock, now) for clock in (time.monotonic, time.perf_counter, time.time)),
    ]
