import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from labs_lib.equality import arrays, difference

NAN, INF = float("nan"), float("inf")


@pytest.mark.parametrize(
    ("expected", "actual", "relative"),
    [
        (1.0, 1.0, 0),
        (4.0, 3.0, 0.25),
        ([1, 2, 3], [1, 2, 4], 1 / 3),
        (np.array([1 + 1j]), np.array([1 - 1j]), 2 / abs(1 + 1j)),
        ([NAN, 1.0], [NAN, 1.0], 0),
        ([NAN, 1.0], [1.0, 1.0], INF),
        ([INF, 1.0], [INF, 1.0], 0),
        ([INF, 1.0], [-INF, 1.0], INF),
        ([0.0], [1e-30], INF),
        (np.zeros((0, 3)), np.zeros((0, 3)), 0),
        ("yes", "yes", 0),
        ("yes", "no", INF),
        (None, None, 0),
        ({"a": 1.0, "b": (2.0, [3.0])}, {"a": 1.0, "b": (2.0, [3.3])}, 0.1),
        ({"a": 1.0}, {"b": 1.0}, INF),
        ((1.0, "x"), (1.0,), INF),
        (np.zeros((2, 3)), np.zeros((3, 2)), INF),
        (True, False, 1.0),
    ],
)
def test_relative_difference(expected, actual, relative):
    assert difference(expected, actual).relative == pytest.approx(relative, rel=1e-12, abs=0)


def test_the_largest_part_decides():
    assert difference((np.ones(3), np.ones(3)), (np.ones(3), np.full(3, 1.5))).relative == 0.5


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float64])
def test_epsilon_is_that_of_the_coarsest_type(dtype):
    assert difference(torch.ones(2, dtype=dtype), torch.ones(2, dtype=torch.float64)).epsilon == torch.finfo(dtype).eps


def test_says_why_there_is_no_number():
    assert difference(np.zeros(3), np.zeros(4)).where == "shape (3,) against (4,)"


def test_large_integers_are_compared_exactly():
    assert difference(np.array([2**53 + 1]), np.array([2**53])).relative > 0


@given(st.lists(st.floats(allow_nan=True, width=32), max_size=8))
def test_everything_equals_its_copy(values):
    assert difference(values, list(values)).relative == 0


def test_arrays_are_copies_of_the_numeric_leaves():
    x = np.ones(3)
    (kept,) = arrays(("word", x, torch.nn.Linear(1, 1)))
    x[:] = 2
    assert kept.tolist() == [1, 1, 1]
