"""Threads on the stage: what they wait for, what they are told of time and of themselves, and that all of them end."""

import _thread
import functools
import queue
import signal
import sys
import threading
import time
from dataclasses import dataclass, field
from threading import Lock
from types import SimpleNamespace as State

import pytest

from labs_lib import race_conditions as races
from labs_lib.errors import LabError
from labs_lib.race_conditions import stage

REAL = {
    (owner, name): getattr(owner, name)
    for owner, names in (
        (threading, ("Lock", "RLock", "_allocate_lock", "_time", "current_thread", "get_ident")),
        (threading.Thread, ("start",)),
        (queue, ("time", "SimpleQueue")),
        (time, ("sleep", "monotonic", "perf_counter", "time")),
    )
    for name in names
}
GLOBAL_LOCK, GLOBAL_QUEUE = Lock(), queue.Queue()


@pytest.fixture(autouse=True)
def leaves_nothing_behind():
    """After each test there are no more threads than before, and every name means what it meant."""
    threads, lock = _thread._count(), GLOBAL_LOCK
    yield
    end = time.monotonic() + 5
    while _thread._count() > threads and time.monotonic() < end:
        time.sleep(0.01)
    assert _thread._count() == threads
    assert {(owner, name): getattr(owner, name) for owner, name in REAL} == REAL
    assert (Lock, GLOBAL_LOCK) == (REAL[threading, "Lock"], lock)


def verdict(setup, threads, invariant=lambda state: True, **options):
    return races.explore(setup, threads, invariant, **options).verdict


# --- locks, wherever they are made -------------------------------------------------------------------------------


class Counter:
    shared = threading.RLock()

    def __init__(self):
        self.value, self.lock, self.condition = 0, Lock(), threading.Condition()

    def with_imported_lock(self):
        with self.lock:
            self.value += 1

    def with_class_lock(self):
        with self.shared, Counter.shared:
            self.value += 1

    def with_global_lock(self):
        with GLOBAL_LOCK:
            self.value += 1

    def with_condition(self):
        with self.condition:
            self.value += 1

    def with_try(self):
        while not self.lock.acquire(timeout=1):
            pass
        try:
            self.value += 1
        finally:
            self.lock.release()

    def without(self):
        self.value += 1


@dataclass
class DataCounter:
    value: int = 0
    lock: object = field(default_factory=threading.Lock)

    def add(self):
        with self.lock:
            self.value += 1


LOCKED = [
    (Counter, getattr(Counter, name)) for name in vars(Counter) if name.startswith("with_")
] + [(DataCounter, DataCounter.add)]  # fmt: skip


@pytest.mark.parametrize(("kind", "add"), LOCKED, ids=lambda part: part.__name__)
def test_a_lock_works_wherever_it_was_made_and_however_it_was_imported(kind, add):
    assert verdict(kind, [add] * 2, lambda counter: counter.value == 2) == "holds"
    assert verdict(kind, [lambda counter: add(counter)] * 2, lambda counter: counter.value == 2) == "holds"


def test_the_same_counter_without_a_lock_is_broken():
    assert verdict(Counter, [Counter.without] * 2, lambda counter: counter.value == 2) == "broken"


def test_a_lock_of_a_closure_or_of_a_global_object_is_found():
    lock, kept = threading.Lock(), DataCounter(lock=Lock())

    def inner(counter):
        with lock:
            counter.value += 1

    def reset():
        kept.value = 0
        return kept

    assert verdict(Counter, [lambda counter: inner(counter)] * 2, lambda counter: counter.value == 2) == "holds"
    assert verdict(reset, [lambda counter: kept.add()] * 2, lambda counter: kept.value == 2) == "holds"


def test_what_keeps_its_content_must_be_made_in_setup():
    with pytest.raises(LabError, match=r"a Queue that setup\(\) did not make"):
        races.explore(State, [lambda state: GLOBAL_QUEUE.get()], bool)


