"""The exercises of lab 01: starters, checks, hints, solutions.

Starters and solutions are ordinary functions: `check` compares the learner's code with the starter's,
`solution` prints the solution's source. The checks never call a solution in the learner's place.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from itertools import pairwise

import numpy as np

from labs_lib import static_memory as sm  # the notebook's name for it: starters and solutions use it too
from labs_lib.equality import difference
from labs_lib.errors import LabError
from labs_lib.exercises import Exercise, NotYet
from labs_lib.ledger import ledger
from labs_lib.static_memory.lifetimes import Buffer, verify
from labs_lib.static_memory.pictures import kib

Buffers = Sequence[Buffer]

PUZZLE = sm.read_csv(sm.DATA / "puzzle_14.csv")  # a full rectangle of 12 steps x 24 KiB; greedy by size needs 30


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
        raise NotYet(f"return a list with one offset for each of the {len(buffers)} buffers, in their order.")
    if not all(isinstance(offset, int | np.integer) for offset in offsets):
        raise NotYet("an offset is a whole number of bytes; yours holds something else.")
    try:
        verify(buffers, [int(offset) for offset in offsets])
    except LabError as error:
        raise NotYet(f"on {name} the plan is not valid. {error.what} {error.why}") from None
    return [int(offset) for offset in offsets]


# --- 1.1 the lower bound ----------------------------------------------------------------------------


def lower_bound_starter(buffers):
    # YOUR TURN: this is what a program needs that never frees anything
    return sum(buffer.size for buffer in buffers)


def lower_bound_solution(buffers):
    return max(
        (
            sum(other.size for other in buffers if other.lower <= buffer.lower < other.upper)
            for buffer in buffers
        ),
        default=0,
    )


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


# --- 1.2 greedy by size -----------------------------------------------------------------------------


def greedy_by_size_starter(buffers):
    # YOUR TURN: every buffer lies above the one before, nothing is ever reused
    offsets, top = [], 0
    for buffer in buffers:
        offsets.append(top)
        top += buffer.size
    return offsets


def greedy_by_size_solution(buffers):
    offsets = {}
    for i in sorted(range(len(buffers)), key=lambda i: -buffers[i].size):
        mine = buffers[i]
        neighbours = sorted(
            (offsets[j], offsets[j] + buffers[j].size)
            for j in offsets
            if buffers[j].lower < mine.upper and mine.lower < buffers[j].upper
        )
        offset = 0
        for start, end in neighbours:
            if offset + mine.size <= start:
                break
            offset = max(offset, end)
        offsets[i] = offset
    return [offsets[i] for i in range(len(buffers))]


GREEDY_INSTANCES = 20
GREEDY_MARGIN = 1.02  # holes may be chosen by lowest address or by best fit: in sum they differ by less


def check_greedy_by_size(attempt: Callable) -> str:
    check_plan([], call(attempt, []))
    two = [Buffer("a", 0, 2, 10), Buffer("b", 2, 4, 20)]
    if sm.height(two, check_plan(two, call(attempt, two), "two buffers")) > 20:
        raise NotYet("buffers [0, 2) of 10 bytes and [2, 4) of 20 bytes fit into 20 bytes: they never meet.")
    rng = random.Random()
    yours = reference = 0
    for _ in range(GREEDY_INSTANCES):
        buffers = random_buffers(rng, 40)
        yours += sm.height(buffers, check_plan(buffers, call(attempt, buffers)))
        reference += sm.height(buffers, sm.greedy_by_size(buffers))
    if yours > GREEDY_MARGIN * reference:
        raise NotYet(
            f"your plans are valid, but {GREEDY_INSTANCES} of them need {kib(yours)} in sum where the largest-first "
            f"order needs {kib(reference)}. Place the largest first, each at the lowest address that is free "
            "for its whole life."
        )
    return f"{GREEDY_INSTANCES} fresh plans are valid and need {kib(yours)} in sum (greedy by size: {kib(reference)})."


# --- 1.3 who overwrites whom ------------------------------------------------------------------------


def conflicts_starter(buffers, offsets):
    # YOUR TURN: this verifier lets wrong plans through
    found = []
    for i in range(len(buffers)):
        for j in range(i + 1, len(buffers)):
            alive_together = buffers[i].lower <= buffers[j].lower < buffers[i].upper
            if alive_together and offsets[i] == offsets[j]:
                found.append((i, j))
    return found


def conflicts_solution(buffers, offsets):
    found = []
    for i in range(len(buffers)):
        for j in range(i + 1, len(buffers)):
            a, b = buffers[i], buffers[j]
            alive_together = a.lower < b.upper and b.lower < a.upper
            share_bytes = offsets[i] < offsets[j] + b.size and offsets[j] < offsets[i] + a.size
            if alive_together and share_bytes:
                found.append((i, j))
    return found


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


# --- 1.4 a forward pass that allocates nothing ------------------------------------------------------


def make_forward_starter(layers, batch):
    def forward(x):
        # YOUR TURN: every line here allocates
        for weight, bias in layers[:-1]:
            x = np.maximum(x @ weight + bias, 0)
        weight, bias = layers[-1]
        return x @ weight + bias

    return forward


def make_forward_solution(layers, batch):
    buffers = [np.empty((batch, len(bias)), np.float32) for _, bias in layers]

    def forward(x):
        for (weight, bias), out in zip(layers, buffers):
            np.matmul(x, weight, out=out)
            np.add(out, bias, out=out)
            if out is not buffers[-1]:
                np.maximum(out, 0, out=out)
            x = out
        return x

    return forward


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
            f"{count.allocations} arrays. Every operation needs out=, the bias too: x + b allocates."
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


# --- 1.5 beat the greedy planner --------------------------------------------------------------------


def better_plan_starter(buffers):
    # YOUR TURN: greedy by size wastes a fifth of this arena
    return sm.greedy_by_size(buffers)


def better_plan_solution(buffers):
    import random

    rng = random.Random(0)
    order = sorted(range(len(buffers)), key=lambda i: -buffers[i].size)
    best = sm.place(buffers, order)
    for _ in range(2000):
        candidate = order.copy()
        i, j = rng.sample(range(len(buffers)), 2)
        candidate[i], candidate[j] = candidate[j], candidate[i]
        offsets = sm.place(buffers, candidate)
        if sm.height(buffers, offsets) <= sm.height(buffers, best):
            order, best = candidate, offsets
    return best


def check_better_plan(attempt: Callable) -> str:
    end = max(buffer.upper for buffer in PUZZLE)
    disguises = {
        "the puzzle": PUZZLE,
        "the puzzle with its rows shuffled": random.sample(PUZZLE, len(PUZZLE)),
        "the puzzle with time running backwards": [
            Buffer(b.id, end - b.upper, end - b.lower, b.size) for b in PUZZLE
        ],
    }
    heights = []
    for name, buffers in disguises.items():
        height = sm.height(buffers, check_plan(buffers, call(attempt, buffers), name))
        greedy = sm.height(buffers, sm.greedy_by_size(buffers))
        if height > greedy:
            raise NotYet(f"on {name} your plan needs {kib(height)}, more than greedy by size with {kib(greedy)}.")
        if height == greedy:
            raise NotYet(f"on {name} your plan needs {kib(height)}, as much as greedy by size.")
        heights.append(height)
    yours = ", ".join(kib(height) for height in heights)
    return f"{yours} on the puzzle and two disguises of it (greedy: {kib(greedy)})."


EXERCISES = {
    exercise.id: exercise
    for exercise in (
        Exercise(
            id="1.1",
            title="the lower bound",
            minutes=5,
            difficulty=1,
            checked="the answer, on edge cases and on fresh random buffers",
            starter=lower_bound_starter,
            solution=lower_bound_solution,
            why=(
                "The bytes alive change only when a buffer is born or dies, and they rise only at births. So it is "
                "enough to look at the step of each birth: n steps instead of all of them."
            ),
            hints=(
                "Write down, for one step, which buffers are alive there: lower <= step < upper.",
                "The bound is the largest sum of sizes over all steps. At which steps can a new maximum appear?",
                "For each buffer, sum the sizes of all buffers alive at its lower step. Take the largest sum; 0 if "
                "there are none.",
            ),
            check=check_lower_bound,
        ),
        Exercise(
            id="1.2",
            title="greedy by size",
            minutes=10,
            difficulty=3,
            checked="that no two live buffers overlap, then the bytes of 20 fresh plans",
            starter=greedy_by_size_starter,
            solution=greedy_by_size_solution,
            why=(
                "Large buffers are hard to place and small ones fit into what is left, so the large go first. Only "
                "neighbours in time can be in the way: walk over them by address and take the first hole."
            ),
            hints=(
                "Sort the indices, not the buffers: the offsets must come back in the order of the input.",
                "When you place a buffer, only those already placed that live at the same time are in its way.",
                "Sort those neighbours by offset. Start at 0; if the hole below a neighbour is too small, go on from "
                "the end of that neighbour, unless you are beyond it already.",
            ),
            check=check_greedy_by_size,
        ),
        Exercise(
            id="1.3",
            title="the verifier that lets wrong plans through",
            minutes=5,
            difficulty=2,
            checked="eight pairs of buffers, then every pair of 20 random plans",
            starter=conflicts_starter,
            solution=conflicts_solution,
            why=(
                "Two half-open ranges meet exactly if each begins before the other ends. Time and address are both "
                "such ranges, and a conflict needs both to meet."
            ),
            hints=(
                "Draw two rectangles, time to the right and address upwards. When do they overlap?",
                "The starter compares where the ranges start. Two ranges of bytes can overlap without that.",
                "Ranges [a, b) and [c, d) meet if a < d and c < b. Use it for steps and for bytes.",
            ),
            check=check_conflicts,
        ),
        Exercise(
            id="1.4",
            title="a forward pass that allocates nothing",
            minutes=10,
            difficulty=3,
            checked="the answer on fresh weights and inputs, then that one call allocates 0 bytes",
            starter=make_forward_starter,
            solution=make_forward_solution,
            why=(
                "All memory is taken once, in make_forward. The bias and the maximum work in place, because nobody "
                "reads the value before them any more; the matrix product can't, because it reads each input many "
                "times. The answer is a view into a buffer: copy it if you keep it beyond the next call."
            ),
            hints=(
                "np.matmul, np.add and np.maximum all take out=. Allocate the arrays outside forward.",
                "One buffer for each layer, of shape (batch, width of that layer), is enough. Which operations may "
                "overwrite their own input?",
                "np.matmul(x, weight, out=buffer); np.add(buffer, bias, out=buffer); np.maximum(buffer, 0, "
                "out=buffer); then x = buffer.",
            ),
            check=check_make_forward,
        ),
        Exercise(
            id="1.5",
            title="beat the greedy planner",
            minutes=10,
            difficulty=4,
            checked="valid plans, lower than greedy by size, on the puzzle and two disguises of it; without sm.plan",
            starter=better_plan_starter,
            solution=better_plan_solution,
            why=(
                "A greedy planner never takes a decision back. Swapping two buffers in its order and keeping what is "
                "not worse does: the order is a point in a space, and this is a walk in it. It still proves nothing; "
                "for a proof you need the complete search of sm.plan."
            ),
            hints=(
                "sm.place(buffers, order) places buffers in any order of their indices; sm.height tells what it needs.",
                "Try many orders and keep the best plan. Random orders work, and 2000 take about a second.",
                "Better than random: start from the order by size, swap two places, keep the new order if it is not "
                "worse, repeat.",
            ),
            check=check_better_plan,
        ),
    )
}
