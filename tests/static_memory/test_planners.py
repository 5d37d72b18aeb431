import pytest
from hypothesis import given

from labs_lib.static_memory.lifetimes import Buffer, lower_bound, verify
from labs_lib.static_memory.planners import ORDERS, PLANNERS, height, online_best_fit, place
from labs_lib.static_memory.skyline import lowest_valley
from tests.static_memory.instances import buffers


@pytest.mark.parametrize("name", PLANNERS)
@given(some=buffers(most=12))
def test_every_planner_makes_valid_plans(name, some):
    offsets = PLANNERS[name](some)
    verify(some, offsets)
    assert height(some, offsets) >= lower_bound(some)


@given(some=buffers(most=12))
def test_every_order_is_an_order(some):
    for order in ORDERS.values():
        assert sorted(order(some)) == list(range(len(some)))


@given(some=buffers(most=12))
def test_the_best_of_orders_is_no_higher_than_greedy_by_size(some):
    assert height(some, PLANNERS["best of orders"](some)) <= height(some, PLANNERS["greedy by size"](some))


def test_the_tightest_hole_is_taken():
    wall = [Buffer("w1", 0, 9, 4), Buffer("h1", 0, 2, 8), Buffer("w2", 0, 9, 4), Buffer("h2", 0, 2, 5)]
    offsets = place([*wall, Buffer("top", 0, 9, 1), Buffer("late", 3, 9, 5)], range(6))
    assert offsets == [0, 4, 12, 16, 21, 16]


def test_online_places_in_order_of_birth():
    late_first = [Buffer("late", 1, 2, 10), Buffer("early", 0, 2, 1)]
    assert online_best_fit(late_first) == [1, 0]


@given(some=buffers(most=12))
def test_the_lowest_valley_makes_valid_plans_for_any_target(some):
    order = list(range(len(some)))
    for target in (0, lower_bound(some), 1000):
        verify(some, lowest_valley(some, order, target))
