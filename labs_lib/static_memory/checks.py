"""What the exercises of lab 01 demand: each check gets the learner's function and judges what it does.

A check tries edge cases first, so that its message says where the mistake is, then fresh random inputs,
then the count that the exercise is about. None calls a solution in the learner's place.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from itertools import pairwise
from unittest import mock

import numpy as np

from labs_lib.catalogue import DATA
from labs_lib.equality import difference
from labs_lib.errors import LabError
from labs_lib.exercises import NotYet
from labs_lib.ledger import ledger
from labs_lib.static_memory.lifetimes import Buffer, read_csv, verify
from labs_lib.static_memory.planners import greedy_by_size, height
from labs_lib.units import size_text

Buffers = Sequence[Buffer]


PUZZLE = read_csv(DATA / "puzzle_14.csv")  # a full rectangle of 12 steps x 24 KiB; greedy by size needs 30

LOWER_BOUND_CASES = (
    ([], 0, "no buffers need 0 bytes"),
    ([(0, 3, 10)], 10, "one buffer needs its own size"),
    ([(0, 3, 10), (2, 5, 20)], 30, "two buffers that are alive at step 2 need both sizes"),
    ([(0, 2, 10), (2, 4, 20)], 20, "[0, 2) and [2, 4) never meet: a buffer is dead at its upper step"),
    ([(2, 5, 20), (4, 6, 10), (0, 3, 15)], 35, "the rows of a file come in any order"),
    ([(0, 9, 4), (1, 2, 8), (5, 6, 8)], 12, "a buffer counts at every step of its life, not at its birth alone"),
    ([(5, 9, 6), (7, 8, 1), (20, 21, 3)], 7, "steps at which nothing lives need nothing"),
)


def check_lower_bound(attempt: Callable) -> str:
    for rows, expected, why in LOWER_BOUND_CASES:
        buffers = [Buffer(f"b{number}", *row) for number, row in enumerate(rows)]
        answer = call(attempt, buffers)
        if answer != expected:
            raise NotYet(f"for (lower, upper, size) = {rows} you return {answer}, not {expected}: {why}.")
    rng = random.Random()
    for _ in range(20):
        buffers = random_buffers(rng, 30)
        alive = [sum(b.size for b in buffers if b.lower <= step < b.upper) for step in range(60)]
        answer = call(attempt, buffers)
        if answer != max(alive):
            raise NotYet(
                f"for 30 random buffers you return {answer}, but {max(alive)} bytes are alive at step "
                f"{alive.index(max(alive))}."
            )
    return f"right on {len(LOWER_BOUND_CASES)} edge cases and on 20 fresh sets of 30 buffers."

GREEDY_INSTANCES = 20

GREEDY_MARGIN = 1.02  # holes may be chosen by lowest address or by best fit: in sum they differ by less


def check_greedy_by_size(attempt: Callable) -> str:
    check_plan([], call(attempt, []))
    two = [Buffer("a", 0, 2, 10), Buffer("b", 2, 4, 20)]
    if height(two, check_plan(two, call(attempt, two), "two buffers")) > 20:
        raise NotYet("buffers [0, 2) of 10 bytes and [2, 4) of 20 bytes fit into 20 bytes: they never meet.")
    rng = random.Random()
    yours = reference = 0
    for _ in range(GREEDY_INSTANCES):
        buffers = random_buffers(rng, 40)
        yours += height(buffers, check_plan(buffers, call(attempt, buffers)))
        reference += height(buffers, greedy_by_size(buffers))
    if yours > GREEDY_MARGIN * reference:
        raise NotYet(
            f"your plans are valid, but {GREEDY_INSTANCES} of them need {size_text(yours)} in sum where the "
            f"largest-first order needs {size_text(reference)}. Place the largest first, each at the lowest address "
            "that is free for its whole life."
        )
    return (
        f"{GREEDY_INSTANCES} fresh plans are valid and need {size_text(yours)} in sum "
        f"(greedy by size: {size_text(reference)})."
    )


CONFLICT_CASES = (
    (((0, 4, 10), 0), ((2, 6, 10), 0), True, "the same address, and both alive at steps 2 and 3"),
    (((0, 4, 10), 0), ((2, 6, 10), 5), True, "bytes 5 to 9 belong to both: compare ranges, not where they start"),
    (((0, 4, 10), 5), ((2, 6, 10), 0), True, "bytes 5 to 9 belong to both, with the lower range second"),
    (((0, 4, 30), 0), ((2, 6, 4), 10), True, "the second lies inside the first"),
    (((3, 6, 10), 0), ((0, 4, 10), 0), True, "the second is born first: look at time both ways"),
    (((2, 3, 10), 0), ((0, 9, 10), 0), True, "the first lives inside the life of the second"),
    (((0, 4, 10), 0), ((2, 6, 10), 10), False, "bytes 0 to 9 and 10 to 19 only touch"),
    (((0, 4, 10), 0), ((4, 6, 10), 0), False, "[0, 4) ends where [4, 6) begins: that is reuse, the point of a plan"),
)


def check_conflicts(attempt: Callable) -> str:
    for (first, one), (second, other), clash, why in CONFLICT_CASES:
        buffers = [Buffer("a", *first), Buffer("b", *second)]
        answer = call(attempt, buffers, [one, other])
        expected = [(0, 1)] if clash else []
        if [tuple(pair) for pair in answer] != expected:
            raise NotYet(
                f"for (lower, upper, size) {first} at {one} and {second} at {other} you return {answer}, "
                f"not {expected}: {why}."
            )
    rng = random.Random()
    for _ in range(20):
        buffers = random_buffers(rng, 12)
        offsets = [rng.randrange(64) * 1024 for _ in buffers]
        bytes_of = [set(range(o, o + b.size, 1024)) for b, o in zip(buffers, offsets, strict=True)]
        steps_of = [set(range(b.lower, b.upper)) for b in buffers]
        expected = {
            (i, j) for j in range(12) for i in range(j) if bytes_of[i] & bytes_of[j] and steps_of[i] & steps_of[j]
        }
        answer = call(attempt, buffers, offsets)
        if {tuple(pair) for pair in answer} != expected or len(answer) != len(expected):
            raise NotYet(f"on 12 random buffers you report {len(answer)} conflicts, and there are {len(expected)}.")
    return f"right on {len(CONFLICT_CASES)} pairs of buffers and on 20 random plans."


def check_make_forward(attempt: Callable) -> str:
    rng = np.random.default_rng()
    batch, widths = 16, [int(width) for width in rng.integers(64, 200, size=4)]
    layers = [
        (rng.standard_normal((n, m), dtype=np.float32), rng.standard_normal(m, dtype=np.float32))
        for n, m in pairwise(widths)
    ]
    inputs = [rng.standard_normal((batch, widths[0]), dtype=np.float32) for _ in range(3)]
    untouched = [x.copy() for x in inputs], [(weight.copy(), bias.copy()) for weight, bias in layers]
    forward = attempt(layers, batch)
    if not callable(forward):
        raise NotYet(f"make_forward must return a function forward(x), and returned {type(forward).__name__}.")
    earlier = None
    for turn, x in enumerate(inputs):
        answer = forward(x)
        expected = forward_by_hand(untouched[1], untouched[0][turn])
        if getattr(answer, "shape", None) != expected.shape:
            raise NotYet(f"for layers of widths {widths} the answer must be an array of shape {expected.shape}.")
        if difference(inputs[turn], untouched[0][turn]).relative > 0:
            raise NotYet("your forward pass writes into its input x, which belongs to the caller.")
        if difference(layers, untouched[1]).relative > 0:
            raise NotYet("your forward pass writes into the weights or biases.")
        found = difference(expected, answer)
        if found.relative > 64 * np.finfo(np.float32).eps:
            if difference(earlier, answer).relative == 0:
                raise NotYet("the second call returns the answer of the first: compute anew from x at each call.")
            raise NotYet(
                f"the answer is wrong by {found.relative:.1g} of its largest value. Each layer is x @ weight + bias, "
                "with max(., 0) after all but the last; mind which buffer is read and written."
            )
        earlier = answer.copy()
    count = ledger(forward, inputs[0])
    if count.allocations:
        raise NotYet(
            f"the answer is right, but one call still allocates {count.bytes_allocated:,} bytes in "
            f"{count.allocations} arrays. Every operation needs out=, the bias too: x + b allocates. If all have it, "
            "NumPy copies because an out= has another dtype or overlaps an input."
        )
    return f"right on 3 fresh inputs through widths {widths}, and 0 bytes allocated in a call (counted)."


def forward_by_hand(layers: Sequence[tuple[np.ndarray, np.ndarray]], x: np.ndarray) -> np.ndarray:
    """The same network in float64, written differently: what an attempt is compared with."""
    values = x.astype(np.float64)
    for number, (weight, bias) in enumerate(layers, start=1):
        values = np.einsum("ij,jk->ik", values, weight.astype(np.float64)) + bias
        if number < len(layers):
            values[values < 0] = 0
    return values


def _refuse_plan(*arguments: object, **options: object) -> None:
    raise NotYet("sm.plan is the answer of the course: find a better order of your own.")


def check_better_plan(attempt: Callable) -> str:
    end = max(buffer.upper for buffer in PUZZLE)
    disguises = {
        "the puzzle": PUZZLE,
        "the puzzle with its rows shuffled": random.Random(1).sample(PUZZLE, len(PUZZLE)),
        "the puzzle with time running backwards": [
            Buffer(b.id, end - b.upper, end - b.lower, b.size) for b in PUZZLE
        ],
    }
    heights = []
    for name, buffers in disguises.items():
        with mock.patch("labs_lib.static_memory.plan", _refuse_plan):
            offsets = call(attempt, buffers)
        needed = height(buffers, check_plan(buffers, offsets, name))
        greedy = height(buffers, greedy_by_size(buffers))
        if needed > greedy:
            raise NotYet(
                f"on {name} your plan needs {size_text(needed)}, more than greedy by size with {size_text(greedy)}."
            )
        if needed == greedy:
            raise NotYet(f"on {name} your plan needs {size_text(needed)}, as much as greedy by size.")
        heights.append(needed)
    yours = ", ".join(size_text(needed) for needed in heights)
    return f"{yours} on the puzzle and two disguises of it (greedy: {size_text(greedy)})."


def random_buffers(rng: random.Random, count: int) -> list[Buffer]:
    """Buffers of 1-64 KiB, all sizes different, with lifetimes of 1-12 of 40 steps."""
    sizes = rng.sample(range(1, 65), count)
    births = [rng.randrange(40) for _ in sizes]
    return [
        Buffer(f"b{number}", birth, birth + rng.randint(1, 12), size * 1024)
        for number, (birth, size) in enumerate(zip(births, sizes, strict=True))
    ]


def call(attempt: Callable, buffers: Buffers, *more: object) -> object:
    """The attempt's answer; it must leave the list that it was given as it was."""
    given = list(buffers)
    answer = attempt(given, *more)
    if given != list(buffers):
        raise NotYet("your function changes the list it is given. Sort a copy: sorted(...) instead of .sort().")
    return answer


