"""What exercises 4.1 to 4.3 demand: the learner's function runs on a clock, on pieces and on items that count.

The clock of 4.1 is virtual and moves only where a loader or a consumer says so; 4.2 counts calls; 4.3 counts
operators and bytes, and measures a ratio that is either 1 or a hundred.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator

import numpy as np
import torch

from labs_lib.equality import difference
from labs_lib.exercises import NotYet
from labs_lib.ledger import ledger, traced_peak
from labs_lib.timing import time_pair

# --- 4.1 --------------------------------------------------------------------------------------------


class Clock:
    """Ticks that pass only where somebody says so; `reads` counts how often it was looked at."""

    def __init__(self) -> None:
        self.now, self.reads = 1000, 0

    def __call__(self) -> int:
        self.reads += 1
        return self.now


class TickingLoader:
    """A loader whose start takes `start` ticks and whose batch i takes `fetch[i]`."""

    def __init__(self, clock: Clock, fetch: list[int], start: int = 0) -> None:
        self.clock, self.fetch, self.start, self.loaded = clock, fetch, start, 0

    def __iter__(self) -> Iterator[str]:
        self.clock.now += self.start  # here, as a DataLoader starts its workers, and not at the first batch
        self.loaded = 0
        return self._batches()

    def _batches(self) -> Iterator[str]:
        for number, ticks in enumerate(self.fetch):
            self.clock.now += ticks
            self.loaded += 1
            yield f"batch {number}"


# Ticks that each batch takes to fetch; those of each step after it; those of the loader's start; what it is about.
TIMED_CASES = (
    ([250], [50], 0, "one batch"),
    ([250, 250, 250], [50, 50, 50], 0, "a slow loader and a quick step"),
    ([7, 7, 7], [90, 90, 90], 0, "a quick loader and a slow step"),
    ([20, 20], [5, 5], 300, "workers that start first"),
    ([], [], 0, "no batch at all"),
)


def check_timed(attempt: Callable) -> str:
    for fetch, step, start, about in TIMED_CASES:
        _judge_timed(attempt, fetch, step, start, about, taken=len(fetch))
    rng = random.Random()
    for _ in range(10):
        count = rng.randint(3, 9)
        fetch, step = (rng.sample(range(10, 5000), count) for _ in range(2))
        taken = rng.randint(1, count)
        _judge_timed(attempt, fetch, step, rng.randrange(1000), f"a loop left after batch {taken} of {count}", taken)
    return f"right on {len(TIMED_CASES)} loaders that are special in one way, and on 10 random ones that end early."


def _judge_timed(attempt: Callable, fetch: list[int], step: list[int], start: int, about: str, taken: int) -> None:
    clock, waits = Clock(), []
    loader = TickingLoader(clock, fetch, start)
    true = [ticks + (start if number == 0 else 0) for number, ticks in enumerate(fetch)]
    delivery = attempt(loader, waits, clock)
    if delivery is None:
        raise NotYet("your function returned None: yield each batch as it arrives.")
    batches = iter(delivery)
    for number in range(taken):
        batch = next(batches, None)
        if batch != f"batch {number}":
            raise NotYet(f"with {about} the loader gives batch {number}, and your loader passes on {batch!r}.")
        if loader.loaded != number + 1:
            raise NotYet(
                f"when batch {number} reaches the consumer, {loader.loaded} are loaded already. Measure the loader as "
                "it is: ask it for a batch only when the consumer does."
            )
        if clock.reads == 0:
            raise NotYet("you never look at the clock that you are given. Call clock() where you would read the time.")
        if len(waits) != number + 1:
            raise NotYet(
                f"batch {number} has arrived, and {len(waits)} waits are noted, not {number + 1}. What you note only "
                "after the yield is lost when the consumer leaves the loop."
            )
        _judge_waits(waits, true, step, start, about)
        clock.now += step[number]
    if taken == len(fetch) and (next(batches, None) is not None or len(waits) != taken):
        raise NotYet(f"with {about} there are {taken} batches and {len(waits)} waits: the end of a loader is no batch.")


def _judge_waits(waits: list[object], true: list[int], step: list[int], start: int, about: str) -> None:
    number = len(waits) - 1
    said, expected = waits[number], true[number]
    before = step[number - 1] if number else 0
    if said == expected:
        return
    told = f"with {about} the consumer waits {expected} ticks for batch {number}, and you note {said}"
    if number and said == before:
        raise NotYet(f"{told}: that is how long the step before it took. The wait ends where a batch arrives.")
    if number and said == expected + before:
        raise NotYet(f"{told}: the step before it ({before}) is in it. Start the clock when the consumer comes back.")
    if number == 0 and said == expected - start:
        raise NotYet(f"{told}. The loader's start takes {start} ticks, in iter(loader), and the consumer waits for it.")
    if said == sum(true[: number + 1]) or said == sum(true[: number + 1]) + sum(step[:number]):
        raise NotYet(f"{told}: that is since the start of the epoch. Each wait counts for itself.")
    raise NotYet(f"{told}.")


# --- 4.2 --------------------------------------------------------------------------------------------


class Pieces:
    """Files, and the three pieces of a pipeline over them, which note every call.

    `augment` writes into the image it gets and returns another view of it, as a crop or flip and `*=` do.
    """

    def __init__(self, count: int) -> None:
        self.rng = np.random.default_rng()
        self.images = self.rng.integers(0, 256, (count, 6, 5, 3), dtype=np.uint8)
        self.read_calls: list[int] = []
        self.decode_calls: list[int] = []
        self.seen: list[np.ndarray] = []  # what each call of augment got, as it was then
        self.written: list[np.ndarray] = []  # what it made of that
        self.given: list[np.ndarray] = []  # what it returned, as it was then

    def read(self, index: int) -> bytes:
        self.read_calls.append(index)
        return bytes([index]) + self.images[index].tobytes()

    def decode(self, data: bytes) -> np.ndarray:
        self.decode_calls.append(data[0])
        return np.frombuffer(data[1:], np.uint8).reshape(self.images.shape[1:]).copy()

    def augment(self, image: np.ndarray) -> np.ndarray:
        self.seen.append(image.copy())
        image += self.rng.integers(1, 256, dtype=np.uint8)
        self.written.append(image.copy())
        flipped = image[::-1, ::-1]
        self.given.append(flipped.copy())
        return flipped


FILES = 200  # more than the 128 that functools.lru_cache keeps by default


def check_cached(attempt: Callable) -> str:
    rng = random.Random()
    for count in (1, FILES):
        _judge_cached(attempt, count, [rng.sample(range(count), count) for _ in range(3)])
    _judge_cached(attempt, 30, [[rng.randrange(30) for _ in range(50)], rng.sample(range(5, 20), 12)])
    return f"3 epochs over {FILES} files took {FILES} reads, {FILES} decodes and {3 * FILES} augmentations (counted)."


def _judge_cached(attempt: Callable, count: int, epochs: list[list[int]]) -> None:
    pieces = Pieces(count)
    item = attempt(pieces.read, pieces.decode, pieces.augment)
    if not callable(item):
        raise NotYet(f"return the function item(index), as the starter does; you return {type(item).__name__}.")
    kept: list[tuple[int, np.ndarray, np.ndarray]] = []
    asked: set[int] = set()
    for epoch, order in enumerate(epochs):
        for index in order:
            asked.add(index)
            calls = len(pieces.given)
            answer = item(index)
            if len(pieces.given) != calls + 1:
                raise NotYet(
                    f"in epoch {epoch} an item came after {len(pieces.given) - calls} calls of augment, not 1. It is "
                    "random: from a cache every epoch would see the same picture."
                )
            _judge_item(pieces, index, epoch, answer, kept)
            if len(pieces.decode_calls) > len(asked):
                raise NotYet(
                    f"after {len(asked)} different files {len(pieces.decode_calls)} were decoded. Decode each file "
                    "once, when it is first asked for, and forget none."
                )
            if len(pieces.read_calls) > len(asked):
                raise NotYet(
                    f"{len(asked)} different files, and {len(pieces.read_calls)} reads. A picture that is kept needs "
                    "no file."
                )


def _judge_item(pieces: Pieces, index: int, epoch: int, answer: object, kept: list) -> None:
    if not np.array_equal(pieces.seen[-1], pieces.images[index]):
        if index not in pieces.decode_calls:
            raise NotYet(
                f"augment got a picture for file {index}, which was not decoded in this call of your function, but in "
                "an earlier one, of other files. Make the cache anew in each call: inside the function."
            )
        if any(np.array_equal(pieces.seen[-1], image) for image in pieces.written[:-1]):
            raise NotYet(
                f"in epoch {epoch} augment got item {index} with an older augmentation still in it. It writes into the "
                "image that it gets: give it a copy, and keep the original."
            )
        raise NotYet(f"augment got another picture than that of file {index}, as it is after decode.")
    if not np.array_equal(answer, pieces.given[-1]):
        raise NotYet(
            f"item({index}) must return what augment returned for it, which need not be the picture that it got."
        )
    if any(not np.array_equal(then, now) for _, then, now in kept):
        raise NotYet("an item that you returned before has changed since: each one needs memory of its own.")
    kept.append((index, np.array(answer), answer))


# --- 4.3 --------------------------------------------------------------------------------------------

FASTER = 5  # than through lists; without them it is a hundred times faster
BATCH_ALLOCATIONS = 1.5  # times the bytes of the batch: it is allocated once
PYTHON_MEMORY = 3  # times the bytes of the batch: NumPy's arrays count here, and a list of numbers takes more


def check_collate(attempt: Callable) -> str:
    for count, dtype in ((1, torch.uint8), (5, torch.float32), (3, torch.int16)):
        _judge_batch(attempt, random_items(count, (3, 4, 5), dtype))
    items = random_items(16, (3, 24, 24), torch.uint8)
    _judge_batch(attempt, items)
    size = sum(image.nbytes for image, _ in items)
    cost = ledger(attempt, items)
    if cost.operators > 4 * len(items) + 10:
        raise NotYet(
            f"right, but it runs {cost.operators:,} operators for {len(items)} items: something is done for each "
            "pixel. A whole image can be copied by one."
        )
    if cost.bytes_allocated > BATCH_ALLOCATIONS * size:
        raise NotYet(
            f"right, but it allocates {cost.bytes_allocated / size:.1f} times the bytes of the batch. Put each image "
            "into its place once, in the type it has."
        )
    python = traced_peak(attempt, items)
    if python > PYTHON_MEMORY * size:
        raise NotYet(
            f"right, but Python's own memory holds {python / size:.1f} times the bytes of the batch for a while: the "
            "pixels pass through lists of numbers."
        )
    timing = time_pair(lambda: _through_lists(items), lambda: attempt(items), budget_s=0.3)
    if timing.ratio < FASTER:
        raise NotYet(
            f"right, but only {timing.ratio:.1f} times as fast as the starter (measured). Somewhere pixels still "
            "become Python numbers."
        )
    return (
        f"right, and a batch of {size:,} bytes allocates {cost.bytes_allocated:,} bytes in {cost.operators} operators "
        "(counted)."
    )


def _through_lists(items: list[tuple[torch.Tensor, int]]) -> torch.Tensor:
    return torch.tensor([image.tolist() for image, _ in items], dtype=items[0][0].dtype)


def random_items(count: int, shape: tuple[int, ...], dtype: torch.dtype) -> list[tuple[torch.Tensor, int]]:
    """`count` items (image, label), drawn anew each time."""
    rng = np.random.default_rng()
    pixels = torch.from_numpy(rng.integers(0, 256, (count, *shape)))
    images = pixels.to(dtype) / 7 if dtype.is_floating_point else pixels.to(dtype)
    return [(image.clone(), int(rng.integers(2**40))) for image in images]


def _judge_batch(attempt: Callable, items: list[tuple[torch.Tensor, int]]) -> None:
    before = [image.clone() for image, _ in items]
    batch = attempt(items)
    if not isinstance(batch, tuple | list) or len(batch) != 2 or not all(isinstance(t, torch.Tensor) for t in batch):
        raise NotYet(f"return (images, labels), two tensors; you return {type(batch).__name__}.")
    images, labels = batch
    first, expected = items[0][0], [label for _, label in items]
    if images.shape != (len(items), *first.shape):
        raise NotYet(f"{len(items)} images of shape {tuple(first.shape)} became one of {tuple(images.shape)}.")
    if images.dtype != first.dtype or labels.dtype != torch.int64:
        raise NotYet(
            f"images of {first.dtype} and labels of int64 came back as {images.dtype} and {labels.dtype}. What the "
            "model needs is made of them where the model is: a batch of bytes is what should travel."
        )
    if labels.shape != (len(items),) or labels.tolist() != expected:
        raise NotYet(f"the labels {expected[:3]}... came back as {labels.flatten().tolist()[:3]}...")
    if not torch.equal(images, torch.stack(before)):
        raise NotYet("the images of the batch are not those of the items, in their order.")
    images.zero_()
    if difference(before, [image for image, _ in items]).relative > 0:
        raise NotYet(
            "the items change with the batch: either your function writes into them, or a batch shares their memory. "
            "Copy them."
        )
