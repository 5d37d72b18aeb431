import threading
import time
from functools import partial

import pytest

from labs_lib.race_conditions import Case, counters, prices
from labs_lib.race_conditions.panels import sale

RIGHT = ("lock around both", "atomic", "sharded")


@pytest.mark.parametrize("name", counters.REMEDIES)
def test_one_thread_gets_as_many_tickets_as_there_are(name):
    assert counters.handed_out(counters.REMEDIES[name](7), threads=1) == 7
    assert counters.handed_out(counters.REMEDIES[name](0), threads=1) == 0


@pytest.mark.parametrize("name", [*RIGHT, "one owner"])
def test_real_threads_get_no_more_and_no_fewer(name):
    for limit in (1, 999):
        assert counters.handed_out(counters.REMEDIES[name](limit), threads=5) == limit


@pytest.mark.parametrize("name", counters.LYING)
def test_the_counters_that_lie_hand_out_too_many_in_some_schedule(name):
    report = sale(counters.REMEDIES[name]).explore()
    assert (report.verdict, report.failure.problem) == ("broken", "2 tickets handed out, and the limit is 1")
    assert report.complete


@pytest.mark.parametrize("name", RIGHT)
@pytest.mark.parametrize("calls", [1, 2])
def test_the_remedies_hold_in_all_schedules_with_two_switches(name, calls):
    make = partial(counters.Sharded, batch=1) if name == "sharded" else counters.REMEDIES[name]
    report = sale(make, calls).explore(switches=2 if calls == 1 else 1, budget_s=60)
    assert report.verdict == "holds"
    assert report.complete


def test_one_owner_holds_though_its_counter_is_the_naive_one():
    case = sale(counters.Owned)
    served = Case(case.setup, [*case.threads, lambda state: state[0].serve(2)], case.invariant)
    report = served.explore(switches=0)
    assert (report.verdict, report.complete) == ("holds", True)


def test_a_thread_that_asks_no_more_keeps_the_rest_of_its_shard():
    state = sale(counters.Sharded, calls=1).replay("A B").state
    assert sum(state[1]) == 1
    counter = counters.Sharded(limit=2)
    assert counter.take()
    refused = []
    thread = threading.Thread(target=lambda: refused.append(counter.take()))
    thread.start()
    thread.join()
    assert refused == [False]


def test_locks_for_a_hundred_tickets():
    counted = {name: counters.locks_taken(make, 100) for name, make in counters.REMEDIES.items()}
    assert counted == {
        "plain": 0,
        "lock around the act": 100,
        "lock around both": 100,
        "atomic": 0,
        "sharded": 1,
        "one owner": 997,  # of Queue and its conditions, the same on Python 3.11 to 3.13
    }


def test_lost_updates_counts_what_is_missing():
    seen = threading.Lock()

    def careful(counter):
        with seen:
            counter.value += 1

    def lazy(counter):
        pass

    assert counters.lost_updates(careful, threads=3, calls=1000) == 0
    assert counters.lost_updates(lazy, threads=3, calls=10) == 30


def test_an_owner_can_serve_a_number_of_requests_or_until_it_is_closed():
    counter = counters.Owned(limit=5)
    owner = threading.Thread(target=counter.serve)
    owner.start()
    assert [counter.take() for _ in range(6)] == [True] * 5 + [False]
    counter.close()
    owner.join(timeout=10)
    assert not owner.is_alive()


def test_a_price_is_of_one_ticket_and_its_interval_encloses_it(monkeypatch):
    monkeypatch.setattr(prices, "TICKETS", 500)
    monkeypatch.setattr(prices, "TICKETS_BY_QUEUE", 20)
    start = time.perf_counter()
    for name in ("lock around both", "one owner"):
        one = prices.price(name, threads=2, budget_s=0.2)
        assert one.low <= one.times <= one.high
        assert 0 < one.seconds < time.perf_counter() - start
        assert name in str(one)
    assert prices.price_picture([one]).says.startswith("Times of what a plain ticket takes: one owner ")


@pytest.mark.timing
def test_a_queue_costs_more_than_a_lock():
    locked, owned = (prices.price(name, budget_s=0.5) for name in ("lock around both", "one owner"))
    assert owned.times > 5 * locked.times  # 60 times here
