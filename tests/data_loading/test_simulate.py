"""The virtual clock: schedules worked out by hand, a recurrence that says the same, cores that are never exceeded."""

import itertools
import random
from collections import Counter

import pytest

from labs_lib.data_loading import simulate
from labs_lib.errors import LabError


def test_by_hand():
    alone = simulate(batches=3, wait=2, cpu=1, step=4)
    assert (alone.epoch, alone.idle, alone.idle_steps) == (21, 9, [3, 3, 3])
    slow_storage = simulate(batches=6, wait=10, step=1, workers=2)
    # Batches 0 and 1 are there after 10 ticks, 2 and 3 after 20, 4 and 5 after 30.
    assert slow_storage.idle_steps == [10, 0, 8, 0, 8, 0]
    assert slow_storage.epoch == 32
    slow_step = simulate(batches=6, wait=2, step=10, workers=1, startup=5)
    assert (slow_step.idle_steps, slow_step.epoch) == ([7, 0, 0, 0, 0, 0], 67)


def test_prefetch_bounds_what_is_made_ahead():
    for prefetch in (1, 2, 4):
        schedule = simulate(batches=20, wait=1, step=50, workers=2, prefetch=prefetch)
        made = [event for event in schedule.events if event.what == "wait"]
        assert sum(event.start < 1 + 50 for event in made) == 2 * prefetch + 1  # one more for the batch in use


def test_a_core_for_each():
    """Two workers that compute beside a step that does: three want a core, and two are there."""
    many = simulate(batches=8, cpu=8, step=4, workers=2, cores=3)
    few = simulate(batches=8, cpu=8, step=4, workers=2, cores=2)
    assert many.epoch == 8 + 8 * 4
    assert few.epoch >= 8 * (8 + 4) / 2  # the work of all batches on two cores
    for cores in (1, 2, 3):
        schedule = simulate(batches=9, wait=1, cpu=3, step=2, workers=4, cores=cores)
        busy = Counter(
            tick
            for event in schedule.events
            if event.what in ("cpu", "compute")
            for tick in range(event.start, event.stop)
        )
        assert max(busy.values()) <= cores


def _recurrence(batches, cost, step, workers, prefetch, startup):
    """The same schedule without limit of cores, from what each batch has to wait for."""
    ready, received, done, idle = {}, {}, 0, []
    for k in range(batches):
        starts = [startup, ready.get(k - workers, 0), received.get(k - workers * prefetch, 0)]
        ready[k] = max(starts) + cost
        received[k] = max(ready[k], done)
        idle.append(received[k] - done)
        done = received[k] + step
    return done, idle


def test_against_the_recurrence():
    rng = random.Random(0)
    for _ in range(300):
        batches, wait, cpu, step, startup = (rng.randrange(12) for _ in range(5))
        workers, prefetch = rng.randint(1, 5), rng.randint(1, 3)
        schedule = simulate(
            batches=batches, wait=wait, cpu=cpu, step=step, workers=workers, prefetch=prefetch, startup=startup,
            cores=None,
        )  # fmt: skip
        assert (schedule.epoch, schedule.idle_steps) == _recurrence(
            batches, wait + cpu, step, workers, prefetch, startup
        )
        assert schedule.idle == sum(schedule.idle_steps)


def test_lanes_do_not_overlap():
    schedule = simulate(batches=30, wait=3, cpu=2, step=3, workers=3, startup=2)
    for who in {event.who for event in schedule.events}:
        lane = [event for event in schedule.events if event.who == who]
        assert all(one.stop <= other.start for one, other in itertools.pairwise(lane))
        assert all(event.start < event.stop for event in lane)


@pytest.mark.parametrize("wrong", [{"step": 2.5}, {"step": "3"}, {"workers": 1.5}, {"wait": None}, {"cores": 2.0}])
def test_what_is_no_whole_number(wrong):
    with pytest.raises(LabError, match=f"{next(iter(wrong))}=.* is no whole number"):
        simulate(**{"batches": 2, "step": 1, **wrong})


@pytest.mark.parametrize("wrong", [{"batches": -1}, {"prefetch": 0}, {"cores": 0}, {"workers": -2}, {"step": -1}])
def test_what_cannot_be(wrong):
    with pytest.raises(LabError, match="too small"):
        simulate(**{"batches": 2, "step": 1, **wrong})
