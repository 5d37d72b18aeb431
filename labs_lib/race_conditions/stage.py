"""The stage: real threads of which one runs at a time, and hands over only where a director says so.

Each thread waits at a gate of its own until it is its turn. While it runs, it is stopped before each visible
bytecode of your code (see `labs_lib.race_conditions.stepping`), and the director chooses who goes on from there.
Code of the standard library, of installed packages and of the stage itself runs through in one piece.
"""

from __future__ import annotations

import _thread
import sysconfig
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from types import CodeType, FrameType
from typing import Protocol

from labs_lib.errors import LabError
from labs_lib.race_conditions.locks import StageLock, stand_ins
from labs_lib.race_conditions.schedule import Schedule, Segment, letter
from labs_lib.race_conditions.stepping import stepped, stepping
from labs_lib.race_conditions.visible import Operation, check_points, operations

MOST_STEPS = 20_000  # of one run: beyond, it is taken to spin
MOST_THREADS = 26
PATIENCE_S = 10  # without a step, before the stage gives a thread up
HERE = str(Path(__file__).resolve().parent)
MACHINERY = ("explorer", "locks", "recorder", "schedule", "stage", "stepping", "visible")


class Director(Protocol):
    """Who goes on? The first option is the thread that goes on by itself; the costs are of choosing each one."""

    def choose(self, options: list[int], costs: list[int], place: tuple[object, ...]) -> int: ...


class Watcher(Protocol):
    """Is told each step just before it happens, and when the thread has done it."""

    def before(self, thread: int, frame: FrameType, operation: Operation) -> None: ...
    def after(self, thread: int) -> None: ...


class Aborted(BaseException):
    """Raised in a thread whose run is over, to unwind it."""


@dataclass
class Actor:
    """One thread on the stage."""

    number: int
    function: Callable[[object], object]
    gate: object = field(default_factory=_thread.allocate_lock)  # closed while it is not its turn
    started: bool = False  # it has come to its first point
    done: bool = False
    lock: StageLock | None = None  # that it waits for
    deadline: float | None = None  # when that waiting ends
    acquisitions: int = 0

    @property
    def ready(self) -> bool:
        return not self.done and (self.lock is None or self.lock.holder is None)


@dataclass
class Outcome:
    """How one run ended."""

    problem: str = ""  # empty where all threads came to their end
    kind: str = "ended"  # "ended", "deadlock" or "raises"
    turns: list[list[int | None]] = field(default_factory=list)  # thread, steps done, 1 if it was stopped
    steps: int = 0
    acquisitions: dict[str, int] = field(default_factory=dict)

    @property
    def schedule(self) -> Schedule:
        """The turns, with a number of steps where a thread was stopped that could have gone on."""
        return Schedule(tuple(Segment(thread, steps if stopped else None) for thread, steps, stopped in self.turns))


