"""The exercises of lab 05: starters, solutions, hints. `labs_lib.batched_eval.checks` judges the answers.

Starters and solutions are ordinary functions: a learner's code is compared with the starter's source, and
`lab.solution` prints the solution's.
"""

from __future__ import annotations

import numpy as np
import torch

from labs_lib import batched_eval as ev  # the notebook's name for it
from labs_lib.batched_eval import checks
from labs_lib.exercises import Exercise


def predict_starter(model, images, batch_size):
    # YOUR TURN: one call of the model for each image, and a value read out each time
    predictions = []
    for i in range(len(images)):
        logits = model(images[i : i + 1])
        predictions.append(logits.argmax().item())
    return torch.tensor(predictions, dtype=torch.int64)


def predict_solution(model, images, batch_size):
    predictions = [torch.empty(0, dtype=torch.int64)]
    with torch.inference_mode():
        for start in range(0, len(images), batch_size):
            logits = model(images[start : start + batch_size])
            predictions.append(logits.argmax(1))
    return torch.cat(predictions)


def accuracy_starter(model, images, labels, batch_size):
    # YOUR TURN: the mean of the batches' accuracies is not the accuracy
    accuracies = []
    with torch.inference_mode():
        for start in range(0, len(images), batch_size):
            rows = slice(start, start + batch_size)
            right = model(images[rows]).argmax(1) == labels[rows]
            accuracies.append(right.float().mean().item())
    return sum(accuracies) / len(accuracies)


def accuracy_solution(model, images, labels, batch_size):
    right = torch.zeros((), dtype=torch.int64)
    with torch.inference_mode():
        for start in range(0, len(images), batch_size):
            rows = slice(start, start + batch_size)
            right = right + (model(images[rows]).argmax(1) == labels[rows]).sum()
    return right.item() / len(images)


def encode_starter(model, sentences, batch_size):
    # YOUR TURN: each batch is as long as its longest sentence, and the rest of it is padding
    logits = []
    with torch.inference_mode():
        for start in range(0, len(sentences), batch_size):
            logits.append(model(ev.pad(sentences[start : start + batch_size])))
    return torch.cat(logits)


def encode_solution(model, sentences, batch_size):
    order = np.argsort([len(sentence) for sentence in sentences])
    logits = []
    with torch.inference_mode():
        for start in range(0, len(order), batch_size):
            logits.append(model(ev.pad([sentences[i] for i in order[start : start + batch_size]])))
    answer = torch.cat(logits)
    back = torch.from_numpy(np.argsort(order))
    return answer[back]


def predict_within_starter(model, images, budget, peak_of):
    # YOUR TURN: batches of 1, and peak_of is never asked. How large may a batch be?
    predictions = []
    with torch.inference_mode():
        for i in range(len(images)):
            predictions.append(model(images[i : i + 1]).argmax(1))
    return torch.cat(predictions)


def predict_within_solution(model, images, budget, peak_of):
    if peak_of(1) > budget:
        raise MemoryError("not even one image fits")
    fits, fails = 1, len(images) + 1
    while fails - fits > 1:
        middle = (fits + fails) // 2
        if peak_of(middle) <= budget:
            fits = middle
        else:
            fails = middle
    with torch.inference_mode():
        return torch.cat([model(batch).argmax(1) for batch in images.split(fits)])


EXERCISES = {
    exercise.id: exercise
    for exercise in (
        Exercise(
            id="5.1",
            title="batch the loop",
            minutes=5,
            difficulty=1,
            checked="every prediction, the calls of the model, then values read out and tensors saved for backward",
            starter=predict_starter,
            solution=predict_solution,
            why=(
                "One call for each batch instead of one for each image, no value read out in the loop, and nothing "
                "saved for a backward pass that never comes. The slice of the last batch is simply shorter."
            ),
            hints=(
                "images[start : start + batch_size] is a batch, also at the end, where it is shorter.",
                "argmax(1) gives a prediction for each row. Collect tensors, and read nothing out of them.",
                "Wrap the loop in torch.inference_mode() and return torch.cat(predictions). And no image at all?",
            ),
            check=checks.check_predict,
        ),
        Exercise(
            id="5.2",
            title="the right average",
            minutes=5,
            difficulty=2,
            checked="the exact share on sets that batches do not divide, then the values read out: one",
            starter=accuracy_starter,
            solution=accuracy_solution,
            why=(
                "Each image must count the same, so count right answers and divide once at the end. The sum stays a "
                "tensor until then, so one value is read out however many batches there are."
            ),
            hints=(
                "5 images in batches of 4: what weight does the last image have in the starter's mean?",
                "Add up the number of right answers over all batches, and divide by the number of images.",
                "right += (prediction == labels[rows]).sum() keeps a tensor; .item() comes after the loop.",
            ),
            check=checks.check_accuracy,
        ),
        Exercise(
            id="5.3",
            title="less padding",
            minutes=10,
            difficulty=3,
            checked="every answer in the order of the sentences, the calls of the model, then tokens and autograd off",
            starter=encode_starter,
            solution=encode_solution,
            why=(
                "Sorted by length, the sentences of a batch are nearly equally long, and little is left to pad. The "
                "answers then have to go back to where their sentences were."
            ),
            hints=(
                "Which sentences should share a batch, so that none of them is much shorter than the longest?",
                "order = np.argsort of the lengths. Take batches from that order.",
                "np.argsort(order) tells for each sentence where its answer is: answer[np.argsort(order)].",
            ),
            check=checks.check_encode,
        ),
        Exercise(
            id="5.4",
            title="as much as fits",
            minutes=10,
            difficulty=3,
            checked="every prediction, no batch above the budget, the calls of the model, then how often you ask",
            starter=predict_within_starter,
            solution=predict_within_solution,
            why=(
                "More images need more memory, so halving the interval between what fits and what does not finds the "
                "largest batch in log2(n) questions. Where not even one fits, it says so before it tries."
            ),
            hints=(
                "peak_of(n) is counted bytes for a batch of n images. It grows with n.",
                "Keep one size that fits and one that does not, and ask for the middle of the two.",
                "Start with fits = 1 and fails = len(images) + 1. Raise MemoryError where peak_of(1) is too much.",
            ),
            check=checks.check_predict_within,
        ),
    )
}
