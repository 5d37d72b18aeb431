import random
import time

import pytest
from hypothesis import given

from labs_lib.errors import LabError
from labs_lib.static_memory.lifetimes import Buffer, lower_bound, verify
from labs_lib.static_memory.planning import plan
from tests.static_memory.instances import buffers, fits
from tools.packings import mixture, perfect_packing


def aligned(size, alignment):
    return -(-size // alignment) * alignment


@given(some=buffers())
def test_plans_are_valid_and_what_is_proved_is_true(some):
    found = plan(some)
    verify(some, found.offsets, capacity=found.height)
    assert found.lower_bound == lower_bound(some) <= found.height
    assert found.proved  # nine buffers are decided in a moment
    assert not some or not fits(some, found.height - 1)


@given(some=buffers())
def test_disguises_plan_as_well(some):
    """The order of the rows, the direction of time and the unit of the sizes are no property of the problem."""
    best = plan(some).height
    shuffled = random.Random(0).sample(some, len(some))
    reversed_ = [Buffer(b.id, 20 - b.upper, 20 - b.lower, b.size) for b in some]
    scaled = [Buffer(b.id, 1000 * b.lower, 1000 * b.upper, 10**12 * b.size) for b in some]
    assert plan(shuffled).height == best
    assert plan(reversed_).height == best
    assert plan(scaled).height == 10**12 * best


@given(some=buffers())
def test_alignment(some):
    found = plan(some, alignment=4)
    verify(some, found.offsets, alignment=4, capacity=found.height)
    rounded = [Buffer(b.id, b.lower, b.upper, aligned(b.size, 4)) for b in some]
    assert found.lower_bound == lower_bound(rounded)


def test_a_capacity_is_enough():
    some = perfect_packing(random.Random(3), 60, 1 << 20, 1000, pinwheel=0.3)
    loose = plan(some, capacity=1 << 30)
    assert loose.height <= 1 << 30
    verify(some, loose.offsets)
    assert plan(some, capacity=1 << 20).height == 1 << 20


def test_a_capacity_that_cannot_be_had_gives_a_higher_plan():
    found = plan([Buffer("a", 0, 2, 10), Buffer("b", 1, 3, 10)], capacity=15)
    assert found.height == 20
    assert found.proved


def test_no_buffers_and_buffers_of_no_bytes():
    nothing = plan([])
    assert (nothing.height, nothing.proved, nothing.ratio) == (0, True, 1.0)
    empty = plan([Buffer("a", 0, 2, 0), Buffer("b", 0, 2, 5)])
    assert empty.height == 5
    verify([Buffer("a", 0, 2, 0), Buffer("b", 0, 2, 5)], empty.offsets)


@pytest.mark.parametrize("options", [{"alignment": 0}, {"time_limit_s": -1}, {"time_limit_s": float("nan")}])
def test_bad_options(options):
    with pytest.raises(LabError):
        plan([Buffer("a", 0, 1, 1)], **options)


def test_without_time_there_is_still_a_valid_plan():
    some = perfect_packing(random.Random(4), 200, 64, 64)
    found = plan(some, time_limit_s=0)
    verify(some, found.offsets, capacity=found.height)


def test_more_time_is_never_worse():
    some = perfect_packing(random.Random(5), 220, 64, 64)
    heights = [plan(some, time_limit_s=limit).height for limit in (0, 0.2, 1.0)]
    assert heights == sorted(heights, reverse=True)


@pytest.mark.timing
def test_many_buffers_end_near_the_bound_within_the_limit():
    some = mixture(random.Random(6), 18_000)
    start = time.monotonic()
    found = plan(some, time_limit_s=8)
    assert time.monotonic() - start < 30  # the limit, and what a busy machine adds
    verify(some, found.offsets, capacity=found.height)
    assert found.ratio <= 1.01


def test_the_same_input_gives_the_same_plan():
    some = perfect_packing(random.Random(7), 60, 1 << 20, 1000)
    assert plan(some).offsets == plan(some).offsets
