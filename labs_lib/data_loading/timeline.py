"""timeline(loader, step): what each worker and the consumer did when, and how long the consumer waited."""

from __future__ import annotations

import random
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from math import isfinite
from numbers import Real
from statistics import median

import numpy as np
import torch
from torch.utils.data import DataLoader

from labs_lib.data_loading.events import CONSUMER, Event
from labs_lib.data_loading.failures import failed, refuse_unless_a_step
from labs_lib.data_loading.watched import HERE, Notes, Spent, Stamp, end_workers, watched
from labs_lib.errors import LabError
from labs_lib.figures import Picture
from labs_lib.machine import synchronize
from labs_lib.units import size_text, time_text

FEWEST = 6  # batches that a time limit leaves: one alone says nothing of those after it
NOTICED_S = 1e-3  # a wait below this is the price of asking a queue; it isn't counted as a batch waited for


@dataclass(frozen=True)
class Taken:
    """One batch from the consumer's side, in seconds since the epoch began."""

    notes: Notes
    asked: float
    received: float
    done: float
    step_own: float  # of the step, without waiting for a core

    @property
    def wait(self) -> float:
        return self.received - self.asked

    @property
    def step(self) -> float:
        return self.done - self.received


@dataclass(frozen=True)
class Timeline:
    """One epoch, or its first batches, as it was measured. All times are seconds since it began."""

    taken: list[Taken]
    started: float  # when iter(loader) came back
    epoch_s: float
    workers: int
    last_batch: object = field(repr=False)
    complete: bool = True  # whether the loader had no more

    @property
    def wait_s(self) -> float:
        """How long the consumer waited for data; the start of the workers is part of it."""
        return self.started + sum(taken.wait for taken in self.taken)

    @property
    def wait_share(self) -> float:
        return self.wait_s / self.epoch_s

    @property
    def steady_wait_share(self) -> float:
        """The same without the first batch, before which nothing can have been prefetched."""
        later = self.taken[1:]
        return sum(taken.wait for taken in later) / max(sum(t.wait + t.step for t in later), 1e-12)

    @property
    def counts(self) -> dict[str, object]:
        """What was counted: batches, items for each worker, waits of 1 ms or more, bytes, the dataset's counters."""
        items: Counter[str] = Counter()
        counted: Counter[str] = Counter()
        for taken in self.taken:
            items[_who(taken.notes)] += taken.notes.items
            counted.update(taken.notes.counted)
        return {
            "batches": len(self.taken),
            "items": dict(sorted(items.items())),
            "batches_waited_for": sum(taken.wait >= NOTICED_S for taken in self.taken),
            "pickled_bytes": sum(taken.notes.pickled_bytes for taken in self.taken),
            "shared_bytes": sum(taken.notes.shared_bytes for taken in self.taken),
            **counted,
        }

    @property
    def events(self) -> list[Event]:
        """Who did what when.

        A worker's "storage" and "decode" are how long it slept and how long it computed or waited for a core while it
        fetched the items of a batch: their sums are measured, their order within the batch is not. "send" is
        pickling, the pipe and unpickling. Where there are no workers the consumer does all of it itself.
        """
        events = [Event(CONSUMER, "start", 0.0, self.started, 0)]
        seen: set[int] = set()
        for number, taken in enumerate(self.taken):
            notes, who = taken.notes, _who(taken.notes)
            if notes.worker is not None and notes.worker not in seen and notes.worker_ready is not None:
                seen.add(notes.worker)
                events.append(Event(who, "start", 0.0, notes.worker_ready, number))
            awake = notes.fetch_start + notes.fetch.asleep
            events.append(Event(who, "storage", notes.fetch_start, awake, number))
            events.append(Event(who, "decode", awake, notes.fetch_start + notes.fetch.wall, number))
            events.append(Event(who, "collate", notes.collate_start, notes.done, number))
            if notes.pickled is not None:
                events.append(Event(who, "send", *notes.pickled, number))
            if notes.worker is not None:
                events.append(Event(CONSUMER, "idle", taken.asked, taken.received, number))
            events.append(Event(CONSUMER, "compute", taken.received, taken.done, number))
        return [event for event in events if event.stop > event.start]

    @property
    def step_s(self) -> float:
        """The median step."""
        return median(taken.step for taken in self.taken)

    def picture(self, batches: int = 12) -> Picture:
        """The first `batches` batches as lanes, one for each worker and one for the consumer."""
        from labs_lib.data_loading.pictures import timeline_picture

        end = self.taken[min(batches, len(self.taken)) - 1].done
        return timeline_picture([event for event in self.events if event.start < end], str(self), until=end)

    def as_dict(self) -> dict[str, object]:
        return {
            "epoch_s": self.epoch_s, "wait_s": self.wait_s, "wait_share": self.wait_share, "step_s": self.step_s,
            "counts": self.counts,
        }  # fmt: skip

    def __str__(self) -> str:
        counts = self.counts
        sent = counts["pickled_bytes"] + counts["shared_bytes"]
        between = f", {size_text(sent)} went between processes" if sent else ""
        return (
            f"The consumer waited {100 * self.wait_share:.0f} % of {time_text(self.epoch_s)} (measured): for "
            f"{counts['batches_waited_for']} of {counts['batches']} batches at least 1 ms{between}."
        )


