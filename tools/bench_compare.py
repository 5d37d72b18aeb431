"""How often compare() is wrong: `python -m tools.bench_compare [--null 200] [--true 50] [--budget 3]`.

Null runs compare a function with itself while two busy loops compete for the cores; "faster" or "slower"
is then a false alarm. True runs compare 12 units of work with 10, on the machine as it is; anything but
"faster" is a miss. Exits 1 when more than 5 % are false alarms or more than 10 % are misses.
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager

os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np
from tqdm import tqdm

from labs_lib.compare import Comparison, compare


def busy() -> None:
    while True:
        pass


@contextmanager
def busy_loops(count: int) -> Iterator[None]:
    """`count` processes that do nothing but use up the processor."""
    loops = [multiprocessing.Process(target=busy, daemon=True) for _ in range(count)]
    for loop in loops:
        loop.start()
    try:
        yield
    finally:
        for loop in loops:
            loop.kill()
            loop.join()


def work(units: int) -> Callable[[np.ndarray], np.ndarray]:
    """A function of `units` passes over its input: 12 and 10 units differ by a true factor of 1.2."""

    def run(x: np.ndarray) -> np.ndarray:
        out = np.empty_like(x)
        for _ in range(units):
            np.exp(x, out=out)
        return out

    return run


def repeat(runs: int, measure: Callable[[], Comparison], label: str) -> tuple[Counter[str], list[Comparison], float]:
    results, longest = [], 0.0
    for _ in tqdm(range(runs), desc=label):
        start = time.monotonic()
        results.append(measure())
        longest = max(longest, time.monotonic() - start)
    return Counter(result.verdict for result in results), results, longest


def report(label: str, runs: int, verdicts: Counter[str], results: list[Comparison], longest: float) -> None:
    ratios, floors = np.array([r.ratio for r in results]), np.array([r.floor for r in results])
    print(
        f"{label}: {dict(verdicts)} of {runs}; ratio {ratios.min():.3f} to {ratios.max():.3f}, "
        f"floor {np.median(floors):.3f} in the median, {floors.max():.3f} at most; longest run {longest:.1f} s"
    )


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--null", type=int, default=200, metavar="RUNS")
    parser.add_argument("--true", type=int, default=50, metavar="RUNS")
    parser.add_argument("--budget", type=float, default=3.0, metavar="SECONDS", help="of each compare()")
    options = parser.parse_args()
    x = np.random.default_rng(0).standard_normal(20_000)
    f, slow, fast = work(10), work(12), work(10)
    passed = True
    if options.null:
        with busy_loops(2):
            outcome = repeat(options.null, lambda: compare(f, f, x, budget_s=options.budget, progress=False), "null")
        report("A against A, two busy loops", options.null, *outcome)
        passed &= outcome[0]["indistinguishable"] >= 0.95 * options.null
    if options.true:
        outcome = repeat(options.true, lambda: compare(slow, fast, x, budget_s=options.budget, progress=False), "true")
        report("a true 1.2x", options.true, *outcome)
        passed &= outcome[0]["faster"] >= 0.9 * options.true
    print("passed" if passed else "FAILED")
    return 0 if passed else 1


if __name__ == "__main__":
    sys.exit(main())
