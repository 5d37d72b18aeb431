"""The exercises of lab 04: starters, solutions, hints. `labs_lib.data_loading.checks` and `delivery_checks`
judge the answers.

Starters and solutions are ordinary functions: a learner's code is compared with the starter's source, and
`lab.solution` prints the solution's.
"""

from __future__ import annotations

import math

import torch

from labs_lib.data_loading import checks, delivery_checks
from labs_lib.exercises import Exercise


def timed_starter(loader, waits, clock):
    # YOUR TURN: this clock runs while the consumer works
    for batch in loader:
        start = clock()
        yield batch
        waits.append(clock() - start)


def timed_solution(loader, waits, clock):
    start = clock()
    for batch in loader:
        waits.append(clock() - start)
        yield batch
        start = clock()


def cached_starter(read, decode, augment):
    def item(index):
        # YOUR TURN: every epoch reads and decodes every file again
        return augment(decode(read(index)))

    return item


def cached_solution(read, decode, augment):
    images = {}

    def item(index):
        if index not in images:
            images[index] = decode(read(index))
        return augment(images[index].copy())

    return item


def collate_starter(items):
    # YOUR TURN: every pixel passes through a Python list
    images = [image.tolist() for image, label in items]
    labels = [label for image, label in items]
    return torch.tensor(images, dtype=items[0][0].dtype), torch.tensor(labels)


def collate_solution(items):
    images = torch.stack([image for image, label in items])
    return images, torch.tensor([label for image, label in items])


def shard_starter(samples, batch, worker, workers):
    # YOUR TURN: every worker gives every sample
    yield from samples


def shard_solution(samples, batch, worker, workers):
    for number, sample in enumerate(samples):
        if number // batch % workers == worker:
            yield sample


def choose_starter(loader):
    # YOUR TURN: a worker for each core, whatever the loader waits for
    return loader.cores


def choose_solution(loader):
    fetch = loader.wait + loader.cpu
    best = max(loader.step, (loader.cpu + loader.step) / loader.cores)  # ticks a batch, with any number of workers
    with_workers = loader.startup + fetch + loader.batches * best
    without = loader.batches * (fetch + loader.step)
    return math.ceil(fetch / best) if with_workers < without else 0


EXERCISES = {
    exercise.id: exercise
    for exercise in (
        Exercise(
            id="4.1",
            title="the clock on the right side",
            minutes=5,
            difficulty=1,
            checked="each wait, on a virtual clock, at the moment its batch arrives; nothing is loaded ahead",
            starter=timed_starter,
            solution=timed_solution,
            why=(
                "A generator stands still at its yield while the consumer works. So the wait runs from the moment "
                "the consumer comes back to the moment the loader gives a batch. The first one starts before "
                "iter(loader), in which workers are started, and each is noted before the yield: a consumer that "
                "leaves the loop never comes back."
            ),
            hints=(
                "Who works between the yield and the line after it?",
                "What the consumer waits for lies between its coming back and the loader's next batch. With a for "
                "loop, that is around the head of the loop.",
                "Read the clock before the loop and after the yield; note the wait as the first thing in the loop.",
            ),
            check=checks.check_timed,
        ),
        Exercise(
            id="4.2",
            title="one decode a file, and every epoch still new",
            minutes=5,
            difficulty=2,
            checked="what augment gets and what item returns, then reads and decodes over several epochs",
            starter=cached_starter,
            solution=cached_solution,
            why=(
                "Reading and decoding give the same every time, augmenting does not: the cache belongs between them. "
                "Two epochs over 64 files take 64 decodes, not 128. As augment writes into what it gets, it must get "
                "a copy, or the augmentations add up. What is kept are decoded images: here a byte a pixel, some ten "
                "times the JPEG file. (And each worker process has a cache of its own: only persistent workers keep "
                "theirs for the next epoch.)"
            ),
            hints=(
                "Of the three pieces, which give the same for the same index each time?",
                "Keep what decode returns in a dictionary by index, made anew in each call of your function.",
                "augment writes into its argument: pass images[index].copy().",
            ),
            check=checks.check_cached,
        ),
        Exercise(
            id="4.3",
            title="a batch without lists",
            minutes=5,
            difficulty=2,
            checked="images, labels and their types, then bytes allocated, Python's own memory, and time",
            starter=collate_starter,
            solution=collate_solution,
            why=(
                "A list holds a pointer of 8 bytes for each pixel of one byte, and each number is a Python object that "
                "torch.tensor has to look into. torch.stack allocates the batch once and copies whole images. It keeps "
                "their type, so that a worker sends a byte a pixel and not the four of float32."
            ),
            hints=(
                "How many Python objects does a batch of 32 images of 3 x 96 x 96 make here?",
                "The images are tensors already, of one shape. There is a function that puts tensors in a row.",
                "torch.stack for the images; torch.tensor for the list of labels, which is short.",
            ),
            check=checks.check_collate,
        ),
        Exercise(
            id="4.4",
            title="each sample once, in order",
            minutes=10,
            difficulty=3,
            checked="what each of 1 to 9 workers gives, the order in which it arrives, then four real workers",
            starter=shard_starter,
            solution=shard_solution,
            why=(
                "Each worker has a copy of the iterable dataset and runs through all of it, so each must leave out "
                "what is not its own. The DataLoader takes batches from its workers in turn: batch k comes from worker "
                "k % workers. Sample number i is in batch i // batch, hence (i // batch) % workers. With i % workers "
                "each sample comes once too, but the first batch would be the samples 0, 4, 8, ..."
            ),
            hints=(
                "Count the samples as they pass, and let each worker leave out what belongs to others.",
                "The DataLoader asks the workers in turn, and for a whole batch each time. So deal out batches, not "
                "samples.",
                "Sample number i, from 0, lies in batch i // batch. It belongs to worker (i // batch) % workers.",
            ),
            check=delivery_checks.check_shard,
        ),
        Exercise(
            id="4.5",
            title="three loaders, three settings",
            minutes=10,
            difficulty=4,
            checked="the epoch on the virtual clock, for three planted loaders and random ones; one worker to spare",
            starter=choose_starter,
            solution=choose_solution,
            why=(
                "In the steady state a batch can't come faster than the step takes it, nor than the cores can compute. "
                "A worker delivers one batch every fetch ticks, so fetch / best workers keep pace (Little's law). "
                "Waiting needs no core, so there may be far more of them than cores; decoding gains nothing beyond "
                "the cores. And workers that start longer than they save are best left out."
            ),
            hints=(
                "loading.simulate(**loader._asdict(), workers=n).epoch tells what n workers would give. Look at it for "
                "n from 0 to 16.",
                "Two things no worker can change: the step, and the computing of step and fetch on so many cores.",
                "If a batch is wanted every best ticks, and one worker delivers one every fetch ticks, how many must "
                "work side by side? Then compare the epoch, with its startup, with that of 0 workers.",
            ),
            check=delivery_checks.check_choose,
        ),
    )
}
