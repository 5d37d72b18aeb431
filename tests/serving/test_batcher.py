"""The batcher: every request gets exactly its own answer, whatever the others do."""

import asyncio
import random
import threading

import pytest

from labs_lib.serving import Batcher, Closed, Full, TooLate

SOON = 20  # seconds; only a hang takes so long


class Gate:
    """A `run` that doubles its items and stops before each batch until it is let through."""

    def __init__(self, opened=False):
        self.batches, self.entered, self.go = [], threading.Semaphore(0), threading.Semaphore(0)
        self.opened = opened

    def __call__(self, items):
        self.batches.append(list(items))
        self.entered.release()
        if not self.opened:
            assert self.go.acquire(timeout=SOON)
        if any(item == "bad" for item in items):
            raise ValueError("a bad item")
        return [2 * item for item in items]

    async def running(self):
        """Waits until one more batch is inside."""
        assert await asyncio.to_thread(self.entered.acquire, timeout=SOON)

    def open(self):
        self.opened = True
        self.go.release()


def together(batcher, items):
    return [asyncio.create_task(batcher.submit(item)) for item in items]


def test_what_arrives_while_the_model_is_busy_is_the_next_batch():
    async def main():
        gate = Gate()
        async with Batcher(gate, max_batch=4) as batcher:
            tasks = together(batcher, [0])
            await gate.running()
            tasks += together(batcher, range(1, 7))
            await asyncio.sleep(0)
            gate.open()
            assert await asyncio.gather(*tasks) == [0, 2, 4, 6, 8, 10, 12]
        assert gate.batches == [[0], [1, 2, 3, 4], [5, 6]]
        assert dict(batcher.counts.batches) == {1: 1, 4: 1, 2: 1}
        assert batcher.counts.answered == 7

    asyncio.run(main())


def test_a_single_request_waits_for_nobody_without_a_window():
    async def main():
        async with Batcher(Gate(opened=True), max_batch=16) as batcher:
            assert await asyncio.wait_for(batcher.submit(3), SOON) == 6
        assert dict(batcher.counts.batches) == {1: 1}

    asyncio.run(main())


def test_a_window_ends_with_a_full_batch():
    async def main():
        async with Batcher(Gate(opened=True), max_batch=3, max_wait_s=1000) as batcher:
            assert await asyncio.wait_for(asyncio.gather(*together(batcher, [1, 2, 3])), SOON) == [2, 4, 6]
        assert dict(batcher.counts.batches) == {3: 1}

    asyncio.run(main())


def test_a_window_ends_by_itself_and_on_close():
    async def main():
        async with Batcher(Gate(opened=True), max_batch=3, max_wait_s=0.02) as batcher:
            assert await asyncio.wait_for(asyncio.gather(*together(batcher, [1, 2])), SOON) == [2, 4]
        assert dict(batcher.counts.batches) == {2: 1}
        async with Batcher(Gate(opened=True), max_batch=3, max_wait_s=1000) as batcher:
            tasks = together(batcher, [1, 2])
            await asyncio.sleep(0.01)
        assert await asyncio.wait_for(asyncio.gather(*tasks), SOON) == [2, 4]

    asyncio.run(main())


def test_a_full_queue_rejects_at_once():
    async def main():
        gate = Gate()
        async with Batcher(gate, max_batch=2, max_queue=3) as batcher:
            tasks = together(batcher, [0])
            await gate.running()
            tasks += together(batcher, [1, 2, 3])
            await asyncio.sleep(0)
            with pytest.raises(Full):
                await batcher.submit(4)
            gate.open()
            assert await asyncio.gather(*tasks) == [0, 2, 4, 6]
        assert batcher.counts.rejected == 1

    asyncio.run(main())


def test_a_bad_item_fails_alone():
    async def main():
        gate = Gate()
        async with Batcher(gate, max_batch=8) as batcher:
            tasks = together(batcher, [0])
            await gate.running()
            tasks += together(batcher, [1, "bad", 3])
            await asyncio.sleep(0)
            gate.open()
            zero, one, bad, three = await asyncio.gather(*tasks, return_exceptions=True)
            assert (zero, one, three) == (0, 2, 6)
            assert isinstance(bad, ValueError)
            assert await batcher.submit(5) == 10  # and the batcher goes on
        assert batcher.counts.failed == 1
        assert gate.batches == [[0], [1, "bad", 3], [1], ["bad"], [3], [5]]

    asyncio.run(main())


def test_an_exception_among_the_results_is_raised_for_its_item_alone():
    async def main():
        async with Batcher(lambda items: [KeyError("no") if item == 2 else item for item in items]) as batcher:
            one, two = await asyncio.gather(*together(batcher, [1, 2]), return_exceptions=True)
            assert one == 1
            assert isinstance(two, KeyError)

    asyncio.run(main())


def test_a_run_that_loses_results_is_an_error_for_all_and_not_a_hang():
    async def main():
        async with Batcher(lambda items: []) as batcher:
            found = await asyncio.wait_for(asyncio.gather(*together(batcher, [1, 2]), return_exceptions=True), SOON)
            assert [type(one) for one in found] == [RuntimeError, RuntimeError]

    asyncio.run(main())


