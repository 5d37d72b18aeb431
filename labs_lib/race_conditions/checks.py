"""What exercises 6.1 and 6.2 demand: the learner's schedule is replayed, the learner's counter explored."""

from __future__ import annotations

import random
import threading
from collections.abc import Callable
from types import SimpleNamespace

from labs_lib.errors import LabError
from labs_lib.exercises import NotYet
from labs_lib.race_conditions.counters import handed_out
from labs_lib.race_conditions.explorer import replay
from labs_lib.race_conditions.trials import acquisitions, alone, explored

LIMIT, THREADS = 100_000, 4
PATIENCE_S = 20  # some hundred times what handing out the tickets takes


# --- 6.1 --------------------------------------------------------------------------------------------


def updates(n: int) -> Callable[[SimpleNamespace], None]:
    """A function that adds 1 to `counter.value` n times, line by line: two steps a line, a read and a write."""
    names: dict[str, Callable] = {}
    body = "    counter.value += 1\n" * n
    exec(compile(f"def add(counter):\n{body}", "<updates>", "exec"), names)
    return names["add"]


def check_losing_schedule(attempt: Callable) -> str:
    sizes = [3, *random.sample(range(4, 7), 2), 2]
    for n in sizes:
        schedule = attempt(n)
        if not isinstance(schedule, str):
            raise NotYet(f'return a schedule as text, such as "A2 B A"; you return {type(schedule).__name__}.')
        known = f"right for {sizes[0]} updates each, but " if n != sizes[0] else ""
        try:
            run = replay((lambda: SimpleNamespace(value=0), [updates(n)] * 2, lambda counter: True), schedule)
        except LabError as error:
            raise NotYet(
                f"{known}with {n} updates each, {schedule!r} cannot be replayed. {' '.join(error.sentences)}"
            ) from error
        value = run.state.value
        if value != 2:
            raise NotYet(
                f"{known}with {n} updates each, {schedule!r} ends at {value}: {2 * n - value} of {2 * n} are lost, and "
                f"{2 * n - 2} can be."
            )
    return f"with {', '.join(map(str, sizes))} updates each, the counter ends at 2 in the replay of your schedule."


# --- 6.2 --------------------------------------------------------------------------------------------


def check_counter(attempt: Callable) -> str:
    _judge_two_counters(attempt)
    for limit in (1, 0, random.randrange(3, 9)):
        _judge_alone(attempt, limit)
    schedules = sum(
        _judge_together(attempt, limit, threads, calls, switches)
        for limit, threads, calls, switches in ((1, 2, 1, 2), (3, 2, 2, 1), (2, 3, 1, 1))
    )
    taken = acquisitions(lambda: attempt(20), lambda counter: [counter.take() for _ in range(20)])
    if taken > 20:
        raise NotYet(f"it is right, but 20 calls take locks {taken} times. One for each call is enough.")
    sold = _sold_by_real_threads(attempt(LIMIT))
    if sold != LIMIT:
        raise NotYet(f"{THREADS} real threads got {sold} tickets where the limit is {LIMIT}.")
    return (
        f"never too many and never too few in {schedules} schedules of two and three threads, {taken} locks for 20 "
        f"calls (counted); {THREADS} real threads get {LIMIT} tickets."
    )


def _judge_alone(attempt: Callable, limit: int) -> None:
    expected = [True] * limit + [False] * 3
    answers: list[object] = []

    def setup() -> object:
        answers.clear()
        return attempt(limit)

    def ask(counter: object) -> None:
        answers.extend(counter.take() for _ in expected)

    def verdict(counter: object) -> str | bool:
        return answers == expected or f"with limit {limit}, one thread alone is told {answers}, not {expected}"

    alone(setup, ask, verdict, "one thread alone waits for ever. Is a lock let go on every way out of take()?")


def _judge_two_counters(attempt: Callable) -> None:
    def setup() -> SimpleNamespace:
        counters = [attempt(1), attempt(1)]
        if isinstance(counters[0], type):
            raise NotYet("return an object with a method take(); you return its class. Call it.")
        if not callable(getattr(counters[0], "take", None)):
            raise NotYet(f"return an object with a method take(); you return {type(counters[0]).__name__}.")
        return SimpleNamespace(counters=counters, got=[])

    def ask(state: SimpleNamespace) -> None:
        state.got.extend(counter.take() for counter in state.counters)

    def verdict(state: SimpleNamespace) -> str | bool:
        return state.got == [True, True] or (
            f"two counters with limit 1, asked once each, say {state.got}. Both must say True: each has its own ticket"
        )

    alone(setup, ask, verdict, "one counter alone waits for ever.")


def _judge_together(attempt: Callable, limit: int, threads: int, calls: int, switches: int) -> int:
    def ask(state: SimpleNamespace) -> None:
        for _ in range(calls):
            state.got.append(state.counter.take())

    def verdict(state: SimpleNamespace) -> str | bool:
        told = sum(state.got)
        right = min(limit, threads * calls)
        return told == right or f"{told} calls get a ticket where the limit is {limit}"

    return explored(
        lambda: SimpleNamespace(counter=attempt(limit), got=[]),
        [ask] * threads,
        verdict,
        "threads wait for each other for ever.",
        switches,
    )


def _sold_by_real_threads(counter: object) -> int:
    """In a thread of its own: a counter that sleeps or waits must not keep the notebook waiting."""
    sold: list[int] = []
    over = threading.Event()
    asked = SimpleNamespace(take=lambda: not over.is_set() and counter.take())
    thread = threading.Thread(target=lambda: sold.append(handed_out(asked, THREADS)), daemon=True)
    thread.start()
    thread.join(PATIENCE_S)
    over.set()
    if not sold:
        raise NotYet(
            f"{LIMIT} tickets were not handed out by real threads in {PATIENCE_S} s. What does take() wait for?"
        )
    return sold[0]