def check_plan(buffers: Buffers, offsets: object, name: str = "random buffers") -> list[int]:
    """The offsets as a list of integers that is a valid plan; else NotYet with what is wrong with it."""
    if not isinstance(offsets, list | tuple) or len(offsets) != len(buffers):
        raise NotYet(
            f"for {len(buffers)} buffers return a list of {len(buffers)} offsets, one for each in their order; "
            f"you return {str(offsets)[:60]}."
        )
    if not all(isinstance(offset, int | np.integer) for offset in offsets):
        raise NotYet("an offset is a whole number of bytes; yours holds something else.")
    try:
        verify(buffers, [int(offset) for offset in offsets])
    except LabError as error:
        if _valid_when_sorted(buffers, offsets):
            raise NotYet("the offsets come in the order of placing; return them in the order of the input.") from None
        raise NotYet(f"on {name} the plan is not valid. {error.what} {error.why}") from None
    return [int(offset) for offset in offsets]


def _valid_when_sorted(buffers: Buffers, offsets: Sequence[int]) -> bool:
    """Whether the offsets are a plan for the buffers from large to small: a slip of order, not of placing."""
    largest_first = sorted(buffers, key=lambda buffer: -buffer.size)
    try:
        verify(largest_first, [int(offset) for offset in offsets])
    except LabError:
        return False
    return True
