"""diagnose(loader, step): what keeps the epoch from being shorter, with the numbers that say so."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from torch.utils.data import DataLoader, IterableDataset

from labs_lib.data_loading.advice import (
    BOTTLENECKS,
    COLLATE,
    CONSUMER,
    DECODE,
    OVERHEAD,
    SMALL,
    START,
    STORAGE,
    TRANSFER,
    advice_on,
)
from labs_lib.data_loading.costs import Costs, costs
from labs_lib.data_loading.settings import crew
from labs_lib.data_loading.timeline import Timeline, no_step, timeline
from labs_lib.data_loading.watched import RUN_QUEUE
from labs_lib.equality import difference
from labs_lib.tables import html_table
from labs_lib.units import size_text, time_text

# What an epoch would be without.
CAUSES = {
    STORAGE: "the wait for storage", DECODE: "decoding", COLLATE: "collating", TRANSFER: "the transfer",
    OVERHEAD: "Python's overhead", START: "the start of workers", SMALL: "what is the same in a step of any batch",
    CONSUMER: "what grows in a step with the batch",
}  # fmt: skip
LIMIT_S = 3.0  # of loading
CLOSE = 0.5  # a second cause that would save half as much is named too


@dataclass(frozen=True)
class Diagnosis:
    """What keeps the epoch from being shorter. `savings` are seconds of an epoch (modelled), largest first."""

    bottleneck: str
    savings: dict[str, float]
    evidence: list[str]
    advice: str
    costs: Costs = field(repr=False)
    timeline: Timeline = field(repr=False)

    def as_dict(self) -> dict[str, object]:
        return {
            "bottleneck": self.bottleneck, "evidence": self.evidence, "advice": self.advice,
            "savings_s": self.savings, "epoch_s": self.costs.epoch, "wait_share": self.timeline.wait_share,
        }  # fmt: skip

    def __str__(self) -> str:
        lines = [f"Bottleneck: {self.bottleneck}.", *(f"- {line}" for line in self.evidence), f"Try: {self.advice}"]
        return "\n".join(lines)

    def _repr_html_(self) -> str:
        return html_table(
            [("bottleneck", self.bottleneck), *(("", line) for line in self.evidence), ("try", self.advice)]
        )


def diagnose(loader: DataLoader, step: Callable[[object], object] = no_step) -> Diagnosis:
    """Names the bottleneck of `for batch in loader: step(batch)`: one of BOTTLENECKS.

    An epoch, or its first seconds, is run as by `timeline`; then the step is run alone on its last batch and on that
    batch doubled. From the costs of a batch follows what an epoch takes, and what it would take without each cause
    (`Costs.epoch`: modelled). The cause that would save most is the bottleneck. What `step` changes is changed:
    give it a model that may be trained on.

    Workers of an iterable dataset that begin with the same batch are named too: each sample then comes repeatedly.

    Raises LabError where the loader gives no batch, or is no DataLoader, and where it or the step fails.
    """
    line = timeline(loader, step, limit_s=LIMIT_S)
    batches, whole = _batches(loader, line)
    found = costs(line, step, batches, loader.persistent_workers)
    what = "an epoch" if whole else f"the {batches} batches seen"
    epoch = found.epoch
    consumer = epoch - found.without("step_fixed", "step_growing")
    fixed = found.step_fixed / max(found.step, 1e-12)
    savings = {name: epoch - found.without(*parts) for name, parts in BOTTLENECKS.items()}
    # Where loading is nearly as slow as the step, taking away one half of it alone would show nothing.
    savings[SMALL], savings[CONSUMER] = consumer * fixed, consumer * (1 - fixed)
    savings = dict(sorted(savings.items(), key=lambda pair: -pair[1]))
    first, second = list(savings)[:2]
    evidence = [_overview(line), _evidence(first, found, line), _saved(first, savings, epoch, what)]
    if savings[second] > CLOSE * savings[first]:
        evidence += [f"Close behind: {second}. {_evidence(second, found, line)}", _saved(second, savings, epoch, what)]
    if first == STORAGE and not RUN_QUEUE.exists():
        evidence.append("This system doesn't tell waiting for a core from sleeping: a busy machine counts here.")
    evidence += _repeats(loader)
    return Diagnosis(first, savings, evidence, advice_on(first, loader, line, batches), found, line)


def _batches(loader: DataLoader, line: Timeline) -> tuple[int, bool]:
    """How many batches an epoch has; where nobody knows, those that were seen, and False."""
    try:
        return max(len(loader), len(line.taken)), True
    except (TypeError, NotImplementedError):
        return len(line.taken), line.complete


def _repeats(loader: DataLoader) -> list[str]:
    """A sentence where the workers of an iterable dataset begin with the same batch, and go on with another one."""
    workers, batches = loader.num_workers, []
    if workers < 2 or not isinstance(loader.dataset, IterableDataset):
        return []
    timeline(loader, batches.append, batches=2 * workers)
    first, later = batches[:workers], batches[workers:]
    if not all(_equal(first[0], other) for other in first) or (later and _equal(first[0], later[0])):
        return []
    return [
        f"All {workers} workers begin with the same batch: each sample comes {workers} times, in {workers} times as "
        "many batches (compared)."
    ]


def _equal(one: object, other: object) -> bool:
    try:
        return difference(one, other).relative == 0
    except Exception:  # a batch may hold anything, also what can't be compared
        return False


def _overview(line: Timeline) -> str:
    waits = f"With {crew(line.workers)} the consumer waits {100 * line.wait_share:.0f} % of the time"
    if len(line.taken) == 1:
        return f"{waits}, for its only batch (measured)."
    return f"{waits}, and {100 * line.steady_wait_share:.0f} % after the first batch (measured)."


def _saved(cause: str, savings: dict[str, float], epoch: float, what: str) -> str:
    rest = max(epoch - savings[cause], 0.0)
    return f"Without {CAUSES[cause]} {what} would take {time_text(rest)} in place of {time_text(epoch)} (modelled)."


def _evidence(cause: str, found: Costs, line: Timeline) -> str:
    notes = line.taken[-1].notes
    items = max(1, notes.items)
    if cause == STORAGE:
        return (
            f"An item takes {time_text((found.storage + found.decode) / items)}, of which "
            f"{time_text(found.storage / items)} pass without work: a disk, a network or a lock (measured)."
        )
    if cause == DECODE:
        return (
            f"An item takes {time_text(found.decode / items)} of work, and waits {time_text(found.storage / items)} "
            "for storage (measured)."
        )
    if cause == COLLATE:
        return f"The collate function takes {time_text(found.collate)} for a batch of {items} items (measured)."
    if cause == TRANSFER:
        return (
            f"A batch takes {time_text(found.pickle + found.receive)} from the worker to the consumer: "
            f"{size_text(notes.pickled_bytes)} are pickled, {size_text(notes.shared_bytes)} go by shared memory."
        )
    if cause == OVERHEAD:
        return (
            f"An item takes {time_text(found.overhead / items)}, about what Python takes to call __getitem__ and "
            "to join what it returns (measured)."
        )
    if cause == START:
        return f"Starting workers takes {time_text(found.start)} of each epoch of {found.batches} batches (measured)."
    if cause == SMALL:
        share = found.step_fixed / max(found.step, 1e-12)
        grows = 100 * (1 - share)
        return f"A step takes {time_text(found.step)}, on a doubled batch only {grows:.0f} % more (measured)."
    return f"A step takes {time_text(found.step)}, making a batch {time_text(_pace(found))} (measured)."


def _pace(found: Costs) -> float:
    return found.making / max(1, found.workers)
