"""The ladder: ways to evaluate the same samples, each with its answer, its counts, and its time against the first."""

from __future__ import annotations

import html
import math
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch

from labs_lib.batched_eval.agreement import Agreement, agreement
from labs_lib.compiled_code import runs_compiled
from labs_lib.dispatch import Watch
from labs_lib.errors import LabError
from labs_lib.machine import preset
from labs_lib.timing import Timing, time_pair
from labs_lib.units import time_text

BUDGET_S = {"ci": 0.5, "lab": 2.0, "gpu": 2.0}
TOLERATED = 0.95  # of the predictions the same, at a rung that gives up precision
READS = "_local_scalar_dense"  # the operator behind .item(), float(), int() and `if` on a tensor


@dataclass(frozen=True)
class Rung:
    """One way: `run()` returns logits (samples, classes) in the order of the samples."""

    name: str
    run: Callable[[], torch.Tensor]
    exact: bool = True  # every prediction must be the same, near-ties apart; else, with fewer bits, TOLERATED of them
    missing: str = ""  # why it is not run here


@dataclass(frozen=True)
class Counts:
    """Counted in one call."""

    operators: int | None  # None where compiled code ran: its kernels are not torch's operators
    reads: int | None  # values taken out of tensors into Python; on a GPU each waits for all work before it
    saved: int | None  # tensors that autograd keeps for a backward pass


@dataclass(frozen=True)
class Step:
    """What was found for one rung."""

    rung: Rung
    agreement: Agreement  # with the first rung
    counts: Counts
    timing: Timing  # the first rung as naive, this one as optimised
    gain: Timing  # the rung before as naive

    @property
    def holds(self) -> bool:
        """Whether the answer is right: see `Rung.exact`."""
        return self.agreement.explained if self.rung.exact else self.agreement.share >= TOLERATED

    def as_dict(self) -> dict[str, object]:
        return {
            "name": self.rung.name,
            "holds": self.holds,
            "same_predictions": self.agreement.share,
            "largest_logit_difference": _finite(self.agreement.largest),
            "operators": self.counts.operators,
            "reads": self.counts.reads,
            "saved": self.counts.saved,
            **{name: _finite(getattr(self.timing, name)) for name in ("ratio", "low", "high", "floor")},
            "gain_over_previous": self.gain.ratio,
        }


@dataclass(frozen=True, repr=False)
class Ladder:
    """All rungs, the first one the naive way."""

    steps: tuple[Step, ...]
    samples: int
    missing: tuple[Rung, ...] = ()  # not run here

    @property
    def best(self) -> Step:
        """The rung with the largest ratio."""
        return max(self.steps, key=lambda step: step.timing.ratio)

    def __getitem__(self, name: str) -> Step:
        return next(step for step in self.steps if step.rung.name == name)

    def as_dict(self) -> dict[str, object]:
        return {
            "samples": self.samples,
            "steps": [{**step.as_dict(), "seconds": self.seconds(step)} for step in self.steps],
            "missing": {rung.name: rung.missing for rung in self.missing},
        }

    def seconds(self, step: Step) -> float:
        """For all samples: the first rung's, over this one's ratio, so that times and ratios agree."""
        return self.steps[0].timing.naive_seconds / (1 if step is self.steps[0] else step.timing.ratio)

    def rows(self) -> list[tuple[str, ...]]:
        """Name, operators, reads, saved, time for a sample, ratio with interval, gain, predictions."""
        return [
            (
                step.rung.name,
                *(_count(value) for value in (step.counts.operators, step.counts.reads, step.counts.saved)),
                time_text(self.seconds(step) / self.samples),
                f"{step.timing.ratio:.2f}x ({_interval(step.timing)})" if place else "1",
                _gain(step.gain) if place else "",
                f"{step.agreement.samples - len(step.agreement.changed):,} of {step.agreement.samples:,}"
                + ("" if step.holds else ": THE ANSWER DIFFERS"),
            )
            for place, step in enumerate(self.steps)
        ]

    @property
    def notes(self) -> list[str]:
        """What the columns are, and what was not run here, with the reason."""
        return [NOTE, *(f"Not here: {rung.name} ({rung.missing})." for rung in self.missing)]

    def __str__(self) -> str:
        table = [HEAD, *self.rows()]
        widths = [max(len(row[column]) for row in table) for column in range(len(HEAD))]
        return "\n".join(
            "  ".join(cell.ljust(width) if not place else cell.rjust(width)
                      for place, (cell, width) in enumerate(zip(row, widths, strict=True)))
            for row in table
        ) + "\n" + "\n".join(self.notes)  # fmt: skip

    __repr__ = __str__

    def _repr_html_(self) -> str:
        head = "".join(f"<th>{title}</th>" for title in HEAD)
        body = "".join(
            "<tr>" + "".join(f"<td>{html.escape(cell)}</td>" for cell in row) + "</tr>" for row in self.rows()
        )
        notes = "".join(f"<p>{html.escape(note)}</p>" for note in self.notes)
        return f"<table><tr>{head}</tr>{body}</table>{notes}"


