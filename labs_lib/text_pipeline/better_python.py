"""The pipeline in Python that leaves loops over characters to `str`, and draws the numbers of many strings at once."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from labs_lib.text_pipeline import numpy_engine
from labs_lib.text_pipeline.corpus import Corpus
from labs_lib.text_pipeline.philox import CHARACTERS, SHUFFLE, WORDS, rows, words
from labs_lib.text_pipeline.rates import LETTERS, PARTS, Rates
from labs_lib.text_pipeline.reference import FIRST, LENGTH, PADDING, UNKNOWN, VOCABULARY, wanted


def better_python(
    strings: Sequence[str],
    seed: int,
    rates: Rates,
    vocabulary: str = VOCABULARY,
    length: int = LENGTH,
    first: int = 0,
) -> np.ndarray:
    """Rows of indices (strings, length): `str.translate`, slices and joins; only what is misspelled is visited."""
    cleaned = [s.lower().translate(CLEAN) for s in strings]
    sentences = np.arange(first, first + len(cleaned))
    for i in np.flatnonzero(words(seed, sentences, 0, SHUFFLE) < rates.shuffle_edge).tolist():
        parts = cleaned[i].split(" ")
        numbers, _ = rows(seed, sentences[i : i + 1], np.array([len(parts)]), WORDS)
        keys = numbers.tolist()
        cleaned[i] = " ".join([parts[j] for j in sorted(range(len(parts)), key=keys.__getitem__)])
    numbers, starts = rows(seed, sentences, np.array([len(s) for s in cleaned], np.int64), CHARACTERS)
    numbers = numbers.tolist()
    table = _Indices(vocabulary)
    encoded = [
        _misspelled(s, numbers[start : start + len(s)], rates)[:length].translate(table).ljust(length, chr(PADDING))
        for s, start in zip(cleaned, starts.tolist(), strict=True)
    ]
    joined = "".join(encoded).encode("utf-32-le", "surrogatepass")
    return np.frombuffer(joined, "<u4").astype(numpy_engine.table_of(vocabulary).dtype).reshape(-1, length)


def _misspelled(s: str, numbers: list[int], rates: Rates) -> str:
    a, b, c = rates.edges
    pieces, done = [], 0
    for i in [i for i, number in enumerate(numbers) if number < c]:
        number = numbers[i]
        if number < b:
            letter = "" if number < a else LETTERS[(number - a) * PARTS // (b - a)]
            pieces += s[done:i], letter
        else:
            pieces += s[done : i + 1], LETTERS[(number - b) * PARTS // (c - b)]
        done = i + 1
    return "".join([*pieces, s[done:]])


class _Clean(dict):
    """For `str.translate`, after `str.lower`: a code point's answer is worked out once, when it is first met."""

    def __missing__(self, code: int) -> str | None:
        character = chr(code)
        self[code] = " " if character.isspace() else character if wanted(character) else None
        return self[code]


CLEAN = _Clean()


class _Indices(dict):
    """For `str.translate`: characters of the vocabulary to their indices, as code points; all others unknown."""

    def __init__(self, vocabulary: str) -> None:
        super().__init__((ord(character), i) for i, character in enumerate(vocabulary, FIRST))

    def __missing__(self, code: int) -> int:
        return UNKNOWN


def numpy_per_string(
    strings: Sequence[str],
    seed: int,
    rates: Rates,
    vocabulary: str = VOCABULARY,
    length: int = LENGTH,
    first: int = 0,
) -> np.ndarray:
    """The array operations of `numpy_engine`, string by string: each costs its call, for a hundred characters."""
    found = [np.empty((0, length), numpy_engine.table_of(vocabulary).dtype)]
    for index, s in enumerate(strings, first):
        corpus = numpy_engine.augment(numpy_engine.clean(Corpus.from_strings([s])), seed, rates, index)
        found.append(numpy_engine.encode(corpus, vocabulary, length))
    return np.concatenate(found)
