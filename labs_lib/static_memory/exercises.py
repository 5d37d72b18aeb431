"""The exercises of lab 01: starters, solutions, hints. `labs_lib.static_memory.checks` judges the answers.

Starters and solutions are ordinary functions: a learner's code is compared with the starter's source, and
`lab.solution` prints the solution's.
"""

from __future__ import annotations

import numpy as np

from labs_lib import static_memory as sm  # the notebook's name for it
from labs_lib.exercises import Exercise
from labs_lib.static_memory import checks


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
            check=checks.check_lower_bound,
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
            check=checks.check_greedy_by_size,
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
            check=checks.check_conflicts,
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
            check=checks.check_make_forward,
        ),
        Exercise(
            id="1.5",
            title="beat the greedy planner",
            minutes=10,
            difficulty=3,
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
                "Try many orders and keep the best plan. Random orders work, if you draw enough of them.",
                "Better than random: start from the order by size, swap two places, keep the new order if it is not "
                "worse, repeat.",
            ),
            check=checks.check_better_plan,
        ),
    )
}
