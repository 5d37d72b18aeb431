"""Each exercise of lab 06: starter, solution, and wrong answers, each with the message it must earn."""

import functools
import itertools
import threading
import time

import pytest

from labs_lib.race_conditions.exercises import EXERCISES
from tests.exercise_tests import ExerciseTests

GLOBAL = threading.Lock()

# --- 6.1 --------------------------------------------------------------------------------------------


def one_after_the_other(n):
    return "B A"


def only_the_first_half(n):
    return f"A1 B{2 * n} A"


def taking_turns(n):
    return "A1 B1 " * (2 * n)


def hard_coded_for_three(n):
    return "A1 B4 A1 B1 A B"


def b_reads_too_early(n):
    return f"A1 B{2 * n - 1} A1 B A"


def no_schedule(n):
    return "A1 C2"


def a_list(n):
    return ["A1", "B4", "A1", "B1", "A", "B"]


def nothing(n):
    return ""


# --- 6.2 --------------------------------------------------------------------------------------------


def counter(take, **attributes):
    """A make_counter whose counters have `taken`, a `lock`, further attributes, and that take."""

    def make_counter(limit):
        class Counter:
            def __init__(self):
                self.limit, self.taken, self.lock = limit, 0, threading.Lock()
                for name, make in attributes.items():
                    setattr(self, name, make())

        Counter.take = take
        return Counter()

    return make_counter


def take_one(self):
    if self.taken < self.limit:
        self.taken += 1
        return True
    return False


@counter
def lock_around_the_act(self):
    if self.taken < self.limit:
        with self.lock:
            self.taken += 1
        return True
    return False


@counter
def lock_around_the_check(self):
    with self.lock:
        free = self.taken < self.limit
    self.taken += free
    return free


@counter
def lock_around_each(self):
    with self.lock:
        free = self.taken < self.limit
    if free:
        with self.lock:
            self.taken += 1
    return free


@counter
def lock_of_each_call(self):
    with threading.Lock():
        return take_one(self)


@counter
def keeps_the_lock_at_the_limit(self):
    self.lock.acquire()
    if self.taken < self.limit:
        self.taken += 1
        self.lock.release()
        return True
    return False


@counter
def locks_twice(self):
    with self.lock:
        if self.taken >= self.limit:
            return False
    with self.lock:
        return take_one(self)


@counter
def waits_for_itself(self):
    with self.lock, self.lock:
        return take_one(self)


@counter
def undoes_what_was_too_much(self):
    with self.lock:
        self.taken += 1
    if self.taken > self.limit:
        with self.lock:
            self.taken -= 1
        return False
    return True


@counter
def one_too_many(self):
    with self.lock:
        self.taken += 1
        return self.taken <= self.limit + 1


@counter
def says_none(self):
    with self.lock:
        if self.taken < self.limit:
            self.taken += 1
            return True


@counter
def sleeps(self):
    time.sleep(0.0002)
    with self.lock:
        return take_one(self)


def shared_by_all_counters(limit, taken=[0], lock=threading.Lock()):  # noqa: B006, B008
    class Counter:
        def take(self):
            with lock:
                if taken[0] < limit:
                    taken[0] += 1
                    return True
                return False

    return Counter()


def only_a_function(limit):
    return lambda: True


def never_any(limit):
    class Counter:
        def take(self):
            return False

    return Counter()


# --- 6.3 --------------------------------------------------------------------------------------------


def always_under_the_lock(load):
    model, lock = None, threading.Lock()

    def get():
        nonlocal model
        with lock:
            if model is None:
                model = load()
            return model

    return get


def no_second_look(load):
    model, lock = None, threading.Lock()

    def get():
        nonlocal model
        if model is None:
            with lock:
                model = load()
        return model

    return get


def loads_before_it_locks(load):
    model, lock = None, threading.Lock()

    def get():
        nonlocal model
        if model is None:
            loaded = load()
            with lock:
                if model is None:
                    model = loaded
        return model

    return get


