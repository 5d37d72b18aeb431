"""What exercises 6.3 and 6.4 demand: right in all schedules within a bound, and no lock more than needed."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass

from labs_lib.exercises import NotYet
from labs_lib.race_conditions.trials import acquisitions, alone, explored

# --- 6.3 --------------------------------------------------------------------------------------------


class Model(list):
    """What is loaded. It is empty, so false in a condition, as many an object that is there."""


class Loads:
    """A load that counts its calls and can fail the first time; it is slow enough for others to come in between."""

    def __init__(self, make_get: Callable, fails: bool = False) -> None:
        self.calls, self.fails, self.got = 0, fails, []
        self.get = make_get(self.load)
        if not callable(self.get):
            raise NotYet(f"return get, a function without arguments; you return {type(self.get).__name__}.")
        if self.calls:
            raise NotYet("the model is loaded before anybody asked for it. Load it in the first call of get().")

    def load(self) -> Model:
        self.calls += 1
        if self.fails and self.calls == 1:
            raise OSError("the file is not there yet")
        return Model()

    def problem(self, gets: int) -> str | bool:
        if len(self.got) != gets or not all(isinstance(model, Model) for model in self.got):
            return f"get() returns {self.got} before the model is there"
        if self.calls != 1:
            return f"the model is loaded {self.calls} times"
        return len({id(model) for model in self.got}) == 1 or "not all calls get the same model"


def ask(loads: Loads) -> None:
    loads.got.append(loads.get())


def ask_thrice(loads: Loads) -> None:
    for _ in range(3):
        ask(loads)


def ask_both(pair: tuple[Loads, Loads]) -> None:
    for loads in pair:
        ask(loads)


def ask_again(loads: Loads) -> None:
    try:
        loads.get()
    except OSError:
        ask(loads)


ALONE = "one thread alone waits for ever. Is a lock let go on every way out of get(), also when load() raises?"


def check_lazy_loading(attempt: Callable) -> str:
    def fresh() -> Loads:
        return Loads(attempt)

    def failing() -> Loads:
        return Loads(attempt, fails=True)

    def apart(pair: tuple[Loads, Loads]) -> str | bool:
        one, two = pair
        return one.problem(1) is True is two.problem(1) or (
            f"two loaders, asked once each, have loaded {one.calls} and {two.calls} times: they share what belongs to "
            "each"
        )

    def mended(loads: Loads) -> str | bool:
        if loads.calls == 1 and not loads.got:
            return "load() raises, and get() does not. What load() raises must reach whoever asked"
        return (loads.calls == 2 and [type(model) for model in loads.got] == [Model]) or (
            f"load() raises in the first call and works in the second. It was called {loads.calls} times, and the "
            f"requests got {loads.got}: the first must see the error, the next must try again"
        )

    alone(lambda: (fresh(), fresh()), ask_both, apart, ALONE)
    alone(fresh, ask_thrice, lambda loads: loads.problem(3), ALONE)
    waits = "threads wait for each other for ever."
    schedules = explored(fresh, [ask] * 2, lambda loads: loads.problem(2), waits)
    schedules += explored(fresh, [ask] * 3, lambda loads: loads.problem(3), waits, switches=1)
    alone(failing, ask_again, mended, ALONE)
    first, both = (
        acquisitions(fresh, lambda loads, count=count: [loads.get() for _ in range(count)]) for count in (1, 11)
    )
    if both > first:
        raise NotYet(
            f"it is right, but 10 calls after the first load take locks {both - first} times. Once the model is there, "
            "who needs a lock to see it?"
        )
    return (
        f"one load and one model in {schedules} schedules of two and three threads, and no lock taken once it is "
        "there (counted)."
    )


# --- 6.4 --------------------------------------------------------------------------------------------


@dataclass
class Pool:
    """Slots of one GPU. `number` differs from pool to pool and never changes."""

    number: int
    free: int
    lock: object


@dataclass
class Books:
    """What moves between some pools have answered, and what an auditor has missed."""

    pools: list[Pool]
    answers: list[object]
    missing: int = 0  # slots that were in no pool while the auditor held all locks


def pools_with(*free: int) -> tuple[list[Pool], Callable[[], Books]]:
    """Pools with so many free slots, and the setup that fills them anew.

    The pools themselves are made once, so that who orders them by their address finds the same order in each
    schedule. They are numbered from above, so that nobody relies on the order in which they were made.
    """
    pools = [Pool(9 - i, slots, None) for i, slots in enumerate(free)]

    def setup() -> Books:
        for pool, slots in zip(pools, free, strict=True):
            pool.free, pool.lock = slots, threading.Lock()
        return Books(pools, [])

    return pools, setup


def moving(attempt: Callable, source: Pool, target: Pool, *counts: int) -> Callable[[Books], None]:
    """A thread that moves so many slots, one move after the other."""

    def run(books: Books, source: Pool = source, target: Pool = target) -> None:  # local names cost no step
        for count in counts:
            books.answers.append(attempt(source, target, count))

    return run


def audit(books: Books) -> None:
    """Looks only while it holds both locks, and waits for neither: it can be part of no deadlock."""
    one, two = books.pools
    if one.lock.acquire(blocking=False):
        if two.lock.acquire(blocking=False):
            books.missing = sum(FREE) - one.free - two.free
            two.lock.release()
        one.lock.release()


FREE = (5, 3)
LOCKS_OF_A_MOVE = 2


def check_move(attempt: Callable) -> str:
    _judge_single_moves(attempt)
    (one, two), setup = pools_with(*FREE)
    there, back = moving(attempt, one, two, 2), moving(attempt, two, one, 1)
    schedules = sum(
        explored(setup, threads, lambda books, granted=granted: _kept(books, granted), WAIT, switches)
        for threads, granted, switches in (
            ([there, back], 2, 1),
            ([moving(attempt, one, two, 2, 1), back], 3, 2),  # whoever orders the pools by what changes fails here
            ([moving(attempt, one, two, 4), moving(attempt, one, two, 3)], 1, 1),
            ([there, audit], 1, 1),
        )
    )
    taken = acquisitions(setup, moving(attempt, two, one, *[0] * 5))
    if taken > 5 * LOCKS_OF_A_MOVE:
        raise NotYet(
            f"it is right, but 5 moves take locks {taken} times. Two for each are enough; a further lock that all "
            "moves need lets only one of them run."
        )
    return (
        f"no deadlock and no slot lost in {schedules} schedules of up to three moves in two threads; 5 moves take "
        f"{taken} locks (counted)."
    )


WAIT = "threads wait for each other for ever."


def _kept(books: Books, granted: int) -> str | bool:
    if books.missing:
        return f"whoever holds both locks finds {books.missing} slots in neither pool"
    free = [pool.free for pool in books.pools]
    if sum(free) != sum(FREE) or min(free) < 0:
        return f"{sum(FREE)} slots in all have become {free}"
    return sum(books.answers) == granted or f"{sum(books.answers)} moves are granted where {granted} must be"


MOVES = (  # free slots, source, target, count, answer, free slots after it
    ((5, 2), 0, 1, 3, True, [2, 5]),
    ((5, 2), 1, 0, 3, False, [5, 2]),
    ((5, 2), 0, 1, 5, True, [0, 7]),
    ((5, 2), 0, 0, 3, True, [5, 2]),
    ((5, 2), 0, 0, 6, False, [5, 2]),
)


def _judge_single_moves(attempt: Callable) -> None:
    for free, source, target, count, answer, after in MOVES:
        pools, setup = pools_with(*free)
        what = f"with {list(free)} free slots, a move of {count} from pool {source} to pool {target}"

        def verdict(books: Books, what: str = what, answer: bool = answer, after: list[int] = after) -> str | bool:
            now = [pool.free for pool in books.pools]
            return (books.answers[0] == answer and now == after) or (
                f"{what} returns {books.answers[0]} and leaves {now}, not {answer} and {after}"
            )

        then_too_many = moving(attempt, pools[source], pools[target], count, 100)  # notices a lock that was kept
        alone(setup, then_too_many, verdict, f"{what}, then another, waits for itself for ever.")