@pytest.mark.parametrize("error", [StopIteration, SystemExit, asyncio.CancelledError])
def test_what_would_end_the_worker_is_an_error_of_its_item(error):
    def run(items):
        if 2 in items:
            raise error
        return items

    async def main():
        async with Batcher(run) as batcher:
            found = await asyncio.wait_for(asyncio.gather(*together(batcher, [1, 2]), return_exceptions=True), SOON)
            assert (found[0], type(found[1])) == (1, RuntimeError)
            assert await asyncio.wait_for(batcher.submit(3), SOON) == 3

    asyncio.run(main())


def test_who_is_cancelled_leaves_the_queue():
    async def main():
        gate = Gate()
        async with Batcher(gate, max_batch=1, max_queue=1) as batcher:
            first = together(batcher, [0])
            await gate.running()
            gone = together(batcher, [1])[0]
            await asyncio.sleep(0)
            gone.cancel()
            await asyncio.gather(gone, return_exceptions=True)
            stays = together(batcher, [2])  # there is room again
            await asyncio.sleep(0)
            first[0].cancel()  # in the running batch: nobody takes its result
            gate.open()
            assert await asyncio.wait_for(stays[0], SOON) == 4
        assert gate.batches == [[0], [2]]
        assert batcher.counts.cancelled == 2

    asyncio.run(main())


def test_who_is_too_late_leaves_the_queue():
    async def main():
        gate = Gate()
        async with Batcher(gate, max_batch=1, timeout_s=0.02) as batcher:
            first, second = await asyncio.gather(*together(batcher, [0, 1]), return_exceptions=True)
            assert isinstance(first, TooLate)
            assert isinstance(second, TooLate)
            gate.open()
        assert gate.batches == [[0]]
        assert batcher.counts.timed_out == 2

    asyncio.run(main())


def test_a_timeout_of_the_item_itself_is_not_the_batchers():
    async def main():
        async with Batcher(lambda items: [TimeoutError("upstream") for _ in items], timeout_s=SOON) as batcher:
            with pytest.raises(TimeoutError, match="upstream"):
                await batcher.submit(1)
        assert (batcher.counts.failed, batcher.counts.timed_out) == (1, 0)

    asyncio.run(main())


@pytest.mark.parametrize("drain", [True, False])
def test_closing_answers_everyone(drain):
    async def main():
        gate = Gate()
        batcher = Batcher(gate, max_batch=1)
        with pytest.raises(Closed):
            await batcher.submit(0)
        await batcher.__aenter__()
        tasks = together(batcher, [0])
        await gate.running()
        tasks += together(batcher, [1, 2])
        await asyncio.sleep(0)
        closing = asyncio.create_task(batcher.close(drain))
        await asyncio.sleep(0)
        with pytest.raises(Closed):
            await batcher.submit(3)
        gate.open()
        await asyncio.wait_for(closing, SOON)
        found = await asyncio.gather(*tasks, return_exceptions=True)
        if drain:
            assert found == [0, 2, 4]
        else:
            assert found[0] == 0
            assert all(isinstance(one, Closed) for one in found[1:])
        assert batcher.counts.rejected == (2 if drain else 4)

    asyncio.run(main())


def test_a_thousand_with_faults_each_get_exactly_their_own():
    rng = random.Random(0)

    def run(items):
        if any(item % 50 == 7 for item in items):
            raise ValueError("a bad item")
        return [item * item for item in items]

    async def one(batcher, item):
        await asyncio.sleep(rng.random() / 20)
        while True:
            try:
                return await batcher.submit(item)
            except Full:
                await asyncio.sleep(0.001)

    async def main():
        async with Batcher(run, max_batch=8, max_queue=50) as batcher:
            tasks = [asyncio.create_task(one(batcher, item)) for item in range(1000)]
            await asyncio.sleep(0.01)
            gone = set(range(0, 1000, 13))
            for item in gone:
                tasks[item].cancel()
            found = await asyncio.wait_for(asyncio.gather(*tasks, return_exceptions=True), SOON)
        for item, result in enumerate(found):
            if item in gone and isinstance(result, asyncio.CancelledError):
                continue
            assert isinstance(result, ValueError) if item % 50 == 7 else result == item * item
        counts = batcher.counts
        assert counts.failed == sum(isinstance(result, ValueError) for result in found)
        assert counts.answered == sum(isinstance(result, int) for result in found)

    asyncio.run(main())


def test_one_batcher_serves_in_one_loop_after_the_other():
    """As an application does that is started twice in a test."""

    async def once():
        async with batcher:
            return await asyncio.wait_for(batcher.submit(2), SOON)

    batcher = Batcher(lambda items: [2 * item for item in items])
    assert [asyncio.run(once()), asyncio.run(once())] == [4, 4]


def test_a_wrong_number_of_results_fails_them_all_and_is_not_tried_again():
    async def main():
        calls = []
        async with Batcher(lambda items: calls.append(len(items)) or items[:1]) as batcher:
            results = await asyncio.gather(*together(batcher, range(5)), return_exceptions=True)
        return calls, results

    calls, results = asyncio.run(main())
    assert calls == [5]
    assert {str(result) for result in results} == {"run gave 1 results for 5 items"}


async def coroutine_function(items):
    return items


@pytest.mark.parametrize("run", [coroutine_function, None, 3])
def test_what_cannot_be_called_in_a_thread(run):
    with pytest.raises(TypeError, match="give a plain function"):
        Batcher(run)