def flag_before_the_model(load):
    model, ready, lock = None, False, threading.Lock()

    def get():
        nonlocal model, ready
        if not ready:
            with lock:
                if not ready:
                    ready = True
                    model = load()
        return model

    return get


def lock_of_each_request(load):
    model = None

    def get():
        nonlocal model
        if model is None:
            with threading.Lock():
                if model is None:
                    model = load()
        return model

    return get


def loads_at_once(load):
    model = load()
    return lambda: model


def keeps_the_lock_after_a_failure(load):
    model, lock = None, threading.Lock()

    def get():
        nonlocal model
        if model is None:
            lock.acquire()
            if model is None:
                model = load()
            lock.release()
        return model

    return get


def true_models_only(load):
    model, lock = None, threading.Lock()

    def get():
        nonlocal model
        if not model:
            with lock:
                if not model:
                    model = load()
        return model

    return get


def swallows_the_failure(load):
    model, lock = None, threading.Lock()

    def get():
        nonlocal model
        if model is None:
            with lock:
                if model is None:
                    try:
                        model = load()
                    except OSError:
                        return None
        return model

    return get


def from_a_cache(load):
    return functools.cache(load)


def one_model_for_all(load, models={}, lock=threading.Lock()):  # noqa: B006, B008
    def get():
        if "model" not in models:
            with lock:
                if "model" not in models:
                    models["model"] = load()
        return models["model"]

    return get


def the_model_itself(load):
    return None


# --- 6.4 --------------------------------------------------------------------------------------------


def transfer(source, target, count):
    if source.free < count:
        return False
    source.free -= count
    target.free += count
    return True


def in_order(key):
    def move(source, target, count):
        if source is target:
            with source.lock:
                return source.free >= count
        first, second = sorted((source, target), key=key)
        with first.lock, second.lock:
            return transfer(source, target, count)

    return move


by_address = in_order(id)
by_number_downwards = in_order(lambda pool: -pool.number)
by_free_slots = in_order(lambda pool: pool.free)


def target_first(source, target, count):
    if source is target:
        with source.lock:
            return source.free >= count
    with target.lock, source.lock:
        return transfer(source, target, count)


def itself_twice(source, target, count):
    first, second = sorted((source, target), key=lambda pool: pool.number)
    with first.lock, second.lock:
        return transfer(source, target, count)


def one_lock_at_a_time(source, target, count):
    with source.lock:
        if source.free < count:
            return False
        source.free -= count
    with target.lock:
        target.free += count
    return True


def check_before_the_locks(source, target, count):
    if source.free < count:
        return False
    if source is target:
        return True
    first, second = sorted((source, target), key=lambda pool: pool.number)
    with first.lock, second.lock:
        source.free -= count
        target.free += count
    return True


def without_locks(source, target, count):
    return transfer(source, target, count)


def one_lock_for_all(source, target, count):
    with GLOBAL:
        return transfer(source, target, count)


def a_third_lock(source, target, count):
    with GLOBAL:
        return in_order(lambda pool: pool.number)(source, target, count)


def keeps_both_when_refused(source, target, count):
    if source is target:
        return source.free >= count
    first, second = sorted((source, target), key=lambda pool: pool.number)
    first.lock.acquire()
    second.lock.acquire()
    if source.free < count:
        return False
    source.free -= count
    target.free += count
    second.lock.release()
    first.lock.release()
    return True


def moves_what_there_is(source, target, count):
    return in_order(id)(source, target, min(count, source.free))


def says_nothing(source, target, count):
    in_order(id)(source, target, count)


