"""What the exercises of lab 05 demand: each check gets the learner's function and judges what it does.

The model that it is given counts its calls and the rows and tokens of each. Answers come first, on fresh weights
and data, then the counts.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import torch

from labs_lib.batched_eval.attempts import (
    CLASSES,
    Memory,
    Watched,
    Words,
    image_model,
    images_of,
    logits_of,
    run,
    with_autograd_on,
)
from labs_lib.batched_eval.ladder import Counts
from labs_lib.batched_eval.padding import batches_of, count_padding
from labs_lib.exercises import NotYet

NEAR = 1e-4  # of logits: sums in another order, in float32


def _demand_predictions(answer: object, logits: torch.Tensor, batch_size: int | None) -> None:
    n = len(logits)
    if not isinstance(answer, torch.Tensor) or answer.dim() != 1 or answer.dtype != torch.int64:
        raise NotYet(f"return a tensor of {n} predictions (torch.int64); you return {_described(answer)}.")
    if len(answer) != n:
        last = n % batch_size if batch_size else 0
        lost = f": the last {last} of them make a batch that is not full" if last else ""
        raise NotYet(f"{n} images have {n} predictions, and you return {len(answer)}{lost}.")
    known = (answer >= 0) & (answer < CLASSES)
    chosen = logits.gather(1, answer.clamp(0, CLASSES - 1)[:, None])[:, 0]
    right = known & (chosen >= logits.amax(1) - NEAR)  # of two classes so near, rounding may take either
    if not right.all():
        raise NotYet(
            f"{int(right.sum())} of {n} predictions are right. The order is that of the images, and the model is in "
            "eval mode."
        )


def _described(answer: object) -> str:
    if isinstance(answer, torch.Tensor):
        return f"a tensor of {answer.dtype} with shape {tuple(answer.shape)}"
    return f"an object of type {type(answer).__name__}"


# --- 5.1 --------------------------------------------------------------------------------------------


@with_autograd_on
def check_predict(attempt: Callable) -> str:
    rng, kept = np.random.default_rng(), []
    for n, batch_size in ((64, 16), (50, 16), (3, 16), (1, 1), (0, 8), (int(rng.integers(70, 120)), 32)):
        model, images = image_model(), images_of(n)
        try:
            answer, calls, counts = run(attempt, model, images, batch_size)
            _demand_predictions(answer, logits_of(model, images), batch_size)
        except Exception as error:
            if n:
                raise
            raise NotYet(f"with 0 images: return an empty int64 tensor. {type(error).__name__}: {error}") from error
        _demand_calls(calls, n, batch_size, "images")
        _demand_no_waste(counts)
        kept.append((answer, answer.clone()))
        if not all(torch.equal(*pair) for pair in kept):
            raise NotYet("a later call changes the answer of an earlier one: they share a buffer.")
    return f"right for {n} images in {len(calls)} calls of the model, no value read out, nothing saved (counted)."


def _demand_calls(shapes: list[tuple[int, ...]], n: int, batch_size: int, what: str) -> None:
    seen = sum(shape[0] for shape in shapes)
    if seen < n:
        raise NotYet(f"the model is called with {seen} of {n} {what}. Call the model that you are given, with each.")
    largest = max((shape[0] for shape in shapes), default=0)
    if largest > batch_size:
        raise NotYet(f"the answer is right, but a batch has {largest} {what}, and batch_size is {batch_size}.")
    least = math.ceil(n / batch_size)
    if len(shapes) > max(1, least):
        raise NotYet(f"the answer is right, but the model is called {len(shapes)} times where {least} are enough.")


def _values(n: int) -> str:
    return f"{n} value is" if n == 1 else f"{n} values are"


def _demand_no_waste(counts: Counts) -> None:
    if counts.saved:
        raise NotYet(
            f"right and batched, but autograd saves {counts.saved} tensors for a backward pass that never comes. "
            "torch.inference_mode() tells it so."
        )
    if counts.reads:
        raise NotYet(
            f"right and batched, but {_values(counts.reads)} read out into Python. On a GPU each waits for all work "
            "before it: keep predictions in tensors."
        )


# --- 5.2 --------------------------------------------------------------------------------------------


@with_autograd_on
def check_accuracy(attempt: Callable) -> str:
    rng = np.random.default_rng()
    for n, batch_size in ((5, 4), (33, 16), (64, 16), (3, 8), (int(rng.integers(100, 127)), 32)):
        model, images = image_model(), images_of(n)
        expected = logits_of(model, images).argmax(1)
        full = n - n % batch_size  # only here are errors: the last batch differs from others, so that its weight shows
        wrong = torch.from_numpy(rng.permutation(full)[: max(1, full // 3)])
        labels = expected.clone()
        labels[wrong] = (labels[wrong] + 1) % CLASSES
        right = int((expected == labels).sum())
        answer, calls, counts = run(attempt, model, images, labels, batch_size)
        _demand_share(answer, right, n, batch_size)
        _demand_calls(calls, n, batch_size, "images")
        if counts.reads > 1:
            raise NotYet(f"the accuracy is right, but {counts.reads} values are read out for it. One is enough.")
        if counts.saved:
            _demand_no_waste(counts)
    return f"exact on 5 sets, among them {n} images in batches of {batch_size}; 1 value read out (counted)."


def _demand_share(answer: object, right: int, n: int, batch_size: int) -> None:
    if not isinstance(answer, float):
        raise NotYet(f"return the share of right answers as a float; you return {_described(answer)}.")
    if abs(answer * n - right) < 1e-3:
        return
    last = n % batch_size
    if not 0 <= answer <= 1:
        raise NotYet(f"an accuracy lies between 0 and 1; you return {answer:.4g}.")
    if any(answer == round(right / n, digits) for digits in (1, 2, 3, 4)):
        raise NotYet(f"{right} of {n} are right, and you return {answer}: rounded. Return the share itself.")
    if last and abs(answer * (n - last) - (right - last)) < 1e-3:
        raise NotYet(f"of {n} images in batches of {batch_size} you leave out the last {last}. They count too.")
    full = math.ceil(n / batch_size) * batch_size
    if right and abs(answer * full - right) < 1e-3:
        raise NotYet(f"{right} of {n} images are right, and you divide by {full}: the last batch is not full.")
    raise NotYet(
        f"{n} images in batches of {batch_size}: the accuracy is {right / n:.4f}, and you return {answer:.4f}. Does an "
        f"image of a batch that is not full count more than another?"
    )


# --- 5.3 --------------------------------------------------------------------------------------------


@with_autograd_on
def check_encode(attempt: Callable) -> str:
    rng = np.random.default_rng()
    for n, batch_size in ((40, 8), (37, 8), (1, 4), (int(rng.integers(90, 120)), 16)):
        lengths = np.clip(np.exp(rng.normal(2.8, 0.8, n)), 3, 120).astype(int)
        sentences = [rng.integers(1, 1000, length) for length in lengths]
        before = [sentence.copy() for sentence in sentences]
        model = Watched(Words())
        with torch.no_grad():
            expected = torch.cat([model.network(torch.from_numpy(sentence)[None]) for sentence in sentences])
        answer = attempt(model, sentences, batch_size)
        if len(before) != len(sentences) or not all(map(np.array_equal, before, sentences)):
            raise NotYet("your function changes the caller's list of sentences.")
        _demand_logits(answer, expected)
        _demand_calls(model.shapes, n, batch_size, "sentences")
        computed = sum(math.prod(shape) for shape in model.shapes)
        order = np.argsort(lengths)
        most = max(count_padding(lengths, batches_of(way, batch_size)).computed for way in (order, order[::-1]))
        if computed > most:  # which end the batch that is not full has is left open
            raise NotYet(
                f"the answer is right, but the model computes {computed:,} tokens for {int(lengths.sum()):,} real "
                f"ones, and {most:,} do with batches of {batch_size}. Which sentences share a batch?"
            )
        _demand_no_record(model)
    share = 1 - int(lengths.sum()) / computed
    return f"right for {n} sentences, {computed:,} tokens computed, {share:.0%} of them padding (counted)."


def _demand_logits(answer: object, expected: torch.Tensor) -> None:
    if not isinstance(answer, torch.Tensor) or answer.shape != expected.shape:
        raise NotYet(f"return logits of shape {tuple(expected.shape)}; you return {_described(answer)}.")
    answer = answer.detach()
    near = torch.isclose(answer, expected, rtol=NEAR, atol=NEAR).all(1)
    if near.all():
        return
    missing = torch.cdist(expected, answer).amin(1) > 10 * NEAR
    if not missing.any():
        raise NotYet("all answers are there, but not in the order of the sentences. Put them back.")
    raise NotYet(f"{int((~near).sum())} of {len(near)} answers are wrong. Is a sentence cut short?")


# --- 5.4 --------------------------------------------------------------------------------------------


@with_autograd_on
def check_predict_within(attempt: Callable) -> str:
    rng = np.random.default_rng()
    some = int(rng.integers(300, 500)), int(rng.integers(40, 70)), False
    for n, largest, exact in ((40, 7, False), (40, 7, True), (33, 33, False), (25, 1, True), (20, 50, False), some):
        model, images = image_model(), images_of(n)
        memory = Memory(rng, largest, exact)
        answer = attempt(model, images, memory.budget, memory.peak_of)
        over = [shape[0] for shape in model.shapes if memory.bytes(shape[0]) > memory.budget]
        if over:
            raise NotYet(
                f"a batch of {over[0]} needs {memory.bytes(over[0]):,} bytes, and the budget is {memory.budget:,}. "
                f"{largest} images fit."
            )
        _demand_predictions(answer, logits_of(model, images), None)
        if sum(shape[0] for shape in model.shapes) < n:
            raise NotYet("the model has not seen all images. Call the model that you are given, with each.")
        least = math.ceil(n / min(n, largest))
        if model.calls > least:
            fit = f" {largest} images need exactly the budget, {memory.budget:,} bytes: they fit." if exact else ""
            raise NotYet(
                f"the answer is right and fits, but takes {model.calls} calls of the model where {least} do.{fit}"
            )
        enough = 2 + 2 * math.ceil(math.log2(n))
        if memory.asked > enough:
            raise NotYet(
                f"right, but to find the batch for {n} images you ask peak_of {memory.asked} times, and each question "
                f"costs a run of the model. {enough} questions are enough."
            )
        _demand_no_record(model)
    _demand_refusal(attempt, rng)
    return (
        f"right for {n} images in {model.calls} calls with up to {largest} each, after {memory.asked} questions "
        "(counted)."
    )


def _demand_no_record(model: Watched) -> None:
    if model.recorded:
        raise NotYet("right, but autograd is on while the model is called. torch.inference_mode() turns it off.")


def _demand_refusal(attempt: Callable, rng: np.random.Generator) -> None:
    model, memory = image_model(), Memory(rng, 0)
    try:
        attempt(model, images_of(9), memory.budget, memory.peak_of)
    except (MemoryError, torch.OutOfMemoryError):
        if model.calls:
            raise NotYet("where not even one image fits, raise MemoryError before the model is called.") from None
        return
    raise NotYet("where not even one image fits (peak_of(1) is above the budget), raise MemoryError.")
