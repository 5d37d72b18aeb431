"""What exercises 8.1 and 8.4 demand of work that is split among workers. Their tasks are run here, one after another.

Answers come first, on fresh inputs, then the bytes pickled. Nothing is timed.
"""

from __future__ import annotations

import math
import pickle
from collections.abc import Callable, Sequence
from itertools import pairwise
from multiprocessing.reduction import ForkingPickler

import numpy as np

from labs_lib.exercises import NotYet
from labs_lib.text_pipeline.attempts import FEW, MANY, corpus_of, described, job_of, noting_work, strings_of, untouched
from labs_lib.text_pipeline.corpus import Corpus
from labs_lib.text_pipeline.processes import Job, in_this_process, item_tasks, pickled_bytes, ranges, traffic

FEWER = 10  # times the bytes of a task for each string must be

# --- 8.1 --------------------------------------------------------------------------------------------


def check_split(attempt: Callable) -> str:
    rng = np.random.default_rng()
    job = job_of(rng)
    for n, workers in ((MANY, 4), (7, 3), (9, 4), (1, 4), (3, 8), (0, 2), (int(rng.integers(200, 300)), 3)):
        strings = strings_of(rng, job, n)
        before = list(strings)
        tasks, worked = noting_work(attempt, strings, job, workers)
        if worked:
            raise NotYet("your function does the workers' work itself: only its tasks may.")
        if strings != before:
            raise NotYet("your function changes the list of strings, which belongs to the caller.")
        sent, parts = _ran(tasks)
        _demand_rows(parts, strings, job)
        _demand_shares(parts, n, workers)
        if n < FEW:  # so few that the tasks' own bytes weigh more than what they save
            continue
        apart = sum(traffic(item_tasks(strings, job)))
        together = sent + sum(map(pickled_bytes, parts))
        if FEWER * together > apart:
            raise NotYet(
                f"the rows are right, but {len(parts)} tasks for {n} strings and {workers} workers pickle {together:,} "
                f"bytes, and a task for each string {apart:,}: {apart / together:.1f} times as many. {FEWER} times is "
                "the aim. What does each task carry again?"
            )
    return (
        f"right for {n} strings and {workers} workers with {together:,} bytes pickled, where a task for each string "
        f"takes {apart:,}: {apart / together:.0f} times as many (counted)."
    )


def _ran(tasks: object) -> tuple[int, list[object]]:
    """Bytes of the tasks, and what each returns; run here, from the message that a worker would get."""
    form = "return a list of tasks, each a tuple (function, *arguments) as pool.submit takes them"
    if not isinstance(tasks, Sequence):
        raise NotYet(f"{form}; you return {described(tasks)}.")
    sent, parts = 0, []
    for task in tasks:
        if not isinstance(task, tuple) or not task or not callable(task[0]):
            raise NotYet(f"{form}; one of yours is {described(task)}.")
        function = task[0]
        if getattr(function, "__module__", None) == "__main__":
            raise NotYet(
                "a spawned worker can't see a notebook's functions. text.chunk_rows is one that it can import."
            )
        try:
            message = ForkingPickler.dumps(task)
        except (pickle.PicklingError, AttributeError, TypeError) as error:
            raise NotYet(f"a task can't be pickled, so it can't be sent to a worker: {error}.") from error
        sent += len(message)
        function, *arguments = pickle.loads(message)
        parts.append(function(*arguments))
    return sent, parts


def _demand_rows(parts: list[object], strings: list[str], job: Job) -> None:
    try:
        rows = [list(map(int, row)) for part in parts for row in part]
    except TypeError:
        raise NotYet("each task gives a list with one row for each of its strings. Is a task one bare row?") from None
    expected = in_this_process(strings, job).tolist()
    if len(rows) != len(expected):
        raise NotYet(f"{len(strings)} strings have {len(expected)} rows, and your tasks give {len(rows)}.")
    if rows == expected:
        return
    if sorted(rows) == sorted(expected):
        raise NotYet("all rows are there, but not in the order of the strings. Cut the strings into parts in a row.")
    same = sum(row == right for row, right in zip(rows, expected, strict=True))
    raise NotYet(
        f"{same} of {len(rows)} rows are right. Random numbers depend on the index in the whole list, and indices on "
        "the job's own vocabulary."
    )