def _who(notes: Notes) -> str:
    return CONSUMER if notes.worker is None else f"worker {notes.worker}"


def no_step(batch: object) -> None:
    """A consumer that does nothing: the loader alone."""


def timeline(
    loader: DataLoader, step: Callable[[object], object] = no_step, batches: int | None = None,
    limit_s: float | None = None,
) -> Timeline:  # fmt: skip
    """Runs one epoch of a copy of `loader`, calls `step(batch)` for each batch, and notes who did what when.

    It ends after `batches` batches, or, from the sixth on, once `limit_s` seconds are over. The loader, its
    sampler and the random generators of this process stay as they were; what `step` changes is changed.

    Raises LabError where the loader gives no batch, or is no DataLoader, where step is no function or a limit no
    number above 0, and, with the number of the batch, where the loader or the step fails.
    """
    refuse_unless_a_step(step)
    _refuse_limits(batches, limit_s)
    twin = watched(loader)
    taken: list[tuple[Notes, float, float, float, float]] = []
    batch: object = None
    with unmoved_generators():
        HERE.begun, HERE.items, HERE.ready = None, 0, None
        origin = time.perf_counter()
        complete, doing = False, "Loading"
        iterator = iter(twin)
        started = time.perf_counter()
        try:
            while batches is None or len(taken) < batches:
                asked = time.perf_counter()
                try:
                    noted = next(iterator)
                except StopIteration:
                    complete = True
                    break
                received = Stamp.now()
                batch, doing = noted.batch, "The step on"
                step(batch)
                synchronize()
                done = Stamp.now()
                doing = "Loading"
                own = Spent.between(received, done).own
                taken.append((noted.notes, asked, received.wall, done.wall, own))
                if limit_s is not None and len(taken) >= FEWEST and done.wall - origin > limit_s:
                    break
        except LabError:
            raise
        except Exception as error:  # the learner's own code
            raise failed(doing, len(taken), error) from error
        finally:
            twin._iterator = None
            end_workers(iterator)
            del iterator
    if not taken:
        raise LabError("The loader gave no batch.", "Its dataset or sampler is empty, or shorter than a batch.", "")
    return Timeline(
        taken=[_since(origin, *one) for one in taken],
        started=started - origin,
        epoch_s=taken[-1][3] - origin,
        workers=loader.num_workers,
        last_batch=batch,
        complete=complete,
    )


def _refuse_limits(batches: object, limit_s: object) -> None:
    if batches is not None and (not hasattr(batches, "__index__") or batches < 1):
        raise LabError(f"batches={batches!r} can't be run.", "It must be a whole number above 0.", "Or leave it out.")
    if limit_s is not None and not (isinstance(limit_s, Real) and isfinite(limit_s) and limit_s > 0):
        raise LabError(f"limit_s={limit_s!r} can't be used.", "It must be a number above 0.", "Or leave it out.")


def _since(origin: float, notes: Notes, asked: float, received: float, done: float, own: float) -> Taken:
    """The same with all moments counted from the start of the epoch."""
    notes.fetch_start -= origin
    notes.collate_start -= origin
    if notes.worker_ready is not None:
        notes.worker_ready -= origin
    if notes.pickled is not None and notes.unpickled is not None:
        notes.pickled = tuple(moment - origin for moment in notes.pickled)
        notes.unpickled = tuple(moment - origin for moment in notes.unpickled)
    return Taken(notes, asked - origin, received - origin, done - origin, own)


@contextmanager
def unmoved_generators() -> Iterator[None]:
    """Puts the global generators of Python, NumPy and torch back to where they were."""
    states = random.getstate(), np.random.get_state()
    with torch.random.fork_rng(devices=[]):
        try:
            yield
        finally:
            random.setstate(states[0])
            np.random.set_state(states[1])
