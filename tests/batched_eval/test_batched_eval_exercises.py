"""Each exercise of lab 05: starter, solution, and wrong answers, each with the message it must earn."""

import math

import numpy as np
import torch
from torch.utils.data import DataLoader, TensorDataset

from labs_lib.batched_eval import pad
from labs_lib.batched_eval.exercises import EXERCISES
from labs_lib.exercises import NOT_YET, judge
from tests.exercise_tests import ExerciseTests

# --- 5.1 --------------------------------------------------------------------------------------------


def batched(model, images, batch_size, read=lambda logits: logits.argmax(1)):
    parts = [torch.empty(0, dtype=torch.int64)]
    with torch.inference_mode():
        for batch in images.split(batch_size) if len(images) else ():
            parts.append(torch.as_tensor(read(model(batch))))
    return torch.cat(parts)


def saves_for_backward(model, images, batch_size):
    starts = range(0, len(images), batch_size)
    parts = [model(images[start : start + batch_size]).argmax(1) for start in starts]
    return torch.cat([torch.empty(0, dtype=torch.int64), *parts])


def drops_the_last_batch(model, images, batch_size):
    return batched(model, images[: len(images) // batch_size * batch_size], batch_size)


def all_at_once(model, images, batch_size):
    return batched(model, images, max(1, len(images)))


def smaller_batches(model, images, batch_size):
    return batched(model, images, max(1, batch_size // 2))


def reads_each(model, images, batch_size):
    return batched(model, images, batch_size, lambda logits: [row.item() for row in logits.argmax(1)])


def reads_each_batch(model, images, batch_size):
    return batched(model, images, batch_size, lambda logits: logits.argmax(1).tolist())


def leaves_eval_mode(model, images, batch_size):
    model.train()
    return batched(model, images, batch_size)


def normalises_in_place(model, images, batch_size):
    answer = batched(model, images, batch_size)
    images.mul_(2)
    return answer


def backwards(model, images, batch_size):
    return batched(model, images, batch_size).flip(0)


def as_floats(model, images, batch_size):
    return batched(model, images, batch_size).float()


def without_the_model(model, images, batch_size):
    with torch.no_grad():
        return model.network(images).argmax(1)


def fails_without_images(model, images, batch_size):
    with torch.inference_mode():
        starts = range(0, len(images), batch_size)
        return torch.cat([model(images[start : start + batch_size]).argmax(1) for start in starts])


def from_a_cache(model, images, batch_size, cache=[]):  # noqa: B006
    if not cache:
        cache.append(batched(model, images, batch_size))
    return cache[0]


def turns_autograd_off_for_good(model, images, batch_size):
    torch.set_grad_enabled(False)
    return batched(model, images, batch_size)


def reads_once(model, images, batch_size):
    answer = batched(model, images, batch_size)
    answer.sum().item()
    return answer


BUFFER = torch.zeros(1000, dtype=torch.int64)


def one_buffer_for_all(model, images, batch_size):
    return BUFFER[: len(images)].copy_(batched(model, images, batch_size))


# --- 5.2 --------------------------------------------------------------------------------------------


def share(model, images, labels, batch_size, of=None):
    right = torch.zeros((), dtype=torch.int64)
    with torch.inference_mode():
        for rows, truth in zip(images.split(batch_size), labels.split(batch_size), strict=True):
            right += (model(rows).argmax(1) == truth).sum()
    return right.item() / (of or len(images))


def means_without_the_last(model, images, labels, batch_size):
    kept = max(batch_size, len(images) // batch_size * batch_size)
    return share(model, images[:kept], labels[:kept], batch_size)


def over_full_batches(model, images, labels, batch_size):
    return share(model, images, labels, batch_size, of=math.ceil(len(images) / batch_size) * batch_size)


def mean_of_means(model, images, labels, batch_size):
    return EXERCISES["5.2"].starter(model, images, labels, batch_size)


def reads_every_batch(model, images, labels, batch_size):
    right = 0
    with torch.inference_mode():
        for rows, truth in zip(images.split(batch_size), labels.split(batch_size), strict=True):
            right += (model(rows).argmax(1) == truth).sum().item()
    return right / len(images)


def accuracy_one_by_one(model, images, labels, batch_size):
    return share(model, images, labels, 1)


def accuracy_all_at_once(model, images, labels, batch_size):
    return share(model, images, labels, len(images))


def as_a_tensor(model, images, labels, batch_size):
    return torch.tensor(share(model, images, labels, batch_size))


def in_per_cent(model, images, labels, batch_size):
    return 100 * share(model, images, labels, batch_size)


def with_a_graph(model, images, labels, batch_size):
    rows = range(0, len(images), batch_size)
    right = sum((model(images[i : i + batch_size]).argmax(1) == labels[i : i + batch_size]).sum() for i in rows)
    return right.item() / len(images)


def rounded(model, images, labels, batch_size):
    return round(share(model, images, labels, batch_size), 2)


def accuracy_with_autograd_off_for_good(model, images, labels, batch_size):
    torch.set_grad_enabled(False)
    return share(model, images, labels, batch_size)


# --- 5.3 --------------------------------------------------------------------------------------------


def in_this_order(model, sentences, batch_size, order, back=True, make=pad):
    starts = range(0, len(order), batch_size)
    logits = [model(make([sentences[i] for i in order[start : start + batch_size]])) for start in starts]
    return torch.cat(logits)[torch.from_numpy(np.argsort(order).copy())] if back else torch.cat(logits)


def by_length(sentences):
    return np.argsort([len(sentence) for sentence in sentences])


def sorted_and_not_put_back(model, sentences, batch_size):
    return in_this_order(model, sentences, batch_size, by_length(sentences), back=False)


def put_back_by_the_order_itself(model, sentences, batch_size):
    order = by_length(sentences)
    return in_this_order(model, sentences, batch_size, order, back=False)[torch.from_numpy(order)]


def cut_short(model, sentences, batch_size):
    return in_this_order(
        model, sentences, batch_size, by_length(sentences), make=lambda rows: pad([row[:8] for row in rows])
    )


def encode_one_by_one(model, sentences, batch_size):
    return in_this_order(model, sentences, 1, by_length(sentences))


def larger_batches(model, sentences, batch_size):
    return in_this_order(model, sentences, 2 * batch_size, by_length(sentences))


def to_the_longest_of_all(model, sentences, batch_size):
    longest = max(map(len, sentences))
    whole = pad([*sentences, np.ones(longest, np.int64)])[:-1]
    return torch.cat([model(rows) for rows in whole.split(batch_size)])


def sorted_within_batches(model, sentences, batch_size):
    lengths = np.array([len(sentence) for sentence in sentences])
    order = np.lexsort([lengths, np.arange(len(lengths)) // batch_size])
    return in_this_order(model, sentences, batch_size, order)


def sorts_the_callers_list(model, sentences, batch_size):
    order = by_length(sentences)
    answer = in_this_order(model, sentences, batch_size, order)
    sentences.sort(key=len)
    return answer


def leaves_out_the_last(model, sentences, batch_size):
    order = by_length(sentences)
    return in_this_order(model, sentences, batch_size, order[:-3], back=False)


def sorted_with_autograd_on(model, sentences, batch_size):
    return in_this_order(model, sentences, batch_size, by_length(sentences))


# --- 5.4 --------------------------------------------------------------------------------------------


def largest_that_fits(images, budget, peak_of):
    if peak_of(1) > budget:
        raise MemoryError
    fits, fails = 1, len(images) + 1
    while fails - fits > 1:
        middle = (fits + fails) // 2
        fits, fails = (middle, fails) if peak_of(middle) <= budget else (fits, middle)
    return fits


def within(model, images, size):
    with torch.inference_mode():
        return torch.cat([model(batch).argmax(1) for batch in images.split(size)])


def whole(model, images, budget, peak_of):
    return within(model, images, len(images))


def one_too_many(model, images, budget, peak_of):
    return within(model, images, largest_that_fits(images, budget, peak_of) + 1)


def in_proportion(model, images, budget, peak_of):
    return within(model, images, max(1, len(images) * budget // peak_of(len(images))))


def halving(model, images, budget, peak_of):
    size = len(images)
    while peak_of(size) > budget:
        size //= 2
    return within(model, images, size)


def asks_each_size(model, images, budget, peak_of):
    size = 0
    while size < len(images) and peak_of(size + 1) <= budget:
        size += 1
    if not size:
        raise MemoryError
    return within(model, images, size)


def tries_anyway(model, images, budget, peak_of):
    return within(model, images, largest_that_fits(images, max(budget, peak_of(1)), peak_of))


def only_full_batches(model, images, budget, peak_of):
    size = largest_that_fits(images, budget, peak_of)
    return within(model, images[: len(images) // size * size], size)


def calls_before_it_asks(model, images, budget, peak_of):
    size = largest_that_fits(images, max(budget, peak_of(1)), peak_of)
    answer = within(model, images, size)
    if peak_of(1) > budget:
        raise MemoryError
    return answer


def asks_forever(model, images, budget, peak_of):
    while peak_of(len(images)) > budget:
        pass
    return within(model, images, len(images))


def no_exact_fit(model, images, budget, peak_of):
    if peak_of(1) > budget:
        raise MemoryError
    return within(model, images, largest_that_fits(images, max(budget - 1, peak_of(1)), peak_of))


def within_with_autograd_on(model, images, budget, peak_of):
    size = largest_that_fits(images, budget, peak_of)
    return torch.cat([model(batch).argmax(1) for batch in images.split(size)])


WRONG = {
    "5.1": [
        (saves_for_backward, "for a backward pass that never comes"),
        (drops_the_last_batch, "a batch that is not full"),
        (all_at_once, "a batch has 64 images"),
        (smaller_batches, "is called 8 times where 4"),
        (reads_each, "64 values are read out"),
        (reads_each_batch, "4 values are read out"),
        (leaves_eval_mode, "predictions are right"),
        (backwards, "predictions are right"),
        (normalises_in_place, "changes what it is given"),
        (as_floats, "torch.int64"),
        (without_the_model, "called with 0 of 64 images"),
        (fails_without_images, "with 0 images: return an empty int64 tensor"),
        (turns_autograd_off_for_good, "autograd stays off after your function"),
        (reads_once, "1 value is read out"),
        (from_a_cache, " predictions"),
        (one_buffer_for_all, "they share a buffer"),
    ],
    "5.2": [
        (means_without_the_last, "you leave out the last 1"),
        (over_full_batches, "you divide by 8"),
        (mean_of_means, "count more than another"),
        (rounded, "rounded. Return the share itself"),
        (accuracy_with_autograd_off_for_good, "autograd stays off after your function"),
        (reads_every_batch, "values are read out for it"),
        (accuracy_one_by_one, "is called 5 times where 2"),
        (accuracy_all_at_once, "a batch has 5 images"),
        (as_a_tensor, "as a float"),
        (in_per_cent, "between 0 and 1"),
        (with_a_graph, "for a backward pass that never comes"),
    ],
    "5.3": [
        (sorted_and_not_put_back, "not in the order of the sentences"),
        (put_back_by_the_order_itself, "not in the order of the sentences"),
        (cut_short, "cut short"),
        (encode_one_by_one, "is called 40 times where 5"),
        (larger_batches, "a batch has 16 sentences"),
        (to_the_longest_of_all, "Which sentences share a batch?"),
        (sorted_within_batches, "Which sentences share a batch?"),
        (sorts_the_callers_list, "changes the caller's list"),
        (leaves_out_the_last, "return logits of shape"),
        (sorted_with_autograd_on, "autograd is on while the model is called"),
    ],
    "5.4": [
        (whole, "a batch of 40 needs"),
        (one_too_many, "a batch of 8 needs"),
        (in_proportion, "7 images fit"),
        (halving, "calls of the model where 6 do"),
        (asks_each_size, "questions are enough"),
        (tries_anyway, "where not even one image fits (peak_of(1)"),
        (only_full_batches, "40 images have 40 predictions, and you return 35"),
        (calls_before_it_asks, "before the model is called"),
        (asks_forever, "go on asking"),
        (no_exact_fit, "need exactly the budget"),
        (within_with_autograd_on, "autograd is on while the model is called"),
    ],
}


def into_place(model, images, batch_size):
    answer = torch.empty(len(images), dtype=torch.int64)
    with torch.no_grad():
        for start in range(0, len(images), batch_size):
            answer[start : start + batch_size] = model(images[start : start + batch_size]).argmax(-1)
    return answer


def by_a_data_loader(model, images, batch_size):
    answers = [torch.empty(0, dtype=torch.int64)]
    with torch.inference_mode():
        for (batch,) in DataLoader(TensorDataset(images), batch_size):
            answers.append(model(batch).argmax(1))
    return torch.cat(answers)


def weighted_means(model, images, labels, batch_size):
    total = torch.zeros(())
    with torch.no_grad():
        for rows, truth in zip(images.split(batch_size), labels.split(batch_size), strict=True):
            total += (model(rows).argmax(1) == truth).float().mean() * len(rows)
    return float(total / len(images))


@torch.inference_mode()
def longest_first(model, sentences, batch_size):
    return in_this_order(model, sentences, batch_size, by_length(sentences)[::-1])


def with_the_error_of_torch(model, images, budget, peak_of):
    if peak_of(1) > budget:
        raise torch.OutOfMemoryError("too little")
    return within(model, images, largest_that_fits(images, budget, peak_of))


def doubling(model, images, budget, peak_of):
    if peak_of(1) > budget:
        raise MemoryError("too little")
    fits = 1
    while fits < len(images) and peak_of(2 * fits) <= budget:
        fits *= 2
    fails = 2 * fits
    while fails - fits > 1:
        middle = (fits + fails) // 2
        fits, fails = (middle, fails) if peak_of(middle) <= budget else (fits, middle)
    return within(model, images, fits)


def test_a_check_leaves_autograd_as_it_was():
    for number, attempt in (("5.1", turns_autograd_off_for_good), ("5.2", accuracy_with_autograd_off_for_good)):
        judge(EXERCISES[number], attempt)
        assert torch.is_grad_enabled()
        with torch.no_grad():  # left over from an earlier cell: it must not help
            assert judge(EXERCISES["5.2"], with_a_graph).state == NOT_YET
            assert not torch.is_grad_enabled()


class TestExercises(ExerciseTests):
    exercises, wrong = EXERCISES, WRONG
    right = (
        ("5.1", into_place),
        ("5.1", by_a_data_loader),
        ("5.2", weighted_means),
        ("5.3", longest_first),
        ("5.4", doubling),
        ("5.4", with_the_error_of_torch),
    )
