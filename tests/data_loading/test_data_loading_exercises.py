"""Each exercise of lab 04: starter, solution, and wrong answers, each with the message it must earn."""

import math
import time
from functools import lru_cache
from itertools import islice

import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader

from labs_lib.data_loading.delivery_checks import Shares, in_turn
from labs_lib.data_loading.exercises import EXERCISES
from labs_lib.data_loading.simulate import simulate
from tests.exercise_tests import ExerciseTests

# --- 4.1 --------------------------------------------------------------------------------------------


def notes_after_the_yield(loader, waits, clock):
    start = clock()
    for batch in loader:
        wait = clock() - start
        yield batch
        waits.append(wait)
        start = clock()


def restarts_before_the_yield(loader, waits, clock):
    start = clock()
    for batch in loader:
        waits.append(clock() - start)
        start = clock()
        yield batch


def forgets_the_start(loader, waits, clock):
    batches = iter(loader)
    while True:
        start = clock()
        try:
            batch = next(batches)
        except StopIteration:
            return
        waits.append(clock() - start)
        yield batch


def since_the_start(loader, waits, clock):
    start = clock()
    working = 0
    for batch in loader:
        waits.append(clock() - start - working)
        before = clock()
        yield batch
        working += clock() - before


def counts_the_end(loader, waits, clock):
    batches = iter(loader)
    first = True
    start = clock()
    while True:
        if not first:
            start = clock()
        first = False
        batch = next(batches, None)
        waits.append(clock() - start)
        if batch is None:
            return
        yield batch


def loads_everything_first(loader, waits, clock):
    start = clock()
    batches = list(loader)
    for batch in batches:
        waits.append(clock() - start)
        yield batch


def by_a_clock_of_its_own(loader, waits, clock):
    start = time.perf_counter()
    for batch in loader:
        waits.append(time.perf_counter() - start)
        yield batch
        start = time.perf_counter()


def drops_the_first_batch(loader, waits, clock):
    batches = iter(loader)
    next(batches, None)
    for batch in batches:
        waits.append(clock())
        yield batch


def returns_nothing(*inputs):
    for _ in inputs[0]:
        pass


def notes_the_time_of_day(loader, waits, clock):
    for batch in loader:
        waits.append(clock())
        yield batch


# --- 4.2 --------------------------------------------------------------------------------------------


def caches_what_is_augmented(read, decode, augment):
    return lru_cache(maxsize=None)(lambda index: augment(decode(read(index))))


def without_a_copy(read, decode, augment):
    image = lru_cache(maxsize=None)(lambda index: decode(read(index)))
    return lambda index: augment(image(index))


def caches_only_the_bytes(read, decode, augment):
    data = lru_cache(maxsize=None)(read)
    return lambda index: augment(decode(data(index)))


def a_small_cache(read, decode, augment):
    image = lru_cache(maxsize=8)(lambda index: decode(read(index)))
    return lambda index: augment(image(index).copy())


def the_default_cache(read, decode, augment):
    image = lru_cache(lambda index: decode(read(index)))
    return lambda index: augment(image(index).copy())


def drops_what_augment_returns(read, decode, augment):
    image = lru_cache(maxsize=None)(lambda index: decode(read(index)))

    def item(index):
        own = image(index).copy()
        augment(own)
        return own

    return item


def reads_again(read, decode, augment):
    image = lru_cache(maxsize=None)(decode)
    return lambda index: augment(image(read(index)).copy())


KEPT = {}


def one_cache_for_all(read, decode, augment):
    def item(index):
        if index not in KEPT:
            KEPT[index] = decode(read(index))
        return augment(KEPT[index].copy())

    return item


def one_buffer(read, decode, augment):
    image = lru_cache(maxsize=None)(lambda index: decode(read(index)))
    buffer = None

    def item(index):
        nonlocal buffer
        if buffer is None:
            buffer = np.empty_like(image(index))
        buffer[:] = image(index)
        return augment(buffer)

    return item


def never_augments(read, decode, augment):
    image = lru_cache(maxsize=None)(lambda index: decode(read(index)))
    return lambda index: image(index)


def returns_the_original(read, decode, augment):
    image = lru_cache(maxsize=None)(lambda index: decode(read(index)))

    def item(index):
        augment(image(index).copy())
        return image(index)

    return item


def returns_a_class(read, decode, augment):
    return {"read": read}


def decodes_ahead(read, decode, augment):
    def item(index):
        if not images:
            images.extend(decode(read(i)) for i in range(30))
        return augment(images[index].copy())

    images = []
    return item


# --- 4.3 --------------------------------------------------------------------------------------------


def labels_of(items):
    return torch.tensor([label for _, label in items])


def floats_already(items):
    return torch.stack([image for image, _ in items]).float() / 255, labels_of(items)


def whole_lists(items):
    images = torch.tensor([image.tolist() for image, _ in items])
    return images.to(items[0][0].dtype) if images.dtype == torch.int64 else images, labels_of(items)


