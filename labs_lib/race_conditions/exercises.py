"""The exercises of lab 06: starters, solutions, hints. `labs_lib.race_conditions.checks` judges the answers.

Starters and solutions are ordinary functions: a learner's code is compared with the starter's source, and
`lab.solution` prints the solution's.
"""

from __future__ import annotations

import threading

from labs_lib.exercises import Exercise
from labs_lib.race_conditions import checks, lock_checks


def losing_schedule_starter(n):
    # YOUR TURN: this lets A finish, then B, and ends with 2 * n
    return "A B"


def losing_schedule_solution(n):
    # A reads 0; B adds all but one; A writes 1; B reads it for its last update; A finishes; B writes 2
    return f"A1 B{2 * (n - 1)} A1 B1 A B"


def make_counter_starter(limit):
    class Counter:
        def __init__(self):
            self.taken = 0

        def take(self):
            # YOUR TURN: another thread may run between any two of these steps
            if self.taken < limit:
                self.taken += 1
                return True
            return False

    return Counter()


def make_counter_solution(limit):
    class Counter:
        def __init__(self):
            self.taken, self.lock = 0, threading.Lock()

        def take(self):
            with self.lock:
                if self.taken < limit:
                    self.taken += 1
                    return True
                return False

    return Counter()


def make_get_starter(load):
    # YOUR TURN: two requests may both find that there is no model yet
    model = None

    def get():
        nonlocal model
        if model is None:
            model = load()
        return model

    return get


def make_get_solution(load):
    model, lock = None, threading.Lock()

    def get():
        nonlocal model
        if model is None:
            with lock:
                if model is None:
                    model = load()
        return model

    return get


def move_starter(source, target, count):
    # YOUR TURN: a move in the other direction takes the same two locks
    with source.lock, target.lock:
        if source.free < count:
            return False
        source.free -= count
        target.free += count
        return True


def move_solution(source, target, count):
    if source is target:
        with source.lock:
            return source.free >= count
    first, second = sorted((source, target), key=lambda pool: pool.number)
    with first.lock, second.lock:
        if source.free < count:
            return False
        source.free -= count
        target.free += count
        return True


EXERCISES = {
    exercise.id: exercise
    for exercise in (
        Exercise(
            id="6.1",
            title="the schedule that loses most",
            minutes=10,
            difficulty=2,
            checked="your schedule is replayed on two threads with 2 to 6 updates each; the counter must end at 2",
            starter=losing_schedule_starter,
            solution=losing_schedule_solution,
            why=(
                "A value that was read early and is written late wipes out all that came between. A's first write "
                "wipes out all but one of B's updates; B's last write wipes out all of A's. What is left is one "
                "update of A, which B has read, and one of B."
            ),
            hints=(
                "An update is two steps: a read and a write. What is lost when A reads, B updates five times, and A "
                "writes?",
                "Do that twice, the second time with the roles exchanged. B keeps its last update for it.",
                "After A's first write the counter is 1. Let B read this 1 and no more; let A finish; then B writes.",
            ),
            check=checks.check_losing_schedule,
        ),
        Exercise(
            id="6.2",
            title="the counter that stops at its limit",
            minutes=10,
            difficulty=2,
            checked="one thread alone, then all schedules of two and three threads within a bound, then the locks "
            "taken, then 100000 tickets and four real threads",
            starter=make_counter_starter,
            solution=make_counter_solution,
            why=(
                "Check and act are one decision, so one lock goes around both, and one acquisition per call is "
                "enough. (An itertools.count does it with none: draw a number first, then compare it.)"
            ),
            hints=(
                "Make the lock once for each counter, in __init__. A lock made in take() keeps nobody out.",
                "Two threads that both find one ticket left will both take it. So the lock must be held from the "
                "comparison to the update.",
                "with self.lock: around the whole body; `with` also lets go on the way out through return False.",
            ),
            check=checks.check_counter,
        ),
        Exercise(
            id="6.3",
            title="load once, then without a lock",
            minutes=10,
            difficulty=3,
            checked="one thread alone, a load that fails, all schedules of two and three threads within a bound, then "
            "that no lock is taken once the model is there",
            starter=make_get_starter,
            solution=make_get_solution,
            why=(
                "The check without the lock is for speed, and may be out of date; the check under the lock decides. "
                "The name is bound only after the load is complete, so whoever sees a model sees all of it."
            ),
            hints=(
                "Put a lock around check and load first, and see that it passes all but the last part of the check.",
                "Then look before you take the lock. But what you saw may be out of date once you hold it.",
                "if model is None: with lock: if model is None: model = load(). Bind the name last of all.",
            ),
            check=lock_checks.check_lazy_loading,
        ),
        Exercise(
            id="6.4",
            title="two locks, two orders",
            minutes=10,
            difficulty=3,
            checked="moves by one thread, then all schedules of two and three moves within a bound, then that whoever "
            "holds both locks sees every slot, then the locks taken",
            starter=move_starter,
            solution=move_solution,
            why=(
                "A deadlock is a circle of threads, each holding what the next one wants. If all take the locks in "
                "one order, no circle can close. The order may be any, as long as it is the same for all and never "
                "changes. And a lock that is not reentrant is taken once where both pools are the same."
            ),
            hints=(
                "A holds the lock of pool 0 and wants that of pool 1; B the other way round. Who could go on?",
                "Let every move take the lock of the pool with the smaller number first, whatever its direction.",
                "sorted((source, target), key=lambda pool: pool.number); and source may be target.",
            ),
            check=lock_checks.check_move,
        ),
    )
}
