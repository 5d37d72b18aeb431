"""A DataLoader on a virtual clock: the exact schedule that its rules give for known costs.

The rules are those of torch.utils.data.DataLoader. Batch k belongs to worker k % workers, each worker makes its
batches one after the other, and the consumer takes them in order. workers * prefetch batches are asked for at
first, and one more each time the consumer receives one.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from labs_lib.data_loading.events import CONSUMER, Event
from labs_lib.errors import LabError


@dataclass(frozen=True)
class Schedule:
    """What `simulate` found, in whole ticks."""

    epoch: int  # ticks from the start until the last step is done
    idle: int  # ticks in which the consumer has no batch to work on
    idle_steps: list[int]  # the same for each batch: how long the consumer waits for it
    events: list[Event]

    @property
    def idle_share(self) -> float:
        """The part of the epoch in which the consumer waits."""
        return self.idle / self.epoch if self.epoch else 0.0


@dataclass
class _Worker:
    """One worker: what is left to do of the batch in its hands."""

    number: int
    next_batch: int
    start_left: int
    batch: int | None = None
    wait_left: int = 0
    cpu_left: int = 0


@dataclass
class _Diary:
    """Events, where one that goes on with the last one makes it longer."""

    events: list[Event] = field(default_factory=list)
    last: dict[str, int] = field(default_factory=dict)

    def note(self, who: str, what: str, now: int, ticks: int, batch: int) -> None:
        place = self.last.get(who)
        if place is not None and self.events[place][1:2] + self.events[place][3:] == (what, now, batch):
            self.events[place] = self.events[place]._replace(stop=now + ticks)
            return
        self.last[who] = len(self.events)
        self.events.append(Event(who, what, now, now + ticks, batch))


def simulate(
    *, batches: int, step: int, wait: int = 0, cpu: int = 0, workers: int = 0, prefetch: int = 2, startup: int = 0,
    cores: int | None = 2,
) -> Schedule:  # fmt: skip
    """The schedule of one epoch, in ticks.

    A batch costs `wait` ticks of storage, any number of which may run at once, then `cpu` ticks that need a core;
    a consumer's step needs a core for `step` ticks. The consumer's comes first, then the earliest batch's;
    `cores=None` sets no limit. Each worker first takes `startup` ticks. With workers=0 the consumer makes the
    batches itself, and what that takes counts as waiting.

    >>> simulate(batches=4, wait=3, cpu=1, step=2).epoch
    24
    >>> simulate(batches=4, wait=3, cpu=1, step=2, workers=2).idle_steps
    [4, 0, 0, 0]

    Raises LabError for a negative count, and for what is no whole number.
    """
    numbers = {"batches": batches, "step": step, "wait": wait, "cpu": cpu, "workers": workers, "startup": startup}
    for name, value in {**numbers, "prefetch": prefetch, "cores": 1 if cores is None else cores}.items():
        if not hasattr(value, "__index__"):
            raise LabError(f"{name}={value!r} is no whole number.", "The virtual clock counts in ticks.", "Round it.")
        if value < (name in ("prefetch", "cores")):
            raise LabError(f"{name}={value} is too small.", "Costs are at least 0, prefetch and cores at least 1.", "")
    if workers == 0:
        return _alone(batches, step, wait, cpu)
    return _with_workers(batches, step, wait, cpu, workers, prefetch, startup, cores)


def _alone(batches: int, step: int, wait: int, cpu: int) -> Schedule:
    events, now = [], 0
    for batch in range(batches):
        for what, ticks in (("wait", wait), ("cpu", cpu), ("compute", step)):
            if ticks:
                events.append(Event(CONSUMER, what, now, now + ticks, batch))
            now += ticks
    return Schedule(now, batches * (wait + cpu), [wait + cpu] * batches, events)


def _with_workers(
    batches: int, step: int, wait: int, cpu: int, workers: int, prefetch: int, startup: int, cores: int | None
) -> Schedule:
    crew = [_Worker(number, number, startup) for number in range(workers)]
    diary, ready, idle_steps = _Diary(), set(), [0] * batches
    now, received, step_left = 0, 0, 0

    while received < batches or step_left:
        moved = True
        while moved:  # whatever takes no time happens now
            moved = False
            if not step_left and received in ready:
                received, step_left, moved = received + 1, step, True
            for worker in crew:
                moved |= _turn(worker, batches, received + workers * prefetch, workers, (wait, cpu), ready)
        if received == batches and not step_left:
            break
        computing = _with_a_core(crew, (len(crew) + 1 if cores is None else cores) - bool(step_left))
        # Nobody begins or ends anything before the first of these is over: until then all go on as they are.
        ticks = min(left for left in (step_left, *(_left(worker, computing) for worker in crew)) if left)
        if step_left:
            step_left -= ticks
            diary.note(CONSUMER, "compute", now, ticks, received - 1)
        else:
            idle_steps[received] += ticks
            diary.note(CONSUMER, "idle", now, ticks, received)
        for worker in crew:
            _work(worker, diary, now, ticks, computing)
        now += ticks
    return Schedule(now, sum(idle_steps), idle_steps, diary.events)


def _turn(worker: _Worker, batches: int, asked: int, workers: int, costs: tuple[int, int], ready: set[int]) -> bool:
    """Hands over a batch that is done, or takes the next one; says whether anything happened."""
    if worker.batch is not None and worker.wait_left == worker.cpu_left == 0:
        ready.add(worker.batch)
        worker.batch = None
        return True
    if worker.batch is None and not worker.start_left and worker.next_batch < min(batches, asked):
        worker.batch, worker.next_batch = worker.next_batch, worker.next_batch + workers
        worker.wait_left, worker.cpu_left = costs
        return True
    return False


def _with_a_core(crew: list[_Worker], free: int) -> set[int]:
    """The numbers of the workers that compute: those with the earliest batches, as far as `free` cores go."""
    wanting = [worker for worker in crew if worker.batch is not None and not worker.wait_left]
    return {worker.number for worker in sorted(wanting, key=lambda worker: worker.batch)[:free]}


def _left(worker: _Worker, computing: set[int]) -> int:
    """Ticks until this worker is done with what it does now; 0 where it does nothing that ends by itself."""
    return worker.start_left or worker.wait_left or (worker.cpu_left if worker.number in computing else 0)


def _work(worker: _Worker, diary: _Diary, now: int, ticks: int, computing: set[int]) -> None:
    """So many ticks of one worker."""
    who = f"worker {worker.number}"
    if worker.start_left:
        worker.start_left -= ticks
        diary.note(who, "start", now, ticks, worker.next_batch)
    elif worker.batch is None:
        pass
    elif worker.wait_left:
        worker.wait_left -= ticks
        diary.note(who, "wait", now, ticks, worker.batch)
    elif worker.number in computing:
        worker.cpu_left -= ticks
        diary.note(who, "cpu", now, ticks, worker.batch)
    else:
        diary.note(who, "queue", now, ticks, worker.batch)
