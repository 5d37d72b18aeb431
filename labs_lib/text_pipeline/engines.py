"""The pipeline on a whole corpus, by the engine of your choice; all give the same bytes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import numpy as np

from labs_lib.errors import LabError
from labs_lib.text_pipeline import numpy_engine
from labs_lib.text_pipeline.corpus import Corpus, concatenated
from labs_lib.text_pipeline.philox import key_of, whole_number
from labs_lib.text_pipeline.rates import Rates
from labs_lib.text_pipeline.reference import LENGTH, VOCABULARY

if TYPE_CHECKING:
    import torch

ENGINES = ("numpy", "numba", "torch")
BLOCK = 2**18  # characters in a block: NumPy's arrays of one block stay in the processor's cache


def clean_corpus(corpus: Corpus) -> Corpus:
    """`labs_lib.text_pipeline.reference.clean` of every string.

    >>> clean_corpus(Corpus.from_strings(["Ab\\n(c)", "ΌΣΟΣ"])).strings()
    ['ab c', 'όσος']
    """
    _demand_corpus(corpus)
    return numpy_engine.clean(corpus)


def augment(
    corpus: Corpus, seed: int, rates: Rates | None = None, engine: str = "numpy", first: int = 0, device: str = "cpu"
) -> Corpus:
    """Every string with its misspellings, as `Rates` defines them: the same bytes from every engine.

    `first` is the index of the corpus's first string, where the corpus is a part of a larger one: parts that are
    augmented apart, in any order and by anybody, are the parts of the whole. `device` is torch's.

    >>> corpus = Corpus.from_strings(["the quick brown fox", "jumps over the lazy dog"])
    >>> augment(corpus, seed=4).strings()
    ['tqhe quik brkwnfox', 'ly the overw doz jlmp']
    >>> augment(corpus[1:], seed=4, first=1).strings()
    ['ly the overw doz jlmp']

    Raises LabError for what is no Corpus, rates or seed that are none, a negative `first`, or an engine or device that
    does not exist.
    """
    rates = Rates() if rates is None else rates
    if not isinstance(rates, Rates):
        raise LabError(f"rates is {rates!r}.", "", "Write Rates(remove=0.05, shuffle=0.1), for example.")
    _demand_corpus(corpus)
    key_of(seed)
    first = whole_number("first", first, 0, 2**63 - len(corpus))
    if engine == "numpy":
        return _by_blocks(corpus, lambda part, at: numpy_engine.augment(part, seed, rates, first + at))
    if engine == "numba":
        from labs_lib.text_pipeline import numba_engine

        return numba_engine.augment(corpus, seed, rates, first)
    if engine == "torch":
        from labs_lib.text_pipeline import torch_engine

        if device == "cpu":
            return _by_blocks(corpus, lambda part, at: torch_engine.augment(part, seed, rates, first + at))
        return torch_engine.augment(corpus, seed, rates, first, device)
    raise _no_engine(engine)


def encode(
    corpus: Corpus, vocabulary: str = VOCABULARY, length: int = LENGTH, engine: str = "numpy", device: str = "cpu"
) -> np.ndarray:
    """Indices of the first `length` characters of each string: 0 padding, 1 unknown, 2 on the vocabulary's.

    Returns (strings, length), in the smallest of uint8, uint16 and uint32 that holds the vocabulary.

    >>> encode(Corpus.from_strings(["ab", "bé?"]), "ab", 4).tolist()
    [[2, 3, 0, 0], [3, 1, 1, 0]]

    Raises LabError for what is no Corpus, a vocabulary that is no string or has a character twice, a length below 1,
    or an engine or device that does not exist.
    """
    _demand_corpus(corpus)
    if not isinstance(vocabulary, str):
        raise LabError(f"The vocabulary is {vocabulary!r}.", "", "Give a string of all its characters.")
    if len(set(vocabulary)) < len(vocabulary):
        raise LabError("The vocabulary has a character twice.", "It would have two indices.", "Leave one out.")
    length = whole_number("length", length, 1, 2**31)
    if engine == "numpy":
        return numpy_engine.encode_bytes(corpus, vocabulary, length)
    if engine == "numba":
        from labs_lib.text_pipeline import numba_engine

        return numba_engine.encode(corpus, vocabulary, length)
    if engine == "torch":
        from labs_lib.text_pipeline import torch_engine

        return torch_engine.encode(corpus, vocabulary, length, device)
    raise _no_engine(engine)


def pipeline(
    strings: Sequence[str],
    seed: int,
    rates: Rates | None = None,
    vocabulary: str = VOCABULARY,
    length: int = LENGTH,
    engine: str = "numpy",
    device: str = "cpu",
) -> np.ndarray:
    """Strings in, padded indices (strings, length) out: clean, augment, encode."""
    corpus = augment(clean_corpus(Corpus.from_strings(strings)), seed, rates, engine, device=device)
    return encode(corpus, vocabulary, length, engine, device)


def dataset(indices: np.ndarray) -> torch.utils.data.Dataset:
    """A torch Dataset of int64 rows over the one array; `__getitems__` fetches a batch by one indexing.

    Raises LabError for anything but an array of whole numbers, (strings, length).
    """
    from labs_lib.text_pipeline.torch_dataset import TextDataset

    if not isinstance(indices, np.ndarray) or indices.ndim != 2 or indices.dtype.kind not in "iu":
        raise LabError("A dataset is made of an array of indices, (strings, length).", "", "Make one: encode(corpus).")
    return TextDataset(indices)


def _by_blocks(corpus: Corpus, function: Callable[[Corpus, int], Corpus]) -> Corpus:
    return concatenated([function(part, at) for at, part in corpus.blocks(BLOCK)], corpus.codes.dtype)


def _demand_corpus(corpus: object) -> None:
    if not isinstance(corpus, Corpus):
        raise LabError(
            f"This takes a Corpus, and got {type(corpus).__name__}.", "", "Make one: Corpus.from_strings(strings)."
        )


def _no_engine(engine: str) -> LabError:
    return LabError(f"There is no engine {engine!r}.", f"The engines are {', '.join(ENGINES)}.", "Name one of these.")
