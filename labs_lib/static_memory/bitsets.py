"""Sets as the bits of an int: the elements are numbers, and a union or intersection is one machine loop.

An operation on two sets then handles many elements with each instruction, where `set` hashes every one.
"""

from collections.abc import Iterator, Sequence


def members(group: int) -> Iterator[int]:
    """The elements of a set, the lowest first.

    >>> list(members(0b10110))
    [1, 2, 4]
    """
    while group:
        lowest = group & -group
        yield lowest.bit_length() - 1
        group ^= lowest


def span(start: int, end: int) -> int:
    """The set of start, ..., end - 1.

    >>> bin(span(1, 4))
    '0b1110'
    """
    return (1 << end) - (1 << start)


def starting_and_ending(lives: Sequence[tuple[int, int, int]]) -> tuple[list[int], list[int]]:
    """For each time t the set of lives that start at t or later, and of those that end at t or earlier.

    `lives` holds (start, end, anything) with 0 <= start < end. So `starting[a] & ending[b]` are the lives within
    [a, b), and all but `starting[t + 1] | ending[t]` are alive at t.

    >>> starting_and_ending([(0, 1, "a"), (0, 2, "b"), (1, 2, "c")])
    ([7, 4, 0], [0, 1, 7])
    """
    width = max((end for _, end, _ in lives), default=0)
    starting, ending = [0] * (width + 1), [0] * (width + 1)
    for i, (start, end, _) in enumerate(lives):
        starting[start] |= 1 << i
        ending[end] |= 1 << i
    for t in range(width):
        starting[width - t - 1] |= starting[width - t]
        ending[t + 1] |= ending[t]
    return starting, ending
