"""What exercises 6.3 and 6.4 demand: right in all schedules within a bound, and no lock more than needed."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass

from labs_lib.exercises import NotYet
from labs_lib.race_conditions.trials import acquisitions, explored

# --- 6.3 --------------------------------------------------------------------------------------------


class Model(list):
    """What is loaded. It is empty, so false in a condition, as many an object that is there."""


class Loads:
    """A load that counts its calls and can fail the first time; it is slow enough for others to come in between."""

    def __init__(self, make_get: Callable, fails: bool = False) -> None:
        self.calls, self.fails, self.got = 0, fails, []
        self.get = make_get(self.load)
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


def ask_for_model(loads: Loads) -> None:
    loads.got.append(loads.get())


def check_lazy_loading(attempt: Callable) -> str:
    _judge_one_request_at_a_time(attempt)
    schedules = sum(
        explored(
            lambda: Loads(attempt),
            [ask_for_model] * threads,
            lambda loads, threads=threads: loads.problem(threads),
            "threads wait for each other for ever.",
        )
        for threads in (2, 3)
    )
    first, both = (
        acquisitions(lambda: attempt(Model), lambda get, count=count: [get() for _ in range(count)])
        for count in (1, 11)
    )
    if both > first:
        raise NotYet(
            f"it is right, but 10 calls after the first load take locks {both - first} times. Once the model is there, "
            "who needs a lock to see it?"
        )
    return (
        f"one load and one model in {schedules} schedules of two and three threads with up to 2 switches, and no lock "
        "taken once it is there (counted)."
    )


def _judge_one_request_at_a_time(attempt: Callable) -> None:
    waits = "one thread alone waits for ever. Is a lock let go on every way out of get(), also when load() raises?"

    def thrice(loads: Loads) -> None:
        for _ in range(3):
            ask_for_model(loads)

    def again_after_a_failure(loads: Loads) -> None:
        try:
            loads.get()
        except OSError:
            ask_for_model(loads)

    def of_two_models(pair: tuple[Loads, Loads]) -> None:
        for loads in pair:
            ask_for_model(loads)

    def after_a_failure(loads: Loads) -> str | bool:
        return (loads.calls == 2 and [type(model) for model in loads.got] == [Model]) or (
            f"load() raises in the first call and works in the second; it was called {loads.calls} times, and the "
            f"requests got {loads.got}. The first must see the error, the second try again"
        )

    def apart(pair: tuple[Loads, Loads]) -> str | bool:
        one, two = pair
        return one.problem(1) is True is two.problem(1) or "two models share what should belong to each"

    explored(lambda: Loads(attempt), [thrice], lambda loads: loads.problem(3), waits)
    explored(lambda: (Loads(attempt), Loads(attempt)), [of_two_models], apart, waits)
    explored(lambda: Loads(attempt, fails=True), [again_after_a_failure], after_a_failure, waits)


# --- 6.4 --------------------------------------------------------------------------------------------


@dataclass
class Pool:
    """Slots of one GPU. `number` differs from pool to pool and never changes."""

    number: int
    free: int
    lock: object


@dataclass
class Pools:
    """Some pools, what moves between them have answered, and what an auditor has missed."""

    pools: list[Pool]
    answers: list[object]
    missing: int = 0  # slots that were in no pool while the auditor held all locks


def pools_with(*free: int) -> Callable[[], Pools]:
    """A setup for pools with so many free slots.

    The pools themselves are made once, so that who orders them by their address finds the same order in each
    schedule. They are numbered from above, so that nobody relies on the order in which they were made.
    """
    pools = [Pool(9 - i, slots, None) for i, slots in enumerate(free)]

    def setup() -> Pools:
        for pool, slots in zip(pools, free, strict=True):
            pool.free, pool.lock = slots, threading.Lock()
        return Pools(pools, [])

    return setup


def check_move(attempt: Callable) -> str:
    _judge_single_moves(attempt)

    def moving(*moves: tuple[int, int, int]) -> Callable[[Pools], None]:
        def run(state: Pools) -> None:
            for source, target, count in moves:
                state.answers.append(attempt(state.pools[source], state.pools[target], count))

        return run

    def audit(state: Pools) -> None:
        """Looks only while it holds both locks, and waits for neither: it can be part of no deadlock."""
        one, two = state.pools
        if one.lock.acquire(blocking=False):
            if two.lock.acquire(blocking=False):
                state.missing = 10 - one.free - two.free
                two.lock.release()
            one.lock.release()

    def kept(total: int, granted: int) -> Callable[[Pools], str | bool]:
        def verdict(state: Pools) -> str | bool:
            if state.missing:
                return f"whoever holds both locks finds {state.missing} slots in neither pool"
            free = [pool.free for pool in state.pools]
            if sum(free) != total or min(free) < 0:
                return f"{total} slots in all have become {free}"
            return sum(state.answers) == granted or f"{sum(state.answers)} moves are granted where {granted} must be"

        return verdict

    waits = "threads wait for each other for ever."
    cases = (
        ((5, 5), [moving((0, 1, 2)), moving((1, 0, 1))], 2),
        ((5, 3), [moving((0, 1, 2), (0, 1, 1)), moving((1, 0, 1))], 3),
        ((4, 4, 4), [moving((0, 1, 1)), moving((1, 2, 1)), moving((2, 0, 1))], 3),
        ((10, 0), [moving((0, 1, 7)), moving((0, 1, 7))], 1),
        ((5, 5), [moving((0, 1, 2)), audit], 1),
    )
    schedules = sum(
        explored(pools_with(*free), threads, kept(sum(free), granted), waits)
        for free, threads, granted in cases
    )
    taken = acquisitions(pools_with(5, 5), moving(*[(0, 1, 1)] * 5))
    if taken > 10:
        raise NotYet(
            f"it is right, but 5 moves take locks {taken} times. Two for each are enough; a further lock that all "
            "moves need lets only one of them run."
        )
    return (
        f"no deadlock and no slot lost in {schedules} schedules of two and three moves with up to 2 switches; 5 moves "
        f"take {taken} locks (counted)."
    )


MOVES = (  # free slots, source, target, count, answer, free slots after it
    ((5, 2), 0, 1, 3, True, [2, 5]),
    ((5, 2), 1, 0, 3, False, [5, 2]),
    ((5, 2), 0, 1, 5, True, [0, 7]),
    ((5, 2), 0, 0, 3, True, [5, 2]),
    ((5, 2), 0, 0, 6, False, [5, 2]),
)


def _judge_single_moves(attempt: Callable) -> None:
    for free, source, target, count, answer, after in MOVES:
        what = f"with {list(free)} free slots, a move of {count} from pool {source} to pool {target}"

        def twice(state: Pools, source: int = source, target: int = target, count: int = count) -> None:
            state.answers.append(attempt(state.pools[source], state.pools[target], count))
            state.before = [pool.free for pool in state.pools]
            attempt(state.pools[source], state.pools[target], 100)  # a lock that was kept is noticed here

        def verdict(state: Pools, what: str = what, answer: bool = answer, after: list[int] = after) -> str | bool:
            now = [pool.free for pool in state.pools]
            return (state.answers == [answer] and state.before == now == after) or (
                f"{what} returns {state.answers[0]} and leaves {state.before}, not {answer} and {after}"
            )

        explored(pools_with(*free), [twice], verdict, f"{what}, then another, waits for itself for ever.")
