"""What the checks of lab 08 give to a learner's function, and what they note of its run."""

from __future__ import annotations

import sys
from collections.abc import Callable
from types import FrameType

import numpy as np

from labs_lib.exercises import NotYet
from labs_lib.text_pipeline import engines, numpy_engine, reference
from labs_lib.text_pipeline.corpus import Corpus
from labs_lib.text_pipeline.processes import Job
from labs_lib.text_pipeline.reference import VOCABULARY

WORK = {module.__file__ for module in (reference, engines, numpy_engine)}  # where the pipeline's work is done
FEW, MANY = 40, 400  # strings: what is counted must not grow from one to the other
MARGIN = 20  # Python steps that may differ between two runs, since NumPy's own code takes turns


def job_of(rng: np.random.Generator) -> Job:
    """A job whose vocabulary is large: two thousand characters of Chinese after the letters."""
    chinese = rng.permutation(np.arange(0x4E00, 0x4E00 + 8000))[:2000]
    return Job(int(rng.integers(2**63)), vocabulary=VOCABULARY + "".join(map(chr, chinese.tolist())), length=32)


def strings_of(rng: np.random.Generator, job: Job, n: int) -> list[str]:
    """Different strings of some words in characters of the job's vocabulary."""
    letters = list(job.vocabulary[:27] + job.vocabulary[-20:])
    return ["".join(rng.choice(letters, size)) for size in rng.integers(20, 40, n)]


def corpus_of(rng: np.random.Generator, n: int, wide: bool = False, longest: int = 12) -> Corpus:
    """`n` strings of random letters, some of them empty; the first, the last and two in a row always."""
    lengths = rng.integers(0, longest, n)
    lengths[[0, n // 2, n // 2 + 1, -1]] = 0
    codes = rng.integers(97, 123, lengths.sum()).astype(np.uint8)
    if wide:
        codes = codes + rng.integers(0x400, 0x1F000, len(codes), np.uint32)
    return Corpus(codes, np.concatenate([[0], np.cumsum(lengths)]))


def steps_of(function: Callable, *arguments: object) -> int:
    """Lines of Python run and calls made by `function`, its own and those of the Python code that it calls."""
    steps = 0

    def trace(frame: FrameType, event: str, argument: object) -> Callable:
        nonlocal steps
        steps += event in ("call", "line")
        return trace

    def profile(frame: FrameType, event: str, argument: object) -> None:
        nonlocal steps
        steps += event == "c_call"

    before = sys.gettrace(), sys.getprofile()
    sys.settrace(trace)
    sys.setprofile(profile)
    try:
        function(*arguments)
    finally:
        sys.settrace(before[0])
        sys.setprofile(before[1])
    return steps


def noting_work(function: Callable, *arguments: object) -> tuple[object, bool]:
    """The answer, and whether any of the pipeline's own functions ran in this process to get it."""
    worked = False

    def profile(frame: FrameType, event: str, argument: object) -> None:
        nonlocal worked
        worked = worked or (event == "call" and frame.f_code.co_filename in WORK)

    before = sys.getprofile()
    sys.setprofile(profile)
    try:
        return function(*arguments), worked
    finally:
        sys.setprofile(before)


def untouched(attempt: Callable, *arrays: np.ndarray) -> object:
    """The answer of `attempt(*arrays)`, which may change none of them."""
    before = [array.copy() for array in arrays]
    answer = attempt(*arrays)
    if not all(map(np.array_equal, before, arrays)):
        raise NotYet("your function changes what it is given, which belongs to the caller.")
    return answer


def demand_own(answers: list[tuple[np.ndarray, np.ndarray]]) -> None:
    """`answers` are pairs of what was returned and its copy of then: a later call may not have changed it."""
    if not all(np.array_equal(*pair) for pair in answers):
        raise NotYet("a later call changes the answer of an earlier one: they share a buffer.")


def described(answer: object) -> str:
    if isinstance(answer, np.ndarray):
        return f"an array of {answer.dtype} with shape {answer.shape}"
    return f"an object of type {type(answer).__name__}"
