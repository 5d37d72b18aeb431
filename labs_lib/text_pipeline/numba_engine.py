"""The same over the same arrays, as loops that numba compiles: one pass, and no array in between.

numba compiles for each type of `codes` when it first sees it, which takes seconds; `compile_kernels` does it ahead,
so that it can be timed apart. Nothing is written to disk.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import cache
from typing import NamedTuple

import numpy as np

from labs_lib.text_pipeline.corpus import Corpus
from labs_lib.text_pipeline.numpy_engine import LETTER_CODES, SPACE, table_of
from labs_lib.text_pipeline.philox import CHARACTERS, MASK, MULTIPLIERS, ROUNDS, SHUFFLE, WEYL, WORDS, key_of
from labs_lib.text_pipeline.rates import PARTS, Rates
from labs_lib.text_pipeline.reference import PADDING


class Kernels(NamedTuple):
    augment: Callable[..., int]
    encode: Callable[..., None]


def augment(corpus: Corpus, seed: int, rates: Rates, first: int = 0) -> Corpus:
    """Shuffles and misspells string after string, into room for the case that each character is doubled."""
    out = np.empty(2 * len(corpus.codes), corpus.codes.dtype)  # pages that are never written cost nothing
    offsets = np.zeros(len(corpus) + 1, np.int64)
    edges = np.array([*rates.edges, rates.shuffle_edge], np.uint64)
    key = np.array(key_of(seed), np.uint64)
    size = kernels().augment(
        _plain(corpus.codes), corpus.offsets, key, np.uint64(first), edges, LETTER_CODES, out, offsets
    )
    return Corpus(out[:size], offsets)


def encode(corpus: Corpus, vocabulary: str, length: int) -> np.ndarray:
    """Each string's first indices into its row."""
    table = table_of(vocabulary)
    out = np.full((len(corpus), length), PADDING, table.dtype)
    kernels().encode(_plain(corpus.codes), corpus.offsets, table, out)
    return out


def _plain(codes: np.ndarray) -> np.ndarray:
    """Writable and no memory map: numba would compile once more for each of these."""
    return np.require(codes, requirements=["C", "W", "E"])


def compile_kernels(wide: bool = False) -> float:
    """Compiles for code points of one byte, or, if `wide`, of four; returns the seconds this took."""
    start = time.perf_counter()
    corpus = Corpus.from_strings(["π a" if wide else "a a"])
    encode(augment(corpus, 0, Rates()), " a", 2)
    return time.perf_counter() - start


@cache
def kernels() -> Kernels:
    """The two loops; numba is imported here, since it takes its time."""
    from numba import njit, uint64

    mask, half = np.uint64(MASK), np.uint64(32)
    multiplier_0, multiplier_1 = map(np.uint64, MULTIPLIERS)
    weyl_0, weyl_1 = map(np.uint64, WEYL)
    parts, space = np.uint64(PARTS), SPACE
    characters, shuffle, words = map(np.uint64, (CHARACTERS, SHUFFLE, WORDS))

    @njit(inline="always")
    def philox(block, sentence, stream, key):
        a, b, c, d = block, sentence & mask, sentence >> half, stream
        k, m = key[0], key[1]
        for _ in range(ROUNDS):
            p, q = multiplier_0 * a, multiplier_1 * c
            a, b, c, d = (q >> half) ^ b ^ k, q & mask, (p >> half) ^ d ^ m, p & mask
            k, m = (k + weyl_0) & mask, (m + weyl_1) & mask
        return a, b, c, d

    @njit(nogil=True)
    def fill(numbers, count, sentence, stream, key):
        """Numbers of positions 0 to count - 1, and up to three more."""
        for block in range((count + 3) // 4):
            at = 4 * block
            numbers[at], numbers[at + 1], numbers[at + 2], numbers[at + 3] = philox(
                uint64(block), sentence, stream, key
            )

    @njit(nogil=True)
    def sort(keys):
        """Shell's sort: for some ten words as fast as any, and far quicker to compile than numba's np.sort."""
        gap = len(keys) // 2
        while gap:
            for i in range(gap, len(keys)):
                key, j = keys[i], i
                while j >= gap and keys[j - gap] > key:
                    keys[j] = keys[j - gap]
                    j -= gap
                keys[j] = key
            gap //= 2

    @njit(nogil=True)
    def shuffled(text, sentence, key, numbers, starts):
        """A copy of the text with its words sorted by their numbers, equal ones by their place."""
        count = 1
        starts[0] = 0
        for i in range(len(text)):
            if text[i] == space:
                starts[count] = i + 1
                count += 1
        starts[count] = len(text) + 1
        fill(numbers, count, sentence, words, key)
        for place in range(count):
            numbers[place] = (numbers[place] << half) | uint64(place)
        sort(numbers[:count])
        out = np.empty_like(text)
        at = 0
        for place in numbers[:count] & mask:
            for i in range(starts[place], starts[place + uint64(1)] - 1):
                out[at] = text[i]
                at += 1
            if at < len(out):
                out[at] = space
                at += 1
        return out

    @njit(nogil=True)
    def augment(codes, offsets, key, first, edges, letters, out, out_offsets):
        a, b, c, chosen = edges
        longest = 0
        for i in range(len(offsets) - 1):
            longest = max(longest, offsets[i + 1] - offsets[i])
        numbers, starts = np.empty(longest + 4, np.uint64), np.empty(longest + 2, np.int64)
        size = 0
        for i in range(len(offsets) - 1):
            text = codes[offsets[i] : offsets[i + 1]]
            sentence = first + uint64(i)
            if philox(uint64(0), sentence, shuffle, key)[0] < chosen:
                text = shuffled(text, sentence, key, numbers, starts)
            fill(numbers, len(text), sentence, characters, key)
            for j in range(len(text)):
                number = numbers[j]
                out[size] = text[j]
                size += 1
                if number < c:
                    if number < a:
                        size -= 1
                    elif number < b:
                        out[size - 1] = letters[(number - a) * parts // (b - a)]
                    else:
                        out[size] = letters[(number - b) * parts // (c - b)]
                        size += 1
            out_offsets[i + 1] = size
        return size

    @njit(nogil=True)
    def encode(codes, offsets, table, out):
        for i in range(len(out)):
            start = offsets[i]
            for j in range(min(out.shape[1], offsets[i + 1] - start)):
                out[i, j] = table[min(codes[start + j], len(table) - 1)]

    return Kernels(augment, encode)
