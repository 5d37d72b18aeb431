"""Instances for the planner's benchmark, drawn at random.

A perfect packing is a full rectangle, time x memory, cut into buffers: its height is a lower bound and can
be reached, but how the pieces lay is forgotten. Such puzzles are harder than graphs of real models.
"""

import random

from labs_lib.static_memory.lifetimes import Buffer

Piece = tuple[int, int, int, int]  # lower, upper, bottom, top


def perfect_packing(
    rng: random.Random,
    buffers: int,
    height: int,
    steps: int,
    *,
    pinwheel: float = 0.0,
    long_lived: float = 0.5,
    dropped: float = 0.0,
) -> list[Buffer]:
    """Cut `steps` x `height` into about this many buffers, in random order.

    A cut is a pinwheel (five pieces, which no straight cuts can make) with probability `pinwheel`, else it
    is straight, and between two addresses (so that lifetimes stay long) with probability `long_lived`.
    `height` and `steps` are the grid: a coarse one makes many equal buffers. A share `dropped` of the
    buffers is left out.
    """
    pieces: list[Piece] = [(0, steps, 0, height)]
    whole: list[Piece] = []  # pieces of one grid cell
    while pieces and len(pieces) + len(whole) < buffers:
        areas = [(upper - lower) * (top - bottom) for lower, upper, bottom, top in pieces]
        piece = pieces.pop(rng.choices(range(len(pieces)), areas)[0])
        parts = _cut(rng, piece, pinwheel, long_lived)
        (pieces if len(parts) > 1 else whole).extend(parts)
    kept = [piece for piece in pieces + whole if rng.random() >= dropped]
    rng.shuffle(kept)
    return [Buffer(str(i), lower, upper, top - bottom) for i, (lower, upper, bottom, top) in enumerate(kept)]


def _cut(rng: random.Random, piece: Piece, pinwheel: float, long_lived: float) -> list[Piece]:
    lower, upper, bottom, top = piece
    if upper - lower > 2 and top - bottom > 2 and rng.random() < pinwheel:
        left, right = sorted(rng.sample(range(lower + 1, upper), 2))
        low, high = sorted(rng.sample(range(bottom + 1, top), 2))
        return [
            (lower, right, bottom, low),
            (right, upper, bottom, high),
            (left, upper, high, top),
            (lower, left, low, top),
            (left, right, low, high),
        ]
    if top - bottom > 1 and (upper - lower == 1 or rng.random() < long_lived):
        at = rng.randrange(bottom + 1, top)
        return [(lower, upper, bottom, at), (lower, upper, at, top)]
    if upper - lower > 1:
        at = rng.randrange(lower + 1, upper)
        return [(lower, at, bottom, top), (at, upper, bottom, top)]
    return [piece]


KINDS: dict[str, dict[str, float]] = {
    "guillotine": {"height": 1 << 20, "steps": 100_000},
    "pinwheel": {"height": 1 << 20, "steps": 100_000, "pinwheel": 0.5},
    "coarse": {"height": 64, "steps": 64, "pinwheel": 0.2},
    "dropped": {"height": 1 << 20, "steps": 100_000, "pinwheel": 0.2, "dropped": 0.02},
    "long lives": {"height": 1 << 20, "steps": 100_000, "pinwheel": 0.2, "long_lived": 0.75},
}


def fresh_packing(rng: random.Random, kind: str) -> tuple[list[Buffer], int]:
    """A packing of one of KINDS with 100 to 300 buffers, and the height that is known to suffice."""
    shape = KINDS[kind]
    return perfect_packing(rng, rng.randint(100, 300), **shape), shape["height"]


def mixture(rng: random.Random, buffers: int) -> list[Buffer]:
    """Lifetimes and sizes as in a long training step.

    Of the buffers 70 % are temporaries, 5 % are kept from the forward for the backward pass, so that they are
    nested, and the others live for anything between a few steps and all. Sizes are multiples of 64 bytes over
    four orders of magnitude.
    """
    drawn = []
    for i in range(buffers):
        lower = rng.randrange(buffers)
        kind = rng.random()
        if kind < 0.70:
            upper = lower + rng.randint(1, 8)
        elif kind < 0.75:
            lower //= 2
            upper = buffers - lower
        else:
            upper = min(lower + int(10 * rng.paretovariate(0.8)), buffers + 1)
        drawn.append(Buffer(str(i), lower, upper, 64 * (1 + int(rng.lognormvariate(6, 1.2)))))
    return drawn
