"""An asyncio event loop on a virtual clock: a sleep costs no time, and every run is the same to the microsecond.

Ordinary asyncio code runs on it unchanged. Where all tasks wait, the clock jumps to the next timer.
"""

from __future__ import annotations

import asyncio
import selectors
import threading
import time
from collections.abc import Callable, Coroutine
from contextlib import suppress
from typing import TypeVar
from unittest import mock

from labs_lib.exercises import NotYet

T = TypeVar("T")
MOST_STEPS = 20_000  # of code that runs while the clock stands still
PATIENCE_S = 30  # real seconds, some hundred times what a check takes


class VirtualLoop(asyncio.SelectorEventLoop):
    """Its `time()` starts at 0 and moves only by the timers of what runs on it."""

    def __init__(self) -> None:
        self._timers = _Timers()
        super().__init__(self._timers)
        self._clock_resolution = 1e-9  # asyncio takes that of the real clock: 16 ms on Windows

    def time(self) -> float:
        return self._timers.now

    def now_us(self) -> int:
        return round(1e6 * self._timers.now)

    def step(self) -> None:
        """Counts one step of code that waits for nothing; raises NotYet where they never end."""
        self._timers.step()

    def end(self) -> None:
        """Cancels what an attempt has left behind, and closes."""
        self._timers.steps = 0
        left = asyncio.all_tasks(self)
        for task in left:
            task.cancel()
        if left:
            with suppress(NotYet, RuntimeError):  # a task that does not take no for an answer
                self.run_until_complete(asyncio.wait(left, timeout=1))
        self.close()


class _Timers(selectors.DefaultSelector):
    """Where the event loop would wait for a timer, the clock jumps there."""

    def __init__(self) -> None:
        super().__init__()
        self.now, self.steps = 0.0, 0

    def step(self) -> None:
        self.steps += 1
        if self.steps > MOST_STEPS:
            raise NotYet(
                "your code goes round and round while the clock stands still, and holds up the event loop. Await "
                "something that comes when there is work."
            )

    def select(self, timeout: float | None = None) -> list:
        self.step()
        if timeout is None:
            raise NotYet("everything waits, and nothing is left that could wake it.")
        if timeout > 0:
            self.now += timeout
            self.steps = 0
        return super().select(0)


def on_virtual_clock(main: Callable[[VirtualLoop], Coroutine[object, object, T]]) -> T:
    """What `main(loop)` returns. It runs in a thread of its own, since a notebook's thread has a loop that runs.

    Raises NotYet where the code waits in real time, or for ever; else what `main` raises.
    """
    result: list[T] = []
    raised: list[BaseException] = []

    def run() -> None:
        loop = VirtualLoop()
        loop.set_exception_handler(lambda loop, context: None)  # what is left behind by an attempt that failed
        try:
            with mock.patch.object(time, "sleep", _refuse_here(time.sleep)):
                result.append(loop.run_until_complete(main(loop)))
        except BaseException as error:  # raised again below, in the caller's thread
            raised.append(error)
        finally:
            loop.end()

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    thread.join(PATIENCE_S)
    if raised:
        raise raised[0]
    if not result:
        raise NotYet(f"it has not come back after {PATIENCE_S} s. Does something wait without an await?")
    return result[0]


def _refuse_here(sleep: Callable[[float], None]) -> Callable[[float], None]:
    """A time.sleep that is refused in this thread, and left as it is for all others."""
    here = threading.get_ident()

    def guarded(seconds: float) -> None:
        if threading.get_ident() == here:
            raise NotYet("time.sleep stops the event loop, and with it every other request.")
        sleep(seconds)

    return guarded
