"""labs_lib.percentiles against the binomial distribution, counted exactly."""

import math
import random
from fractions import Fraction

import pytest

from labs_lib.percentiles import percentile, percentile_ends


def at_most(k, n, p):
    """P(at most k of n values lie below), exactly."""
    return sum(math.comb(n, i) * p**i * (1 - p) ** (n - i) for i in range(k + 1))


@pytest.mark.parametrize("percent", [1, 50, 90, 99])
@pytest.mark.parametrize("n", [1, 6, 40, 200])
def test_the_ends_are_the_narrowest_with_at_most_a_fortieth_outside_on_each_side(n, percent):
    low, high = percentile_ends(range(1, n + 1), percent)  # the values are their ranks
    p = Fraction(percent, 100)
    below = 0 if low == -math.inf else low
    above = n + 1 if high == math.inf else high
    assert below == 0 or at_most(below - 1, n, p) <= Fraction(1, 40)
    assert at_most(below, n, p) > Fraction(1, 40)
    assert above == n + 1 or at_most(above - 1, n, p) >= Fraction(39, 40)
    assert at_most(above - 2, n, p) < Fraction(39, 40)


def test_few_values_bound_no_tail():
    assert percentile_ends(range(367), 99)[1] == math.inf
    assert percentile_ends(range(368), 99)[1] == 367
    assert percentile_ends([], 50) == (-math.inf, math.inf)


def test_the_interval_holds_the_true_percentile_as_often_as_it_says():
    draws = random.Random(0)
    hits = 0
    for _ in range(400):
        low, high = percentile_ends(sorted(draws.random() for _ in range(100)), 90)
        hits += low <= 0.9 <= high
    assert hits >= 0.93 * 400


def test_a_percentile_is_one_of_the_values():
    assert percentile([3.0], 99) == 3.0
    assert percentile(range(1, 101), 90) == 90
    assert math.isnan(percentile([], 50))
