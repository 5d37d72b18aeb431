"""What is evaluated: real digits, images of any size, and sentences of unequal length. All from a seed, offline."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch.nn import functional as F

from labs_lib.errors import LabError

TESTED = 397  # digits held back: no multiple of a usual batch size, so that the last batch is a short one
VOCABULARY = 1000
PADDING = 0  # the token id that stands for nothing
SHORTEST, LONGEST = 3, 128  # tokens in a sentence


@dataclass(frozen=True)
class Digits:
    """Handwritten digits. Images: float32 (n, 1, 8, 8) in [0, 1]; labels: int64 (n,) from 0 to 9."""

    train_images: torch.Tensor
    train_labels: torch.Tensor
    test_images: torch.Tensor
    test_labels: torch.Tensor


def digits(seed: int = 0) -> Digits:
    """The 1797 digits that come with scikit-learn (UCI, Alpaydin and Kaynak 1998), 397 of them held back for tests.

    >>> data = digits()
    >>> tuple(data.train_images.shape), tuple(data.test_images.shape)
    ((1400, 1, 8, 8), (397, 1, 8, 8))
    """
    from sklearn.datasets import load_digits

    found = load_digits()
    order = np.random.default_rng(seed).permutation(len(found.target))
    images = torch.from_numpy((found.images[order, None] / 16).astype(np.float32))
    labels = torch.from_numpy(found.target[order].astype(np.int64))
    split = len(labels) - TESTED
    return Digits(images[:split], labels[:split], images[split:].clone(), labels[split:].clone())


def large_images(n: int, size: int = 64, seed: int = 0) -> torch.Tensor:
    """The first `n` held-back digits enlarged to colour images: float32 (n, 3, size, size), at most 397.

    For networks made for photographs: unlike noise, they do not all get the same prediction.
    """
    images = digits(seed).test_images[:n]
    return F.interpolate(images, size=(size, size), mode="bilinear").expand(-1, 3, -1, -1).contiguous()


def sentences(n: int, seed: int = 0, spread: float = 0.8) -> list[np.ndarray]:
    """`n` sentences: arrays of token ids, int64, from 1 to 999; most are short and a few are long.

    The lengths are log-normal around 16 tokens with the given `spread`, cut to between 3 and 128. The tokens are
    drawn evenly: what is counted and timed depends on lengths alone.

    >>> [len(sentence) for sentence in sentences(4)]
    [18, 14, 27, 17]
    """
    generator = np.random.default_rng(seed)
    lengths = np.clip(np.exp(generator.normal(np.log(16), spread, n)).round(), SHORTEST, LONGEST).astype(int)
    return [generator.integers(1, VOCABULARY, length) for length in lengths]


def pad(rows: Sequence[np.ndarray]) -> torch.Tensor:
    """Sentences as one batch: int64 (n, length of the longest), filled up with the id 0.

    >>> pad([np.array([5, 6, 7]), np.array([8])]).tolist()
    [[5, 6, 7], [8, 0, 0]]

    Raises LabError without a sentence.
    """
    if not len(rows):
        raise LabError("There is no sentence to pad.", "", "Leave out batches without a row.")
    batch = np.full((len(rows), max(map(len, rows))), PADDING, np.int64)
    for filled, row in zip(batch, rows, strict=True):
        filled[: len(row)] = row
    return torch.from_numpy(batch)
