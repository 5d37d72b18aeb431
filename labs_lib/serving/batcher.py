"""A dynamic batcher for any asyncio service: requests that arrive while the model is busy share its next pass.

    batcher = Batcher(run)                        # run: a list of items to a list of results
    async with batcher:                           # for example in FastAPI's lifespan
        result = await batcher.submit(item)       # in any handler

It is work-conserving: the moment the model is free it takes what is queued, at most `max_batch`, and it never sleeps
while something waits. Under load batches form by themselves, since requests arrive while the model computes. Needs
the standard library alone; use it from one event loop.
"""

from __future__ import annotations

import asyncio
import inspect
from collections import Counter, deque
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field


class Full(Exception):
    """The queue is full. Answer 503, so that those who wait already are still served in time."""


class TooLate(Exception):
    """The request's time is up. It has left the queue."""


class Closed(Exception):
    """The batcher is not started, or takes no more."""


@dataclass
class Counts:
    """What became of the requests, each counted once, and how many batches of each size were run."""

    answered: int = 0
    failed: int = 0  # `run` raised, or gave an exception for this item
    rejected: int = 0  # Full or Closed
    timed_out: int = 0
    cancelled: int = 0
    batches: Counter[int] = field(default_factory=Counter)


@dataclass(eq=False)
class _Waiting:
    item: object
    arrived: float
    future: asyncio.Future


class Batcher:
    """Runs `run(items) -> results` in a thread of its own, over batches of what was submitted.

    run: a plain function: gets a list of 1 to `max_batch` items and returns as many results, else all of the batch
        fail. A result that is an exception is raised for its item alone. If `run` itself raises, each item of the
        batch is run once more by itself, so that a bad one fails alone.
    max_wait_s: a batch that is not full waits until its oldest item is this old. 0 is best where the time a request
        takes is what counts.
    max_queue: how many may wait; one more is Full.
    timeout_s: from submit to result; then TooLate. None waits for ever.
    """

    def __init__(
        self,
        run: Callable[[list], Sequence],
        max_batch: int = 16,
        max_wait_s: float = 0.0,
        max_queue: int = 64,
        timeout_s: float | None = None,
    ) -> None:
        if max_batch < 1 or max_queue < 1 or not max_wait_s >= 0 or not (timeout_s is None or timeout_s > 0):
            raise ValueError("max_batch and max_queue are at least 1, max_wait_s at least 0, timeout_s above 0")
        if not callable(run) or inspect.iscoroutinefunction(run):
            raise TypeError("run is called in a thread: give a plain function of a list")
        self.run, self.max_batch, self.max_wait_s = run, max_batch, max_wait_s
        self.max_queue, self.timeout_s = max_queue, timeout_s
        self.counts = Counts()
        self._queue: deque[_Waiting] = deque()
        self._open = False

    async def __aenter__(self) -> Batcher:
        self._changed = asyncio.Event()  # set when the queue or _open changed; made here, for the loop that runs now
        self._thread = ThreadPoolExecutor(1, "batcher")
        self._open = True
        self._worker = asyncio.create_task(self._work())
        return self

    async def __aexit__(self, *exception: object) -> None:
        await self.close()

    async def close(self, drain: bool = True) -> None:
        """Takes no more, answers what is queued (without `drain` by Closed) and waits for the running batch."""
        self._open = False
        if not drain:
            while self._queue:
                _settle(self._queue.popleft().future, Closed("the service stops"))
        self._changed.set()
        await self._worker
        self._thread.shutdown()

    async def submit(self, item: object) -> object:
        """The result for `item`. Raises what `run` raised for it, or Full, TooLate or Closed.

        A caller that is cancelled, because its client has gone, takes its item out of the queue.
        """
        if not self._open or len(self._queue) >= self.max_queue:
            self.counts.rejected += 1
            raise Full(f"{len(self._queue)} requests wait") if self._open else Closed("the batcher is not running")
        loop = asyncio.get_running_loop()
        waiting = _Waiting(item, loop.time(), loop.create_future())
        self._queue.append(waiting)
        self._changed.set()
        try:
            async with asyncio.timeout(self.timeout_s) as clock:
                result = await waiting.future
        except asyncio.CancelledError:
            self.counts.cancelled += 1
            raise
        except Closed:
            self.counts.rejected += 1
            raise
        except Exception as error:
            if isinstance(error, TimeoutError) and clock.expired():
                self.counts.timed_out += 1
                raise TooLate(f"no result within {self.timeout_s} s") from None
            self.counts.failed += 1
            raise
        finally:
            if not waiting.future.done() or waiting.future.cancelled():
                self._forget(waiting)
        self.counts.answered += 1
        return result

    def _forget(self, waiting: _Waiting) -> None:
        if waiting in self._queue:  # else its batch runs already
            self._queue.remove(waiting)

    async def _work(self) -> None:
        loop = asyncio.get_running_loop()
        while self._open or self._queue:
            wait_s = self._patience(loop.time())
            if wait_s is None or wait_s > 0:
                self._changed.clear()
                with suppress(TimeoutError):
                    async with asyncio.timeout(wait_s):
                        await self._changed.wait()
                continue
            batch = [self._queue.popleft() for _ in range(min(len(self._queue), self.max_batch))]
            self.counts.batches[len(batch)] += 1
            results = await loop.run_in_executor(self._thread, self._results, [waiting.item for waiting in batch])
            for waiting, result in zip(batch, results, strict=True):
                _settle(waiting.future, result)

    def _patience(self, now: float) -> float | None:
        """Seconds until the next batch is due: None while nobody waits, 0 where it is full or no more will come."""
        if not self._queue:
            return None
        if self.max_wait_s == 0 or len(self._queue) >= self.max_batch or not self._open:
            return 0.0
        return self._queue[0].arrived + self.max_wait_s - now

    def _results(self, items: list) -> list:
        """In the thread: a result or an exception for each item. Never raises, so that nobody waits for ever."""
        try:
            results = list(self.run(items))
            if len(results) != len(items):  # whose result is whose? To try again one by one would hide it
                return [RuntimeError(f"run gave {len(results)} results for {len(items)} items")] * len(items)
            return results
        except BaseException as error:  # even SystemExit: it would end the batcher, and not the process
            if len(items) == 1:
                return [error if isinstance(error, Exception) else RuntimeError(f"run raised {error!r}")]
        return [self._results([item])[0] for item in items]


def _settle(future: asyncio.Future, result: object) -> None:
    if future.done():  # its caller has gone
        return
    if isinstance(result, StopIteration):  # no future takes it
        result = RuntimeError(f"run raised {result!r}")
    if isinstance(result, Exception):
        future.set_exception(result)
    else:
        future.set_result(result)
