"""Counter-based random numbers: Philox4x32-10, in plain Python and over NumPy arrays, with the same bits.

A counter-based generator has no state: a number is a function of a key and a counter (Salmon, Moraes, Dror and
Shaw, "Parallel random numbers: as easy as 1, 2, 3", SC 2011). Here the key is the seed, and the counter says which
number is meant:

    counter = (position // 4, sentence's low 32 bits, sentence's high 32 bits, stream)

One evaluation gives four 32-bit numbers, for four positions in a row. So any number can be had by anybody, in any
order, in any process, without asking what was drawn before.
"""

from __future__ import annotations

import operator
from collections.abc import Iterator

import numpy as np

from labs_lib.errors import LabError

MULTIPLIERS = (0xD2511F53, 0xCD9E8D57)
WEYL = (0x9E3779B9, 0xBB67AE85)  # added to the key after each round
ROUNDS = 10
MASK = 0xFFFFFFFF
SENTENCES, POSITIONS = 2**64, 2**34  # how many the counter tells apart
CHARACTERS, SHUFFLE, WORDS = range(3)  # streams: independent numbers for the same sentence and position


def key_of(seed: int) -> tuple[int, int]:
    """The two halves of a seed of 64 bits.

    Raises LabError where the seed is no whole number from 0 to 2**64 - 1.
    """
    try:
        number = operator.index(seed)
    except TypeError:
        number = -1
    if not 0 <= number < 2**64:
        raise LabError(f"{seed!r} is no seed.", "The generator's key has 64 bits.", "Give a whole number from 0 on.")
    return number & MASK, number >> 32


def whole_number(name: str, value: object, least: int, end: int) -> int:
    """The value as an int. Raises LabError where it is no whole number from `least` up to, not including, `end`."""
    try:
        number = operator.index(value)
    except TypeError:
        number = least - 1
    if not least <= number < end:
        raise LabError(f"{name}={value!r} is no whole number from {least} to {end - 1}.")
    return number


def philox(counter: tuple[int, int, int, int], key: tuple[int, int]) -> tuple[int, int, int, int]:
    """Four 32-bit numbers for a counter of four and a key of two 32-bit numbers.

    >>> [f"{word:08x}" for word in philox((0, 0, 0, 0), (0, 0))]
    ['6627e8d5', 'e169c58d', 'bc57ac4c', '9b00dbd8']
    """
    a, b, c, d = counter
    k, m = key
    for _ in range(ROUNDS):
        p, q = MULTIPLIERS[0] * a, MULTIPLIERS[1] * c
        a, b, c, d = q >> 32 ^ b ^ k, q & MASK, p >> 32 ^ d ^ m, p & MASK
        k, m = k + WEYL[0] & MASK, m + WEYL[1] & MASK
    return a, b, c, d


def word(seed: int, sentence: int, position: int, stream: int) -> int:
    """The 32-bit number for one position of one sentence.

    Raises LabError for what is no place: sentences have 64 bits, positions 34, streams 32.
    """
    sentence = whole_number("sentence", sentence, 0, SENTENCES)
    position = whole_number("position", position, 0, POSITIONS)
    stream = whole_number("stream", stream, 0, 2**32)
    return philox((position >> 2, sentence & MASK, sentence >> 32, stream), key_of(seed))[position & 3]


def uniform(seed: int, sentence: int, position: int, stream: int = CHARACTERS) -> float:
    """That number as a fraction from 0 up to, not including, 1.

    >>> uniform(0, 0, 0)
    0.3990464706439525
    >>> uniform(0, sentence=7, position=1000, stream=WORDS) == uniform(0, 7, 1000, WORDS)
    True
    """
    return word(seed, sentence, position, stream) / 2**32


def words_of(seed: int, sentence: int, stream: int) -> Iterator[int]:
    """The 32-bit numbers of a sentence's positions 0, 1, 2, ..., four to an evaluation."""
    key, low, high = key_of(seed), sentence & MASK, sentence >> 32
    block = 0
    while True:
        yield from philox((block, low, high, stream), key)
        block += 1


