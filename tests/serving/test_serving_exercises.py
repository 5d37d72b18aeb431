"""Each exercise of lab 07: starter, solution, and wrong answers, each with the message it must earn."""

import asyncio
import math
import threading
import time

import numpy as np
import pytest
from fastapi import HTTPException

from labs_lib.exercises import SOLVED, NotYet, judge
from labs_lib.serving import percentile
from labs_lib.serving.exercises import EXERCISES
from labs_lib.serving.virtual import on_virtual_clock
from tests.exercise_tests import ExerciseTests

# --- 7.1 --------------------------------------------------------------------------------------------


def looping(turn):
    """A make_loop whose loop does `turn(queue, run, max_batch)` for ever."""

    def make_loop(queue, run, max_batch):
        async def loop():
            while True:
                await turn(queue, run, max_batch)

        return loop

    make_loop.__name__ = turn.__name__
    return make_loop


def queued(queue, most):
    return [queue.get_nowait() for _ in range(min(queue.qsize(), most))]


@looping
async def sleeps_less(queue, run, max_batch):
    await asyncio.sleep(0.005)
    if batch := queued(queue, max_batch):
        await run(batch)


@looping
async def sleeps_after_each_batch(queue, run, max_batch):
    await run([await queue.get(), *queued(queue, max_batch - 1)])
    await asyncio.sleep(0.001)


@looping
async def waits_for_company(queue, run, max_batch):
    batch = [await queue.get()]
    await asyncio.sleep(0.002)
    await run(batch + queued(queue, max_batch - 1))


@looping
async def waits_for_a_full_batch(queue, run, max_batch):
    await run([await queue.get() for _ in range(max_batch)])


@looping
async def one_by_one(queue, run, max_batch):
    await run([await queue.get()])


@looping
async def takes_all(queue, run, max_batch):
    await run([await queue.get(), *queued(queue, 1000)])


@looping
async def loses_what_is_too_much(queue, run, max_batch):
    await run([await queue.get(), *queued(queue, 1000)][:max_batch])


@looping
async def runs_two_at_once(queue, run, max_batch):
    asyncio.ensure_future(run([await queue.get(), *queued(queue, max_batch - 1)]))  # noqa: RUF006


@looping
async def last_come_first_served(queue, run, max_batch):
    first = await queue.get()
    rest = [first, *queued(queue, 1000)]
    for item in rest[:-max_batch]:
        queue.put_nowait(item)
    await run(rest[-max_batch:])


@looping
async def spins(queue, run, max_batch):
    if batch := queued(queue, max_batch):
        await run(batch)
    await asyncio.sleep(0)


@looping
async def spins_without_an_await(queue, run, max_batch):
    while queue.empty():
        pass
    await run(queued(queue, max_batch))


@looping
async def sleeps_in_the_loop(queue, run, max_batch):
    first = await queue.get()
    time.sleep(0.001)
    await run([first, *queued(queue, max_batch - 1)])


@looping
async def computes_nothing_too(queue, run, max_batch):
    await run(queued(queue, max_batch))
    await asyncio.sleep(0.001)


@looping
async def computes_each_twice(queue, run, max_batch):
    batch = [await queue.get(), *queued(queue, max_batch - 1)]
    await run(batch)
    await run(batch)


def ends_after_one(queue, run, max_batch):
    async def loop():
        await run([await queue.get()])

    return loop


def is_called_already(queue, run, max_batch):
    return EXERCISES["7.1"].solution(queue, run, max_batch)()


def collects_while_the_model_computes(queue, run, max_batch):
    async def loop():
        running = None
        while True:
            batch = [await queue.get()]
            if running:
                await running
            batch += queued(queue, max_batch - 1)
            running = asyncio.create_task(run(batch))

    return loop


@looping
async def until_the_queue_is_empty(queue, run, max_batch):
    batch = [await queue.get()]
    while len(batch) < max_batch:
        try:
            batch.append(queue.get_nowait())
        except asyncio.QueueEmpty:
            break
    await run(batch)