def test_cached_property_lost_its_lock_in_python_312():
    class Service:
        def __init__(self):
            self.loads = 0

        @functools.cached_property
        def model(self):
            self.loads += 1
            return self.loads

    expected = "broken" if sys.version_info >= (3, 12) else "holds"
    assert verdict(Service, [lambda service: service.model] * 2, lambda service: service.loads == 1) == expected


def test_a_thread_that_waits_for_itself_is_a_deadlock_unless_the_lock_is_reentrant():
    def twice(state):
        with state.lock, state.lock:
            pass

    assert verdict(lambda: State(lock=threading.Lock()), [twice]) == "deadlock"
    assert verdict(lambda: State(lock=threading.RLock()), [twice]) == "holds"


def test_errors_of_locks_are_those_of_the_real_ones():
    for make, told in ((threading.Lock, "release unlocked lock"), (threading.RLock, "cannot release un-acquired lock")):
        report = races.explore(lambda make=make: State(lock=make()), [lambda state: state.lock.release()], bool)
        assert report.failure.problem.startswith(f"A raised RuntimeError: {told}")


# --- what the standard library builds from locks -----------------------------------------------------------------


def test_event_barrier_semaphore_and_queues():
    def producer(state):
        state.event.set()
        state.queue.put(1)
        state.simple.put(2)
        state.barrier.wait()

    def consumer(state):
        state.event.wait()
        state.got = [state.queue.get(), state.simple.get()]
        state.barrier.wait()

    def setup():
        return State(
            event=threading.Event(), queue=queue.Queue(1), simple=queue.SimpleQueue(), barrier=threading.Barrier(2)
        )

    report = races.explore(setup, [consumer, producer], lambda state: state.got == [1, 2])
    assert (report.verdict, report.complete) == ("holds", True)
    assert report.schedules > 10


def test_a_bounded_semaphore_released_once_too_often_raises():
    report = races.explore(
        lambda: threading.BoundedSemaphore(1), [lambda slots: slots.release()], lambda slots: True
    )
    assert report.verdict == "raises"


# --- time --------------------------------------------------------------------------------------------------------


def test_a_timed_wait_ends_where_nobody_else_can_go_on_and_takes_no_time():
    def get(state):
        try:
            state.got = state.queue.get(timeout=3600)
        except queue.Empty:
            state.got = "nothing"
        state.at = time.monotonic()

    start = time.monotonic()
    run = races.replay((lambda: State(queue=queue.Queue()), [get], bool), "A")
    assert (run.state.got, run.state.at) == ("nothing", 3600)
    assert verdict(
        lambda: State(queue=queue.Queue()), [get, lambda state: state.queue.put(1)], lambda state: state.got == 1
    ) == "holds"  # fmt: skip
    assert time.monotonic() - start < 600


def test_of_two_waits_that_end_at_the_same_time_either_may_go_first():
    def wait(name):
        def wait_long(state):
            state.event.wait(timeout=1)
            state.order.append(name)

        return wait_long

    seen = set()
    races.explore(
        lambda: State(event=threading.Event(), order=[]), [wait("a"), wait("b")],
        lambda state: seen.add("".join(state.order)), switches=0,
    )  # fmt: skip
    assert seen == {"ab", "ba"}


def test_sleep_lets_others_go_on_and_costs_no_switch():
    def wait(state):
        while not state.ready:
            time.sleep(1)

    def finish(state):
        state.ready = True

    report = races.explore(lambda: State(ready=False), [wait, finish], lambda state: state.ready)
    assert (report.verdict, report.complete) == ("holds", True)


# --- what a thread knows of itself -------------------------------------------------------------------------------


def test_threads_have_the_same_name_and_number_in_each_run():
    def note(state):
        state.append((threading.current_thread().name, threading.get_ident()))

    assert {str(races.replay((list, [note, note], bool), "B A").state) for _ in range(3)} == {"[('B', 2), ('A', 1)]"}


