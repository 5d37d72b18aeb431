"""What exercise 9.4 demands: for each of five defences of `lab.compare`, a cheat that gets past those before it.

The cheats run under compare() itself. Its clock is a virtual one, which only priced work moves: so who looks faster
is exact, and no cheat needs a quiet machine.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from unittest import mock

import numpy as np

from labs_lib import timing
from labs_lib.compare import Comparison, compare
from labs_lib.equality import difference
from labs_lib.errors import LabError
from labs_lib.exercises import NotYet

DEFENCES = {  # in the order in which they are tried
    "inputs": "the inputs are compared with what they were",
    "answer": "the answer is compared at all",
    "precision": "the tolerance is that of rounding",
    "timed": "the answers compared are those that were timed",
    "fresh": "each round has inputs of its own",
}
SIZE = 256
PRICES = {"plain": 40_000, "out": 30_000, "half": 20_000}  # ns for a call; in half precision, or into an array there is
CALL = 2_000  # ns for a call of any function
COARSE = 0.05  # of the largest value: who is further off than that did not compute the same in fewer bits
BUDGET_S = 0.1  # on the virtual clock
REPLACED = (
    "a cheat replaces the clock. No benchmark can defend itself against code in its own process: that is why one "
    "reads the code, or runs it in another process and holds the clock outside."
)

Cheat = Callable[[np.ndarray], object]


class Work:
    """The work to be done, each time at its price: a function that only this object knows, of a float32 array."""

    def __init__(self, rng: np.random.Generator) -> None:
        self.scale, self.shift = rng.uniform(0.5, 2, 2).astype(np.float32)
        self.ns, self.thread, self.elsewhere = 0, threading.get_ident(), False

    def __call__(self, x: np.ndarray, out: np.ndarray | None = None, dtype: type = np.float32) -> np.ndarray:
        self.elsewhere |= threading.get_ident() != self.thread
        share = np.size(x) / SIZE
        half = np.dtype(dtype) == np.float16
        self.ns += round(share * PRICES["half" if half else "plain" if out is None else "out"])
        answer = np.sin(self.scale * np.asarray(x, np.float32) + self.shift)
        answer = answer.astype(np.float16).astype(np.float32) if half else answer
        if out is None:
            return answer
        out[...] = answer
        return out


def check_cheats(attempt: Callable) -> str:
    rng = np.random.default_rng()
    with _clocks_kept():
        _of(attempt, Work(rng))
        for name in DEFENCES:
            _demand_caught(attempt, name, rng)
    return f"{len(DEFENCES)} cheats look faster, and each needs another defence of compare() (virtual clock, exact)."


def _of(attempt: Callable, work: Work) -> dict[str, Cheat]:
    cheats = attempt(work)
    if not isinstance(cheats, dict) or set(cheats) != set(DEFENCES):
        raise NotYet(f"return a dict with a function for each of {', '.join(DEFENCES)}.")
    for name, cheat in cheats.items():
        if not callable(cheat):
            raise NotYet(f"cheat {name!r} must be a function of x; it is an object of type {type(cheat).__name__}.")
    return cheats


def _demand_caught(attempt: Callable, name: str, rng: np.random.Generator) -> None:
    """The cheat gains time, and the first defence that it trips over is its own."""
    work = Work(rng)
    caught, why = _first_caught(lambda: _of(attempt, work)[name], work, rng)
    if work.elsewhere:
        raise NotYet(
            f"cheat {name!r} works in a thread of its own. compare() would show that it keeps more cores busy than it "
            "was given; no answer shows it. Write one that the answers or inputs give away."
        )
    gain = _gain(_of(attempt, work)[name], work, rng)
    if not caught and gain >= 1.01:
        _demand_no_buffer(_of(attempt, work)[name], name, rng)
        raise NotYet(f"cheat {name!r} is right on new inputs in every round, and faster: then it is no cheat.")
    if gain < 1.01:
        raise NotYet(
            f"cheat {name!r} gains nothing: even a benchmark that trusts it says {gain:.2f}x. What would make it look "
            "faster?"
        )
    if caught != name:
        early = list(DEFENCES).index(caught) < list(DEFENCES).index(name)
        when = "already caught by" if early else f"not caught by {name!r}, only by"
        raise NotYet(f"cheat {name!r} is {when} {caught!r} ({why}). {name!r} means that {DEFENCES[name]}.")


def _demand_no_buffer(cheat: Cheat, name: str, rng: np.random.Generator) -> None:
    if np.shares_memory(*(cheat(_draw(rng)) for _ in range(2))):
        raise NotYet(
            f"cheat {name!r} gives out the same array each time. compare() allows it, since the answer is right when "
            "it is read; only who keeps two answers finds them equal. It is a buffer, and no lie if it is said."
        )


def _gain(cheat: Cheat, work: Work, rng: np.random.Generator) -> float:
    """What compare()'s clock says alone, without a look at any answer: 1 is as fast as work."""
    x = _draw(rng)
    with _virtual_clock(work) as priced:
        honest, quick = priced(work), priced(cheat)
        return timing.time_pair(lambda: honest(x), lambda: quick(x), budget_s=BUDGET_S).ratio