class Stage:
    """Runs the same threads again and again, each time on a fresh state and under the director's orders."""

    def __init__(self, threads: list[Callable[[object], object]], points: str) -> None:
        check_points(points)
        if not 1 <= len(threads) <= MOST_THREADS:
            raise LabError(f"{len(threads)} threads can't be explored.", "", f"Give 1 to {MOST_THREADS} functions.")
        self.functions, self.points = threads, points
        self.home = _thread.get_ident()
        self.actors: list[Actor] = []
        self.by_ident: dict[int, Actor] = {}
        self.locks: list[StageLock] = []  # in the place of those that stand in globals and closures
        self.tables: dict[int, tuple[CodeType, dict[int, Operation] | None]] = {}

    @contextmanager
    def open(self, *others: Callable[..., object]) -> Iterator[Stage]:
        """The stage with its locks in the place of the real ones, also for `others`: setup and invariant."""
        with stand_ins(self, [*self.functions, *others]) as self.locks, stepping(self):
            yield self

    def run(self, state: object, director: Director, watcher: Watcher | None = None) -> Outcome:
        """One run from start to end. Raises LabError where a thread hangs or spins, or the director does."""
        self.director, self.watcher, self.state = director, watcher, state
        for lock in self.locks:
            lock.forget()
        self.actors = [Actor(number, function) for number, function in enumerate(self.functions)]
        self.by_ident, self.outcome, self.now = {}, Outcome(), 0.0
        self.aborting, self.error = False, None
        self.over = _thread.allocate_lock()
        self.over.acquire()
        for actor in self.actors:
            actor.gate.acquire()
            _thread.start_new_thread(self._perform, (actor,))
        try:
            self._hand_to(self._next([actor.number for actor in self.actors], ("start",)))
        except Aborted:
            self.actors[0].gate.release()
        try:
            self._await_end()
        except BaseException:  # an impatient hand, too: the thread that runs unwinds at its next step
            self.aborting = True
            self.over.acquire(timeout=1)
            raise
        if self.error is not None:
            raise self.error
        self.outcome.acquisitions = {letter(actor.number): actor.acquisitions for actor in self.actors}
        return self.outcome

    def _await_end(self) -> None:
        seen = -1
        while not self.over.acquire(timeout=PATIENCE_S):
            if seen == self.outcome.steps:
                running = letter(self.outcome.turns[-1][0])
                raise LabError(
                    f"Thread {running} has done no step for {PATIENCE_S} s.",
                    "It computes for long, or waits for what the explorer does not know: input, a SimpleQueue, a lock "
                    "that was made before setup() ran.",
                    "Make locks in setup(), and leave out what is slow.",
                )
            seen = self.outcome.steps

    # --- what the threads on the stage do ---------------------------------------------------------------

    def _perform(self, actor: Actor) -> None:
        actor.gate.acquire()
        self.by_ident[_thread.get_ident()] = actor
        if not self.aborting:
            try:
                with stepped():
                    actor.function(self.state)
            except Aborted:
                pass
            except LabError as error:
                self._abort(error)
            except BaseException as error:  # whatever the learner's code raises ends the run
                self._end("raises", f"{letter(actor.number)} raised {_told(error)}")
            if self.watcher is not None:
                self.watcher.after(actor.number)
        actor.done = True
        self.by_ident.pop(_thread.get_ident(), None)
        if all(other.done for other in self.actors):
            self.over.release()
        elif self.aborting:  # unwind one after the other
            next(other for other in self.actors if not other.done).gate.release()
        else:
            try:
                self._hand_over(("end", actor.number))
            except Aborted:
                next(other for other in self.actors if not other.done).gate.release()

    def step(self, frame: FrameType, offset: int) -> None:
        """The calling thread is about to execute a bytecode. It may be told to let others go first."""
        actor = self.by_ident.get(_thread.get_ident())
        if actor is None:  # not a thread of the stage: setup(), the invariant, or somebody else
            return
        operation = self.table(frame.f_code)[offset]
        if not operation.reaches_data(frame):
            return
        if self.aborting:
            raise Aborted
        if self.watcher is not None:
            self.watcher.after(actor.number)
        if actor.started:  # before its first step it has only just been chosen
            options = [actor.number, *(other.number for other in self.actors if other.ready and other is not actor)]
            place = (actor.number, operation.code.co_name, operation.offset)
            chosen = self._next(options, place, [0] + [1] * (len(options) - 1))
            if chosen != actor.number:
                self.outcome.turns[-1][2] = True
                self._hand_to(chosen)
                self._wait_at_gate(actor)
        actor.started = True
        self.outcome.turns[-1][1] += 1
        self.outcome.steps += 1
        if self.outcome.steps > MOST_STEPS:
            self._abort(
                LabError(
                    f"A schedule did not end within {MOST_STEPS:,} steps: {letter(actor.number)} is at "
                    f"`{operation.source or operation.name}`.",
                    "A thread that waits in a loop for another one keeps it from running.",
                    "Wait with a Condition or Event, or call time.sleep in the loop: others run meanwhile.",
                )
            )
            raise Aborted
        if self.watcher is not None:
            self.watcher.before(actor.number, frame, operation)

    def table(self, code: CodeType) -> dict[int, Operation] | None:
        """The operations of a function; None for one that runs through in one piece."""
        if id(code) not in self.tables:  # by identity: to compare code objects takes long
            self.tables[id(code)] = code, operations(code, self.points) if is_yours(code) else None
        return self.tables[id(code)][1]

    def _next(self, options: list[int], place: tuple[object, ...], costs: list[int] | None = None) -> int:
        try:
            return self.director.choose(options, costs or [0] * len(options), place)
        except LabError as error:
            self._abort(error)
            raise Aborted from None

    def _hand_over(self, place: tuple[object, ...]) -> None:
        """The thread can't go on; somebody else does, or nobody can."""
        ready = [actor for actor in self.actors if actor.ready]
        if not ready:
            timed = [actor for actor in self.actors if not actor.done and actor.deadline is not None]
            if not timed:
                waiting = [letter(actor.number) for actor in self.actors if not actor.done]
                self._end("deadlock", f"{' and '.join(waiting)} wait{'s' * (len(waiting) == 1)} for ever")
                raise Aborted
            first = min(timed, key=lambda actor: actor.deadline)
            self.now, first.lock = max(self.now, first.deadline), None
            ready = [first]
        self._hand_to(self._next([actor.number for actor in ready], place))

    def _hand_to(self, number: int) -> None:
        self.outcome.turns.append([number, 0, False])
        self.actors[number].gate.release()

    def _wait_at_gate(self, actor: Actor) -> None:
        actor.gate.acquire()
        if self.aborting:
            raise Aborted

    def _end(self, kind: str, problem: str) -> None:
        """The run is over, for a reason."""
        if not self.aborting:
            self.outcome.kind, self.outcome.problem, self.aborting = kind, problem, True

    def _abort(self, error: LabError) -> None:
        self.error, self.aborting = self.error or error, True

    # --- what locks and clocks ask ------------------------------------------------------------------------

    def is_mine(self) -> bool:
        """Whether the caller is a thread of this stage, or the one that set it up."""
        ident = _thread.get_ident()
        return ident == self.home or ident in self.by_ident

    def count_acquisition(self) -> None:
        actor = self.by_ident.get(_thread.get_ident())
        if actor is not None:
            actor.acquisitions += 1

    def wait_for(self, lock: StageLock, timeout: float) -> bool:
        """Lets others run until the lock is free; False where the time is up before that."""
        actor = self.by_ident.get(_thread.get_ident())
        if actor is None:
            raise LabError(
                "setup() or the invariant waits for a lock that nobody will release.",
                "They run while no thread does.",
                "Look at the state without taking its locks.",
            )
        if self.aborting:
            raise Aborted
        actor.lock, actor.deadline = lock, self.now + timeout if timeout >= 0 else None
        self._hand_over(("wait", actor.number))
        self._wait_at_gate(actor)
        in_time = actor.lock is not None
        actor.lock = actor.deadline = None
        return in_time

    def sleep(self, seconds: float) -> None:
        """Takes no time. Others go first; that the sleeper goes on at once counts as a switch."""
        self.now += seconds
        actor = self.by_ident.get(_thread.get_ident())
        if actor is None or self.aborting:
            return
        others = [other.number for other in self.actors if other.ready and other is not actor]
        self._hand_to(self._next([*others, actor.number], ("sleep", actor.number), [0] * len(others) + [bool(others)]))
        self._wait_at_gate(actor)


def is_yours(code: CodeType) -> bool:
    """Whether a function is stepped through: not one of the standard library, of a package or of the stage."""
    file = code.co_filename
    if file.startswith(HERE):
        return Path(file).stem not in MACHINERY
    return not file.startswith(("<frozen", *(sysconfig.get_paths()[name] for name in LIBRARIES)))


LIBRARIES = ("stdlib", "platstdlib", "purelib", "platlib")


def _told(error: BaseException) -> str:
    """The error in one line, with the line of code that raised it."""
    where = error.__traceback__
    while where is not None and where.tb_next is not None and is_yours(where.tb_next.tb_frame.f_code):
        where = where.tb_next
    text = f"{type(error).__name__}: {error}" if str(error) else type(error).__name__
    return text if where is None else f"{text} (line {where.tb_lineno} of {where.tb_frame.f_code.co_name})"