def image_by_image(items):
    return torch.stack([torch.tensor(image.tolist(), dtype=image.dtype) for image, _ in items]), labels_of(items)


def grows(items):
    batch = items[0][0][None].clone()
    for image, _ in items[1:]:
        batch = torch.cat([batch, image[None]])
    return batch, labels_of(items)


def pixel_by_pixel(items):
    batch = torch.empty((len(items), *items[0][0].shape), dtype=items[0][0].dtype)
    for place, (image, _) in zip(batch, items, strict=True):
        for row, pixels in zip(place.flatten(), image.flatten(), strict=True):
            row.copy_(pixels)
    return batch, labels_of(items)


def through_float(items):
    images = torch.stack([image.double() for image, _ in items])
    return images.to(items[0][0].dtype), labels_of(items)


def shares_memory(items):
    if len(items) == 1:
        return items[0][0][None], labels_of(items)
    return torch.stack([image for image, _ in items]), labels_of(items)


def sorts(items):
    items = sorted(items, key=lambda item: item[1])
    return torch.stack([image for image, _ in items]), labels_of(items)


def labels_as_floats(items):
    return torch.stack([image for image, _ in items]), labels_of(items).float()


def list_of_tensors(items):
    return [image for image, _ in items], labels_of(items)


def flattened(items):
    return torch.stack([image.flatten() for image, _ in items]), labels_of(items)


def blank(items):
    return torch.zeros((len(items), *items[0][0].shape), dtype=items[0][0].dtype), labels_of(items)


# --- 4.4 --------------------------------------------------------------------------------------------


def sample_by_sample(samples, batch, worker, workers):
    for number, sample in enumerate(samples):
        if number % workers == worker:
            yield sample


