"""What exercises 4.4 and 4.5 demand: who delivers which sample, in which order, and how many workers are enough.

The learner's functions run in this process, so they need not be known to a worker, which under "spawn" sees no
function of a notebook. What a function gives to each worker is then delivered by a DataLoader with real ones.
"""

from __future__ import annotations

import random
import warnings
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from itertools import islice
from operator import index
from typing import NamedTuple

from torch.utils.data import DataLoader, IterableDataset, get_worker_info

from labs_lib.data_loading.settings import crew
from labs_lib.data_loading.simulate import simulate
from labs_lib.exercises import NotYet

# --- 4.4 --------------------------------------------------------------------------------------------

SHARD_CASES = (
    (1, 4, 10, "one worker: all samples are its own"),
    (2, 1, 7, "two workers, batches of one sample"),
    (4, 2, 16, "four workers, two full rounds"),
    (4, 3, 20, "four workers, the last batch not full"),
    (4, 8, 5, "four workers and less than one batch: three of them have nothing"),
    (3, 4, 0, "no samples"),
)


class Stream:
    """Samples one after the other, of unknown number; it knows how many were taken."""

    def __init__(self, samples: Sequence[object]) -> None:
        self.samples, self.taken = samples, 0

    def __iter__(self) -> Iterator[object]:
        for sample in self.samples:
            self.taken += 1
            yield sample


class Shares(IterableDataset):
    """Gives worker i the i-th of some lists."""

    def __init__(self, shares: list[list[object]]) -> None:
        self.shares = shares

    def __iter__(self) -> Iterator[object]:
        return iter(self.shares[get_worker_info().id])


def check_shard(attempt: Callable) -> str:
    for workers, batch, count, about in SHARD_CASES:
        _judge_shares(attempt, workers, batch, [f"sample {i}" for i in range(count)], about)
    rng = random.Random()
    for _ in range(20):
        workers, batch, count = rng.randint(1, 9), rng.randint(1, 9), rng.randrange(200)
        about = f"{workers} workers, batches of {batch}, {count} samples"
        _judge_shares(attempt, workers, batch, rng.sample(range(10**6), count), about)
    samples = rng.sample(range(10**6), 50)
    shares = _judge_shares(attempt, 4, 8, samples, "four workers, batches of 8, 50 samples")
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "This DataLoader will create 4 worker processes")  # they wait, or count to 50
        loader = DataLoader(Shares(shares), batch_size=8, num_workers=4, collate_fn=list)
        delivered = [sample for batch in loader for sample in batch]
    if delivered != samples:
        raise NotYet("a DataLoader with four workers delivers your shares in another order than that of the stream.")
    return (
        "each sample once, in the order of the stream, for 1 to 9 workers; and so it came from a DataLoader with 4 "
        "worker processes."
    )


