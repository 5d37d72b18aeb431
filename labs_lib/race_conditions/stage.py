"""The stage: real threads of which one runs at a time, and hands over only where a director says so.

Each thread waits at a gate of its own until it is its turn. While it runs, it is stopped before each visible
bytecode of your code (see `labs_lib.race_conditions.stepping`), and the director chooses who goes on from there.
Code of the standard library, of installed packages and of the stage itself runs through in one piece.
"""

from __future__ import annotations

import _thread
import ctypes
import linecache
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from types import CodeType, FrameType
from typing import NoReturn

from labs_lib.errors import LabError
from labs_lib.race_conditions.actors import Aborted, Actor, Director, Outcome, Watcher
from labs_lib.race_conditions.locks import StageLock, stand_ins
from labs_lib.race_conditions.schedule import letter
from labs_lib.race_conditions.stepping import stepped, stepping
from labs_lib.race_conditions.visible import Operation, check_points, is_yours, operations, told

MOST_STEPS = 20_000  # of one run: beyond, it is taken to spin
MOST_THREADS = 26
MOST_UNWOUND = 100  # a thread that was told so often that the run is over, and goes on, is parked
PATIENCE_S = 4  # without a step, before the stage gives a thread up


class Stage:
    """Runs the same threads again and again, each time on a fresh state and under the director's orders."""

    def __init__(self, threads: list[Callable[[object], object]], points: str) -> None:
        check_points(points)
        if not 1 <= len(threads) <= MOST_THREADS:
            raise LabError(f"{len(threads)} threads can't be explored.", "", f"Give 1 to {MOST_THREADS} functions.")
        self.functions, self.points = threads, points
        self.home, self.home_thread = _thread.get_ident(), threading.current_thread()
        self.faces = [threading.Thread(name=letter(number)) for number in range(len(threads))]  # never started
        self.actors: list[Actor] = []
        self.now = 0.0  # seconds on the clock of the stage
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
        self.director, self.watcher, self.state, self.now = director, watcher, state, 0.0
        for lock in self.locks:
            lock.forget()
        self.actors = [Actor(number, function) for number, function in enumerate(self.functions)]
        self.by_ident, self.outcome = {}, Outcome()
        self.aborting, self.error = False, None
        self.over = _thread.allocate_lock()
        self.over.acquire()
        try:
            for actor in self.actors:
                actor.gate.acquire()
                _thread.start_new_thread(self._perform, (actor,))
            self._hand_to(self._next([actor.number for actor in self.actors], ("start",)))
            self._await_end()
        except BaseException as reason:  # also an impatient hand: no thread stays behind
            self._clear()
            if not isinstance(reason, Aborted):
                raise
        if self.error is not None:
            raise self.error
        self.outcome.acquisitions = {letter(actor.number): actor.acquisitions for actor in self.actors}
        return self.outcome

    def _await_end(self) -> None:
        seen = 0
        while not self.over.acquire(timeout=PATIENCE_S):
            if seen == self.outcome.steps:
                running = self.actors[self.outcome.turns[-1][0]]
                frame = running.frame
                line = linecache.getline(frame.f_code.co_filename, frame.f_lineno).strip() if frame else "its start"
                raise LabError(
                    f"Thread {letter(running.number)} has done no step for {PATIENCE_S} s, since {line}.",
                    "It computes for long, or waits for what the explorer does not know: input, a lock that was made "
                    "before setup() ran.",
                    "Make locks in setup(), and leave out what is slow.",
                )
            seen = self.outcome.steps

    def _clear(self) -> None:
        """Unwinds all threads: first one by one; then at once, since one may wait for a real lock of another.

        A thread that computes without a step is interrupted too; one that waits inside of C code can't be.
        """
        self.aborting = True
        if self.outcome.turns and self.over.acquire(timeout=0.5):
            return
        for actor in self.actors:
            actor.unwound += 1  # told by what is raised below
            self._open(actor)
        for ident in list(self.by_ident):
            ctypes.pythonapi.PyThreadState_SetAsyncExc(ctypes.c_ulong(ident), ctypes.py_object(Aborted))
        self.over.acquire(timeout=1)

    def _open(self, actor: Actor) -> None:
        with suppress(RuntimeError):  # it is open already
            actor.gate.release()

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
            except ImportError as error:
                why = "A module that makes threads or locks can't be loaded while a program is explored."
                self._abort(LabError(f"{letter(actor.number)}: {error}.", why, "Import it at the top of the file."))
            except BaseException as error:  # whatever the learner's code raises ends the run
                self._end("raises", f"{letter(actor.number)} raised {told(error)}")
            if self.watcher is not None:
                self.watcher.after(actor.number)
        self._leave(actor)

    def _leave(self, actor: Actor) -> None:
        actor.done, actor.frame = True, None
        self.by_ident.pop(_thread.get_ident(), None)
        if all(other.done for other in self.actors):
            with suppress(RuntimeError):
                self.over.release()
            return
        with suppress(Aborted):
            if not self.aborting:
                return self._hand_over(("end", actor.number))
        self._open(next(other for other in self.actors if not other.done))  # they unwind one after the other

    def step(self, frame: FrameType, offset: int) -> None:
        """The calling thread is about to execute a bytecode. It may be told to let others go first."""
        actor = self.by_ident.get(_thread.get_ident())
        if actor is None:  # not a thread of the stage: setup(), the invariant, or somebody else
            return
        operation = self.table(frame.f_code)[offset]
        if not operation.reaches_data(frame):
            return
        if self.aborting:
            if not actor.unwound:
                self._unwind(actor)
            return  # `finally` and `with` run through, and let real locks go
        if self.watcher is not None:
            self.watcher.after(actor.number)
        back, actor.frame = actor.frame not in (None, frame), frame
        if operation.behind_call and back and self.points == "interpreter":
            return  # the call was one of a Python function, and the lock is offered at its entry, not at its end
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
                    "It does much work, or threads wait in loops for each other, each keeping the others from running.",
                    "Make the work smaller; wait with a Condition or Event, or with time.sleep in the loop.",
                )
            )
            self._unwind(actor)
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
            self.now = max(self.now, min(actor.deadline for actor in timed))
            ready = [actor for actor in timed if actor.deadline <= self.now]
        chosen = self._next([actor.number for actor in ready], place)
        if not self.actors[chosen].ready:
            self.actors[chosen].lock = None  # its time is up
        self._hand_to(chosen)

    def _hand_to(self, number: int) -> None:
        self.outcome.turns.append([number, 0, False])
        self.actors[number].gate.release()

    def _wait_at_gate(self, actor: Actor) -> None:
        actor.gate.acquire()
        if self.aborting:
            self._unwind(actor)

    def _unwind(self, actor: Actor) -> NoReturn:
        actor.unwound += 1
        if actor.unwound > MOST_UNWOUND:
            self._abort(
                LabError(
                    f"Thread {letter(actor.number)} goes on after the run is over.",
                    "An `except:` in a loop catches everything, also what ends a thread.",
                    "Write `except Exception:`.",
                )
            )
            self._leave(actor)
            actor.gate.acquire()  # for ever: nothing else stops it
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

    def current_thread(self) -> threading.Thread:
        """Threads of the stage have the same name and the same number in each run."""
        actor = self.by_ident.get(_thread.get_ident())
        return self.home_thread if actor is None else self.faces[actor.number]

    def get_ident(self) -> int:
        actor = self.by_ident.get(_thread.get_ident())
        return _thread.get_ident() if actor is None else actor.number + 1

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
                "They run while no thread does: a thread has ended without releasing it.",
                "Make locks in setup(), release them with `with`, and look at the state without taking them.",
            )
        if self.aborting:
            self._unwind(actor)
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
        # The next ones round the circle, so that sleepers do not wake only each other while a third one starves.
        circle = self.actors[actor.number + 1 :] + self.actors[: actor.number]
        others = [other.number for other in circle if other.ready]
        self._hand_to(self._next([*others, actor.number], ("sleep", actor.number), [0] * len(others) + [bool(others)]))
        self._wait_at_gate(actor)
