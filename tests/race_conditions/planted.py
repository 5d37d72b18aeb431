"""Fourteen programs with a planted race, each with its corrected twin.

Run as a program it explores all of them and prints one line each, so that other interpreters can be asked too:
they need nothing but this file and labs_lib.
"""

import json
import queue
import sys
import threading
import time
from types import SimpleNamespace as State

from labs_lib.race_conditions.explorer import Case

# --- lost update: read, add, write ------------------------------------------------------------------------


def add(counter):
    counter.value += 1


def add_locked(counter):
    with counter.lock:
        counter.value += 1


def counter():
    return State(value=0, lock=threading.Lock())


def counts_two(counter):
    return counter.value == 2 or f"two updates make {counter.value}"


lost_update = Case(counter, [add, add], counts_two), Case(counter, [add_locked] * 2, counts_two)

# --- check-then-act ---------------------------------------------------------------------------------------


def take(tickets):
    if tickets.left > 0:
        tickets.left -= 1
        tickets.sold.append(1)


def take_locked(tickets):
    with tickets.lock:
        take(tickets)


def tickets():
    return State(left=1, sold=[], lock=threading.Lock())


def not_oversold(tickets):
    return len(tickets.sold) <= 1 or f"{len(tickets.sold)} tickets are sold of 1"


check_then_act = Case(tickets, [take, take], not_oversold), Case(tickets, [take_locked] * 2, not_oversold)

# --- double-checked initialisation: the flag is set before the value ----------------------------------------


def get_flag_first(service):
    if not service.ready:
        with service.lock:
            if not service.ready:
                service.ready = True
                service.model = [1, 2]
    service.got.append(service.model)


def get_flag_last(service):
    if not service.ready:
        with service.lock:
            if not service.ready:
                service.model = [1, 2]
                service.ready = True
    service.got.append(service.model)


def service():
    return State(ready=False, model=None, got=[], lock=threading.Lock())


def nobody_got_nothing(service):
    return None not in service.got or "a request got no model"


double_checked = (
    Case(service, [get_flag_first] * 2, nobody_got_nothing),
    Case(service, [get_flag_last] * 2, nobody_got_nothing),
)

# --- two locks in two orders ------------------------------------------------------------------------------


def first_a(state):
    with state.a, state.b:
        state.moves += 1


def first_b(state):
    with state.b, state.a:
        state.moves += 1


def two_locks():
    return State(a=threading.Lock(), b=threading.RLock(), moves=0)


two_lock_deadlock = (
    Case(two_locks, [first_a, first_b], lambda state: state.moves == 2),
    Case(two_locks, [first_a, first_a], lambda state: state.moves == 2),
)

# --- missed notify: the question is asked outside of the lock -------------------------------------------------


def wait_unasked(state):
    if not state.done:
        with state.condition:
            state.condition.wait()


def wait_asked(state):
    with state.condition:
        while not state.done:
            state.condition.wait()


def finish(state):
    with state.condition:
        state.done = True
        state.condition.notify()


def job():
    return State(done=False, condition=threading.Condition())


missed_notify = (
    Case(job, [wait_unasked, finish], lambda job: job.done),
    Case(job, [wait_asked, finish], lambda job: job.done),
)

# --- wait without a loop: whoever is woken takes the news to be about itself ---------------------------------


def get_if(shelf):
    with shelf.changed:
        if not shelf.items:
            shelf.changed.wait()
        shelf.items.pop()


def get_while(shelf):
    with shelf.changed:
        while not shelf.items:
            shelf.changed.wait()
        shelf.items.pop()


def open_then_put(shelf):
    with shelf.changed:
        shelf.open = True
        shelf.changed.notify_all()
    with shelf.changed:
        shelf.items.append(1)
        shelf.changed.notify_all()


def shelf():
    return State(items=[], open=False, changed=threading.Condition())


wait_without_loop = (
    Case(shelf, [get_if, open_then_put], lambda shelf: not shelf.items),
    Case(shelf, [get_while, open_then_put], lambda shelf: not shelf.items),
)

# --- iterate while modified -----------------------------------------------------------------------------------


def total(state):
    state.total = 0
    for name in state.losses:
        state.total += state.losses[name]


def total_locked(state):
    with state.lock:
        total(state)


def add_loss(state):
    state.losses["c"] = 4


def add_loss_locked(state):
    with state.lock:
        add_loss(state)


def losses():
    return State(losses={"a": 1, "b": 2}, total=None, lock=threading.Lock())


iterate_while_modified = (
    Case(losses, [total, add_loss], lambda state: state.total in (3, 7)),
    Case(losses, [total_locked, add_loss_locked], lambda state: state.total in (3, 7)),
)

# --- non-atomic swap --------------------------------------------------------------------------------------------


def swap(pair):
    old = pair.a
    pair.a = pair.b
    pair.b = old


def swap_locked(pair):
    with pair.lock:
        swap(pair)


def read(pair):
    pair.seen = (pair.a, pair.b)


def read_locked(pair):
    with pair.lock:
        read(pair)


def pair():
    return State(a=1, b=2, seen=None, lock=threading.Lock())


def saw_a_pair(pair):
    return sorted(pair.seen) == [1, 2] or f"the reader saw {pair.seen}"


non_atomic_swap = Case(pair, [swap, read], saw_a_pair), Case(pair, [swap_locked, read_locked], saw_a_pair)

# --- ABA on a free list: the head is the same node again, what is behind it is not --------------------------------


