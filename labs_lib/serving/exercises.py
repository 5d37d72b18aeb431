"""The exercises of lab 07: starters, solutions, hints. `checks`, `loop_checks` and `queue_checks` judge.

Starters and solutions are ordinary functions: a learner's code is compared with the starter's source, and
`lab.solution` prints the solution's.
"""

from __future__ import annotations

import asyncio
import math

from fastapi import HTTPException

import labs_lib.serving as serving  # the notebook's name for it
from labs_lib.exercises import Exercise
from labs_lib.serving import checks, loop_checks, queue_checks


def make_loop_starter(queue, run, max_batch):
    async def loop():
        while True:
            # YOUR TURN: what does a request wait for, while the model is free?
            await asyncio.sleep(0.05)
            batch = []
            while not queue.empty() and len(batch) < max_batch:
                batch.append(queue.get_nowait())
            if batch:
                await run(batch)

    return loop


def make_loop_solution(queue, run, max_batch):
    async def loop():
        while True:
            batch = [await queue.get()]
            while not queue.empty() and len(batch) < max_batch:
                batch.append(queue.get_nowait())
            await run(batch)

    return loop


def answers_starter(run, items):
    # YOUR TURN: one bad item, and nobody gets an answer
    try:
        return run(items)
    except Exception as error:
        return [error] * len(items)


def answers_solution(run, items):
    def of(part):
        if not part:
            return []
        try:
            return list(run(part))
        except Exception as error:
            if len(part) == 1:
                return [error]
        middle = len(part) // 2
        return of(part[:middle]) + of(part[middle:])

    return of(items)


def make_submit_starter(waiting, arrived, max_waiting, seconds_each):
    async def submit(item):
        # YOUR TURN: whoever comes waits, however many wait already, and stays when the client has gone
        answer = asyncio.get_running_loop().create_future()
        waiting[answer] = item
        arrived.set()
        return await answer

    return submit


def make_submit_solution(waiting, arrived, max_waiting, seconds_each):
    async def submit(item):
        if len(waiting) >= max_waiting:
            seconds = max(1, math.ceil(len(waiting) * seconds_each))
            raise HTTPException(503, headers={"Retry-After": str(seconds)})
        answer = asyncio.get_running_loop().create_future()
        waiting[answer] = item
        arrived.set()
        try:
            return await answer
        finally:
            waiting.pop(answer, None)

    return submit


def figures_starter(log, seconds):
    # YOUR TURN: five lies. Which requests count, from when on, and does this describe the slow ones?
    latencies = [row.done - row.sent for row in log]
    return len(log) / seconds, 1000 * sum(latencies) / len(latencies)


def figures_solution(log, seconds):
    right = [row for row in log if row.intended >= 0 and row.right]
    latencies = sorted(1000 * (row.done - row.intended) for row in right)
    return len(right) / seconds, serving.percentile(latencies, 99)


EXERCISES = {
    exercise.id: exercise
    for exercise in (
        Exercise(
            id="7.1",
            title="the batcher that sleeps",
            minutes=10,
            difficulty=2,
            checked="each request computed once and in order, then, on a virtual clock, that the model is never idle "
            "while one waits and that each batch takes what is queued",
            starter=make_loop_starter,
            solution=make_loop_solution,
            why=(
                "The loop waits for a request and not for a time. A lone request starts at once. Under load the batch "
                "forms by itself, since requests arrive while the model computes. The sleep gave no larger batches "
                "then, only a model that was idle while requests waited."
            ),
            hints=(
                "Ask of each line that awaits: what wakes it? A sleep ends when its time is over, whatever arrives.",
                "await queue.get() ends when a request is there. It is the first of the batch.",
                "Then add what is queued already, up to max_batch, without a wait, and await run(batch).",
            ),
            check=loop_checks.check_loop,
        ),
        Exercise(
            id="7.2",
            title="a bad input fails alone",
            minutes=10,
            difficulty=3,
            checked="each item's own result or its own error, in order, with none, one, several and only bad ones; "
            "then the calls of run: one where nothing is bad, about 2 log2(n) for one bad item among n",
            starter=answers_starter,
            solution=answers_solution,
            why=(
                "A half without a bad item is answered by one call. Only the half that fails is cut again, so one bad "
                "item among n costs about 2 log2(n) calls, and not n. Without a bad item it is one call as before. "
                "(The library's Batcher takes the shorter code: each item of a failed batch once more, n calls.)"
            ),
            hints=(
                "A batch of one that fails has its own error: return [error] for it. What of a batch of two?",
                "Where a batch fails, try its first half and its second half, each in the same way.",
                "Write an inner function of(part) that calls itself: of(part[:middle]) + of(part[middle:]). And an "
                "empty part needs no call.",
            ),
            check=checks.check_answers,
        ),
        Exercise(
            id="7.3",
            title="back-pressure",
            minutes=15,
            difficulty=3,
            checked="who is answered, who is refused and when, on a virtual clock; the Retry-After; then that nobody "
            "who has gone is computed or keeps a place",
            starter=make_submit_starter,
            solution=make_submit_solution,
            why=(
                "A queue that is bounded bounds the wait of whoever gets in. The others learn at once that they must "
                "come back, and after about the time that those ahead of them take. `finally` also runs when the "
                "request is cancelled, so a client that has gone leaves no work behind."
            ),
            hints=(
                "Compare len(waiting) with max_waiting before anything is added. Nothing may be awaited before that.",
                'raise HTTPException(503, headers={"Retry-After": ...}): a text with whole seconds, at least 1, for '
                "about as long as those who wait take: seconds_each for each of them.",
                "A cancelled request is a CancelledError at `await answer`. try, finally: waiting.pop(answer, None).",
            ),
            check=queue_checks.check_submit,
        ),
        Exercise(
            id="7.4",
            title="the lies in a load test",
            minutes=10,
            difficulty=2,
            checked="goodput and p99 of eight fresh logs, each with a trap of its own",
            starter=figures_starter,
            solution=figures_solution,
            why=(
                "An answer counts when it is right, and its latency from when the request was to leave. A mean hides "
                "the slow ones, refusals are fast, and a sender that waits for a stalled service never sends the "
                "requests that would have shown the stall. Each of these made the service look better than it is."
            ),
            hints=(
                "Read each word of the starter: of whom is it true that row.right? When was row.sent, and when should "
                "it have been?",
                "Warm-up rows have intended < 0. Failures answer fast, and some answers are 200 and wrong.",
                "Keep rows with intended >= 0 and right. Sort 1000 * (done - intended) and take "
                "serving.percentile(latencies, 99).",
            ),
            check=checks.check_figures,
        ),
    )
}