# --- 7.2 --------------------------------------------------------------------------------------------


def one_by_one_at_once(run, items):
    found = []
    for item in items:
        try:
            found.append(run([item])[0])
        except Exception as error:
            found.append(error)
    return found


def one_by_one_after_a_failure(run, items):
    try:
        return run(items) if items else []
    except Exception:
        return one_by_one_at_once(run, items)


def lets_it_raise(run, items):
    return run(items) if items else []


def leaves_the_bad_ones_out(run, items):
    return [one for one in EXERCISES["7.2"].solution(run, items) if not isinstance(one, Exception)]


def nothing_for_the_bad_ones(run, items):
    return [None if isinstance(one, Exception) else one for one in EXERCISES["7.2"].solution(run, items)]


def text_for_the_bad_ones(run, items):
    return [str(one) if isinstance(one, Exception) else one for one in EXERCISES["7.2"].solution(run, items)]


def the_first_error_for_all(run, items):
    found = EXERCISES["7.2"].solution(run, items)
    errors = [one for one in found if isinstance(one, Exception)]
    return [errors[0] if isinstance(one, Exception) else one for one in found]


def bad_ones_last(run, items):
    return sorted(EXERCISES["7.2"].solution(run, items), key=lambda one: isinstance(one, Exception))


def only_one_cut(run, items):
    found = []
    for part in (items[: len(items) // 2], items[len(items) // 2 :]):
        try:
            found += run(part) if part else []
        except Exception as error:
            found += [error] * len(part)
    return found


def swallows_interrupts(run, items):
    try:
        return run(items) if items else []
    except BaseException as error:
        if len(items) == 1:
            return [error]
    middle = len(items) // 2
    return swallows_interrupts(run, items[:middle]) + swallows_interrupts(run, items[middle:])


def calls_with_nothing(run, items):
    return EXERCISES["7.2"].solution(run, items) if items else run(items)


def takes_items_away(run, items):
    found = EXERCISES["7.2"].solution(run, list(items))
    items.clear()
    return found


def with_a_stack(run, items):
    found, parts = [], [list(items)] if items else []
    while parts:
        part = parts.pop()
        try:
            found.extend(run(part))
        except Exception as error:
            if len(part) == 1:
                found.append(error)
            else:
                half = (len(part) + 1) // 2
                parts += [part[half:], part[:half]]
    return found


# --- 7.3 --------------------------------------------------------------------------------------------


def refusal(seconds):
    return HTTPException(503, headers={"Retry-After": seconds})


def after(waiting, seconds_each):
    return str(max(1, math.ceil(len(waiting) * seconds_each)))


def submitting(full=None, refuse=None, leave=lambda waiting, answer: waiting.pop(answer, None), before=None):
    """A make_submit from its parts: when it is full, how it refuses, how one leaves, what is awaited before."""

    def make_submit(waiting, arrived, max_waiting, seconds_each):
        async def submit(item):
            if before:
                await before()
            if full(waiting, max_waiting) if full else len(waiting) >= max_waiting:
                if refuse:
                    return refuse(waiting, seconds_each)
                raise refusal(after(waiting, seconds_each))
            answer = asyncio.get_running_loop().create_future()
            waiting[answer] = item
            arrived.set()
            try:
                return await answer
            finally:
                leave(waiting, answer)

        return submit

    return make_submit


def told(seconds):
    def refuse(waiting, seconds_each):
        raise refusal(seconds(waiting, seconds_each))

    return refuse


def named(name, attempt):
    attempt.__name__ = name
    return attempt


def too_many_requests(waiting, seconds_each):
    raise HTTPException(429, headers={"Retry-After": after(waiting, seconds_each)})


def without_a_header(waiting, seconds_each):
    raise HTTPException(503)


def an_error_of_its_own(waiting, seconds_each):
    raise RuntimeError("full")


def forgets_to_wake(waiting, arrived, max_waiting, seconds_each):
    async def submit(item):
        if len(waiting) >= max_waiting:
            raise refusal(after(waiting, seconds_each))
        answer = asyncio.get_running_loop().create_future()
        waiting[answer] = item
        try:
            return await answer
        finally:
            waiting.pop(answer, None)

    return submit


def turns_the_oldest_away(waiting, arrived, max_waiting, seconds_each):
    async def submit(item):
        if len(waiting) >= max_waiting:
            oldest = next(iter(waiting))
            waiting.pop(oldest)
            oldest.set_exception(refusal(after(waiting, seconds_each)))
        answer = asyncio.get_running_loop().create_future()
        waiting[answer] = item
        arrived.set()
        try:
            return await answer
        finally:
            waiting.pop(answer, None)

    return submit


def holds_on_to_the_cancelled(waiting, arrived, max_waiting, seconds_each):
    right = EXERCISES["7.3"].solution(waiting, arrived, max_waiting, seconds_each)

    async def submit(item):
        try:
            return await right(item)
        except asyncio.CancelledError:
            return None

    return submit


def looks_for_the_gone_when_full(waiting, arrived, max_waiting, seconds_each):
    async def submit(item):
        if len(waiting) >= max_waiting:
            for answer in [answer for answer in waiting if answer.cancelled()]:
                del waiting[answer]
        if len(waiting) >= max_waiting:
            raise refusal(after(waiting, seconds_each))
        answer = asyncio.get_running_loop().create_future()
        waiting[answer] = item
        arrived.set()
        return await answer

    return submit


def no_submit(waiting, arrived, max_waiting, seconds_each):
    return None


def bounds_by_a_timeout(waiting, arrived, max_waiting, seconds_each):
    right = submitting(full=lambda waiting, most: False)(waiting, arrived, max_waiting, seconds_each)

    async def submit(item):
        for _ in range(100):
            if len(waiting) < max_waiting:
                return await right(item)
            await asyncio.sleep(seconds_each)
        raise refusal("1")

    return submit


def with_a_callback(waiting, arrived, max_waiting, seconds_each):
    async def submit(item):
        if len(waiting) >= max_waiting:
            raise HTTPException(503, "full", {"retry-after": str(int(len(waiting) * seconds_each) + 1)})
        answer = asyncio.get_running_loop().create_future()
        waiting[answer] = item
        answer.add_done_callback(lambda answer: waiting.pop(answer, None))
        arrived.set()
        return await answer

    return submit


def leaves_when_cancelled(waiting, arrived, max_waiting, seconds_each):
    async def submit(item):
        if not len(waiting) < max_waiting:
            raise refusal(f"{max(1, round(len(waiting) * seconds_each))}")
        answer = asyncio.Future()
        waiting[answer] = item
        arrived.set()
        try:
            return await answer
        except asyncio.CancelledError:
            if answer in waiting:
                del waiting[answer]
            raise

    return submit


# --- 7.4 --------------------------------------------------------------------------------------------


def figures(keep=lambda row: row.right and row.intended >= 0, start="intended", of=None, per_second=None, scale=1000):
    """A `figures` from its parts: which rows count, from when, what is said of them, and how many a second."""

    def attempt(log, seconds):
        rows = [row for row in log if keep(row)]
        latencies = sorted(scale * (row.done - getattr(row, start)) for row in rows)
        count = per_second(log, rows) if per_second else len(rows)
        return count / seconds, (of or (lambda ordered: percentile(ordered, 99)))(latencies)

    return attempt


def sorts_the_log(log, seconds):
    log.sort(key=lambda row: row.done)
    return EXERCISES["7.4"].solution(log, seconds)


def not_sorted(log, seconds):
    latencies = [1000 * (row.done - row.intended) for row in log if row.right and row.intended >= 0]
    return len(latencies) / seconds, percentile(latencies, 99)


def per_planned_second(log, seconds):
    goodput, p99 = EXERCISES["7.4"].solution(log, seconds)
    return goodput * seconds / 10, p99


def as_a_dict(log, seconds):
    return dict(zip(("goodput", "p99"), EXERCISES["7.4"].solution(log, seconds), strict=True))


def fails_where_nothing_is_right(log, seconds):
    latencies = [1000 * (row.done - row.intended) for row in log if row.right and row.intended >= 0]
    return len(latencies) / seconds, float(np.percentile(latencies, 99))


def zero_where_nothing_is_right(log, seconds):
    return figures(of=lambda ordered: percentile(ordered, 99) if ordered else 0.0)(log, seconds)


def with_numpy(log, seconds):
    rows = np.array([(row.intended, row.done, row.right) for row in log], dtype=float)
    kept = rows[(rows[:, 0] >= 0) & (rows[:, 2] == 1)]
    p99 = np.percentile(kept[:, 1] - kept[:, 0], 99) * 1000 if len(kept) else math.nan
    return len(kept) / seconds, p99


WRONG = {
    "7.1": [
        (sleeps_less, "in the queue, while the model is free"),
        (sleeps_after_each_batch, "in the queue, while the model is free"),
        (waits_for_company, "a request that comes alone waits 2 ms"),
        (waits_for_a_full_batch, "are never computed"),
        (one_by_one, "and the loop takes 1 of them"),
        (takes_all, "and max_batch is 8"),
        (loses_what_is_too_much, "are never computed"),
        (runs_two_at_once, "Await run(batch)"),
        (last_come_first_served, "overtake each other"),
        (spins, "round and round"),
        (spins_without_an_await, "round and round"),
        (sleeps_in_the_loop, "time.sleep stops the event loop"),
        (computes_nothing_too, "with no request at all"),
        (computes_each_twice, "are computed twice"),
        (ends_after_one, "your loop ends after 1 of 3 requests"),
        (is_called_already, "return the loop itself"),
    ],
    "7.2": [
        (one_by_one_at_once, "none of them bad, run is called 6 times where 1 will do"),
        (one_by_one_after_a_failure, "run is called 9 times where 7 will do"),
        (lets_it_raise, "so that nobody gets an answer"),
        (leaves_the_bad_ones_out, "8 items need 8 answers, and you return 7"),
        (nothing_for_the_bad_ones, "a bad one gets None in place of"),
        (text_for_the_bad_ones, "in place of the exception"),
        (the_first_error_for_all, "Each has its own"),
        (bad_ones_last, "of them bad: a bad one gets"),
        (only_one_cut, "run is called 2 times where 1 will do"),
        (swallows_interrupts, "KeyboardInterrupt is no bad item"),
        (calls_with_nothing, "called with an empty list"),
        (takes_items_away, "changes the caller's list"),
    ],
    "7.3": [
        (named("one_too_many", submitting(lambda waiting, most: len(waiting) > most)), "7 requests wait"),
        (named("one_too_few", submitting(lambda waiting, most: len(waiting) >= most - 1)), "1 of them are refused"),
        (named("whole", submitting(refuse=told(lambda *_: 3))), "you send the int 3"),
        (named("fraction", submitting(refuse=told(lambda w, each: f"{len(w) * each:.3f}"))), "whole seconds"),
        (named("zero", submitting(refuse=told(lambda w, each: str(int(len(w) * each))))), 'at least "1"'),
        (named("always_one", submitting(refuse=told(lambda *_: "1"))), "still half full"),
        (named("always_sixty", submitting(refuse=told(lambda *_: "60"))), "nothing left to do"),
        (named("no_header", submitting(refuse=without_a_header)), "has no Retry-After"),
        (named("429", submitting(refuse=too_many_requests)), "that is 503"),
        (named("other_error", submitting(refuse=an_error_of_its_own)), "you raise RuntimeError: full"),
        (named("answers_none", submitting(refuse=lambda *_: None)), "something else than an error"),
        (named("awaits_first", submitting(before=lambda: asyncio.sleep(0.01))), "not refused at once"),
        (named("stays", submitting(leave=lambda *_: None)), "Who has gone takes no place"),
        (named("del", submitting(leave=lambda waiting, answer: waiting.pop(answer))), "KeyError"),
        (forgets_to_wake, "Did you set `arrived`?"),
        (turns_the_oldest_away, "not refused at once"),
        (holds_on_to_the_cancelled, "does not let it end"),
        (looks_for_the_gone_when_full, "the model computes 2 requests whose clients have gone"),
        (no_submit, "return submit itself"),
        (bounds_by_a_timeout, "not refused at once"),
    ],
    "7.4": [
        (named("mean", figures(of=lambda ordered: sum(ordered) / len(ordered))), "A mean does not show it"),
        (named("median", figures(of=lambda ordered: percentile(ordered, 50))), "A mean does not show it"),
        (named("from_sent", figures(start="sent")), "From when on does a user wait?"),
        (named("status_200", figures(lambda row: row.status == 200 and row.intended >= 0)), "a wrong answer"),
        (named("all_answers", figures(lambda row: row.intended >= 0)), "a wrong answer"),
        (named("not_503", figures(lambda row: row.status in (200, 503) and (row.right or row.status == 503))),
         "Is a refusal a fast answer?"),
        (named("with_time_outs", figures(lambda row: row.right or row.status == "timed out")), "fast or slow"),
        (named("with_warm_up", figures(lambda row: row.right)), "only warm it up"),
        (named("slowest", figures(of=lambda ordered: ordered[-1] if ordered else math.nan)), "the p99 is"),
        (not_sorted, "the p99 is"),
        (named("seconds", figures(scale=1)), "Report milliseconds"),
        (per_planned_second, "right answers in"),
        (sorts_the_log, "changes the caller's log"),
        (as_a_dict, "return two numbers"),
        (fails_where_nothing_is_right, "IndexError"),
        (zero_where_nothing_is_right, "where nothing is right"),
    ],
}  # fmt: skip
RIGHT = (
    ("7.1", collects_while_the_model_computes),
    ("7.1", until_the_queue_is_empty),
    ("7.2", with_a_stack),
    ("7.3", with_a_callback),
    ("7.3", leaves_when_cancelled),
    ("7.4", with_numpy),
)


class TestExercises(ExerciseTests):
    exercises = EXERCISES
    wrong = WRONG
    right = RIGHT


def test_a_check_runs_where_an_event_loop_runs_already():
    """As in a notebook, whose kernel is one."""

    async def cell():
        return [judge(EXERCISES[id], EXERCISES[id].solution).state for id in ("7.1", "7.3")]

    assert asyncio.run(cell()) == [SOLVED, SOLVED]


def test_the_virtual_clock_is_exact_and_costs_no_time():
    async def main(loop):
        await asyncio.gather(asyncio.sleep(3600), asyncio.sleep(7200.000001))
        return loop.now_us()

    began = time.monotonic()
    assert on_virtual_clock(main) == 7_200_000_001
    assert time.monotonic() - began < 3600


def test_what_waits_for_nothing_is_said():
    async def main(loop):
        await asyncio.Event().wait()

    with pytest.raises(NotYet, match="nothing is left that could wake it"):
        on_virtual_clock(main)


def test_time_sleep_is_refused_on_the_virtual_clock_alone():
    async def main(loop):
        thread = threading.Thread(target=lambda: [time.sleep(0.001), slept.append(True)])
        thread.start()
        thread.join()
        time.sleep(0.001)

    slept, sleep = [], time.sleep
    with pytest.raises(NotYet, match=r"time\.sleep stops the event loop"):
        on_virtual_clock(main)
    assert slept
    assert time.sleep is sleep
