"""The pipeline in plain Python, character by character: what each step means, and how the case has it.

`*_by_characters` draw counter-based numbers and are what every engine is held against, byte for byte. `the_case`
is the same loops with the numbers that code of this kind draws, from `random.random()`: as fast, and as slow, as
what people write.
"""

from __future__ import annotations

import random
import unicodedata
from collections.abc import Sequence
from functools import cache
from typing import TYPE_CHECKING

from labs_lib.text_pipeline.philox import CHARACTERS, SHUFFLE, WORDS, word, words_of
from labs_lib.text_pipeline.rates import LETTERS, PARTS, Rates

if TYPE_CHECKING:
    import torch

PUNCTUATION = ".,;:!?'-"
VOCABULARY = " " + LETTERS + "0123456789" + PUNCTUATION
PADDING, UNKNOWN, FIRST = 0, 1, 2  # indices; the vocabulary's characters follow from FIRST on
LENGTH = 128


def wanted(character: str) -> bool:
    """Whether cleaning keeps it: letters and digits of any script, their combining marks, a little punctuation."""
    return character.isalnum() or character in PUNCTUATION or unicodedata.category(character)[0] == "M"


def clean(s: str) -> str:
    """Lower case; each white space a space; what is not wanted left out.

    >>> clean('The "def"\\tstatement, (once) more.')
    'the def statement, once more.'
    """
    kept = []
    for character in s.lower():
        if character.isspace():
            kept.append(" ")
        elif wanted(character):
            kept.append(character)
    return "".join(kept)


def augment_by_characters(s: str, index: int, seed: int, rates: Rates) -> str:
    """The sentence with its misspellings, as `Rates` defines them. `index` is the sentence's place in the corpus.

    >>> augment_by_characters("the quick brown fox", 0, 0, Rates(0, 0, 0, shuffle=1))
    'quick fox the brown'
    >>> augment_by_characters("the quick brown fox", 0, 4, Rates(0.1, 0.1, 0.1, 0))
    'ihe quik brwnfox'
    """
    if word(seed, index, 0, SHUFFLE) < rates.shuffle_edge:
        parts = s.split(" ")
        keys = [number for number, _ in zip(words_of(seed, index, WORDS), parts, strict=False)]
        s = " ".join(parts[i] for i in sorted(range(len(parts)), key=keys.__getitem__))
    a, b, c = rates.edges
    out = []
    for number, character in zip(words_of(seed, index, CHARACTERS), s, strict=False):
        if number < a:
            continue
        if number < b:
            character = LETTERS[(number - a) * PARTS // (b - a)]
        out.append(character)
        if b <= number < c:
            out.append(LETTERS[(number - b) * PARTS // (c - b)])
    return "".join(out)


@cache
def index_of(vocabulary: str) -> dict[str, int]:
    """The index of each of the vocabulary's characters."""
    return {character: i for i, character in enumerate(vocabulary, FIRST)}


def encode_by_characters(s: str, vocabulary: str = VOCABULARY, length: int = LENGTH) -> list[int]:
    """`length` indices: of the first characters, then padding.

    >>> encode_by_characters("abé", "ab", 5)
    [2, 3, 1, 0, 0]
    """
    index = index_of(vocabulary)
    indices = []
    for character in s[:length]:
        indices.append(index.get(character, UNKNOWN))
    return indices + [PADDING] * (length - len(indices))


def augment_drawing(s: str, rng: random.Random, rates: Rates) -> str:
    """The same misspellings at the same rates, from a generator with a state: which ones depends on the order."""
    if rng.random() < rates.shuffle:
        parts = s.split(" ")
        rng.shuffle(parts)
        s = " ".join(parts)
    a, b, c = rates.remove, rates.remove + rates.substitute, rates.remove + rates.substitute + rates.insert
    out = []
    for character in s:
        number = rng.random()
        if number < a:
            continue
        if number < b:
            character = rng.choice(LETTERS)
        out.append(character)
        if b <= number < c:
            out.append(rng.choice(LETTERS))
    return "".join(out)


def the_case(
    strings: Sequence[str], seed: int, rates: Rates, vocabulary: str = VOCABULARY, length: int = LENGTH
) -> list[torch.Tensor]:
    """The case's own way: characters in Python, one tensor per string, `random.random()` for each character."""
    import torch

    rng = random.Random(seed)
    tensors = []
    for s in strings:
        s = augment_drawing(clean(s), rng, rates)
        tensors.append(torch.tensor(encode_by_characters(s, vocabulary, length)))
    return tensors


def by_characters(
    strings: Sequence[str], seed: int, rates: Rates, vocabulary: str = VOCABULARY, length: int = LENGTH, first: int = 0
) -> list[list[int]]:
    """The reference: the same loops with counter-based numbers, as rows of indices."""
    return [
        encode_by_characters(augment_by_characters(clean(s), index, seed, rates), vocabulary, length)
        for index, s in enumerate(strings, first)
    ]