def _first_caught(make: Callable[[], Cheat], work: Work, rng: np.random.Generator) -> tuple[str, str]:
    """The first defence that catches the cheat, and what it saw; each begins with a cheat that has seen nothing."""
    x = _draw(rng)
    before, right = x.copy(), work(x)
    answer = make()(x)
    if not np.array_equal(x, before):
        return "inputs", "after one call x is another"
    if type(answer) is not np.ndarray:
        raise NotYet(
            f"a cheat returns an object of type {type(answer).__name__}, and work returns an array. What computes only "
            "when it is read does so after the clock has stopped: return an array that is there."
        )
    off = difference(right, answer).relative
    if off > COARSE:
        return "answer", "it is wrong when called once"
    if off > 32 * np.finfo(np.float32).eps:
        return "precision", f"called once it is wrong by {off:.1e} of the largest value"
    try:
        found = _compare(work, make(), x)
    except LabError:
        return "inputs", "x was changed while it was timed"
    if not found.same:
        return "timed", f"called once it is right, and while timed it is wrong: {_off(found)}"
    buffer = _draw(rng)

    def fresh() -> tuple[np.ndarray]:
        buffer[:] = _draw(rng)  # new values in the same array
        return (buffer,)

    try:
        found = _compare(work, make(), fresh=fresh)
    except LabError:
        return "inputs", "an array of new values was changed while it was timed"
    if not found.same:
        return "fresh", f"with new inputs it is wrong: {_off(found)}"
    return ("", "") if found.verdict == "faster" else ("fresh", "with new inputs it is no faster")


def _compare(work: Work, cheat: Cheat, *inputs: object, **options: object) -> Comparison:
    with _virtual_clock(work) as priced:
        return compare(priced(work), priced(cheat), *inputs, budget_s=BUDGET_S, progress=False, **options)


@contextmanager
def _virtual_clock(work: Work) -> Iterator[Callable[[Cheat], Cheat]]:
    """compare() reads the clock of the work. Yields what makes each call of a function cost a little on it."""

    def clock() -> float:
        return work.ns / 1e9

    def priced(function: Cheat) -> Cheat:
        def call(x: np.ndarray) -> object:
            if timing.perf_counter is not clock:  # under a clock that stands still nothing would end
                raise NotYet(REPLACED)
            work.ns += CALL
            return function(x)

        return call

    with mock.patch.object(timing, "perf_counter", clock):
        yield priced


@contextmanager
def _clocks_kept() -> Iterator[None]:
    """Puts back clocks that a cheat replaces, and tells so whatever else it did."""
    kept = [(module, module.perf_counter) for module in (time, timing)]
    try:
        yield
    finally:
        replaced = [(module, clock) for module, clock in kept if module.perf_counter is not clock]
        for module, clock in replaced:
            module.perf_counter = clock
        if replaced:
            raise NotYet(REPLACED)


def _off(found: Comparison) -> str:
    return found.difference.where or f"by {found.difference.relative:.1e} of the largest value"


def _draw(rng: np.random.Generator) -> np.ndarray:
    return rng.standard_normal(SIZE).astype(np.float32)
