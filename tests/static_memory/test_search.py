"""The search against an oracle: OR-Tools CP-SAT decides the same small instances."""

import random
import time

import pytest
from hypothesis import given, settings

from labs_lib.static_memory.lifetimes import Buffer, lower_bound, verify
from labs_lib.static_memory.search import Undecided, search
from tests.static_memory.instances import buffers, fits, full_at_every_step, nearly_full
from tools.packings import perfect_packing


@settings(max_examples=300)
@given(some=buffers())
def test_plan_and_proof_agree_with_the_oracle(some):
    bound = lower_bound(some)
    for capacity in range(max(bound - 1, 0), bound + 2):
        offsets = search(some, capacity)
        if offsets is not None:
            verify(some, offsets, capacity=capacity)
        assert (offsets is not None) == fits(some, capacity)


def test_an_optimum_above_the_bound_is_proved():
    lives = [
        *((0, 1, 4), (0, 2, 4), (2, 3, 3), (2, 4, 1), (3, 4, 3), (1, 5, 2), (4, 5, 1), (1, 6, 2), (4, 6, 3)),
        *((5, 8, 3), (6, 9, 4), (6, 9, 1), (8, 9, 2), (8, 10, 1), (9, 10, 2), (9, 10, 4), (9, 10, 1)),
    ]
    some = [Buffer(f"b{i}", *life) for i, life in enumerate(lives)]
    assert lower_bound(some) == 8
    assert search(some, 8) is None
    verify(some, search(some, 9), capacity=9)


def test_full_instances_agree_with_the_oracle():
    """Every step is full, so there is no slack: many look possible and are not."""
    rng, refuted = random.Random(0), 0
    for _ in range(200):
        some = full_at_every_step(rng, height=12, steps=20)
        offsets = search(some, 12)
        assert (offsets is not None) == fits(some, 12)
        refuted += offsets is None
    assert refuted >= 1


def test_nearly_full_instances_agree_with_the_oracle():
    """A little slack everywhere: what may be wasted, and how far the floor then rises, has to be exact."""
    rng, refuted = random.Random(1), 0
    for _ in range(150):
        some = nearly_full(rng, height=13, steps=16)
        capacity = lower_bound(some)
        while (offsets := search(some, capacity)) is None:
            assert not fits(some, capacity)
            refuted += 1
            capacity += 1
        verify(some, offsets, capacity=capacity)
    assert refuted >= 1


@pytest.mark.parametrize("seed", range(6))
def test_perfect_packings_are_found(seed):
    some = perfect_packing(random.Random(seed), 80, 1 << 20, 1000, pinwheel=0.3)
    offsets = search(some, 1 << 20, time.monotonic() + 60)
    verify(some, offsets, capacity=1 << 20)


def test_the_deadline_is_kept():
    some = perfect_packing(random.Random(1), 250, 64, 64)
    start = time.monotonic()
    with pytest.raises(Undecided):
        search(some, 63 if lower_bound(some) < 64 else 64, start)
    assert time.monotonic() - start < 5


def test_nothing_to_place():
    assert search([], 0) == []
