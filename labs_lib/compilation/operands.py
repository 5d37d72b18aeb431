"""How large a piece of memory does NumPy code work on at a time? A tile that fits the cache, or a whole array?"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import ClassVar

import numpy as np


class _Watched(np.ndarray):
    """An array whose views tell how much each of NumPy's functions works on."""

    sizes: ClassVar[list[int]] = []

    def __array_ufunc__(self, ufunc, method, *inputs, out=(), **options):
        self.note(inputs, out)
        plain = tuple(_plain(each) for each in out)
        return getattr(ufunc, method)(*map(_plain, inputs), **({"out": plain} if plain else {}), **options)

    def __array_function__(self, function, types, args, kwargs):
        self.note(args, kwargs.values())
        return function(*map(_plain, args), **{name: _plain(value) for name, value in kwargs.items()})

    def note(self, *groups: Iterable[object]) -> None:
        arrays = [each for group in groups for each in group if isinstance(each, np.ndarray)]
        self.sizes.append(max(array.nbytes for array in arrays))


def _plain(value: object) -> object:
    return value.view(np.ndarray) if isinstance(value, _Watched) else value


def largest_operand(function: Callable[..., object], *arrays: np.ndarray) -> int:
    """Bytes of the largest array that one of NumPy's functions reads or writes in `function(*arrays)`.

    >>> x = np.ones((64, 256), np.float32)
    >>> largest_operand(lambda x: [row * 2 for row in x], x), largest_operand(lambda x: x * 2, x)
    (1024, 65536)
    """
    _Watched.sizes.clear()
    function(*(array.view(_Watched) for array in arrays))
    return max(_Watched.sizes, default=0)
