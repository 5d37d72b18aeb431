"""The rungs of the ladder: the ways to run the pipeline, under their names."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from labs_lib.text_pipeline import numpy_engine
from labs_lib.text_pipeline.better_python import better_python, numpy_per_string
from labs_lib.text_pipeline.corpus import Corpus
from labs_lib.text_pipeline.engines import augment, clean_corpus, pipeline
from labs_lib.text_pipeline.processes import (
    Job,
    Workers,
    chunk_tasks,
    in_this_process,
    in_threads,
    item_tasks,
    shared_tasks,
    traffic,
)
from labs_lib.text_pipeline.reference import the_case


@dataclass(frozen=True)
class Rung:
    """One way: strings, a job and a pool, to rows of indices."""

    name: str
    run: Callable[[Sequence[str], Job, Workers | None], object]
    exact: bool = True  # whether its numbers are the counter-based ones
    pool: bool = False  # whether it needs processes
    pickled: Callable[[Sequence[str], Job], int] = lambda strings, job: 0  # bytes to the processes and back


def _with_table(strings: Sequence[str], job: Job) -> np.ndarray:
    corpus = augment(clean_corpus(Corpus.from_strings(strings)), job.seed, job.rates)
    return numpy_engine.encode(corpus, job.vocabulary, job.length)


def _by_engine(engine: str, device: str = "cpu") -> Callable[..., np.ndarray]:
    return lambda strings, job, _: pipeline(strings, job.seed, job.rates, job.vocabulary, job.length, engine, device)


def _plain(function: Callable[..., object]) -> Callable[..., object]:
    return lambda strings, job, _: function(strings, job.seed, job.rates, job.vocabulary, job.length)


def _pickled_for_shared_memory(strings: Sequence[str], job: Job) -> int:
    with shared_tasks(strings, job) as (tasks, _):
        return sum(traffic(tasks))


CASE, REFERENCE = "the case: random(), a tensor each", "characters, counter-based"
RUNGS = {
    rung.name: rung
    for rung in (
        Rung(CASE, _plain(the_case), exact=False),
        Rung(REFERENCE, lambda strings, job, _: in_this_process(strings, job)),
        Rung(
            "2 processes, a task an item",
            lambda strings, job, workers: workers.per_item(strings, job),
            pool=True,
            pickled=lambda strings, job: sum(traffic(item_tasks(strings, job))),
        ),
        Rung(
            "2 processes, chunks",
            lambda strings, job, workers: workers.chunked(strings, job),
            pool=True,
            pickled=lambda strings, job: sum(traffic(chunk_tasks(strings, job))),
        ),
        Rung("better Python", _plain(better_python)),
        Rung("NumPy, string by string", _plain(numpy_per_string)),
        Rung("NumPy, whole corpus", lambda strings, job, _: _with_table(strings, job)),
        Rung("NumPy and bytes.translate", _by_engine("numpy")),
        Rung(
            "the same, 2 processes, shared memory",
            lambda strings, job, workers: workers.shared(strings, job),
            pool=True,
            pickled=_pickled_for_shared_memory,
        ),
        Rung("numba", _by_engine("numba")),
        Rung("numba, 2 threads", lambda strings, job, _: in_threads(strings, job)),
        Rung("torch, CPU", _by_engine("torch")),
        Rung("torch, CUDA", _by_engine("torch", "cuda")),
    )
}


def rungs_here() -> list[str]:
    """The rungs that this machine has: all, but that of a GPU only where torch has one."""
    import torch

    return [name for name in RUNGS if "CUDA" not in name or torch.cuda.is_available()]