def philox_blocks(blocks: np.ndarray, sentences: np.ndarray, seed: int, stream: int) -> np.ndarray:
    """All four numbers of many counters: `blocks` and `sentences`, uint64 (n,), give uint32 (n, 4).

    The same rounds as `philox`, on a (2, n) array for words 0 and 2 and another for words 1 and 3: a product of
    two 32-bit numbers is exact in 64 bits.
    """
    n = len(blocks)
    multipliers = np.array(MULTIPLIERS[::-1], np.uint64)[:, None]
    keys = np.array(key_of(seed), np.uint64)[:, None]
    weyl, mask, half = np.array(WEYL, np.uint64)[:, None], np.uint64(MASK), np.uint64(32)
    even, odd = np.empty((2, n), np.uint64), np.empty((2, n), np.uint64)
    even[0], even[1] = blocks, sentences >> half
    odd[0], odd[1] = sentences & mask, stream
    product = np.empty((2, n), np.uint64)
    for _ in range(ROUNDS):
        np.multiply(even[::-1], multipliers, out=product)
        np.right_shift(product, half, out=even)
        even ^= odd
        even ^= keys
        np.bitwise_and(product, mask, out=odd)
        keys = keys + weyl & mask
    numbers = np.empty((n, 4), np.uint32)
    numbers[:, 0::2], numbers[:, 1::2] = even.T, odd.T
    return numbers


def rows(seed: int, sentences: np.ndarray, lengths: np.ndarray, stream: int) -> tuple[np.ndarray, np.ndarray]:
    """The numbers of positions 0 to length - 1 of each sentence, four to an evaluation.

    Returns uint32 numbers and int64 starts: the number for position j of row i is `numbers[starts[i] + j]`. Rows
    begin at multiples of four, so up to three numbers after each row belong to nobody.
    """
    counts = (lengths + 3) >> 2
    ends = np.cumsum(counts)
    begins = ends - counts
    blocks = np.arange(ends[-1] if len(ends) else 0) - np.repeat(begins, counts)
    numbers = philox_blocks(blocks, np.repeat(np.asarray(sentences, np.uint64), counts), seed, stream)
    return numbers.ravel(), begins * 4


def words(seed: int, sentences: np.ndarray, positions: np.ndarray, stream: int) -> np.ndarray:
    """`word` over arrays that broadcast against each other: integers (...) give uint32 (...).

    Each number costs an evaluation of its own; where positions stand in rows, `philox_blocks` needs a quarter.

    Raises LabError where an entry is no whole number, is negative, or is beyond what `word` takes.
    """
    stream = whole_number("stream", stream, 0, 2**32)
    sentences, positions = np.broadcast_arrays(
        _places("sentences", sentences, SENTENCES), _places("positions", positions, POSITIONS)
    )
    numbers = philox_blocks(positions.ravel() >> np.uint64(2), sentences.ravel(), seed, stream)
    lanes = (positions.ravel() & np.uint64(3)).astype(np.intp)
    return numbers[np.arange(len(numbers)), lanes].reshape(positions.shape)


def _places(name: str, values: np.ndarray, end: int) -> np.ndarray:
    """uint64. A negative number would wrap around, and a fraction would be cut off, without a word."""
    found = np.asarray(values)
    if not found.size:
        return found.astype(np.uint64)
    if found.dtype.kind not in "iu" or not 0 <= int(found.min()) <= int(found.max()) < end:
        raise LabError(
            f"{name} are whole numbers from 0 to {end - 1}.", f"Here is {found.dtype} from {found.min()} on."
        )
    return found.astype(np.uint64)


def uniforms(seed: int, sentences: np.ndarray, positions: np.ndarray, stream: int = CHARACTERS) -> np.ndarray:
    """`uniform` over arrays that broadcast against each other: float64 (...).

    >>> bool(uniforms(0, [3], [5])[0] == uniform(0, 3, 5))
    True
    """
    return words(seed, sentences, positions, stream) / 2**32
