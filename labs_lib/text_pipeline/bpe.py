"""Byte-pair encoding in Python, and the same merges in Hugging Face's `tokenizers`.

BPE joins, again and again, the neighbouring pair that was learnt first (Sennrich, Haddow and Birch, "Neural machine
translation of rare words with subword units", ACL 2016). Both tokenisers here read the same merges, so they must
give the same ids; words are what stands between single spaces.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from itertools import pairwise
from typing import TYPE_CHECKING

from labs_lib.errors import LabError

if TYPE_CHECKING:
    from tokenizers import Tokenizer

UNKNOWN = "?unknown?"


def train_bpe(strings: Sequence[str], size: int = 2000) -> Tokenizer:
    """A tokeniser of `size` parts, learnt from the strings by `tokenizers`; the same one each time."""
    from tokenizers import Tokenizer, models, pre_tokenizers, trainers

    tokenizer = Tokenizer(models.BPE(unk_token=UNKNOWN))
    tokenizer.pre_tokenizer = pre_tokenizers.CharDelimiterSplit(" ")
    trainer = trainers.BpeTrainer(vocab_size=size, special_tokens=[UNKNOWN], show_progress=False)
    tokenizer.train_from_iterator(strings, trainer)
    return tokenizer


class PythonBPE:
    """The merges of a trained tokeniser, applied in Python.

    >>> trained = train_bpe(["low lower lowest", "new newer newest"], size=20)
    >>> python = PythonBPE(trained)
    >>> python.encode("lowest newest") == trained.encode("lowest newest").ids
    True

    With `remember`, a word that was seen before costs one look-up.
    """

    def __init__(self, trained: Tokenizer, remember: bool = False) -> None:
        if not hasattr(trained, "to_str"):
            raise LabError(f"This takes a trained tokeniser, and got {type(trained).__name__}.", "", "See train_bpe.")
        model = json.loads(trained.to_str())["model"]
        self.ids: dict[str, int] = model["vocab"]
        self.unknown = self.ids[UNKNOWN]
        self.ranks = {tuple(pair): rank for rank, pair in enumerate(model["merges"])}
        self.known: dict[str, list[int]] | None = {} if remember else None

    def encode(self, s: str) -> list[int]:
        """The ids of one string."""
        found = []
        for word in s.split(" "):
            if self.known is None:
                found += self._word(word)
            else:
                if word not in self.known:
                    self.known[word] = self._word(word)
                found += self.known[word]
        return found

    def encode_batch(self, strings: Sequence[str]) -> list[list[int]]:
        return [self.encode(s) for s in strings]

    def _word(self, word: str) -> list[int]:
        parts = list(word)
        while len(parts) > 1:
            ranks = [self.ranks.get(pair, len(self.ranks)) for pair in pairwise(parts)]
            first = min(ranks)
            if first == len(self.ranks):
                break
            at = ranks.index(first)
            parts[at : at + 2] = [parts[at] + parts[at + 1]]
        return [self.ids.get(part, self.unknown) for part in parts]
