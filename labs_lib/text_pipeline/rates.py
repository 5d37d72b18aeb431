"""What augmenting means, to the bit: the one definition that every engine follows."""

from __future__ import annotations

from dataclasses import dataclass, fields
from numbers import Real

from labs_lib.errors import LabError

LETTERS = "abcdefghijklmnopqrstuvwxyz"  # what is substituted and inserted
PARTS = len(LETTERS)


@dataclass(frozen=True)
class Rates:
    """Probabilities of a misspelling at each character, and of shuffled words in each sentence.

    A sentence is augmented in two steps, with the numbers of `labs_lib.text_pipeline.philox`. `word` below is the
    32-bit number of the seed, the sentence's index, a position and a stream.

    1. Where word(position 0, stream SHUFFLE) is below edge(shuffle), the words trade places: the parts between
       single spaces are sorted by word(position i, stream WORDS), i being the part's place before; equal numbers
       keep their order.
    2. Then each character, at position i of what step 1 left, is looked at once. With u = word(i, CHARACTERS), and
       the edges a = edge(remove), b = edge(remove + substitute), c = edge(remove + substitute + insert):
       u < a removes it; a <= u < b puts the letter number (u - a) * 26 // (b - a) in its place; b <= u < c inserts
       the letter number (u - b) * 26 // (c - b) after it; any other u leaves it as it is.

    edge(p) is p * 2**32, rounded. The letter comes out of the number that chose the misspelling: given that u lies
    between two edges, where it lies is uniform again.

    >>> Rates(remove=0.1, substitute=0.0, insert=0.0).edges
    (429496730, 429496730, 429496730)

    Raises LabError where a rate is no probability, or the three for characters add up to more than 1.
    """

    remove: float = 0.05
    substitute: float = 0.05
    insert: float = 0.05
    shuffle: float = 0.1

    def __post_init__(self) -> None:
        for field in fields(self):
            rate = getattr(self, field.name)
            if not isinstance(rate, Real) or not 0 <= rate <= 1:
                raise LabError(f"{field.name}={rate!r} is no probability.", "", "Give a number from 0 to 1.")
        if self.remove + self.substitute + self.insert > 1 + 1e-12:
            raise LabError(
                "remove, substitute and insert add up to more than 1.",
                "At most one of the three happens to a character.",
                "Lower them.",
            )

    @property
    def edges(self) -> tuple[int, int, int]:
        """Below which 32-bit number a character is removed, is substituted, gets a letter inserted after it."""
        sums = (self.remove, self.remove + self.substitute, self.remove + self.substitute + self.insert)
        return tuple(min(round(share * 2**32), 2**32) for share in sums)

    @property
    def shuffle_edge(self) -> int:
        """Below which 32-bit number the words of a sentence are shuffled."""
        return round(self.shuffle * 2**32)
