"""Is the answer the same? The largest difference between two outputs, and the rounding to expect."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from dataclasses import dataclass
from numbers import Number
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np


@dataclass(frozen=True)
class Difference:
    """Largest |expected - actual| over the largest finite |expected|, and the outputs' machine epsilon."""

    relative: float  # 0 for equal, infinity where NaN meets a number or the shapes differ
    epsilon: float  # of the coarsest floating-point type in the outputs; 0 for integers
    where: str = ""  # why no number could be given


def difference(expected: object, actual: object) -> Difference:
    """Compares arrays, tensors, numbers, and tuples, lists and dicts of them.

    NaN equals NaN in the same place. Objects that are not numeric count 0 when equal, else infinity.

    >>> round(difference([1.0, 200.0], [1.0, 200.2]).relative, 9)
    0.001
    >>> difference((1, 2), (1, 2, 3)).where
    'shape (2,) against (3,)'
    """
    worst, coarsest = 0.0, 0.0
    a, b = list(_leaves(expected)), list(_leaves(actual))
    if len(a) != len(b):
        return Difference(float("inf"), 0.0, f"{len(a)} parts against {len(b)}")
    for one, other in zip(a, b, strict=True):
        if isinstance(one, _Values) and isinstance(other, _Values):
            if one.array.shape != other.array.shape:
                return Difference(float("inf"), 0.0, f"shape {one.array.shape} against {other.array.shape}")
            worst = max(worst, _relative(one.array, other.array))
            coarsest = max(coarsest, one.epsilon, other.epsilon)
        elif type(one) is not type(other) or one != other:
            kinds = " and ".join(sorted({_kind(one), _kind(other)}))
            return Difference(float("inf"), 0.0, f"not equal: {kinds}")
    return Difference(worst, coarsest)


def arrays(tree: object) -> list[np.ndarray]:
    """Copies of the arrays and tensors in nested tuples, lists and dicts; everything else is left out."""
    return [leaf.array.copy() for leaf in _leaves(tree) if isinstance(leaf, _Values)]


def epsilon(tree: object) -> float:
    """The machine epsilon of the coarsest floating-point type in arrays, tensors and numbers; 0 where there is none.

    >>> epsilon((1.5, 3)) == 2**-52
    True
    """
    return max((leaf.epsilon for leaf in _leaves(tree) if isinstance(leaf, _Values)), default=0.0)


@dataclass(frozen=True)
class _Values:
    array: np.ndarray  # shape (...), float64, complex128 or an integer type
    epsilon: float


def _leaves(tree: object) -> Iterator[object]:
    if isinstance(tree, dict):
        for key in tree:
            yield key
            yield from _leaves(tree[key])
    elif isinstance(tree, list | tuple) and not all(isinstance(item, Number) for item in tree):
        for item in tree:
            yield from _leaves(item)
    else:
        yield _values(tree)


def _values(leaf: object) -> object:
    """The leaf's numbers in the widest type of their kind, or the leaf itself where it is not numeric."""
    import numpy as np

    step = 0.0  # the machine epsilon of a tensor, whose type NumPy may not have
    torch = sys.modules.get("torch")
    if torch is not None and isinstance(leaf, torch.Tensor):
        leaf = leaf.detach().cpu()
        if leaf.is_floating_point():
            step, leaf = torch.finfo(leaf.dtype).eps, leaf.double()
        leaf = leaf.numpy()
    if not isinstance(leaf, np.ndarray | Number | list | tuple):
        return leaf
    array = np.asarray(leaf)
    if array.dtype.kind in "fc":
        return _Values(array.astype(np.result_type(array, np.float64)), step or float(np.finfo(array.dtype).eps))
    return _Values(array, 0.0) if array.dtype.kind in "biu" else leaf


def _kind(leaf: object) -> str:
    return "numbers" if isinstance(leaf, _Values) else f"an object of type {type(leaf).__name__}"


def _relative(expected: np.ndarray, actual: np.ndarray) -> float:
    import numpy as np

    if not np.array_equal(np.isnan(expected), np.isnan(actual)):
        return float("inf")
    unequal = ~((expected == actual) | np.isnan(expected))
    if not unequal.any():
        return 0.0
    wide = np.result_type(expected, actual, np.float64)
    expected, actual = expected.astype(wide), actual.astype(wide)
    largest = np.abs(expected[np.isfinite(expected)]).max(initial=0.0)
    worst = np.abs(expected[unequal] - actual[unequal]).max()
    if largest == 0:
        return float("inf")
    return float(max(worst / largest, np.finfo(float).tiny))  # integers above 2**53 may differ by less than that
