"""Six counters that hand out a limited number of tickets to threads: one naive, one half mended, four remedies.

All have one method in common: `take() -> bool` hands out a ticket, and says False once `limit` are gone. What must
hold whatever the threads do: no more than `limit` calls get True, and no fewer as long as somebody goes on asking.
"""

from __future__ import annotations

import itertools
import queue
import threading
from collections.abc import Callable
from itertools import islice
from types import SimpleNamespace
from typing import Protocol

from labs_lib.race_conditions.explorer import Case, replay


class Counter(Protocol):
    """What all of them can do. Made by `Class(limit)`."""

    def take(self) -> bool: ...


class Plain:
    """Check, then act, with nothing around them.

    >>> counter = Plain(limit=1)
    >>> counter.take(), counter.take()
    (True, False)
    """

    def __init__(self, limit: int) -> None:
        self.limit, self.taken = limit, 0

    def take(self) -> bool:
        if self.taken < self.limit:
            self.taken += 1
            return True
        return False


class HalfLocked:
    """A lock around the act alone: no update is lost, and still too many tickets are handed out."""

    def __init__(self, limit: int) -> None:
        self.limit, self.taken, self.lock = limit, 0, threading.Lock()

    def take(self) -> bool:
        if self.taken < self.limit:
            with self.lock:
                self.taken += 1
            return True
        return False


class Locked:
    """One lock around check and act, which belong together."""

    def __init__(self, limit: int) -> None:
        self.limit, self.taken, self.lock = limit, 0, threading.Lock()

    def take(self) -> bool:
        with self.lock:
            if self.taken < self.limit:
                self.taken += 1
                return True
            return False


class Atomic:
    """One operation that no thread can enter in the middle: act first, then look at the number that was drawn.

    `next` on an `itertools.count` runs inside the interpreter, in one piece. That is a property of CPython, not a
    promise of the language.
    """

    def __init__(self, limit: int) -> None:
        self.limit, self.numbers = limit, itertools.count()

    def take(self) -> bool:
        return next(self.numbers) < self.limit


class Sharded:
    """Each thread fetches `batch` tickets at a time under the lock, and hands them out alone and without it.

    The price besides: a thread that stops asking keeps what is left of its batch.
    """

    def __init__(self, limit: int, batch: int = 100) -> None:
        self.limit, self.batch, self.fetched = limit, batch, 0
        self.lock, self.own = threading.Lock(), threading.local()

    def take(self) -> bool:
        left = getattr(self.own, "left", 0) or self.fetch()
        if left:
            self.own.left = left - 1
            return True
        return False

    def fetch(self) -> int:
        with self.lock:
            size = min(self.batch, self.limit - self.fetched)
            self.fetched += size
            return size


class Owned:
    """The naive counter, used by one thread only: the others send it their requests through a queue.

    A thread of your choice must run `serve`, for so many requests or until `close` is called.
    """

    def __init__(self, limit: int) -> None:
        self.counter, self.requests = Plain(limit), queue.Queue()

    def take(self) -> bool:
        reply: queue.Queue[bool] = queue.Queue()
        self.requests.put(reply)
        return reply.get()

    def serve(self, requests: int | None = None) -> None:
        for reply in islice(iter(self.requests.get, None), requests):
            reply.put(self.counter.take())

    def close(self) -> None:
        self.requests.put(None)


REMEDIES: dict[str, type[Counter]] = {
    "plain": Plain,
    "lock around the act": HalfLocked,
    "lock around both": Locked,
    "atomic": Atomic,
    "sharded": Sharded,
    "one owner": Owned,
}
LYING = ("plain", "lock around the act")


def lost_updates(update: Callable[[SimpleNamespace], object], threads: int = 4, calls: int = 100_000) -> int:
    """How many updates are missing after real threads have called `update(counter)` so many times each.

    `counter.value` starts at 0, and `update` is to add 1 to it. What comes out is measured, not counted: it depends
    on the interpreter, the machine and its load.
    """
    counter = SimpleNamespace(value=0)

    def work() -> None:
        for _ in range(calls):
            update(counter)

    run_threads([work] * threads)
    return threads * calls - counter.value


def locks_taken(make: type[Counter], tickets: int) -> int:
    """Locks that one thread, and the owner where there is one, take for so many tickets, counted in a replay."""

    def ask(counter: Counter) -> None:
        for _ in range(tickets):
            counter.take()

    threads = [ask, lambda counter: counter.serve(tickets)] if make is Owned else [ask]
    return sum(replay(Case(lambda: make(tickets), threads, lambda counter: True), "A").acquisitions.values())


def handed_out(counter: Counter, threads: int = 4) -> int:
    """How many tickets real threads get that ask as fast as they can, each until it is refused.

    >>> handed_out(Locked(limit=1000))
    1000
    """
    got: list[int] = []

    def ask() -> None:
        mine = 0
        while counter.take():
            mine += 1
        got.append(mine)

    if isinstance(counter, Owned):
        owner = threading.Thread(target=counter.serve)
        owner.start()
        run_threads([ask] * threads)
        counter.close()
        owner.join()
    else:
        run_threads([ask] * threads)
    return sum(got)


def run_threads(functions: list[Callable[[], object]]) -> None:
    """Calls each function in a thread of its own, all let go at the same moment, and waits for them."""
    start = threading.Barrier(len(functions))

    def run(function: Callable[[], object]) -> None:
        start.wait()
        function()

    threads = [threading.Thread(target=run, args=(function,)) for function in functions]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