def in_blocks(samples, batch, worker, workers):
    samples = list(samples)
    size = -(-len(samples) // workers)
    yield from samples[worker * size : (worker + 1) * size]


def everything(samples, batch, worker, workers):
    return iter(samples)


def only_worker_zero(samples, batch, worker, workers):
    if worker == 0:
        yield from samples


def drops_the_tail(samples, batch, worker, workers):
    held = []
    for number, sample in enumerate(samples):
        if number // batch % workers == worker:
            held.append(sample)
        if len(held) == batch:
            yield from held
            held = []


def numbers_only(samples, batch, worker, workers):
    for number, _ in enumerate(samples):
        if number // batch % workers == worker:
            yield number


def lists_the_stream(samples, batch, worker, workers):
    for number, sample in enumerate(list(samples)):
        if number // batch % workers == worker:
            yield sample


def whole_batches(samples, batch, worker, workers):
    samples, turn = iter(samples), 0
    while part := list(islice(samples, batch)):
        if turn % workers == worker:
            yield part
        turn += 1


def two_batches_ahead(samples, batch, worker, workers):
    samples, turn = iter(samples), 0
    while part := list(islice(samples, 2 * batch)):
        for number, sample in enumerate(part):
            if (turn + number // batch) % workers == worker:
                yield sample
        turn += 2


def for_four_workers(samples, batch, worker, workers):
    for number, sample in enumerate(samples):
        if number // batch % 4 == worker:
            yield sample


def one_off(samples, batch, worker, workers):
    for number, sample in enumerate(samples, start=1):
        if number // batch % workers == worker:
            yield sample


# --- 4.5 --------------------------------------------------------------------------------------------


def always(workers):
    return lambda loader: workers


always_four, always_none, always_many = always(4), always(0), always(16)


def by_the_fetch_alone(loader):
    return min(16, loader.wait + loader.cpu)


def never_starts_fewer(loader):
    fetch = loader.wait + loader.cpu
    return math.ceil(fetch / max(loader.step, (loader.cpu + loader.step) / loader.cores))


def only_the_three(loader):
    return {48: 9, 0: 4, 10: 0}[loader.wait]


def not_a_number(loader):
    return {"num_workers": 4}


def a_truth(loader):
    return True


def a_fraction(loader):
    return (loader.wait + loader.cpu) / loader.step


def at_most_a_core_each(loader):
    return min(EXERCISES["4.5"].solution(loader), loader.cores)


WRONG = {
    "4.1": [
        (notes_after_the_yield, "lost when the consumer leaves the loop"),
        (restarts_before_the_yield, "the step before it (50) is in it"),
        (forgets_the_start, "in iter(loader)"),
        (since_the_start, "since the start of the epoch"),
        (counts_the_end, "the end of a loader is no batch"),
        (loads_everything_first, "are loaded already"),
        (by_a_clock_of_its_own, "never look at the clock"),
        (drops_the_first_batch, "passes on None"),
        (notes_the_time_of_day, "you note"),
        (returns_nothing, "returned None: yield each batch"),
    ],
    "4.2": [
        (caches_what_is_augmented, "every epoch would see the same picture"),
        (without_a_copy, "an older augmentation still in it"),
        (caches_only_the_bytes, "Decode each file once"),
        (a_small_cache, "forget none"),
        (reads_again, "A picture that is kept needs no file"),
        (the_default_cache, "forget none"),
        (drops_what_augment_returns, "must return what augment returned"),
        (one_cache_for_all, "Make the cache anew in each call"),
        (one_buffer, "has changed since"),
        (never_augments, "after 0 calls of augment"),
        (returns_the_original, "must return what augment returned"),
        (returns_a_class, "return the function item(index)"),
        (decodes_ahead, "IndexError"),
    ],
    "4.3": [
        (floats_already, "came back as torch.float32"),
        (whole_lists, "lists of numbers"),
        (image_by_image, "times as fast as the starter"),
        (grows, "allocates 8."),
        (pixel_by_pixel, "for each pixel"),
        (through_float, "times the bytes of the batch. Put"),
        (shares_memory, "shares their memory"),
        (sorts, "the labels"),
        (labels_as_floats, "labels of int64 came back"),
        (list_of_tensors, "return (images, labels)"),
        (flattened, "became one of"),
        (blank, "are not those of the items"),
    ],
    "4.4": [
        (sample_by_sample, "each sample comes once, but"),
        (in_blocks, "samples from the stream before it gave its first"),
        (everything, "is delivered 2 times"),
        (only_worker_zero, "share them evenly"),
        (drops_the_tail, "nobody delivers"),
        (whole_batches, "Yield samples; the DataLoader makes the batches"),
        (two_batches_ahead, "read at most one batch ahead"),
        (returns_nothing, "returned None: yield the samples"),
        (numbers_only, "is no sample of the stream"),
        (lists_the_stream, "from the stream before it gave its first"),
        (for_four_workers, "nobody delivers"),
        (one_off, "to arrive, counted from 0, is"),
    ],
    "4.5": [
        (always_four, "more would end that"),
        (always_none, "more would end that"),
        (always_many, "are enough"),
        (by_the_fetch_alone, "are enough"),
        (never_starts_fewer, "starting them takes longer than they save"),
        (only_the_three, ""),
        (not_a_number, "return a whole number"),
        (a_fraction, "return a whole number"),
        (a_truth, "you return True"),
        (at_most_a_core_each, "more would end that"),
    ],
}


# --- right answers, written differently -----------------------------------------------------------------------


class ByIterator:
    """Exercise 4.1 as a class with __next__."""

    def __init__(self, loader, waits, clock):
        self.loader, self.waits, self.clock = loader, waits, clock

    def __iter__(self):
        self.batches = None
        return self

    def __next__(self):
        start = self.clock()
        if self.batches is None:
            self.batches = iter(self.loader)
        batch = next(self.batches)
        self.waits.append(self.clock() - start)
        return batch


def with_lru_cache(read, decode, augment):
    image = lru_cache(maxsize=None)(lambda index: decode(read(index)))
    return lambda index: augment(np.array(image(index)))


def into_place(items):
    images = torch.empty((len(items), *items[0][0].shape), dtype=items[0][0].dtype)
    for number, (image, _) in enumerate(items):
        images[number] = image
    return images, labels_of(items)


def by_numpy(items):
    return torch.from_numpy(np.stack([image.numpy() for image, _ in items])), labels_of(items)


def batch_by_batch(samples, batch, worker, workers):
    samples, turn = iter(samples), 0
    while True:
        for _ in range(batch):
            try:
                sample = next(samples)
            except StopIteration:
                return
            if turn == worker:
                yield sample
        turn = (turn + 1) % workers


def a_batch_at_a_time(samples, batch, worker, workers):
    samples, turn = iter(samples), 0
    while part := list(islice(samples, batch)):
        if turn % workers == worker:
            yield from part
        turn += 1


def in_numpy(loader):
    return np.int64(EXERCISES["4.5"].solution(loader))


def by_search(loader):
    epochs = [simulate(**loader._asdict(), workers=workers).epoch for workers in range(17)]
    return next(workers for workers, epoch in enumerate(epochs) if epoch <= 1.05 * min(epochs))


class TestExercises(ExerciseTests):
    exercises, wrong = EXERCISES, WRONG
    right = (
        ("4.1", ByIterator),
        ("4.2", with_lru_cache),
        ("4.3", into_place),
        ("4.3", by_numpy),
        ("4.4", batch_by_batch),
        ("4.4", a_batch_at_a_time),
        ("4.5", by_search),
        ("4.5", in_numpy),
    )


@pytest.mark.parametrize(("workers", "batch", "count"), [(4, 3, 20), (3, 4, 25), (4, 8, 5)])
@pytest.mark.filterwarnings("ignore:This DataLoader will create")
def test_the_order_that_is_demanded_is_that_of_a_dataloader(workers, batch, count):
    shares = [list(EXERCISES["4.4"].solution(range(count), batch, worker, workers)) for worker in range(workers)]
    loader = DataLoader(Shares(shares), batch_size=batch, num_workers=workers, collate_fn=list)
    assert [sample for part in loader for sample in part] == in_turn(shares, batch) == list(range(count))