def _demand_shares(parts: list[Sequence], n: int, workers: int) -> None:
    largest, fair = max(map(len, parts), default=0), math.ceil(n / workers)
    if largest > fair:
        raise NotYet(
            f"the rows are right, but one task has {largest} of {n} strings, and {workers} workers could have {fair} "
            "each. The others would wait for it."
        )


# --- 8.4 --------------------------------------------------------------------------------------------


def check_numbers(attempt: Callable) -> str:
    rng = np.random.default_rng()
    corpus = corpus_of(rng, int(rng.integers(120, 160)), longest=30)
    corpus.codes[:] = ord("a")  # strings of one length are equal, and still must not share their numbers
    seed = int(rng.integers(2**31))
    whole = _numbers(attempt, corpus, seed, [(0, len(corpus))])
    if not np.array_equal(whole, _numbers(attempt, corpus, seed, [(0, len(corpus))])):
        raise NotYet("one worker and one seed, twice: the second run gives other numbers than the first.")
    _demand_randomness(whole, corpus)
    _demand_seed(whole, _numbers(attempt, corpus, seed + 1, [(0, len(corpus))]))
    cuts = {f"{workers} workers": ranges(len(corpus), workers) for workers in (2, 3, 7)}
    cuts["4 workers with parts of unlike sizes"] = [(0, 1), (1, 1), (1, 50), (50, len(corpus))]
    for name, parts in cuts.items():
        found = _numbers(attempt, corpus, seed, parts)
        if not np.array_equal(found, whole):
            raise NotYet(
                f"{name} draw other numbers than one worker does, for {int((found != whole).sum()):,} of "
                f"{len(whole):,} characters. What differs between their calls, and may not matter?"
            )
        if not np.array_equal(_numbers(attempt, corpus, seed, parts, backwards=True), whole):
            raise NotYet(f"{name} give other numbers where the last part is done first, by another worker.")
    return f"the same {len(whole):,} numbers from 1, 2, 3 and 7 workers, in any order, and others for another seed."


def _numbers(
    attempt: Callable, corpus: Corpus, seed: int, parts: Sequence[tuple[int, int]], backwards: bool = False
) -> np.ndarray:
    """The numbers of the whole corpus, part after part; backwards, each part is also done by another worker."""
    tasks = list(enumerate(parts))
    found = {}
    for worker, (start, stop) in reversed(tasks) if backwards else tasks:
        part = corpus[start:stop]
        number = len(parts) - worker if backwards else worker
        drawn = untouched(lambda codes, offsets, p=part, i=start, w=number: attempt(p, i, seed, w),
                          part.codes, part.offsets)  # fmt: skip
        if not isinstance(drawn, np.ndarray) or drawn.shape != part.codes.shape or drawn.dtype.kind != "f":
            raise NotYet(
                f"return a float for each of the part's {len(part.codes)} characters; you return {described(drawn)}."
            )
        found[worker] = drawn.copy()
    return np.concatenate([found[worker] for worker, _ in tasks])


def _demand_randomness(numbers: np.ndarray, corpus: Corpus) -> None:
    if not np.all((numbers >= 0) & (numbers < 1)):
        raise NotYet("the numbers lie from 0 up to, not including, 1; some of yours do not.")
    rows = [numbers[start:end] for start, end in pairwise(corpus.offsets) if end > start + 1]
    if all(len(set(row.tolist())) == 1 for row in rows):
        raise NotYet("all characters of a sentence share one number. What tells them apart?")
    if len({row[0] for row in rows}) < len(rows) * 0.9:
        raise NotYet("sentences share their numbers, the first ones for instance. What tells one from the other?")
    deviation = (12 * len(numbers)) ** -0.5  # of the mean of uniform numbers
    if len(set(numbers.tolist())) < 0.99 * len(numbers) or abs(numbers.mean() - 0.5) > 6 * deviation:
        raise NotYet(f"the numbers are not uniform: {len(set(numbers.tolist())):,} different ones of "
                     f"{len(numbers):,}, with mean {numbers.mean():.3f}.")  # fmt: skip


def _demand_seed(numbers: np.ndarray, others: np.ndarray) -> None:
    if np.array_equal(numbers, others):
        raise NotYet("another seed gives the same numbers.")
    shared = np.isin(others, numbers).mean()
    if shared > 0.01:
        raise NotYet(
            f"the seeds s and s + 1 share {shared:.0%} of their numbers: a sum makes one sentence under one seed the "
            "next under the other. Keep them apart."
        )