WRONG = {
    "6.1": [
        (one_after_the_other, "ends at 6: 0 of 6 are lost, and 4 can be"),
        (only_the_first_half, "ends at 3: 3 of 6 are lost"),
        (taking_turns, "ends at 3"),
        (hard_coded_for_three, "right for 3 updates each, but"),
        (b_reads_too_early, "are lost, and 4 can be"),
        (no_schedule, "cannot be replayed"),
        (a_list, "you return list"),
        (nothing, "cannot be replayed"),
    ],
    "6.2": [
        (lock_around_the_act, "2 calls get a ticket where the limit is 1 in the schedule"),
        (lock_around_the_check, "2 calls get a ticket where the limit is 1 in the schedule"),
        (lock_around_each, "2 calls get a ticket where the limit is 1 in the schedule"),
        (lock_of_each_call, "2 calls get a ticket where the limit is 1 in the schedule"),
        (keeps_the_lock_at_the_limit, "let go on every way out of take()"),
        (locks_twice, "20 calls take locks 40 times"),
        (waits_for_itself, "one counter alone waits for ever"),
        (undoes_what_was_too_much, "in the schedule"),
        (one_too_many, "with limit 1, one thread alone is told [True, True, False, False]"),
        (says_none, "is told [True, None, None, None]"),
        (sleeps, "were not handed out by real threads"),
        (shared_by_all_counters, "each has its own ticket"),
        (only_a_function, "return an object with a method take()"),
        (never_any, "say [False, False]"),
    ],
    "6.3": [
        (always_under_the_lock, "10 calls after the first load take locks 10 times"),
        (no_second_look, "the model is loaded 2 times in the schedule"),
        (loads_before_it_locks, "the model is loaded 2 times in the schedule"),
        (lock_of_each_request, "the model is loaded 2 times in the schedule"),
        (from_a_cache, "the model is loaded 2 times in the schedule"),
        (flag_before_the_model, "before the model is there in the schedule"),
        (loads_at_once, "before anybody asked for it"),
        (keeps_the_lock_after_a_failure, "also when load() raises"),
        (true_models_only, "the model is loaded 3 times."),
        (swallows_the_failure, "load() raises, and get() does not"),
        (one_model_for_all, "they share what belongs"),
        (the_model_itself, "return get, a function"),
    ],
    "6.4": [
        (target_first, "threads wait for each other for ever"),
        (by_free_slots, "threads wait for each other for ever"),
        (itself_twice, "from pool 0 to pool 0, then another, waits for itself for ever"),
        (one_lock_at_a_time, "slots in neither pool"),
        (check_before_the_locks, "in the schedule"),
        (without_locks, "in the schedule"),
        (one_lock_for_all, "in neither pool"),
        (a_third_lock, "5 moves take locks 15 times"),
        (keeps_both_when_refused, "then another, waits for itself"),
        (moves_what_there_is, "returns True and leaves"),
        (says_nothing, "returns None and leaves"),
    ],
}


@pytest.fixture(autouse=True)
def little_patience(monkeypatch):
    monkeypatch.setattr("labs_lib.race_conditions.checks.PATIENCE_S", 3)


def roles_exchanged(n):
    return f"B1 A{2 * n - 2} B1 A1 B A"


def with_a_count(limit):
    class Counter:
        numbers = itertools.count()

        def take(self):
            return next(self.numbers) < limit

    return Counter()


@counter
def looks_before_it_locks(self):
    if self.taken >= self.limit:
        return False
    with self.lock:
        return take_one(self)


def with_a_semaphore(limit):
    class Counter:
        free = threading.Semaphore(limit)

        def take(self):
            return self.free.acquire(blocking=False)

    return Counter()


def in_a_list(load):
    models, lock = [], threading.Lock()

    def get():
        if not models:
            with lock:
                if not models:
                    models.append(load())
        return models[0]

    return get


def replaces_itself(load):
    lock = threading.Lock()

    class Lazy:
        def get(self):
            with lock:
                if "model" not in vars(self):
                    self.model = load()
                    self.get = lambda: self.model
            return self.model

    lazy = Lazy()
    return lambda: lazy.get()


class TestExercises(ExerciseTests):
    rounds = 1  # what is explored, nearly all of the work, is the same each time
    exercises, wrong = EXERCISES, WRONG
    right = (
        ("6.1", roles_exchanged),
        ("6.2", with_a_count),
        ("6.2", looks_before_it_locks),
        ("6.2", with_a_semaphore),
        ("6.3", in_a_list),
        ("6.3", replaces_itself),
        ("6.4", by_address),
        ("6.4", by_number_downwards),
    )
