"""Padding, counted: a batch of unequal rows is as long as its longest, and the rest is computed for nothing."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from labs_lib.errors import LabError


@dataclass(frozen=True)
class Padding:
    """What batches of unequal rows make a model compute, in tokens."""

    real: int
    computed: int  # rows times the longest row, summed over the batches
    batches: int

    @property
    def share(self) -> float:
        """The part of what is computed that is padding: 0 where all rows of a batch are equally long."""
        return 1 - self.real / self.computed

    @property
    def factor(self) -> float:
        """Tokens computed for each real one."""
        return self.computed / self.real

    def __str__(self) -> str:
        return (
            f"{self.batches} batches compute {self.computed:,} tokens for {self.real:,} real ones: "
            f"{self.share:.1%} is padding."
        )


def batches_of(order: Sequence[int], batch_size: int) -> list[np.ndarray]:
    """Index arrays (int64) that take `order` in pieces of `batch_size`; the last one may be shorter.

    >>> [rows.tolist() for rows in batches_of(range(5), 2)]
    [[0, 1], [2, 3], [4]]
    """
    if batch_size < 1:
        raise LabError(f"A batch size of {batch_size} can't be used.", "It has at least one row.", "Give 1 or more.")
    order = np.asarray(order, np.int64)
    return [order[start : start + batch_size] for start in range(0, len(order), batch_size)]


def in_order(rows: int, batch_size: int) -> list[np.ndarray]:
    """Batches of rows as they come: index arrays (int64).

    >>> [rows.tolist() for rows in in_order(3, 2)]
    [[0, 1], [2]]
    """
    return batches_of(range(rows), batch_size)


def bucketed(lengths: Sequence[int], batch_size: int) -> list[np.ndarray]:
    """Batches of rows of similar length: index arrays (int64), the longest rows first.

    The longest batch first, since it needs the most memory: what does not fit then fails at once.

    >>> [rows.tolist() for rows in bucketed([3, 90, 4, 80], 2)]
    [[1, 3], [2, 0]]
    """
    return batches_of(np.argsort(-np.asarray(lengths), kind="stable"), batch_size)


def count_padding(lengths: Sequence[int], batches: Sequence[Sequence[int]]) -> Padding:
    """Counts what the batches compute: `lengths` (tokens of each row) and index arrays, one for each batch.

    >>> print(count_padding([3, 90, 4, 80], [[0, 1], [2, 3]]))
    2 batches compute 340 tokens for 177 real ones: 47.9% is padding.

    Raises LabError unless each row is in exactly one batch, and has a token.
    """
    lengths = np.asarray(lengths)
    placed = np.sort(np.concatenate([np.asarray(rows, np.int64) for rows in batches])) if len(batches) else []
    if not np.array_equal(placed, np.arange(len(lengths))):
        raise LabError(
            f"These batches are no division of {len(lengths)} rows.",
            "A row is missing, or in more than one batch.",
            "Put each index from 0 on into one batch.",
        )
    if not len(lengths) or lengths.min() < 1:
        raise LabError("There is no token to compute.", "A row without tokens has no answer.", "Leave it out.")
    computed = sum(len(rows) * int(lengths[rows].max()) for rows in map(np.asarray, batches) if len(rows))
    return Padding(int(lengths.sum()), computed, len(batches))


def pad_batches(lengths: Sequence[int], batch_size: int, order: Sequence[int] | None = None) -> Padding:
    """Counts the padding of batches taken in an order: as given, or an index array such as np.argsort(lengths).

    >>> pad_batches([3, 90, 4, 80], 2).computed, pad_batches([3, 90, 4, 80], 2, order=[0, 2, 1, 3]).computed
    (340, 188)
    """
    return count_padding(lengths, batches_of(range(len(lengths)) if order is None else order, batch_size))
