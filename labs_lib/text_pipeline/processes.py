"""The pipeline in several processes: an item a task, chunks, and arrays in shared memory; and in threads.

All give the same bytes, whatever the number of workers: a number depends on the sentence's index alone. What runs in
a worker stands here, since a spawned worker imports its functions and can't see a notebook's.
"""

from __future__ import annotations

import multiprocessing
import os
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from itertools import pairwise
from multiprocessing import resource_tracker, shared_memory
from multiprocessing.reduction import ForkingPickler
from multiprocessing.synchronize import Barrier

import numpy as np

from labs_lib.errors import LabError
from labs_lib.text_pipeline.corpus import Corpus
from labs_lib.text_pipeline.engines import augment, clean_corpus, encode
from labs_lib.text_pipeline.numpy_engine import table_of
from labs_lib.text_pipeline.rates import Rates
from labs_lib.text_pipeline.reference import LENGTH, VOCABULARY, augment_by_characters, clean, encode_by_characters

METHODS = tuple(multiprocessing.get_all_start_methods())
THREADS = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")
CHUNKS = 4  # for each worker, so that none waits long for the slowest
Task = tuple[Callable[..., object], ...]  # a function and its arguments: what is pickled for one submit


@dataclass(frozen=True)
class Job:
    """What the pipeline is to do, apart from the strings."""

    seed: int = 0
    rates: Rates = field(default_factory=Rates)
    vocabulary: str = VOCABULARY
    length: int = LENGTH


def pipeline_row(s: str, index: int, job: Job) -> list[int]:
    """The whole pipeline for one string, character by character."""
    return encode_by_characters(augment_by_characters(clean(s), index, job.seed, job.rates), job.vocabulary, job.length)


def encode_row(s: str, index: int, job: Job) -> list[int]:
    """Its last step alone: some microseconds of work."""
    return encode_by_characters(s, job.vocabulary, job.length)


def in_this_process(strings: Sequence[str], job: Job, row: Callable = pipeline_row) -> np.ndarray:
    """The same loops without any worker."""
    return _rows([row(s, index, job) for index, s in enumerate(strings)], job)


class Workers:
    """A pool of processes, started and ready. The three ways to use it take strings and return indices (n, length).

    >>> with Workers(2) as workers:
    ...     rows = workers.shared(["The cat sat.", "On a mat."], Job(length=4))
    >>> rows.shape
    (2, 4)

    `method` is "spawn" (on every system), "fork" (not on Windows; unsafe where other threads run, as in a notebook)
    or "forkserver". `start_seconds` is what starting took, until every worker was ready.
    """

    def __init__(self, count: int = 2, method: str = "spawn") -> None:
        if method not in METHODS:
            raise LabError(f"Processes can't be started by {method!r} here.", "", f"Use one of {', '.join(METHODS)}.")
        if not isinstance(count, int) or count < 1:
            raise LabError(f"{count!r} workers can't be started.", "", "Give a whole number, 1 or more.")
        self.count, self.method = count, method
        start = time.perf_counter()
        resource_tracker.ensure_running()  # else a forked worker starts one of its own, which warns at its end
        context = multiprocessing.get_context(method)
        everyone = context.Barrier(count)
        self._pool = ProcessPoolExecutor(count, context, _start, (everyone,))
        for future in [self._pool.submit(_meet) for _ in range(count)]:
            future.result()
        self.start_seconds = time.perf_counter() - start

    def __enter__(self) -> Workers:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def close(self) -> None:
        """Ends the processes."""
        self._pool.shutdown()

    def per_item(self, strings: Sequence[str], job: Job, row: Callable = pipeline_row) -> np.ndarray:
        """One `submit` for each string, as the case has it."""
        return _rows(self._results(item_tasks(strings, job, row)), job)

    def chunked(
        self, strings: Sequence[str], job: Job, row: Callable = pipeline_row, chunks: int | None = None
    ) -> np.ndarray:
        """The same loops over strings in a row: a few tasks for each worker."""
        parts = self._results(chunk_tasks(strings, job, row, chunks or CHUNKS * self.count))
        return _rows([row for part in parts for row in part], job)

    def shared(self, strings: Sequence[str], job: Job, engine: str = "numpy") -> np.ndarray:
        """Code points, offsets and rows lie in memory that all see: messages name them, and carry no text."""
        with shared_tasks(strings, job, engine, self.count) as (tasks, out):
            self._results(tasks)
            return out.copy()

    def _results(self, tasks: Sequence[Task]) -> list[object]:
        if self.method != "fork":
            _demand_importable(tasks)
        return [future.result() for future in [self._pool.submit(*task) for task in tasks]]


def _demand_importable(tasks: Sequence[Task]) -> None:
    """Before the pool breaks: a worker that fails to import what it is sent ends, and all tasks with it.

    Raises LabError for functions of a notebook. Those of a script are fine: a worker imports its file.
    """
    if getattr(sys.modules["__main__"], "__file__", None):
        return
    functions = [part for task in tasks for part in task if callable(part)]
    for function in functions:
        if getattr(function, "__module__", None) == "__main__":
            raise LabError(
                f"A worker can't see {getattr(function, '__name__', function)}.",
                "A started process imports functions from modules, and a notebook is none.",
                "Write it into a .py file and import it, or use text.encode_row and text.pipeline_row.",
            )