def _judge_shares(attempt: Callable, workers: int, batch: int, samples: list, about: str) -> list[list[object]]:
    """The share of each worker, once it is right."""
    shares = []
    for worker in range(workers):
        stream = Stream(samples)
        delivery = attempt(stream, batch, worker, workers)
        if delivery is None:
            raise NotYet("your function returned None: yield the samples that are this worker's.")
        own = iter(delivery)
        mine = list(islice(own, 1))
        if mine and mine[0] in samples and stream.taken > (first := samples.index(mine[0])) + batch:
            raise NotYet(
                f"worker {worker} has taken {stream.taken} samples from the stream before it gave its first, which "
                f"is number {first}, counted from 0. A stream may be endless: read at most one batch ahead, here "
                f"{batch}."
            )
        shares.append(mine + list(own))
    if any(isinstance(sample, list | tuple) for share in shares for sample in share):
        raise NotYet(f"{about}: you yield whole batches. Yield samples; the DataLoader makes the batches.")
    given = Counter(sample for share in shares for sample in share)
    if foreign := set(given) - set(samples):
        raise NotYet(f"{about}: {next(iter(foreign))!r} is no sample of the stream. Yield the samples themselves.")
    if twice := [sample for sample in samples if given[sample] > 1]:
        raise NotYet(
            f"{about}: {twice[0]!r} is delivered {given[twice[0]]} times. Every worker runs this function on the whole "
            "stream, so each must leave out what belongs to the others."
        )
    if missing := [sample for sample in samples if not given[sample]]:
        raise NotYet(f"{about}: nobody delivers {missing[0]!r}, {len(missing)} of {len(samples)} samples are missing.")
    delivered = in_turn(shares, batch)
    if delivered != samples:
        place = next(i for i, (a, b) in enumerate(zip(delivered, samples, strict=True)) if a != b)
        raise NotYet(
            f"{about}: each sample comes once, but number {place} to arrive, counted from 0, is {delivered[place]!r}, "
            f"not {samples[place]!r}. The DataLoader takes one batch from worker 0, one from worker 1, and so on: "
            "whose is batch k?"
        )
    batches = [-(-len(share) // batch) for share in shares]
    if max(batches) > min(batches) + 1:
        raise NotYet(
            f"{about}: right, but the workers have {batches} batches to make. Who has none adds nothing: share them "
            "evenly."
        )
    return shares


def in_turn(shares: list[list[object]], batch: int) -> list[object]:
    """The order in which a DataLoader delivers what its workers have: a batch from each in turn, while they last."""
    cut = [[share[at : at + batch] for at in range(0, len(share), batch)] for share in shares]
    rounds = max(map(len, cut), default=0)
    return [sample for turn in range(rounds) for batches in cut if turn < len(batches) for sample in batches[turn]]


# --- 4.5 --------------------------------------------------------------------------------------------

MOST_WORKERS = 16
WITHIN = 1.10  # times the least epoch
DRAWN = 6
SPARE = 1  # workers more than needed that are no mistake


class Pipeline(NamedTuple):
    """A loader and its consumer, in ticks a batch; `startup` is what workers take once, side by side."""

    batches: int
    wait: int  # for storage, any number of workers at the same time
    cpu: int  # reading, decoding, collating: needs a core
    step: int  # of the consumer, on a core
    startup: int
    cores: int


PLANTED = {
    "remote storage": Pipeline(batches=80, wait=48, cpu=2, step=6, startup=20, cores=2),
    "heavy decoding": Pipeline(batches=80, wait=0, cpu=30, step=6, startup=20, cores=4),
    "a small set": Pipeline(batches=4, wait=10, cpu=2, step=6, startup=400, cores=2),
}


def check_choose(attempt: Callable) -> str:
    for name, pipeline in PLANTED.items():
        _judge_choice(attempt, pipeline, f"{name}, {pipeline}")
    for _ in range(DRAWN):
        pipeline = random_pipeline(random.Random())
        _judge_choice(attempt, pipeline, str(pipeline))
    return f"within 10 % of the shortest epoch for {len(PLANTED)} planted loaders and {DRAWN} random ones (modelled)."


def random_pipeline(rng: random.Random) -> Pipeline:
    """One of four kinds: waits for storage, decodes, has a slow consumer, or is over before workers have started."""
    batches, step, cores = rng.randint(50, 70), rng.randint(3, 6), rng.choice((2, 4, 8))
    kind = rng.choice(("wait", "cpu", "step", "small"))
    wait, cpu = {
        "wait": (step * rng.randint(3, 9), 1),
        "cpu": (0, step * rng.randint(2, 6)),
        "step": (0, rng.randint(1, step - 1)),
        "small": (rng.randint(1, 20), rng.randint(1, 20)),
    }[kind]
    startup = rng.randint(400, 500) if kind == "small" else rng.randint(0, 15)
    return Pipeline(rng.randint(3, 8) if kind == "small" else batches, wait, cpu, step, startup, cores)


def epochs_of(pipeline: Pipeline) -> list[int]:
    """Ticks of an epoch with 0, 1, ... workers, on the virtual clock."""
    return [simulate(**pipeline._asdict(), workers=workers).epoch for workers in range(MOST_WORKERS + 1)]


def _judge_choice(attempt: Callable, pipeline: Pipeline, about: str) -> None:
    answer = attempt(pipeline)
    try:
        workers = -1 if isinstance(answer, bool) else index(answer)  # NumPy's whole numbers are some too
    except TypeError:
        workers = -1
    if not 0 <= workers <= MOST_WORKERS:
        raise NotYet(f"{about}: return a whole number from 0 to {MOST_WORKERS}; you return {answer!r}.")
    epochs = epochs_of(pipeline)
    enough = next(count for count, epoch in enumerate(epochs) if epoch <= WITHIN * min(epochs))
    if epochs[workers] > WITHIN * min(epochs):
        late = workers > enough
        fault = "starting them takes longer than they save" if late else "the consumer waits, and more would end that"
        raise NotYet(
            f"{about}: with {crew(workers)} an epoch takes {epochs[workers]} ticks, with {enough} it takes "
            f"{epochs[enough]} (modelled): {fault}."
        )
    if workers > enough + SPARE:
        raise NotYet(
            f"{about}: you take {crew(workers)}, and {enough} {'is' if enough == 1 else 'are'} enough (modelled): "
            "cores and consumer can take no more. Each one costs memory and start-up."
        )
