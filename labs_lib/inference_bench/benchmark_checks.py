"""What exercise 9.3 demands: a benchmark that does not lie, on a simulated device, in six worlds with a trap each."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from numbers import Real

import numpy as np

from labs_lib.exercises import NotYet
from labs_lib.inference_bench.attempts import LAUNCH, Device

Batch = list[int]
Figures = tuple[float, float]  # median and p99, ns per item

TRAPS = {
    "plain": "a device that works at once",
    "tail": "one run in 40 is slow",
    "queue": "a device with a queue",
    "memory": "one contestant remembers its answers",
    "drift": "the same code twice, on a device that becomes slower as it works",
    "all": "a queue, slow runs and a memory",
}
COPY, COMPILE = 700_000, 100  # ns to bring a batch to the device; how many times longer a run is that compiles
NEAR = 1e-9
DRIFT_RUNS = 300  # after so many the device is twice as slow


@dataclass
class _Run:
    """One run of a contestant."""

    batch: int  # the number of the batch
    items: int
    whole: int  # ns from its launch until it is done, on an idle device


@dataclass
class _World:
    """Contestants on a device, and a log of what was run."""

    rng: np.random.Generator
    trap: str
    rounds: int
    warmup: int
    device: Device = field(init=False)
    log: dict[str, list[_Run]] = field(default_factory=dict)
    batches: dict[tuple[int, ...], int] = field(default_factory=dict)
    costs: list[float] = field(default_factory=list)  # of each batch: ns per item
    answered: int = 0  # runs answered from memory

    def __post_init__(self) -> None:
        self.device = Device(queue=self.trap in ("queue", "all"))

    def make_batch(self) -> Batch:
        number, rng = len(self.batches), self.rng
        batch = rng.choice(10**9, int(rng.integers(4, 33)), replace=False).tolist()
        self.batches[tuple(batch)] = number
        usual = float(rng.integers(20_000, 60_000))
        slow = self.trap in ("tail", "all") and number % 40 == 7
        longest = self.trap in ("tail", "all") and number == self.warmup + self.rounds // 2
        self.costs.append(usual * (100 if longest else rng.uniform(5, 9) if slow else 1))
        if self.device._queue:
            self.device._launch(COPY)
        return batch

    def contestants(self) -> dict[str, Callable[[Batch], None]]:
        names = self.rng.permutation(["eager", "compiled", "exported"])[:2].tolist()
        factors = (1.0, 1.0) if self.trap == "drift" else (1.0, float(self.rng.uniform(0.5, 0.8)))
        return {name: self._contestant(name, factor) for name, factor in zip(names, factors, strict=True)}

    def _contestant(self, name: str, factor: float) -> Callable[[Batch], None]:
        runs = self.log[name] = []
        known: set[int] = set()
        remembers = self.trap in ("memory", "all") and factor != 1

        def run(batch: Batch) -> None:
            number = self._number(batch)
            ns = self.costs[number] * len(batch) * factor
            if self.trap == "drift":
                ns *= 1 + sum(map(len, self.log.values())) / DRIFT_RUNS
            if len(runs) < self.warmup:
                ns *= COMPILE
            elif remembers and number in known:
                ns = 0
                self.answered += 1
            known.add(number)
            self.device._launch(round(ns))
            runs.append(_Run(number, len(batch), LAUNCH + round(ns)))
            if len(runs) > 10 * (self.rounds + self.warmup):
                raise NotYet(f"{name} is run {len(runs)} times for {self.rounds} rounds, and you go on.")

        return run

    def _number(self, batch: object) -> int:
        if isinstance(batch, list) and tuple(batch) in self.batches:
            return self.batches[tuple(batch)]
        raise NotYet("a contestant takes a batch as make_batch() returns it.")


def check_benchmark(attempt: Callable) -> str:
    rng = np.random.default_rng()
    for trap in TRAPS:
        world = _World(rng, trap, int(rng.integers(4, 6)) * 50, int(rng.integers(2, 5)))
        contestants = world.contestants()
        names = list(contestants)
        found = attempt(world.device, contestants, world.make_batch, world.rounds, world.warmup)
        _demand_runs(world)
        _demand_shape(found, names)
        _demand_figures(found, world)
        if trap == "drift":
            _demand_turns(found, names)
    one, other = (found[name][0] for name in names)
    return (
        f"six worlds, {world.rounds} rounds in the last: {names[1]} needs {other / one:.2f} of the time of {names[0]} "
        "there (virtual clock, exact)."
    )


def _demand_runs(world: _World) -> None:
    """The right runs were made: warm-up, one in each round, all on the same batches, none of them answered before."""
    of, rounds, warmup = f"{TRAPS[world.trap]}: ", world.rounds, world.warmup
    if not world.device._readings:
        raise NotYet("device.clock() is never read. The time of this device is not that of your machine.")
    for name, runs in world.log.items():
        if not runs:
            raise NotYet(f"{name} is never run.")
        if len(runs) == rounds:
            raise NotYet(
                f"{of}{name} is run {rounds} times, all of them timed. Its first {warmup} runs compile: run it "
                f"{warmup} times before, and do not count them."
            )
        if len(runs) != rounds + warmup:
            raise NotYet(
                f"{of}{name} is run {len(runs)} times: {warmup} runs to warm up and one in each of {rounds} rounds "
                f"make {warmup + rounds}."
            )
    timed = {name: [run.batch for run in runs[warmup:]] for name, runs in world.log.items()}
    if any(len(set(numbers)) == 1 for numbers in timed.values()):
        raise NotYet(
            f"{of}all rounds run the same batch. That tells of one batch only, and of whoever remembers its answer: "
            "make a new one for each round."
        )
    first, second = timed.values()
    if sorted(first) != sorted(second):
        raise NotYet(f"{of}the contestants get different batches, so one may have had the easier ones.")
    if len(set(first)) < rounds:
        raise NotYet(f"{of}{rounds} rounds run {len(set(first))} batches. Make a new one for each round.")
    if world.answered:
        raise NotYet(
            f"{of}{world.answered} timed runs are answered from memory, since the warm-up ran the same batch: make "
            "others for it."
        )


def _demand_shape(found: object, names: list[str]) -> None:
    if not isinstance(found, dict) or set(found) != set(names):
        raise NotYet(f"return a dict with a result for each of {names}.")
    for name in names:
        pair = found[name]
        if not isinstance(pair, tuple | list) or len(pair) != 2 or not all(isinstance(each, Real) for each in pair):
            raise NotYet(f"for each contestant return two numbers, median and p99; for {name} you return {pair!r:.80}.")


def _demand_figures(found: dict[str, Figures], world: _World) -> None:
    of = f"{TRAPS[world.trap]}: "
    for name, runs in world.log.items():
        timed = runs[world.warmup :]
        sample = [run.whole / run.items for run in timed]
        for value, share, what in ((found[name][0], 0.5, "median"), (found[name][1], 0.99, "p99")):
            low, high = _around(sample, share)
            if not low * (1 - NEAR) <= value <= high * (1 + NEAR):
                why = _why(value, share, world, runs)
                raise NotYet(
                    f"{of}the {what} of {name} is {low:,.0f} ns per item, and you say {value:,.0f}"
                    f"{': ' + why if why else ''}."
                )


def _around(sample: list[float], share: float) -> tuple[float, float]:
    """Between these two lies the quantile by each of its usual definitions (Hyndman and Fan, 1996)."""
    ordered, n = sorted(sample), len(sample)
    return ordered[math.floor(share * (n - 1))], ordered[math.ceil(share * (n + 1)) - 1]


def _why(value: float, share: float, world: _World, runs: list[_Run]) -> str:
    """What a wrong figure is the right one of."""
    timed = runs[world.warmup :]
    sample = [run.whole / run.items for run in timed]
    batches = [run.whole for run in timed]
    launches = [LAUNCH / run.items for run in timed]
    every = [run.whole / run.items for run in runs]

    def is_of(values: list[float]) -> bool:
        low, high = _around(values, share)
        return low * (1 - NEAR) <= value <= high * (1 + NEAR)

    if is_of(batches):
        return "that is of a whole batch. Batches differ in size, so divide by len(batch)"
    if is_of(launches):
        return "the clock stops when the work is launched, and not when it is done"
    if math.isclose(value, sum(sample) / len(sample), rel_tol=NEAR):
        return "that is the mean. A few slow runs move it, and yet it does not show them"
    if math.isclose(value, min(sample), rel_tol=NEAR):
        return "that is the best run. Who uses it gets the others too"
    if math.isclose(value, max(sample), rel_tol=NEAR):
        return "that is the slowest run, and of one run nothing follows"
    if is_of(every):
        return "the runs that compile are among them"
    if any(is_of([each / unit for each in sample]) for unit in (1e3, 1e6, 1e9)):
        return "that is in another unit. The clock counts nanoseconds"
    if world.device._queue and value > _around(sample, share)[1]:
        return "something else is in it: the device may not be idle when you start the clock"
    return ""


def _demand_turns(found: dict[str, Figures], names: list[str]) -> None:
    one, other = (found[name][0] for name in names)
    ratio = max(one, other) / min(one, other)
    if ratio > 1.03:
        raise NotYet(
            f"{TRAPS['drift']}: you say that one takes {ratio:.2f} times as long as the other. Whoever comes second "
            "finds a slower device: let them take turns in each round."
        )
