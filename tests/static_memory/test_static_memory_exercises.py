"""Each exercise of lab 01: starter, solution, and wrong answers, each with the message it must earn."""

import random

import numpy as np

from labs_lib import static_memory as sm
from labs_lib.static_memory.checks import PUZZLE
from labs_lib.static_memory.exercises import EXERCISES
from tests.exercise_tests import ExerciseTests

# --- 1.1 --------------------------------------------------------------------------------------------


def largest_buffer(buffers):
    return max((b.size for b in buffers), default=0)


def fails_on_nothing(buffers):
    return max(sum(o.size for o in buffers if o.lower <= b.lower < o.upper) for b in buffers)


def closed_intervals(buffers):
    return max((sum(o.size for o in buffers if o.lower <= b.lower <= o.upper) for b in buffers), default=0)


def trusts_the_order(buffers):
    best = 0
    for i, buffer in enumerate(buffers):
        best = max(best, sum(o.size for o in buffers[: i + 1] if o.lower <= buffer.lower < o.upper))
    return best


def counts_births_only(buffers):
    births = {}
    for buffer in buffers:
        births[buffer.lower] = births.get(buffer.lower, 0) + buffer.size
    return max(births.values(), default=0)


def sorts_its_input(buffers):
    buffers.sort(key=lambda b: b.lower)
    return EXERCISES["1.1"].solution(buffers)


# --- 1.2 --------------------------------------------------------------------------------------------


def in_sorted_order(buffers):
    order = sorted(range(len(buffers)), key=lambda i: -buffers[i].size)
    offsets = EXERCISES["1.2"].solution(buffers)
    return [offsets[i] for i in order]


def ignores_time(buffers):
    order, offsets, top = sorted(range(len(buffers)), key=lambda i: -buffers[i].size), {}, 0
    for i in order:
        offsets[i], top = top, top + buffers[i].size
    return [offsets[i] for i in range(len(buffers))]


def all_at_zero(buffers):
    return [0 for _ in buffers]


def smallest_first(buffers):
    return sm.place(buffers, sorted(range(len(buffers)), key=lambda i: buffers[i].size))


def in_input_order(buffers):
    return sm.place(buffers, range(len(buffers)))


def fractions(buffers):
    return [offset / 1 for offset in EXERCISES["1.2"].solution(buffers)]


def one_too_few(buffers):
    return EXERCISES["1.2"].solution(buffers)[1:]


def sorts_in_place(buffers):
    buffers.sort(key=lambda b: -b.size)
    return EXERCISES["1.2"].solution(buffers)


# --- 1.3 --------------------------------------------------------------------------------------------


def pairs(buffers, offsets, alive, shared):
    return [
        (i, j)
        for i in range(len(buffers))
        for j in range(i + 1, len(buffers))
        if alive(buffers[i], buffers[j]) and shared(offsets[i], buffers[i].size, offsets[j], buffers[j].size)
    ]


def meet(a, b):
    return a.lower < b.upper and b.lower < a.upper


def overlap(o, s, p, t):
    return o < p + t and p < o + s


def nothing_conflicts(buffers, offsets):
    return []


def ignores_time_in_conflicts(buffers, offsets):
    return pairs(buffers, offsets, lambda a, b: True, overlap)


def one_way_in_time(buffers, offsets):
    return pairs(buffers, offsets, lambda a, b: a.lower <= b.lower < a.upper, overlap)


def one_way_in_address(buffers, offsets):
    return pairs(buffers, offsets, meet, lambda o, s, p, t: o <= p < o + s)


def closed_in_time(buffers, offsets):
    return pairs(buffers, offsets, lambda a, b: a.lower <= b.upper and b.lower <= a.upper, overlap)


def closed_in_address(buffers, offsets):
    return pairs(buffers, offsets, meet, lambda o, s, p, t: o <= p + t and p <= o + s)


def says_it_twice(buffers, offsets):
    found = pairs(buffers, offsets, meet, overlap)
    return found + [(j, i) for i, j in found]


# --- 1.4 --------------------------------------------------------------------------------------------


def forward_with(layer):
    """A make_forward whose layers are computed by `layer(x, weight, bias, out, last)`."""

    def make_forward(layers, batch):
        buffers = [np.empty((batch, len(bias)), np.float32) for _, bias in layers]

        def forward(x):
            for (weight, bias), out in zip(layers, buffers, strict=True):
                x = layer(x, weight, bias, out, out is buffers[-1])
            return x

        return forward

    return make_forward