def in_threads(strings: Sequence[str], job: Job, engine: str = "numba", count: int = 2) -> np.ndarray:
    """Parts of the corpus in threads: numba's loops, and most of NumPy's, run without Python's lock."""
    if count < 1:
        raise LabError(f"{count} threads do nothing.", "", "Give 1 or more.")
    corpus = Corpus.from_strings(strings)
    out = np.empty((len(corpus), job.length), table_of(job.vocabulary).dtype)
    with ThreadPoolExecutor(count) as pool:
        parts = ranges(len(corpus), count)
        for future in [pool.submit(_into, out, corpus, start, stop, job, engine) for start, stop in parts]:
            future.result()
    return out


# --- tasks: what is sent to a worker ---------------------------------------------------------------------------


def item_tasks(strings: Sequence[str], job: Job, row: Callable = pipeline_row) -> list[Task]:
    return [(row, s, index, job) for index, s in enumerate(strings)]


def chunk_tasks(strings: Sequence[str], job: Job, row: Callable = pipeline_row, chunks: int = 2 * CHUNKS) -> list[Task]:
    return [(chunk_rows, row, strings[start:stop], start, job) for start, stop in ranges(len(strings), chunks)]


@contextmanager
def shared_tasks(
    strings: Sequence[str], job: Job, engine: str = "numpy", count: int = 2
) -> Iterator[tuple[list[Task], np.ndarray]]:
    """The tasks, and the rows that they fill, for as long as the block lasts."""
    corpus = Corpus.from_strings(strings)
    with ExitStack() as stack:
        codes = stack.enter_context(_share(corpus.codes.shape, corpus.codes.dtype))
        offsets = stack.enter_context(_share(corpus.offsets.shape, corpus.offsets.dtype))
        out = stack.enter_context(_share((len(corpus), job.length), table_of(job.vocabulary).dtype))
        codes[1][:], offsets[1][:] = corpus.codes, corpus.offsets
        names = tuple(block[0] for block in (codes, offsets, out))
        tasks = [(_shared_part, names, start, stop, job, engine) for start, stop in ranges(len(corpus), count)]
        yield tasks, out[1]


def ranges(n: int, parts: int) -> list[tuple[int, int]]:
    """0 to n cut into at most so many parts of about the same size.

    >>> ranges(5, 2), ranges(1, 4)
    ([(0, 2), (2, 5)], [(0, 1)])
    """
    parts = max(1, min(parts, n))
    edges = [n * i // parts for i in range(parts + 1)]
    return list(pairwise(edges))


def pickled_bytes(thing: object) -> int:
    """Bytes of the message in which a process pool sends a thing to a worker, or a result back.

    >>> pickled_bytes(["a" * 10] * 50) < 200 < pickled_bytes(["a" * i for i in range(50)])
    True
    """
    return len(ForkingPickler.dumps(thing))


def traffic(tasks: Sequence[Task]) -> tuple[int, int]:
    """Bytes pickled to send these tasks, and to return their results, by running them here."""
    return sum(map(pickled_bytes, tasks)), sum(pickled_bytes(function(*rest)) for function, *rest in tasks)


# --- in a worker -----------------------------------------------------------------------------------------------


def _start(everyone: Barrier) -> None:
    global _everyone
    _everyone = everyone
    os.environ.update(dict.fromkeys(THREADS, "1"))


def _meet() -> None:
    """Waits until every worker has one of these: then all are there, and none took two."""
    _everyone.wait(timeout=120)


def chunk_rows(row: Callable, strings: Sequence[str], first: int, job: Job) -> list[list[int]]:
    """Strings in a row; `first` is the index of the first one in the corpus.

    >>> chunk_rows(encode_row, ["a", "b"], 0, Job(vocabulary="ab", length=2))
    [[2, 0], [3, 0]]
    """
    return [row(s, index, job) for index, s in enumerate(strings, first)]


def _shared_part(names: tuple[Name, Name, Name], start: int, stop: int, job: Job, engine: str) -> None:
    with ExitStack() as stack:
        codes, offsets, out = (stack.enter_context(_attach(name)) for name in names)
        _into(out, Corpus(codes, offsets), start, stop, job, engine)


def _into(out: np.ndarray, corpus: Corpus, start: int, stop: int, job: Job, engine: str) -> None:
    """The pipeline for strings start to stop, into their rows."""
    part = augment(clean_corpus(corpus[start:stop]), job.seed, job.rates, engine, first=start)
    out[start:stop] = encode(part, job.vocabulary, job.length, engine)


def _rows(rows: list[list[int]], job: Job) -> np.ndarray:
    return np.array(rows, table_of(job.vocabulary).dtype).reshape(-1, job.length)


# --- shared memory ---------------------------------------------------------------------------------------------

Name = tuple[str, tuple[int, ...], str]  # of a block, with the shape and dtype of the array in it


@contextmanager
def _share(shape: tuple[int, ...], dtype: np.dtype) -> Iterator[tuple[Name, np.ndarray]]:
    """A new block, which ends with the context."""
    size = max(1, int(np.prod(shape)) * dtype.itemsize)
    memory = shared_memory.SharedMemory(create=True, size=size)
    try:
        yield (memory.name, shape, dtype.str), np.ndarray(shape, dtype, memory.buf)
    finally:
        memory.close()  # from here on the array points to nothing
        memory.unlink()


@contextmanager
def _attach(name: Name) -> Iterator[np.ndarray]:
    memory = shared_memory.SharedMemory(name[0])
    try:
        yield np.ndarray(name[1], name[2], memory.buf)
    finally:
        memory.close()
