"""Cleaning, augmenting and encoding a whole corpus with NumPy and `bytes.translate`: no loop over strings.

Each function handles one block of strings; `labs_lib.text_pipeline.engines` cuts a corpus into blocks, so that the
arrays of one block stay in the cache.
"""

from __future__ import annotations

from functools import cache

import numpy as np

from labs_lib.text_pipeline.corpus import Corpus
from labs_lib.text_pipeline.philox import CHARACTERS, SHUFFLE, WORDS, rows, words
from labs_lib.text_pipeline.rates import LETTERS, PARTS, Rates
from labs_lib.text_pipeline.reference import FIRST, PADDING, UNKNOWN, wanted

SPACE = ord(" ")
NO_TABLE = frozenset(map(ord, "Σİ"))
REMOVED = 0  # the code point NUL, which cleaning leaves out anyway
LETTER_CODES = np.frombuffer(LETTERS.encode(), np.uint8)


# --- clean -----------------------------------------------------------------------------------------------------


def clean(corpus: Corpus) -> Corpus:
    """Lower case, white space as spaces, what is not wanted left out: each code point has its answer in a table.

    Two capitals of Unicode have none: the sigma, whose lower case depends on its neighbours, and the dotted I, whose
    lower case is two code points. Where they occur, each string is lowered by itself first.
    """
    high = np.flatnonzero(corpus.codes > 255)
    occurring = _occurring(corpus.codes[high])
    if not NO_TABLE.isdisjoint(occurring):
        return clean(Corpus.from_strings([s.lower() for s in corpus.strings()]))
    codes = np.frombuffer(corpus.codes.astype(np.uint8).tobytes().translate(_latin_1()), np.uint8)
    if occurring:
        answers = [_answer(chr(code).lower()) for code in occurring]
        table = np.zeros(occurring[-1] + 1, np.uint32)
        table[occurring] = answers
        codes = codes.astype(np.uint8 if max(answers) < 256 else np.uint32)
        codes[high] = table[corpus.codes[high]]
    keep = codes != REMOVED
    removed = np.flatnonzero(~keep)
    return Corpus(codes[keep], corpus.offsets - np.searchsorted(removed, corpus.offsets))


def _answer(lowered: str) -> int:
    return SPACE if lowered.isspace() else ord(lowered) if wanted(lowered) else REMOVED


@cache
def _latin_1() -> bytes:
    return bytes(_answer(chr(code).lower()) for code in range(256))


def _occurring(codes: np.ndarray) -> list[int]:
    """The code points that occur, in order: by one mark for each, not by sorting."""
    marks = np.zeros(int(codes.max(initial=0)) + 1, bool)
    marks[codes] = True
    return np.flatnonzero(marks).tolist()


# --- augment ---------------------------------------------------------------------------------------------------


def augment(corpus: Corpus, seed: int, rates: Rates, first: int = 0) -> Corpus:
    """Shuffles words, then misspells characters; `first` is the index of the corpus's first string."""
    return misspell(shuffle(corpus, seed, rates, first), seed, rates, first)


def shuffle(corpus: Corpus, seed: int, rates: Rates, first: int) -> Corpus:
    """Sorts the words of the chosen strings by (string, random number), all strings at once."""
    chosen = np.flatnonzero(words(seed, np.arange(first, first + len(corpus)), 0, SHUFFLE) < rates.shuffle_edge)
    if not len(chosen) or not len(corpus.codes):
        return corpus
    # With one more space at its end, a string is a row of words that each end in a space.
    lengths = corpus.lengths[chosen] + 1
    ends = np.cumsum(lengths)
    places = np.arange(ends[-1]) + np.repeat(corpus.offsets[chosen] - (ends - lengths), lengths)
    text = corpus.codes.take(places, mode="clip")
    text[ends - 1] = SPACE
    word_ends = np.flatnonzero(text == SPACE) + 1
    word_starts = np.concatenate([[0], word_ends[:-1]])
    counts = np.diff(np.searchsorted(word_ends, ends, "right"), prepend=0)  # words of each string
    numbers, starts = rows(seed, first + chosen, counts, WORDS)
    string = np.repeat(np.arange(len(chosen)), counts)
    keys = numbers[np.arange(len(string)) + (starts - (np.cumsum(counts) - counts))[string]]
    order = np.argsort(string.astype(np.uint64) << np.uint64(32) | keys, kind="stable")

    sizes = (word_ends - word_starts)[order]
    moved = np.repeat(word_starts[order] - (np.cumsum(sizes) - sizes), sizes)
    text = text[np.arange(len(text)) + moved]
    inside = np.ones(len(text), bool)
    inside[ends - 1] = False  # the added space, or another that came to stand there
    codes = corpus.codes.copy()
    codes[places[inside]] = text[inside]
    return Corpus(codes, corpus.offsets)


