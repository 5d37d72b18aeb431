"""What exercise 7.3 demands: the learner's `submit`, on a virtual clock, before a model that takes what waits."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np
from fastapi import HTTPException

from labs_lib.exercises import NotYet
from labs_lib.serving.virtual import VirtualLoop, on_virtual_clock


class _Waiting(dict):
    """Futures and their items, in the order of arrival; remembers how many there were at most."""

    most = 0

    def __setitem__(self, answer: asyncio.Future, item: object) -> None:
        super().__setitem__(answer, item)
        self.most = max(self.most, len(self))


@dataclass
class _Desk:
    """One model with the learner's `submit` in front: what became of each request, and when."""

    loop: VirtualLoop
    attempt: Callable
    max_waiting: int
    max_batch: int
    seconds_each: float
    waiting: _Waiting = field(default_factory=_Waiting)
    computed: list[object] = field(default_factory=list)

    async def __aenter__(self) -> _Desk:
        self.arrived = asyncio.Event()
        self.submit = self.attempt(self.waiting, self.arrived, self.max_waiting, self.seconds_each)
        if not asyncio.iscoroutinefunction(self.submit):
            raise NotYet(f"return submit itself, an `async def`; you return {type(self.submit).__name__}.")
        self.work = self.loop.create_task(self._work())
        return self

    async def __aexit__(self, *exception: object) -> None:
        self.work.cancel()

    async def _work(self) -> None:
        while True:
            if not self.waiting:
                self.arrived.clear()
                await self.arrived.wait()
                continue
            answers = list(self.waiting)[: self.max_batch]
            items = [self.waiting.pop(answer) for answer in answers]
            self.computed += items
            await asyncio.sleep(len(items) * self.seconds_each)
            for answer, item in zip(answers, items, strict=True):
                if not answer.done():
                    answer.set_result(_label(item))

    def come(self, items: Sequence[object]) -> list[asyncio.Task]:
        return [self.loop.create_task(self.submit(item)) for item in items]

    async def end(self, tasks: Sequence[asyncio.Task]) -> None:
        """Waits until all have been told something, or a long virtual time."""
        await asyncio.wait(tasks, timeout=60 + 10 * self.seconds_each * (len(tasks) + self.max_batch))


def _label(item: object) -> tuple[str, object]:
    return ("label of", item)


def check_submit(attempt: Callable) -> str:
    rng = np.random.default_rng()
    refused = 0
    for seconds_each, max_waiting, max_batch in (
        (0.002, 6, 4),
        (float(rng.uniform(0.3, 0.6)), int(rng.integers(8, 14)), 8),
        (float(rng.uniform(1.2, 2.5)), int(rng.integers(16, 30)), 4),
    ):
        settings = (max_waiting, max_batch, seconds_each)
        on_virtual_clock(lambda loop: _few_come(_Desk(loop, attempt, *settings)))  # noqa: B023
        refused += on_virtual_clock(lambda loop: _many_come(_Desk(loop, attempt, *settings)))  # noqa: B023
        for full in (True, False):
            on_virtual_clock(lambda loop: _some_go(_Desk(loop, attempt, *settings), full))  # noqa: B023
    return f"all who were let in are answered, and {refused} are refused at once; who has gone costs nothing (counted)."


async def _few_come(desk: _Desk) -> None:
    async with desk:
        tasks = desk.come(range(desk.max_waiting))
        await desk.end(tasks)
        _demand_answered(tasks, range(desk.max_waiting), f"{desk.max_waiting} come where max_waiting is as many")


async def _many_come(desk: _Desk) -> int:
    """The model is busy, and more come than may wait: the last of them are refused, at once."""
    async with desk:
        first = desk.come(["first"])
        await asyncio.sleep(desk.seconds_each / 2)
        tasks = desk.come(range(desk.max_waiting + 5))
        await asyncio.sleep(desk.seconds_each / 4)  # the model is still busy: nothing has left the queue
        let_in, refused = tasks[: desk.max_waiting], tasks[desk.max_waiting :]
        if desk.waiting.most > desk.max_waiting:
            raise NotYet(f"{desk.waiting.most} requests wait, and max_waiting is {desk.max_waiting}.")
        left_s = (desk.max_waiting + 0.5) * desk.seconds_each  # the first is half computed
        for task in refused:
            _demand_retry_after(_refusal(task), left_s, desk.max_batch * desk.seconds_each)
        await desk.end([*first, *let_in])
        _demand_answered(first + let_in, ["first", *range(desk.max_waiting)], f"{len(let_in)} find room")
        return len(refused)


