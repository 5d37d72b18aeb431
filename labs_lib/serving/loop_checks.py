"""What exercise 7.1 demands: the learner's batching loop, on a virtual clock, with a model that notes each batch."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np

from labs_lib.exercises import NotYet
from labs_lib.percentiles import percentile
from labs_lib.serving.simulate import US, poisson_arrivals, simulate
from labs_lib.serving.virtual import VirtualLoop, on_virtual_clock

SLEEP_S = 0.05  # the starter's
Batch = tuple[int, int, list[int]]  # its start and end in virtual microseconds, and the numbers of its requests


class _Queue(asyncio.Queue):
    """An asyncio.Queue that notices who asks it for ever without a wait."""

    def empty(self) -> bool:
        asyncio.get_running_loop().step()
        return super().empty()

    def qsize(self) -> int:
        asyncio.get_running_loop().step()
        return super().qsize()


@dataclass
class _Model:
    """Computes one batch at a time, in virtual time, and notes when and what."""

    loop: VirtualLoop
    first_us: int
    each_us: int
    max_batch: int
    items: dict[str, int]  # each request's number
    batches: list[Batch] = field(default_factory=list)  # start, end, numbers
    fault: NotYet | None = None  # also where the learner's code does not look at what `run` raised
    busy: bool = False
    computed: set[int] = field(default_factory=set)

    async def run(self, batch: list[str]) -> None:
        message = self._wrong_with(batch)
        if message:
            self.fault = self.fault or NotYet(message)
            raise self.fault
        start, numbers = self.loop.now_us(), [self.items[item] for item in batch]
        self.busy = True
        try:
            await asyncio.sleep((self.first_us + self.each_us * len(numbers)) / US)
        finally:
            self.busy = False
        self.batches.append((start, self.loop.now_us(), numbers))
        self.computed.update(numbers)

    def _wrong_with(self, batch: list[str]) -> str:
        if not isinstance(batch, list) or not all(item in self.items for item in batch):
            return "run takes a list of requests, as they came out of the queue."
        if not batch:
            return "run is called with no request at all."
        if len(batch) > self.max_batch:
            return f"a batch has {len(batch)} requests, and max_batch is {self.max_batch}."
        if self.busy:
            return "a second batch is started while the model computes the first. Await run(batch)."
        return ""


def check_loop(attempt: Callable) -> str:
    rng = np.random.default_rng()
    first_us, each_us = int(rng.integers(3_000, 6_000)), int(rng.integers(500, 1_000))
    alone = [30_000, 130_000, 250_000]
    burst = [1_000] * 23 + [2_000] * 4
    service_s = {1: (first_us + each_us) / US, 16: (first_us + 16 * each_us) / US}
    rate = 0.8 * 16 / service_s[16]  # of what full batches can do
    crowd = poisson_arrivals(rate, 600 / rate, seed=int(rng.integers(10**6)))
    for arrivals, max_batch in ((alone, 4), (burst, 8), (crowd, 16), (crowd[:40], 1)):
        batches = on_virtual_clock(lambda loop: _serve(loop, attempt, arrivals, max_batch, first_us, each_us))  # noqa: B023
        _demand_all_once(batches, len(arrivals))
        _demand_busy(batches, arrivals, max_batch)
        if arrivals is crowd:
            mine = _p99_ms(batches, arrivals)
    slept = simulate(crowd, service_s, "sleep", 16, SLEEP_S, max_queue=len(crowd)).p99_ms
    return (
        f"{len(crowd)} requests at {rate:.0f}/s: p99 {mine:.1f} ms where the starter has {slept:.1f} ms "
        "(virtual clock, exact)."
    )


async def _serve(
    loop: VirtualLoop, attempt: Callable, arrivals: Sequence[int], max_batch: int, first_us: int, each_us: int
) -> list[Batch]:
    """The batches that the learner's loop runs, until all are computed, or nothing is for 20 virtual seconds."""
    secret = random.sample(range(10**6), len(arrivals))
    items = {f"request-{name}": number for number, name in enumerate(secret)}
    queue, model = _Queue(), _Model(loop, first_us, each_us, max_batch, items)
    work = attempt(queue, model.run, max_batch)
    if not asyncio.iscoroutinefunction(work):
        if asyncio.iscoroutine(work):
            work.close()
        raise NotYet(f"return the loop itself, an `async def` without arguments; you return {type(work).__name__}.")
    together: dict[int, list[str]] = {}  # timers of the same time have no order
    for item, number in items.items():
        together.setdefault(arrivals[number], []).append(item)
    for arrival, ones in together.items():
        loop.call_at(arrival / US, lambda ones=ones: [queue.put_nowait(item) for item in ones])
    task = loop.create_task(work())
    end = loop.create_task(asyncio.sleep(arrivals[-1] / US + 20))
    while not (task.done() or end.done() or model.fault) and len(model.computed) < len(items):
        await asyncio.wait({task, end}, timeout=0.1)
    if model.fault:
        raise model.fault
    if task.done():
        task.result()  # raises what the loop raised
        raise NotYet(
            f"your loop ends after {len(model.computed)} of {len(items)} requests. A service goes on for ever."
        )
    return model.batches


def _demand_all_once(batches: list[Batch], n: int) -> None:
    served = [number for _, _, numbers in batches for number in numbers]
    if len(set(served)) < n:
        raise NotYet(f"{n - len(set(served))} of {n} requests are never computed. Where do they get lost?")
    if len(served) > n:
        raise NotYet(f"{len(served) - n} requests are computed twice.")
    if served != sorted(served):
        raise NotYet("requests overtake each other. Who came first is computed first.")


def _demand_busy(batches: list[Batch], arrivals: Sequence[int], max_batch: int) -> None:
    free, taken = 0, 0
    for start, end, numbers in batches:
        could = max(free, arrivals[numbers[0]])
        if start > could:
            who = "a request that comes alone" if len(arrivals) < max_batch else "a request"
            raise NotYet(
                f"{who} waits {(start - could) / 1000:.3g} ms in the queue, while the model is free. What does the "
                "loop wait for?"
            )
        queued = sum(arrival < start for arrival in arrivals[taken:])
        if len(numbers) < min(queued, max_batch):
            raise NotYet(
                f"{queued} requests are queued, max_batch is {max_batch}, and the loop takes {len(numbers)} of them."
            )
        free, taken = end, taken + len(numbers)


def _p99_ms(batches: list[Batch], arrivals: Sequence[int]) -> float:
    return percentile(sorted(end - arrivals[number] for _, end, numbers in batches for number in numbers), 99) / 1000