def misspell(corpus: Corpus, seed: int, rates: Rates, first: int) -> Corpus:
    """Removes, substitutes and inserts. All characters are decided by comparing; only those hit are handled."""
    lengths = corpus.lengths
    numbers, starts = rows(seed, np.arange(first, first + len(corpus)), lengths, CHARACTERS)
    edges = np.array([0, *rates.edges], np.uint64)
    hits = np.flatnonzero(numbers < edges[-1])  # among the numbers, some of which belong to nobody
    string = np.searchsorted(starts, hits, "right") - 1
    position = hits - starts[string]
    real = np.flatnonzero(position < lengths[string])
    places = (corpus.offsets[string] + position)[real]  # in the corpus, rising
    number = numbers[hits[real]].astype(np.uint64)
    kind = np.searchsorted(edges[1:], number, "right")  # 0 removed, 1 substituted, 2 inserted after
    removed, substituted, inserted = (np.flatnonzero(kind == k) for k in range(3))
    widths = np.diff(edges)
    letters = LETTER_CODES[(number - edges[kind]) * np.uint64(PARTS) // widths[kind]]

    codes = corpus.codes.copy()
    codes[places[substituted]] = letters[substituted]
    copies = np.ones(len(codes), np.int64)
    copies[places[removed]], copies[places[inserted]] = 0, 2
    codes = np.repeat(codes, copies)
    grown = np.cumsum(kind // 2 - (kind == 0))  # how far each hit moves what follows it
    codes[(places + grown)[inserted]] = letters[inserted]
    moved = np.concatenate([[0], grown])[np.searchsorted(places, corpus.offsets)]
    return Corpus(codes, corpus.offsets + moved)


# --- encode ----------------------------------------------------------------------------------------------------


def encode(corpus: Corpus, vocabulary: str, length: int) -> np.ndarray:
    """Indices by table, then each string's part into its row; uint8, or uint16 for a large vocabulary."""
    table = table_of(vocabulary)
    indices = table.take(corpus.codes, mode="clip")  # beyond the table all are unknown, as its last entry is
    out = np.full((len(corpus), length), PADDING, table.dtype)
    lengths = corpus.lengths
    fits = np.arange(length) < lengths[:, None]
    if len(lengths) and lengths.max() > length:
        indices = indices[np.arange(len(indices)) - np.repeat(corpus.offsets[:-1], lengths) < length]
    out[fits] = indices
    return out


@cache
def table_of(vocabulary: str) -> np.ndarray:
    """The index of each code point up to the vocabulary's highest, and of one more, which is unknown."""
    codes = [ord(character) for character in vocabulary]
    dtype = np.min_scalar_type(max(255, len(codes) + FIRST - 1))
    table = np.full(max([255, *codes]) + 2, UNKNOWN, dtype)
    table[codes] = np.arange(FIRST, FIRST + len(codes))
    return table


def encode_bytes(corpus: Corpus, vocabulary: str, length: int) -> np.ndarray:
    """The same with `bytes.translate`, and each row cut out and filled by bytes' own methods.

    For code points and indices below 256 alone; else it is `encode`.
    """
    table = table_of(vocabulary)
    if corpus.codes.dtype != np.uint8 or table.dtype != np.uint8:
        return encode(corpus, vocabulary, length)
    indices = corpus.codes.tobytes().translate(table[:256].tobytes())
    starts = corpus.offsets.tolist()
    ends = np.minimum(corpus.offsets[1:], corpus.offsets[:-1] + length).tolist()
    padding = bytes([PADDING])
    joined = b"".join([indices[start:end].ljust(length, padding) for start, end in zip(starts, ends, strict=False)])
    return np.frombuffer(joined, np.uint8).reshape(len(corpus), length)