HEAD = (
    "rung", "operators", "reads", "saved", "time a sample", "against the first (95 %)", "gain (95 %)",
    "same predictions"
)  # fmt: skip
NOTE = (
    "Operators, reads (values taken out of tensors) and tensors saved for backward are counted; times are measured "
    "against the first rung and, as gain, against the one before; ~ lies inside the noise floor. Each gain is a "
    "measurement of its own, the two rungs in turns: it need not be the quotient of two rows, nor do gains multiply "
    "to the total."
)


def ladder(rungs: Sequence[Rung], budget_s: float | None = None, threads: int = 1) -> Ladder:
    """Runs each rung against the first and against the one before, interleaved, `budget_s` seconds each.

    Answers come first: each is compared with the first rung's, prediction by prediction. See `labs_lib.timing` for
    the method; 2 seconds by default, 0.5 under LABS_PRESET=ci. Rungs that say why they are missing are not run.
    Raises LabError without a rung to run, and for one that raises or returns no logits.

    >>> one = Rung("one", lambda: torch.eye(3))
    >>> print(ladder([one, Rung("two", lambda: torch.eye(3) * 2)], budget_s=0.01).steps[1].agreement)
    all 3 predictions are the same; logits within 1.0e+00 of the largest
    """
    from tqdm.auto import tqdm

    budget_s = BUDGET_S[preset()] if budget_s is None else budget_s
    if not rungs or not all(isinstance(rung, Rung) for rung in rungs):
        raise LabError("A ladder is a list of rungs.", "", 'Give [Rung("name", run), ...]; the first is the naive way.')
    missing, rungs = [rung for rung in rungs if rung.missing], [rung for rung in rungs if not rung.missing]
    if not rungs:
        raise LabError("No rung can be run here.", " ".join(f"{rung.name}: {rung.missing}." for rung in missing))
    first, before, steps = rungs[0], rungs[0], []
    seen = sys.stderr.isatty() or "ipykernel" in sys.modules  # else it would fill a log
    expected = _answer(first)
    for rung in tqdm(rungs, desc="evaluating", unit=" rungs", leave=False, disable=not seen):
        found = _agreement(expected, rung)
        counts = count(rung.run)
        timing = time_pair(first.run, rung.run, budget_s=budget_s if steps else budget_s / 4, threads=threads)
        gain = timing if before is first else time_pair(before.run, rung.run, budget_s=budget_s, threads=threads)
        steps.append(Step(rung, found, counts, timing, gain))
        before = rung
    return Ladder(tuple(steps), len(expected), tuple(missing))


def _answer(rung: Rung) -> object:
    try:
        return rung.run()
    except Exception as error:  # the learner's own code may raise anything
        raise LabError(f"The rung {rung.name!r} raised {type(error).__name__}: {error}.") from error


def _agreement(expected: object, rung: Rung) -> Agreement:
    actual = _answer(rung)
    try:
        return agreement(expected, actual)
    except LabError as error:
        raise LabError(f"The rung {rung.name!r}: {error.what}", error.why, error.do) from error


def count(run: Callable[[], torch.Tensor]) -> Counts:
    """Counts the operators of one call, the values read out of tensors, and what autograd saves.

    What a DataLoader reads for itself, such as its seed, is no read of the evaluation.

    >>> weight = torch.ones(3, requires_grad=True)
    >>> count(lambda: weight.exp().sum().item())
    Counts(operators=3, reads=1, saved=1)
    """
    if runs_compiled(run):
        return Counts(None, None, None)
    saved = 0

    def keep(tensor: torch.Tensor) -> torch.Tensor:
        nonlocal saved
        saved += 1
        return tensor

    with _Counter() as counter, torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        run()
    return Counts(counter.operators, counter.reads, saved)


class _Counter(Watch):
    def __init__(self) -> None:
        super().__init__()
        self.reads = 0

    def after(self, operator, operands, results):
        self.reads += operator._overloadpacket.__name__ == READS and not by_data_loader()


def by_data_loader() -> bool:
    """Whether the nearest code outside of torch's inner parts and of this counter is torch.utils.data."""
    frame = sys._getframe(1)
    while frame is not None:
        module = frame.f_globals.get("__name__", "")
        if module.startswith("torch.utils.data"):
            return True
        if not module.startswith(("torch.", "labs_lib.")):
            return False
        frame = frame.f_back
    return False


def _interval(timing: Timing) -> str:
    if timing.low == 0:  # fewer than six rounds
        return "too few rounds for an interval"
    return f"{timing.low:.2f} to {timing.high:.2f}"


def _gain(gain: Timing) -> str:
    unsure = " ~" if gain.verdict == "indistinguishable" else ""
    return f"{gain.ratio:.2f}x ({_interval(gain)}){unsure}"


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None


def _count(value: int | None) -> str:
    return "not counted" if value is None else f"{value:,}"
