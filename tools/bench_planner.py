"""How low, how surely and how fast the planner plans: a table with one line per instance.

    python -m tools.bench_planner [FOLDER ...] [--fresh N] [--seed S] [--large] [--time-limit SECONDS]

A folder holds lifetimes as CSV (a name like A.1048576.csv gives the capacity to reach) and graphs as JSON,
each planned in the three regimes of memory reuse. Without a folder the instances are drawn at random: N
perfect packings and one of 18000 buffers. The seed is printed, and repeats a run. Seconds are those of the
processor, spent in one thread.
"""

import argparse
import random
import secrets
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from labs_lib.static_memory.graph import REGIMES, lifetimes, read_json
from labs_lib.static_memory.lifetimes import Buffer, read_csv, verify
from labs_lib.static_memory.planning import Plan, plan
from tools.packings import KINDS, fresh_packing, mixture

LARGE = 18_000  # buffers
LARGE_LIMIT_S = 4.5  # leaves room for reading, checking and printing within 5 s


@dataclass(frozen=True)
class Instance:
    """Buffers to plan, the capacity to reach (None: as low as possible) and the time limit in seconds."""

    name: str
    buffers: list[Buffer]
    capacity: int | None
    time_limit_s: float


def from_folder(folder: Path, time_limit_s: float) -> Iterator[Instance]:
    """Every CSV and JSON file of a folder."""
    for path in sorted(folder.glob("*.csv")):
        capacity = path.stem.rpartition(".")[2]
        yield Instance(path.stem, read_csv(path), int(capacity) if capacity.isdecimal() else None, time_limit_s)
    for path in sorted(folder.glob("*.json")):
        graph = read_json(path)
        for regime in REGIMES:
            yield Instance(f"{path.stem}, {regime}", lifetimes(graph, regime).buffers, None, time_limit_s)


def packings(rng: random.Random, number: int, time_limit_s: float) -> Iterator[Instance]:
    """Perfect packings, of all kinds in turn; the capacity is the height of the rectangle they were cut from."""
    for i in range(number):
        kind = list(KINDS)[i % len(KINDS)]
        buffers, height = fresh_packing(rng, kind)
        yield Instance(f"{kind} {i // len(KINDS) + 1}", buffers, height, time_limit_s)


def run(instance: Instance) -> tuple[Plan, float]:
    """The verified plan and the processor seconds that it took."""
    began = time.process_time()
    best = plan(instance.buffers, instance.capacity, instance.time_limit_s)
    seconds = time.process_time() - began
    verify(instance.buffers, best.offsets, capacity=best.height)
    return best, seconds


def bench(title: str, instances: Iterator[Instance]) -> None:
    """Plan one after the other and print the table."""
    print(f"\n{title}\n{'instance':<32}{'buffers':>8}{'bound':>13}{'height':>13}{'ratio':>8}{'fits':>6}", end="")
    print(f"{'proved':>8}{'seconds':>9}  found by")
    runs = []
    for instance in instances:
        best, seconds = run(instance)
        fits = best.height <= (best.lower_bound if instance.capacity is None else instance.capacity)
        runs.append((fits, best.proved, best.ratio, seconds))
        print(
            f"{instance.name:<32}{len(instance.buffers):>8}{best.lower_bound:>13}{best.height:>13}"
            f"{best.ratio:>8.4f}{_yes(fits):>6}{_yes(best.proved):>8}{seconds:>9.3f}  {best.planner}",
            flush=True,
        )
    if runs:
        fits, proved, ratios, seconds = zip(*runs, strict=True)
        print(
            f"{len(runs)} instances: {sum(fits)} at the capacity or, without one, the bound, {sum(proved)} proved; "
            f"largest ratio {max(ratios):.4f}; {sum(seconds):.3f} s in all, {max(seconds):.3f} s at most"
        )


def _yes(value: bool) -> str:
    return "yes" if value else "no"


def main(argv: list[str] | None = None) -> int:
    """Run the benchmark; returns the exit code."""
    parser = argparse.ArgumentParser(prog="python -m tools.bench_planner", description=__doc__.splitlines()[0])
    parser.add_argument("folders", nargs="*", type=Path, metavar="FOLDER", help="of *.csv and *.json instances")
    parser.add_argument("--fresh", type=int, default=None, metavar="N", help="perfect packings to draw (30)")
    parser.add_argument("--seed", type=int, default=None, help="of the random instances; drawn if not given")
    parser.add_argument("--large", action="store_true", help=f"also the instance of {LARGE} buffers")
    parser.add_argument("--time-limit", type=float, default=8.0, metavar="SECONDS", help="per instance (8)")
    args = parser.parse_args(argv)
    for folder in args.folders:
        if not folder.is_dir():
            parser.error(f"{folder} is no folder")
        bench(str(folder), from_folder(folder, args.time_limit))
    fresh = args.fresh if args.fresh is not None else (0 if args.folders else 30)
    seed = secrets.randbelow(10**6) if args.seed is None else args.seed
    if fresh:
        bench(f"fresh perfect packings, seed {seed}", packings(random.Random(seed), fresh, args.time_limit))
    if args.large or not args.folders:
        buffers = mixture(random.Random(seed), LARGE)
        large = Instance("mixture", buffers, None, LARGE_LIMIT_S)
        bench(f"large, seed {seed}", iter([large]))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
