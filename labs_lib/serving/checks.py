"""What exercises 7.2 and 7.4 demand: a model that fails for bad items, and logs of load tests with one trap each."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import numpy as np

from labs_lib.exercises import NotYet
from labs_lib.serving.load import TIMEOUT, Outcome

# --- 7.2 --------------------------------------------------------------------------------------------


class _Model:
    """Gives each item a result that only this model knows, and fails for any batch with a bad item in it."""

    def __init__(self, rng: np.random.Generator, n: int, bad: Sequence[int]) -> None:
        names = rng.choice(900_000, n, replace=False) + 100_000
        self.items = [f"image-{name}" for name in names]
        # Results may be what Python takes for false; they are results all the same.
        self.results: dict[str, object] = {
            item: (0, None, "", int(rng.integers(1, 1000)))[i % 4] for i, item in enumerate(self.items)
        }
        self.errors = {self.items[i]: ValueError(f"no image, case {rng.integers(10**9)}") for i in bad}
        self.calls = 0

    def run(self, batch: list[str]) -> list[object]:
        self.calls += 1
        if not isinstance(batch, list):
            raise NotYet(f"run takes a list of items; you give it an object of type {type(batch).__name__}.")
        if not batch:
            raise NotYet("run is called with an empty list. Nothing to compute needs no call.")
        if not all(item in self.results for item in batch):
            raise NotYet("run is called with something that is not among the items.")
        if self.calls > 4 * len(self.items) + 20:
            raise NotYet(f"run is called {self.calls} times for {len(self.items)} items, and you go on.")
        for item in batch:
            if item in self.errors:
                raise self.errors[item]
        return [self.results[item] for item in batch]


def check_answers(attempt: Callable) -> str:
    rng = np.random.default_rng()
    n = int(rng.integers(40, 64))
    some = sorted(rng.choice(n, 3, replace=False).tolist())
    cases = [(6, []), (8, [int(rng.integers(8))]), (5, range(5)), (1, [0]), (0, []), (16, [2, 3, 11]), (7, [6])]
    for size, bad in [*cases, (n, []), (n, some)]:
        model = _Model(rng, size, list(bad))
        _demand_answers(_answers_of(attempt, model), model)
        _demand_few_calls(model)
    _demand_that_interrupts_pass(attempt)
    return f"{n} items, {len(some)} of them bad: each has its own result or error, after {model.calls} calls (counted)."


def _answers_of(attempt: Callable, model: _Model) -> object:
    given = list(model.items)
    try:
        found = attempt(model.run, given)
    except ValueError as error:
        if error in model.errors.values():
            raise NotYet(
                "the error of one item is raised, so that nobody gets an answer. Return it in that item's place."
            ) from error
        raise
    if given != model.items:
        raise NotYet("your function changes the caller's list of items.")
    return found


def _demand_answers(found: object, model: _Model) -> None:
    n, bad = len(model.items), len(model.errors)
    of = f"of {n} items, {bad} of them bad: "
    if not isinstance(found, list):
        raise NotYet(f"return a list with a result or an error for each item; you return {type(found).__name__}.")
    if len(found) != n:
        raise NotYet(f"{n} items need {n} answers, and you return {len(found)}.")
    for item, answer in zip(model.items, found, strict=True):
        if item in model.errors:
            _demand_own_error(answer, model.errors[item], of)
    pairs = [pair for pair in zip(model.items, found, strict=True) if pair[0] not in model.errors]
    good = [(model.results[item], answer) for item, answer in pairs]
    failed = sum(isinstance(answer, Exception) for _, answer in good)
    if failed:
        raise NotYet(f"{of}{failed} of the {n - bad} good ones get an error too. Only a bad one may fail.")
    wrong = sum(type(answer) is not type(result) or answer != result for result, answer in good)
    if wrong:
        raise NotYet(f"{of}{wrong} of the {n - bad} good ones get a result that is not theirs. Keep the order.")


def _demand_own_error(answer: object, error: Exception, of: str) -> None:
    if answer is error:
        return
    if isinstance(answer, Exception):
        raise NotYet(f"{of}a bad one gets an error that run did not raise for it alone. Each has its own.")
    raise NotYet(f"{of}a bad one gets {answer!r} in place of the exception that run raises for it.")


def _demand_few_calls(model: _Model) -> None:
    n, bad = len(model.items), len(model.errors)
    enough = min(1 + 2 * bad * math.ceil(math.log2(n)), max(1, 2 * n - 1)) if n else 0
    if model.calls > enough:
        which = f"{bad} of them bad" if bad else "none of them bad"
        raise NotYet(
            f"each answer is right, but for {n} items, {which}, run is called {model.calls} times where {enough} will "
            "do. Which part of a batch that failed is good as a whole?"
        )


def _demand_that_interrupts_pass(attempt: Callable) -> None:
    def interrupted(batch: list) -> list:
        raise KeyboardInterrupt

    try:
        attempt(interrupted, ["image"])
    except KeyboardInterrupt:
        return
    raise NotYet("KeyboardInterrupt is no bad item: it must pass, so that a user can stop the run. Catch Exception.")


# --- 7.4 --------------------------------------------------------------------------------------------

Trap = tuple[str, Callable[[np.random.Generator, list[Outcome]], list[Outcome]], str]  # its name, it, a question


def _plain(rng: np.random.Generator) -> list[Outcome]:
    """300 to 500 right answers in about 10 s, sent in time; one in forty takes long."""
    n = int(rng.integers(300, 500))
    intended = np.sort(rng.uniform(0, 10, n))
    took = rng.uniform(0.020, 0.040, n) + (np.arange(n) % 40 == 7) * rng.uniform(0.2, 0.9, n)
    return [Outcome(*map(float, (a, a, a + b)), 200, True) for a, b in zip(intended, took, strict=True)]


def _stalled(rng: np.random.Generator, log: list[Outcome]) -> list[Outcome]:
    """The service stands still for two seconds, and the sender waits with it: then it sends all at once."""
    start = float(rng.uniform(2, 6))
    end = start + 2
    return [
        row
        if not start <= row.intended < end
        else Outcome(row.intended, end, end + row.done - row.sent, row.status, row.right)
        for row in log
    ]


def _forgetful(rng: np.random.Generator, log: list[Outcome]) -> list[Outcome]:
    return [_replaced(row, 0.001, 200) if i % 3 else row for i, row in enumerate(log)]


def _refusing(rng: np.random.Generator, log: list[Outcome]) -> list[Outcome]:
    return [_replaced(row, 0.002, 503) if i % 2 else row for i, row in enumerate(log)]


def _giving_up(rng: np.random.Generator, log: list[Outcome]) -> list[Outcome]:
    return [_replaced(row, 10.0, TIMEOUT) if i % 10 == 4 else row for i, row in enumerate(log)]


def _cold(rng: np.random.Generator, log: list[Outcome]) -> list[Outcome]:
    first = [Outcome(-3 + i / 10, -3 + i / 10, -0.1 + i / 1000, 200, True) for i in range(20)]
    return first + log


def _everything(rng: np.random.Generator, log: list[Outcome]) -> list[Outcome]:
    log = _cold(rng, _giving_up(rng, _forgetful(rng, _stalled(rng, log))))
    return [log[i] for i in rng.permutation(len(log))]  # as the answers came, and not as they were sent


def _nothing(rng: np.random.Generator, log: list[Outcome]) -> list[Outcome]:
    return [_replaced(row, 0.001, 503) for row in log]


def _replaced(row: Outcome, took: float, status: int | str) -> Outcome:
    return Outcome(row.intended, row.sent, row.sent + took, status, False)


TRAPS: tuple[Trap, ...] = (
    ("a service where one answer in forty is slow", lambda rng, log: log, "A mean does not show it."),
    ("a sender that waits while the service stands still", _stalled, "From when on does a user wait?"),
    ("a service that answers most with 200 and a wrong label", _forgetful, "Is a wrong answer an answer?"),
    ("a service that refuses every other request within 2 ms", _refusing, "Is a refusal a fast answer?"),
    ("a service that lets one in ten run into a time-out", _giving_up, "A failure is not an answer, fast or slow."),
    ("a service that is cold for its first 20 requests", _cold, "Those before time 0 only warm it up."),
    ("a service with several of these at once", _everything, "The rows come in the order of the answers."),
)


def check_figures(attempt: Callable) -> str:
    rng = np.random.default_rng()
    for name, trap, ask in TRAPS:
        log = trap(rng, _plain(rng))
        seconds = max(row.done for row in log)
        goodput, p99 = _figures_of(attempt, log, seconds)
        good = sorted(1000 * (row.done - row.intended) for row in log if row.right and row.intended >= 0)
        _demand_goodput(goodput, len(good), seconds, f"{name}: ", ask)
        _demand_p99(p99, good, f"{name}: ", ask)
    rows = len(log)
    log = _nothing(rng, _plain(rng))
    goodput, p99 = _figures_of(attempt, log, 10.0)
    if goodput != 0 or not math.isnan(p99):
        raise NotYet(f"where nothing is right, goodput is 0 and the p99 is unknown, nan; you return {goodput}, {p99}.")
    return f"right for {len(TRAPS) + 1} logs; in the one with several traps {len(good)} answers of {rows} rows count."


def _figures_of(attempt: Callable, log: list[Outcome], seconds: float) -> tuple[float, float]:
    given = list(log)
    found = attempt(given, seconds)
    if given != log:
        raise NotYet("your function changes the caller's log.")
    numbers = isinstance(found, tuple) and all(isinstance(one, int | float | np.number) for one in found)
    if not numbers or len(found) != 2:
        raise NotYet(f"return two numbers, goodput and p99; you return {found!r}.")
    return float(found[0]), float(found[1])


def _demand_goodput(goodput: float, count: int, seconds: float, name: str, ask: str) -> None:
    if not abs(goodput * seconds - count) < 1e-3:
        raise NotYet(
            f"{name}{count} right answers in {seconds:.2f} s are {count / seconds:.2f} a second, and you report "
            f"{goodput:.2f}. {ask}"
        )


def _demand_p99(p99: float, good: list[float], name: str, ask: str) -> None:
    rank = 0.99 * (len(good) - 1)  # all usual definitions lie between these two ranks
    low, high = good[math.floor(rank)], good[min(len(good) - 1, math.ceil(0.99 * len(good)))]
    if low - 1e-6 <= p99 <= high + 1e-6:
        return
    if low - 1e-6 <= 1000 * p99 <= high + 1e-6:
        raise NotYet("your p99 is right in seconds. Report milliseconds.")
    raise NotYet(f"{name}the p99 is {high:.1f} ms, and you report {p99:.1f} ms. {ask}")