def bias_allocates(x, weight, bias, out, last):
    np.matmul(x, weight, out=out)
    out[:] = out + bias
    return out if last else np.maximum(out, 0, out=out)


def forgets_bias(x, weight, bias, out, last):
    np.matmul(x, weight, out=out)
    return out if last else np.maximum(out, 0, out=out)


def relu_everywhere(x, weight, bias, out, last):
    np.matmul(x, weight, out=out)
    np.add(out, bias, out=out)
    return np.maximum(out, 0, out=out)


def scales_the_weights(x, weight, bias, out, last):
    weight *= 1
    weight += 1e-3
    return forgets_bias(x, weight, bias, out, last)


def eats_its_input(layers, batch):
    inner = EXERCISES["1.4"].solution(layers, batch)

    def forward(x):
        answer = inner(x)
        x[:] = 0
        return answer

    return forward


def answers_from_a_cache(layers, batch):
    inner, cache = EXERCISES["1.4"].solution(layers, batch), []

    def forward(x):
        if not cache:
            cache.append(inner(x).copy())
        return cache[0]

    return forward


def returns_the_first_buffer(layers, batch):
    inner = EXERCISES["1.4"].solution(layers, batch)
    return lambda x: inner(x)[:, :3]


def returns_nothing(layers, batch):
    pass


# --- 1.5 --------------------------------------------------------------------------------------------

LEARNED_BY_HEART = EXERCISES["1.5"].solution(PUZZLE)


def by_heart(buffers):
    return list(LEARNED_BY_HEART)


def just_greedy(buffers):
    return list(sm.greedy_by_size(buffers))


def in_order_of_birth(buffers):
    return sm.online_best_fit(buffers)


def too_good(buffers):
    return [offset // 2 for offset in sm.greedy_by_size(buffers)]


def asks_the_course(buffers):
    return sm.plan(buffers).offsets


def not_a_list(buffers):
    return dict(enumerate(sm.greedy_by_size(buffers)))


WRONG = {
    "1.1": [
        (largest_buffer, "need both sizes"),
        (fails_on_nothing, "ValueError"),
        (closed_intervals, "dead at its upper step"),
        (trusts_the_order, "rows of a file come in any order"),
        (counts_births_only, "need both sizes"),
        (sorts_its_input, "changes the list"),
    ],
    "1.2": [
        (in_sorted_order, "order of the input"),
        (ignores_time, "they never meet"),
        (all_at_zero, "not valid"),
        (smallest_first, "your plans are valid, but"),
        (in_input_order, "your plans are valid, but"),
        (fractions, "whole number of bytes"),
        (one_too_few, "one for each in their order"),
        (sorts_in_place, "changes the list"),
    ],
    "1.3": [
        (nothing_conflicts, "both alive at steps 2 and 3"),
        (ignores_time_in_conflicts, "that is reuse"),
        (one_way_in_time, "look at time both ways"),
        (one_way_in_address, "with the lower range second"),
        (closed_in_time, "that is reuse"),
        (closed_in_address, "only touch"),
        (says_it_twice, "[(0, 1), (1, 0)]"),
    ],
    "1.4": [
        (forward_with(bias_allocates), "still allocates"),
        (forward_with(forgets_bias), "the answer is wrong"),
        (forward_with(relu_everywhere), "the answer is wrong"),
        (forward_with(scales_the_weights), "writes into the weights"),
        (eats_its_input, "writes into its input"),
        (answers_from_a_cache, "answer of the first"),
        (returns_the_first_buffer, "array of shape"),
        (returns_nothing, "must return a function"),
    ],
    "1.5": [
        (by_heart, "on the puzzle with its rows shuffled the plan is not valid"),
        (just_greedy, "as much as greedy by size"),
        (in_order_of_birth, "more than greedy by size"),
        (too_good, "not valid"),
        (not_a_list, "return a list"),
        (asks_the_course, "sm.plan is the answer of the course"),
    ],
}


def greedy_by_size(buffers):
    return sm.greedy_by_size(buffers)


def random_orders(buffers):
    """They beat the greedy planner, as the hint says."""
    rng, indices = random.Random(0), range(len(buffers))
    plans = [sm.place(buffers, rng.sample(indices, len(indices))) for _ in range(2000)]
    return min(plans, key=lambda offsets: sm.height(buffers, offsets))


class TestExercises(ExerciseTests):
    exercises, wrong = EXERCISES, WRONG
    right = (("1.2", greedy_by_size), ("1.5", random_orders))
