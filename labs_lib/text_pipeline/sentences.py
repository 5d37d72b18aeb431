"""Real English sentences, which every Python brings: the language reference behind `help()`."""

from __future__ import annotations

import re
from functools import cache

import numpy as np

from labs_lib.errors import LabError
from labs_lib.text_pipeline.philox import whole_number

END = re.compile(r"(?<=[.!?])\s+(?=[A-Z\"'(*])")
SHORTEST, LONGEST = 20, 400  # characters


@cache
def pool() -> tuple[str, ...]:
    """The different sentences of `pydoc_data.topics`, some two thousand; their number differs between Pythons."""
    try:
        from pydoc_data.topics import topics
    except ImportError as error:
        raise LabError(
            "This Python lacks pydoc_data.", "It holds the text that help() shows.", "Install Python's full library."
        ) from error
    found = {}
    for _, topic in sorted(topics.items()):
        for paragraph in re.split(r"\n\s*\n", topic):
            for sentence in END.split(" ".join(paragraph.split())):
                if sentence[:1].isupper() and sentence[-1] in ".!?" and SHORTEST <= len(sentence) <= LONGEST:
                    found[sentence] = None
    return tuple(found)


def sentences(n: int = 20_000, seed: int = 0) -> list[str]:
    """`n` sentences: those of the pool in random order, then new ones made of two halves of theirs.

    >>> sentences(3) == sentences(3)
    True
    >>> len(set(sentences(5000))) > 4900
    True

    Raises LabError where `n` or the seed is no whole number from 0 on.
    """
    n, seed = whole_number("n", n, 0, 2**31), whole_number("seed", seed, 0, 2**64)
    known = pool()
    rng = np.random.default_rng(seed)
    found = [known[i] for i in rng.permutation(len(known))[:n]]
    heads, tails = rng.integers(len(known), size=(2, n - len(found)))
    return found + [_joined(known[i], known[j]) for i, j in zip(heads, tails, strict=True)]


def _joined(one: str, other: str) -> str:
    """The first half of one sentence's words, and the second half of the other's."""
    head, tail = one.split(" "), other.split(" ")
    return " ".join(head[: (len(head) + 1) // 2] + tail[len(tail) // 2 :])