class Stack:
    """A free list in arrays: `next` of each slot, -1 ends it; top is (slot, tag), and a tag that grows tells ABA."""

    def __init__(self, tagged):
        self.next, self.top, self.tagged, self.lock = [1, 2, -1], (0, 0), tagged, threading.Lock()
        self.taken = []

    def compare_and_swap(self, old, slot):
        with self.lock:
            if self.top != old:
                return False
            self.top = slot, old[1] + self.tagged
            return True

    def pop(self):
        while True:
            old = self.top
            if self.compare_and_swap(old, self.next[old[0]]):
                return old[0]

    def push(self, slot):
        while True:
            old = self.top
            self.next[slot] = old[0]
            if self.compare_and_swap(old, slot):
                return


def pop_one(stack):
    stack.taken.append(stack.pop())


def pop_two_and_give_one_back(stack):
    first = stack.pop()
    stack.taken.append(stack.pop())
    stack.push(first)


def no_slot_twice(stack):
    free, slot = [], stack.top[0]
    while slot != -1 and len(free) < 4:
        free.append(slot)
        slot = stack.next[slot]
    return sorted(stack.taken + free) == [0, 1, 2] or f"taken {stack.taken}, free {free}"


aba = (
    Case(lambda: Stack(tagged=False), [pop_one, pop_two_and_give_one_back], no_slot_twice),
    Case(lambda: Stack(tagged=True), [pop_one, pop_two_and_give_one_back], no_slot_twice),
)

# --- publish before initialise ----------------------------------------------------------------------------------


class Weights:
    pass


def publish_early(registry):
    registry.model = model = Weights()
    model.layers = 3


def publish_late(registry):
    model = Weights()
    model.layers = 3
    registry.model = model


def use(registry):
    model = registry.model
    if model is not None:
        registry.seen = model.layers


def registry():
    return State(model=None, seen=None)


publish_before_initialise = (
    Case(registry, [publish_early, use], lambda registry: registry.seen in (None, 3)),
    Case(registry, [publish_late, use], lambda registry: registry.seen in (None, 3)),
)

# --- shared default argument --------------------------------------------------------------------------------------


def tokens_shared(text, found=[]):  # noqa: B006
    found.clear()
    for word in text.split():
        found.append(word)
    return list(found)


def tokens_own(text):
    found = []
    for word in text.split():
        found.append(word)
    return list(found)


def tokenise_with(tokens):
    def tokenise(text):
        return lambda state: state.update({text: tokens(text)})

    return [tokenise("a b"), tokenise("c")]


def right_tokens(state):
    return state == {"a b": ["a", "b"], "c": ["c"]} or f"the tokens are {state}"


shared_default = (
    Case(dict, tokenise_with(tokens_shared), right_tokens),
    Case(dict, tokenise_with(tokens_own), right_tokens),
)

# --- check-then-pop -----------------------------------------------------------------------------------------------


def pop_checked(state):
    while not state.jobs.empty():
        state.done.append(state.jobs.get())


def pop_nowait(state):
    try:
        while True:
            state.done.append(state.jobs.get_nowait())
    except queue.Empty:
        pass


def jobs():
    state = State(jobs=queue.Queue(), done=[])
    state.jobs.put("job")
    return state


check_then_pop = (
    Case(jobs, [pop_checked] * 2, lambda state: state.done == ["job"]),
    Case(jobs, [pop_nowait] * 2, lambda state: state.done == ["job"]),
)

# --- a lock for each call instead of for each object ------------------------------------------------------------------


def add_under_a_lock_of_its_own(counter):
    lock = threading.Lock()
    with lock:
        counter.value += 1


lock_per_call = (
    Case(counter, [add_under_a_lock_of_its_own] * 2, counts_two),
    Case(counter, [add_locked] * 2, counts_two),
)

# --- a semaphore released twice -----------------------------------------------------------------------------------


def give_up_twice(gpu):
    gpu.slots.acquire()
    try:
        gpu.slots.release()
    finally:
        gpu.slots.release()


def give_up(gpu):
    gpu.slots.acquire()
    gpu.slots.release()


def use(gpu):
    with gpu.slots:
        if gpu.busy:
            gpu.clash = True
        gpu.busy = True
        gpu.busy = False


def gpu():
    return State(slots=threading.Semaphore(1), busy=False, clash=False)


def one_at_a_time(gpu):
    return not gpu.clash or "two jobs ran at the same time"


semaphore_released_twice = (
    Case(gpu, [give_up_twice, use, use], one_at_a_time),
    Case(gpu, [give_up, use, use], one_at_a_time),
)

PAIRS = {
    "lost update": lost_update,
    "check-then-act": check_then_act,
    "double-checked initialisation": double_checked,
    "two-lock deadlock": two_lock_deadlock,
    "missed notify": missed_notify,
    "wait without loop": wait_without_loop,
    "iterate while modified": iterate_while_modified,
    "non-atomic swap": non_atomic_swap,
    "ABA on a free list": aba,
    "publish before initialise": publish_before_initialise,
    "shared default argument": shared_default,
    "check-then-pop": check_then_pop,
    "lock per call": lock_per_call,
    "semaphore released twice": semaphore_released_twice,
}


def main():
    for name, (racy, corrected) in PAIRS.items():
        for kind, case in (("racy", racy), ("corrected", corrected)):
            start = time.monotonic()
            report = case.explore()
            told = {"name": name, "kind": kind, **report.as_dict(), "seconds": round(time.monotonic() - start, 2)}
            print(json.dumps(told), flush=True)
            if report.failure is not None:
                again = case.replay(str(report.schedule))
                assert (again.kind, again.problem) == (report.verdict, report.failure.problem), str(again)


if __name__ == "__main__":
    sys.exit(main())