def _refusal(task: asyncio.Task) -> object:
    """What the refused one was told as Retry-After."""
    if not task.done():
        raise NotYet("the queue is full, and who comes then is not refused at once but waits.")
    error = None if task.cancelled() else task.exception()
    if error is None:
        raise NotYet("the queue is full, and who comes then gets something else than an error.")
    if isinstance(error, NotYet):
        raise error
    if not isinstance(error, HTTPException):
        raise NotYet(f"refuse by raise HTTPException(503, headers=...); you raise {type(error).__name__}: {error}.")
    if error.status_code != 503:
        raise NotYet(f"the service is full for now: that is 503, and you answer {error.status_code}.")
    headers = {name.lower(): value for name, value in (error.headers or {}).items()}
    if "retry-after" not in headers:
        raise NotYet("the 503 has no Retry-After. When may the client come back?")
    return headers["retry-after"]


def _demand_retry_after(value: object, left_s: float, batch_s: float) -> None:
    """left_s: how long those who wait, and the batch that runs, still take; batch_s: a full batch."""
    if not isinstance(value, str) or not value.isdecimal() or int(value) < 1:
        kind = f"the {type(value).__name__} {value}" if isinstance(value, int | float) else repr(value)
        raise NotYet(f'Retry-After is a text with whole seconds, at least "1"; you send {kind}.')
    seconds = int(value)
    if seconds < left_s / 2:
        raise NotYet(
            f"Retry-After is {seconds} s, and those who wait take {left_s:.1f} s: whoever is refused comes back to a "
            "queue that is still half full. How long do those ahead take?"
        )
    if seconds > math.ceil(left_s + batch_s) + 1:
        raise NotYet(
            f"Retry-After is {seconds} s, and in {left_s:.1f} s the model has nothing left to do. How long do those "
            "who wait take?"
        )


async def _some_go(desk: _Desk, full: bool) -> None:
    """While the model is busy the queue fills, some of it goes, and as many others come; or, not full, nobody comes."""
    count = desk.max_waiting if full else desk.max_waiting - 1
    async with desk:
        first = desk.come(["first"])
        await asyncio.sleep(desk.seconds_each / 4)
        tasks = desk.come(range(count))
        await asyncio.sleep(desk.seconds_each / 4)
        gone = tasks[1::2]
        for task in [*first, *gone]:  # the first is in the running batch
            task.cancel()
        await asyncio.sleep(desk.seconds_each / 4)
        for task in [*first, *gone]:
            if not task.cancelled():
                if task.done() and task.exception() is not None:
                    raise task.exception()
                raise NotYet("a request whose client has gone is cancelled, and your submit does not let it end.")
        new = [f"new {i}" for i in range(len(gone))] if full else []
        late = desk.come(new)
        await desk.end([*tasks, *late])
        left = [i for i in range(count) if tasks[i] not in gone]
        turned_away = sum(_is_refused(task) for task in late)
        if turned_away:
            raise NotYet(
                f"{len(gone)} of {count} that waited have gone, and of {len(late)} that come then "
                f"{turned_away} are refused. Who has gone takes no place."
            )
        _demand_answered([tasks[i] for i in left] + late, [*left, *new], f"{len(gone)} of {count} have gone")
        wasted = len(desk.computed) - 1 - len(left) - len(new)
        if wasted > 0:
            raise NotYet(f"the model computes {wasted} requests whose clients have gone. Take them out of `waiting`.")


def _is_refused(task: asyncio.Task) -> bool:
    return task.done() and not task.cancelled() and isinstance(task.exception(), HTTPException)


def _demand_answered(tasks: Sequence[asyncio.Task], items: Sequence[object], when: str) -> None:
    refused = sum(_is_refused(task) for task in tasks)
    if refused:
        raise NotYet(f"{when}, and {refused} of them are refused. Who finds room is answered.")
    open_ = sum(not task.done() or task.cancelled() for task in tasks)
    if open_:
        raise NotYet(f"{when}, and {open_} of {len(tasks)} never get an answer. Did you set `arrived`?")
    for task, item in zip(tasks, items, strict=True):
        if task.result() != _label(item):
            raise NotYet(f"{when}, and one gets something else than its own answer.")
