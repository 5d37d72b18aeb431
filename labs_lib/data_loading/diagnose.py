"""diagnose(loader, step): what keeps the epoch from being shorter, with the numbers that say so."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from torch.utils.data import DataLoader

from labs_lib.data_loading.costs import Costs, costs
from labs_lib.data_loading.timeline import Timeline, no_step, timeline
from labs_lib.data_loading.watched import RUN_QUEUE
from labs_lib.tables import html_table
from labs_lib.units import size_text, time_text

STORAGE, DECODE, COLLATE, TRANSFER = "storage wait", "decode", "collate", "transfer"
OVERHEAD, START, SMALL, CONSUMER = "Python overhead", "worker start-up", "batch too small", "consumer"

# Each bottleneck with the parts of `Costs` that would vanish without it.
BOTTLENECKS = {
    STORAGE: ("storage",),
    DECODE: ("decode",),
    COLLATE: ("collate",),
    TRANSFER: ("pickle", "receive"),
    OVERHEAD: ("overhead",),
    START: ("start",),
    SMALL: ("step_fixed",),
    CONSUMER: ("step_growing",),
}
ADVICE = {
    STORAGE: "More workers than cores: they sleep most of the time. Or fetch many items at once in __getitems__.",
    DECODE: "As many workers as cores; or decode once and keep the pixels in a memory-mapped file; or smaller images.",
    COLLATE: "Join tensors with torch.stack, and let no pixel become a Python number. Then let workers do it.",
    TRANSFER: "Send tensors, which go by shared memory, and small types: uint8 now, float in the step. Or no workers.",
    OVERHEAD: "No workers. Index whole batches: __getitems__, or batch_size=None with a sampler of batches.",
    START: "persistent_workers=True where there are more epochs; no workers where the set is small.",
    SMALL: "A larger batch if training allows it, else fuse or compile the step. The loader is not at fault.",
    CONSUMER: "Loading is quick enough: more workers and prefetching would change nothing. Make the step faster.",
}
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

    Raises LabError where the loader gives no batch, or is no DataLoader.
    """
    line = timeline(loader, step, limit_s=LIMIT_S)
    found = costs(line, step, _batches(loader, line), loader.persistent_workers)
    epoch = found.epoch
    consumer = epoch - found.without("step_fixed", "step_growing")
    fixed = found.step_fixed / max(found.step, 1e-12)
    savings = {name: epoch - found.without(*parts) for name, parts in BOTTLENECKS.items()}
    # Where loading is nearly as slow as the step, taking away one half of it alone would show nothing.
    savings[SMALL], savings[CONSUMER] = consumer * fixed, consumer * (1 - fixed)
    savings = dict(sorted(savings.items(), key=lambda pair: -pair[1]))
    first, second = list(savings)[:2]
    evidence = [_overview(line), _evidence(first, found, line), _saved(first, savings, epoch)]
    if savings[second] > CLOSE * savings[first]:
        evidence += [f"Close behind: {second}. {_evidence(second, found, line)}", _saved(second, savings, epoch)]
    if first == STORAGE and not RUN_QUEUE.exists():
        evidence.append("This system doesn't tell waiting for a core from sleeping: a busy machine counts here.")
    return Diagnosis(first, savings, evidence, ADVICE[first], found, line)


def _batches(loader: DataLoader, line: Timeline) -> int:
    """How many batches an epoch has; where nobody knows, those that were seen."""
    try:
        return max(len(loader), len(line.taken))
    except (TypeError, NotImplementedError):
        return len(line.taken)


def _overview(line: Timeline) -> str:
    who = f"{line.workers} worker{'s' if line.workers > 1 else ''}" if line.workers else "no workers"
    return (
        f"With {who} the consumer waits {100 * line.wait_share:.0f} % of the time, and "
        f"{100 * line.steady_wait_share:.0f} % after the first batch (measured)."
    )


def _saved(cause: str, savings: dict[str, float], epoch: float) -> str:
    rest = max(epoch - savings[cause], 0.0)
    return f"Without it an epoch would take {time_text(rest)} in place of {time_text(epoch)} (modelled)."


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
