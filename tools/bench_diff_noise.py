"""Does bench-diff cry wolf, and does it sleep? Pairs of runs of the same code, and of code with a planted slow-down.

    python -m tools.bench_diff_noise             # some twenty minutes
    python -m tools.bench_diff_noise --pairs 3   # shows that it works

Each run is a process of its own. A busy loop runs beside all of them, as on a machine that somebody works on. The
planted code runs 3 of the model's 10 equal blocks twice: 1.3 times the operations (counted). A run of the same
code serves in three pairs: with the one before, with the one after, and with the planted one.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import torch
from torch import nn

BLOCKS, WIDTH, BATCHES = 10, 512, (8, 64)
PLANTED = "BENCH_DIFF_NOISE"  # the environment variable with the number of blocks that run twice


class Blocks(nn.Sequential):
    """Blocks of a matrix product, which waits for arithmetic, and of element-wise work, which waits for memory."""

    def __init__(self, twice: int) -> None:
        super().__init__(*(nn.Sequential(nn.Linear(WIDTH, WIDTH), nn.GELU()) for _ in range(BLOCKS)))
        self.twice = twice

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = super().forward(x)
        for block in list(self)[: self.twice]:  # at the end, where the caches no longer hold them
            block(x)
        return x


def model() -> nn.Module:
    return Blocks(twice=int(os.environ.get(PLANTED, 0)))


def measure(folder: Path, twice: int) -> None:
    """One run, in a process of its own."""
    command = [sys.executable, "-m", "labs_lib", "bench", "--model", "tools.bench_diff_noise:model"]
    command += ["--input", str(WIDTH), "--batch-sizes", *map(str, BATCHES), "--variants", "eager"]
    environment = os.environ | {PLANTED: str(twice), "LABS_PRESET": "ci"}
    subprocess.run([*command, "--output", str(folder)], env=environment, check=True, stdout=subprocess.DEVNULL)


@contextmanager
def busy(loops: int) -> Iterator[None]:
    """Processes that only compute, beside the block."""
    running = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(loops)]
    try:
        yield
    finally:
        for process in running:
            process.kill()
            process.wait()


def main(argv: Sequence[str] | None = None) -> int:
    from labs_lib.inference_bench.diff import compare_runs
    from labs_lib.inference_bench.exports import read_run

    parser = argparse.ArgumentParser(prog="python -m tools.bench_diff_noise", description=__doc__.split("\n")[0])
    parser.add_argument("--pairs", type=int, default=20)
    parser.add_argument("--busy", type=int, default=1, help="loops that run beside all (1)")
    parser.add_argument("--folder", type=Path, help="keeps the runs")
    args = parser.parse_args(argv)
    start = time.perf_counter()
    with tempfile.TemporaryDirectory() as temporary, busy(args.busy):
        folder = args.folder or Path(temporary)
        for number in range(args.pairs + 1):
            measure(folder / f"same-{number}", twice=0)
            if number < args.pairs:
                measure(folder / f"planted-{number}", twice=3)
        runs = {path.name: read_run(path) for path in folder.iterdir()}
    same = [compare_runs(runs[f"same-{n}"], runs[f"same-{n + 1}"]) for n in range(args.pairs)]
    planted = [compare_runs(runs[f"same-{n}"], runs[f"planted-{n}"]) for n in range(args.pairs)]
    for name, diffs in (("same code", same), ("planted 1.3x", planted)):
        verdicts = Counter(row.verdict for diff in diffs for row in diff.changes)
        claimed = sum(diff.regressed for diff in diffs)
        print(f"{name}: a regression claimed in {claimed} of {len(diffs)} pairs; configurations: {dict(verdicts)}")
    print(f"{time.perf_counter() - start:.0f} s, {args.busy} busy loop(s) beside")
    return 0 if not any(diff.regressed for diff in same) and all(diff.regressed for diff in planted) else 1


if __name__ == "__main__":
    sys.exit(main())
