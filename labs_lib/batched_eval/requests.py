"""What `best_batch` is asked: its arguments, and one call of the model, judged before anything is measured."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from contextlib import contextmanager
from numbers import Real

import torch

from labs_lib.dispatch import tensors
from labs_lib.errors import LabError
from labs_lib.peak import out_of_memory

UNITS = {"": 1, "B": 1, "KiB": 2**10, "MiB": 2**20, "GiB": 2**30}
SIZE = re.compile(r"([0-9]+(?:\.[0-9]+)?) ?(B|KiB|MiB|GiB|)")
SAME = 0.05  # of the largest value: what one sample's answers differ by where only rounding differs, in bfloat16 too


def size(text: str) -> int:
    """Bytes.

    >>> size("1.5KiB"), size("100")
    (1536, 100)

    Raises LabError for anything else.
    """
    match = SIZE.fullmatch(text)
    if match is None:
        raise LabError(f"{text!r} is no size such as 512MiB or 1GiB.")
    return int(float(match[1]) * UNITS[match[2]])


def bytes_allowed(memory_budget: object) -> int | None:
    """The memory budget in bytes: None, a number above 0, or a text such as "1GiB"."""
    if memory_budget is None:
        return None
    allowed = size(memory_budget) if isinstance(memory_budget, str) else memory_budget
    if not _positive(allowed):
        raise LabError(f"memory_budget={memory_budget!r} is no size above 0.", "", 'Give bytes, or a text: "512MiB".')
    return int(allowed)


def seconds_allowed(budget_s: object) -> float:
    """The time budget: a number of seconds above 0."""
    if not _positive(budget_s):
        raise LabError(f"budget_s={budget_s!r} is no time above 0.", "", "Give seconds, such as 10.")
    return float(budget_s)


def growing(batches: object) -> tuple[int, ...]:
    """The batch sizes: whole numbers that grow from 1 or more."""
    try:
        sizes = tuple(batches)
        fine = sizes and all(type(n) is int for n in sizes) and sizes[0] >= 1 and sizes == tuple(sorted(set(sizes)))
    except TypeError:
        fine = False
    if not fine:
        raise LabError(f"batches={batches!r} do not grow from 1 or more.", "", "Give for instance (1, 8, 64).")
    return sizes


def _positive(number: object) -> bool:
    return isinstance(number, Real) and not isinstance(number, bool) and 0 < number < math.inf


def demand_model(model: object) -> None:
    """Raises LabError unless `model` is a torch.nn.Module."""
    if isinstance(model, torch.nn.Module):
        return
    if isinstance(model, torch.Tensor):
        raise LabError("The first argument is a tensor.", "It is the model's place.", "Call best_batch(model, sample).")
    what = f"the class {model.__name__}" if isinstance(model, type) else f"an object of type {type(model).__name__}"
    raise LabError(f"model is {what}, no torch.nn.Module.", "", "Give the model itself; wrap a function in a Module.")


def demand_sample(sample: object) -> None:
    """Raises LabError unless `sample` is one tensor with values, all finite."""
    if not isinstance(sample, torch.Tensor):
        do = "Give torch.from_numpy(sample)." if type(sample).__module__ == "numpy" else "Give torch.as_tensor(...)."
        if isinstance(sample, (tuple, list, dict)):
            do = "For several inputs, wrap the model in a Module whose forward takes one tensor."
        raise LabError(f"sample is of type {type(sample).__name__}.", "best_batch gives a model one tensor.", do)
    if not sample.numel():
        raise LabError(f"sample has the shape {tuple(sample.shape)}: it is empty.", "", "Give a real input.")
    if not sample.isfinite().all():
        raise LabError("sample has NaN or infinite values.", "", "Give a real input.")


@contextmanager
def in_eval_mode(model: torch.nn.Module) -> Iterator[None]:
    """In training mode a batch norm would note what it sees, and dropout would drop. The modes come back after."""
    training = [module for module in model.modules() if module.training]
    model.eval()
    try:
        yield
    finally:
        for module in training:
            module.training = True


def answer(model: torch.nn.Module, batch: torch.Tensor) -> object:
    """`model(batch)`. Errors other than of memory become a LabError that says what the model was given."""
    try:
        return model(batch)
    except Exception as error:  # the learner's own model may raise anything
        if out_of_memory(error):
            raise
        lines = str(error).strip().splitlines() or ["no message"]
        raise LabError(
            f"The model failed with a batch of shape {tuple(batch.shape)}, {batch.dtype}: "
            f"{type(error).__name__}: {lines[0].rstrip('.')}.",
            "sample is one input without its batch dimension, which is added in front.",
            _advice(error, batch),
        ) from error


def _advice(error: Exception, batch: torch.Tensor) -> str:
    if isinstance(error, TypeError) and "positional argument" in str(error):
        return "One input only: wrap a model of several in a Module whose forward takes one."
    if batch.is_floating_point() and ("indices" in str(error) or "Long" in str(error)):
        return "Token ids are whole numbers: give sample.long(), in a terminal --input 5:int64."
    return "Check shape and dtype; where sample has a batch dimension, give sample[0]."


def demand_samples_apart(model: torch.nn.Module, sample: torch.Tensor) -> None:
    """Raises LabError unless the first dimension of the model's answer is the batch, and its rows are independent.

    Two samples in a batch must get the answers that each gets alone. An LSTM without batch_first takes the batch for
    a sequence, and the answer of the second depends on the first. A model that draws at random is not judged.
    """
    other = sample.flip(tuple(range(sample.dim())))
    try:
        both = _rows(answer(model, torch.stack([other, sample])), 2)
        alone, again = (_rows(answer(model, sample[None]), 1)[0] for _ in range(2))
    except (RuntimeError, MemoryError) as error:
        if not out_of_memory(error):
            raise
        return
    second = both[1:]
    if second.shape == alone[None].shape and _differ(second[0], alone) and not _differ(alone, again):
        raise LabError(
            "A sample's answer depends on what else is in the batch.",
            "So the model takes its first dimension for something else, such as a sequence, or mixes the batch.",
            "Put the batch first (batch_first=True), or wrap the model in a Module that does.",
        )


def _differ(a: torch.Tensor, b: torch.Tensor) -> bool:
    if not a.is_floating_point():
        return False
    return bool((a - b).abs().max() > SAME * b.abs().max()) if a.numel() else False


def _rows(found: object, batch: int) -> torch.Tensor:
    """The first tensor of an answer with one row for each sample."""
    shapes = []
    for tensor in tensors(found):
        if tensor.dim() and len(tensor) == batch:
            return tensor
        shapes.append(tuple(tensor.shape))
    what = f"tensors of shapes {shapes}" if shapes else f"an object of type {type(found).__name__}, without a tensor"
    raise LabError(
        f"For {batch} samples the model returns {what}.",
        "An evaluation has an answer for each sample: the first dimension is the batch.",
        "Return a tensor, or a tuple or dict of tensors, with the batch first.",
    )