def test_other_threads_of_the_process_keep_real_locks_and_clocks():
    found, stop = [], threading.Event()

    def elsewhere():
        while not stop.is_set():
            found.append((type(threading.Lock()), time.monotonic() > 0, threading.current_thread().name))

    thread = threading.Thread(target=elsewhere, name="elsewhere")
    thread.start()
    while not found:
        time.sleep(0.001)
    assert verdict(Counter, [Counter.with_condition] * 2, lambda counter: counter.value == 2) == "holds"
    stop.set()
    thread.join()
    assert set(found) == {(type(Lock()), True, "elsewhere")}


# --- whatever happens, all threads end ---------------------------------------------------------------------------


def test_an_exception_is_reported_with_its_line():
    def fails(state):
        raise KeyError("loss")

    report = races.explore(State, [fails, lambda state: None], bool)
    line = fails.__code__.co_firstlineno + 1
    assert report.failure.problem == f"A raised KeyError: 'loss' (line {line} of fails)"


def test_code_that_is_not_determined_by_its_state_is_refused():
    numbers = iter(range(10**6))

    def shaky(state):
        if next(numbers) % 3:
            state.x = 1
        state.y = 2

    with pytest.raises(LabError, match="something else the second time"):
        races.explore(State, [shaky, shaky], lambda state: True)


def test_a_failure_that_does_not_come_back_is_no_failure_to_report():
    numbers = iter(range(10**6))

    def shaky(state):
        state.x = next(numbers)

    with pytest.raises(LabError, match="something else the second time"):
        races.explore(State, [shaky], lambda state: f"x is {state.x}")


def test_a_thread_that_spins_is_stopped(monkeypatch):
    monkeypatch.setattr(stage, "MOST_STEPS", 500)

    def spin(state):
        while not state.ready:
            pass

    with pytest.raises(LabError, match=r"did not end within 500 steps: A is at `while not state.ready:`"):
        races.explore(lambda: State(ready=False), [spin], bool)


def test_a_thread_that_computes_without_a_step_is_stopped(monkeypatch):
    monkeypatch.setattr(stage, "PATIENCE_S", 0.3)

    def compute(state):
        while True:
            pass

    with pytest.raises(LabError, match=r"Thread A has done no step for 0\.3 s"):
        races.explore(State, [compute, compute], bool)


def test_a_real_lock_that_nobody_can_see_is_no_reason_to_hang(monkeypatch):
    monkeypatch.setattr(stage, "PATIENCE_S", 0.3)
    class Hides:
        __slots__ = ("lock",)

    hides = Hides()
    hides.lock = threading.Lock()

    def add(state):
        with hides.lock:
            state.x = 1
            state.x = 2

    with pytest.raises(LabError, match="has done no step"):
        races.explore(State, [add, add], bool)
    assert hides.lock.acquire(blocking=False)


def test_a_thread_may_not_start_another_one():
    with pytest.raises(LabError, match="starts another thread"):
        races.explore(State, [lambda state: threading.Thread(target=print).start()], bool)


def test_ctrl_c_ends_all_threads(monkeypatch):
    def compute(state):
        state.x = 1
        while True:
            pass

    before = signal.signal(signal.SIGALRM, signal.default_int_handler)
    try:
        signal.setitimer(signal.ITIMER_REAL, 0.3)
        with pytest.raises(KeyboardInterrupt):
            races.explore(State, [compute, compute], bool)
    finally:
        signal.signal(signal.SIGALRM, before)


def test_errors_of_setup_come_through():
    def fails():
        raise OSError("no file")

    with pytest.raises(OSError, match="no file"):
        races.explore(fails, [lambda state: None], bool)


def test_more_than_256_names_in_one_function():
    """The first bytes of an instruction with a large argument are an EXTENDED_ARG."""
    lines = [f"    state.a{i} = {i}" for i in range(300)]
    names = {}
    exec("def write(state):\n" + "\n".join(lines), names)
    taken = races.steps(names["write"], State())
    assert [step.expression for step in taken] == [f"a{i}" for i in range(300)]
