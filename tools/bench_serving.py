"""The service of lab 07 on this machine: its stages under load, and its batcher beside LitServe's, in one run.

    python -m tools.bench_serving            # some ten minutes; take a quiet machine
    python -m tools.bench_serving --quick    # shows that it works; its figures say little

Every service computes with one thread, and shares the machine's cores with the sender. What is compared is measured
in rounds, in an order drawn at random within each, so that a busy moment falls on all. Our batcher and LitServe are
started anew for each of their rounds, and never run together: LitServe's processes poll, and take a core while idle.
"""

from __future__ import annotations

import argparse
import random
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from functools import partial
from typing import TypeVar

import httpx

from labs_lib import serving
from labs_lib.errors import LabError
from labs_lib.hardware import version
from labs_lib.machine import doctor
from labs_lib.serving import LoadResult
from labs_lib.timing import Interval, median_interval

STAGES = ("per-request", "once", "pool", "batch")
DEADLINE_MS = 250.0
MAX_BATCH, MAX_QUEUE = 16, 16  # 32 places: at some 6 ms an image, who is let in is answered before the deadline
CLIENTS = 16  # of the closed loop that finds what a stage can do at most
WINDOWS_S = (0.0, 0.005)  # LitServe's batch_timeout: 0 takes what is there, as our batcher does, but polls for it
START_S = 120
T = TypeVar("T")


@dataclass(frozen=True)
class Size:
    rates: tuple[int, ...]
    seconds: float
    rounds: int  # at least 6, or no interval reaches 95 %


FULL = Size((20, 40, 80, 110, 160), 4.0, 8)
QUICK = Size((10, 80), 1.0, 1)


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m tools.bench_serving", description=__doc__.split("\n")[0])
    parser.add_argument("--quick", action="store_true", help="two rates and one round of a second")
    parser.add_argument("--seconds", type=float, help="of each load test")
    parser.add_argument("--rounds", type=int, help="of each comparison")
    args = parser.parse_args(argv)
    size = QUICK if args.quick else FULL
    size = Size(size.rates, args.seconds or size.seconds, args.rounds or size.rounds)
    print(doctor().cpu, f"torch {version('torch')}", sep=", ")
    with _ours(*STAGES) as url:
        urls = {policy: f"{url}/{policy}/classify" for policy in STAGES}
        stages(urls, size)
        capacity = partial(serving.closed_loop, clients=CLIENTS, seconds=size.seconds / 2)
        print(f"\nRight answers a second at most ({CLIENTS} clients in a closed loop), {size.rounds} rounds:")
        found = rounds({policy: partial(capacity, url) for policy, url in urls.items()}, size.rounds)
        for stage, base in (("once", "per-request"), ("pool", "once"), ("batch", "pool")):
            print(f"{stage} over {base}: {ratio(found[stage], found[base])}", flush=True)
    if version("litserve") is None:
        print("\nLitServe is not installed: its part is left out.")
        return 0
    services = {"our batcher": partial(_ours, "batch")}
    services |= {f"LitServe, window {1000 * window:.0f} ms": partial(_litserve, window) for window in WINDOWS_S}
    beside(services, size)
    return 0


def stages(urls: Mapping[str, str], size: Size) -> None:
    """Prints the stages at increasing load. At each they take turns, so that a busy moment does not fall on one."""
    print(f"\n{'stage':12} {'offered/s':>9} {f'right in {DEADLINE_MS:.0f} ms, /s':>22}  p99 [95 %]; statuses")
    for rate in size.rates:
        for policy, url in urls.items():
            print(f"{policy:12} {_row(serving.load_test(url, rate, size.seconds, timeout_s=3))}", flush=True)


def beside(services: Mapping[str, Callable[[], AbstractContextManager[str]]], size: Size) -> None:
    """Prints our batcher, the first of `services`, and LitServe's at the same loads."""
    ours, *others = services
    rates = size.rates[1:]

    def all_loads(service: Callable[[], AbstractContextManager[str]]) -> dict[int, LoadResult]:
        with service() as url:
            return {rate: serving.load_test(url, rate, size.seconds, timeout_s=3) for rate in rates}

    found = rounds({name: partial(all_loads, service) for name, service in services.items()}, size.rounds)
    for rate in rates:
        print(f"\n{rate} requests/s, {size.rounds} rounds of {size.seconds:g} s:")
        at = {name: [loads[rate] for loads in turns] for name, turns in found.items()}
        for name, results in at.items():
            pooled = LoadResult(rate, tuple(outcome for result in results for outcome in result.outcomes))
            good = median_interval([result.goodput(DEADLINE_MS) for result in results])
            print(f"{name:22} right in {DEADLINE_MS:.0f} ms: {good.median:.1f}/s; p50 {pooled.p50}, p99 {pooled.p99}")
        for name in others:
            print(f"{ours} over {name}, right in time: {ratio(at[ours], at[name], DEADLINE_MS)}", flush=True)


def rounds(runs: Mapping[str, Callable[[], T]], count: int) -> dict[str, list[T]]:
    """Runs each once a round, in an order drawn at random."""
    found: dict[str, list[T]] = {name: [] for name in runs}
    for _ in range(count):
        for name in random.sample(list(runs), len(runs)):
            found[name].append(runs[name]())
    return found


def ratio(results: Sequence[LoadResult], base: Sequence[LoadResult], deadline_ms: float = float("inf")) -> str:
    """The median ratio of two goodputs of the same rounds, with its 95 % interval."""
    pairs = zip(results, base, strict=True)
    ratios = [one.goodput(deadline_ms) / max(other.goodput(deadline_ms), 1e-9) for one, other in pairs]
    found: Interval = median_interval(ratios)
    return f"{found.median:.2f} [{found.low:.2f}, {found.high:.2f}]"


def _row(result: LoadResult) -> str:
    statuses = ", ".join(f"{count} x {status}" for status, count in sorted(result.statuses.items(), key=str))
    wrong = f", {result.wrong} wrong" if result.wrong else ""
    late = f"; sender {result.sender_late_ms:.0f} ms late" if result.sender_late_ms > 10 else ""
    return f"{result.rate:9.0f} {result.goodput(DEADLINE_MS):22.1f}  {result.p99}; {statuses}{wrong}{late}"


@contextmanager
def _ours(*policies: str) -> Iterator[str]:
    with serving.serve(*policies, max_batch=MAX_BATCH, max_queue=MAX_QUEUE) as server:
        yield server.url


@contextmanager
def _litserve(window_s: float) -> Iterator[str]:
    """LitServe in processes of its own, which end with this one."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [sys.executable, "-m", "tools.litserve_service", str(port), "--window", str(window_s)]
    command += ["--max-batch", str(MAX_BATCH)]
    process = subprocess.Popen(command, stdin=subprocess.PIPE, start_new_session=True)
    try:
        _wait_for(f"http://127.0.0.1:{port}/health", process)
        yield f"http://127.0.0.1:{port}/classify"
    finally:
        process.stdin.close()
        process.wait(30)


def _wait_for(url: str, process: subprocess.Popen) -> None:
    end = time.monotonic() + START_S
    while time.monotonic() < end and process.poll() is None:
        try:
            if httpx.get(url, trust_env=False).status_code == httpx.codes.OK:
                return
        except httpx.HTTPError:
            pass
        time.sleep(0.2)
    raise LabError("LitServe did not start.", f"Nothing answered within {START_S} s.")


if __name__ == "__main__":
    raise SystemExit(main())
