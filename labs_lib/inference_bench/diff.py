"""Two runs compared, configuration by configuration: which became slower or faster, beyond what noise explains.

Three things make two runs of the same code differ. Within a run the fastest calls scatter: the interval of the ratio
comes from the ranks of its replicates, and is widened for the number of configurations (Bonferroni), so that among all
of them a false claim is rare. Between runs the machine drifts: see `noise`. And a process finds its memory laid out by
chance (Mytkowicz et al. 2009, "Producing wrong data without doing anything obviously wrong!"), and its neighbours as
they are, for as long as it runs: so a difference is called only where the whole interval is beyond 10 %, and beyond
what the fastest calls of the two halves of either run differ by.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from labs_lib.errors import LabError
from labs_lib.inference_bench.noise import drift, scaled, shift
from labs_lib.inference_bench.results import Result, Run
from labs_lib.inference_bench.rows import OK, Key
from labs_lib.tables import aligned, wrapped
from labs_lib.units import time_text

LEAST = 1.10  # the smallest factor that is called
ERROR = 0.05  # chance of a false claim, over all configurations together
SLOWER, FASTER, INDISTINGUISHABLE, WRONG = "slower", "faster", "indistinguishable", "wrong answer"
BROKEN, ONE_ONLY, OTHER_MODEL = "fails now", "only in one", "another model"
REGRESSIONS = (SLOWER, WRONG, BROKEN)


@dataclass(frozen=True)
class Change:
    """One configuration. `ratio` is the time in B over the time in A, the machine's drift taken out."""

    key: Key
    verdict: str
    reason: str = ""
    seconds: tuple[float, float] | None = None  # the median call in A and in B, as measured
    ratio: float | None = None
    low: float | None = None  # None: unbounded
    high: float | None = None
    least: float | None = None  # the factor from which on a difference is called

    def as_dict(self) -> dict[str, object]:
        return {**vars(self), "key": vars(self.key), "seconds": self.seconds and list(self.seconds)}


@dataclass(frozen=True, repr=False)
class Diff:
    """All configurations of both runs."""

    changes: tuple[Change, ...]
    notes: tuple[str, ...]  # what makes the two runs harder to compare

    @property
    def regressed(self) -> bool:
        """Whether something is slower, gives a wrong answer or fails that did not before."""
        return any(change.verdict in REGRESSIONS for change in self.changes)

    def as_dict(self) -> dict[str, object]:
        return {
            "regressed": self.regressed,
            "changes": [change.as_dict() for change in self.changes],
            "notes": list(self.notes),
        }

    def __str__(self) -> str:
        table = [HEAD, *map(_row, self.changes)]
        compared = [change for change in self.changes if change.ratio is not None]
        counts = {verdict: sum(change.verdict == verdict for change in self.changes) for verdict in ORDER}
        summary = ", ".join(f"{count} {verdict}" for verdict, count in counts.items() if count)
        scale = (
            f"Times and ratios are measured; a ratio is of B over A with the control's drift taken out, its interval "
            f"holds for all {len(compared)} at once at 95 %, and factors below the last column are not called."
        )
        return "\n".join([*aligned(table), f"{summary}.", *([wrapped(scale)] if compared else []), *self.notes])

    __repr__ = __str__


HEAD = ("configuration", "A", "B", "B / A", "interval", "verdict", "called from")
ORDER = (SLOWER, WRONG, BROKEN, FASTER, INDISTINGUISHABLE, ONE_ONLY, OTHER_MODEL)


def compare_runs(a: Run, b: Run) -> Diff:
    """Whether B is slower or faster than A, for each configuration of either.

    Raises LabError where they have no configuration in common, or ran with different numbers of threads.
    """
    threads = a.header["settings"]["threads"], b.header["settings"]["threads"]
    if threads[0] != threads[1]:
        raise LabError(f"A ran with {threads[0]} thread(s) and B with {threads[1]}.", "", "Measure one of them again.")
    of_a, of_b = ({result.key: result for result in run.results} for run in (a, b))
    common = [key for key in of_a if key in of_b]
    if not common:
        raise LabError("A and B have no configuration in common.", "", "Give two runs of the same models and sizes.")
    timed = [key for key in common if OK == of_a[key].status == of_b[key].status]
    confidence = 1 - ERROR / max(1, len(timed))
    changes = []
    for key in dict.fromkeys([*of_a, *of_b]):
        if key in timed:
            changes.append(_timed(of_a[key], of_b[key], confidence))
        else:
            changes.append(_untimed(key, of_a.get(key), of_b.get(key)))
    return Diff(tuple(changes), tuple(_notes(a, b)))


def _timed(a: Result, b: Result, confidence: float) -> Change:
    seconds = a.latency(50).value, b.latency(50).value
    for name in ("parameters", "input_shape", "dtype"):
        if a.info[name] != b.info[name]:
            return Change(a.key, OTHER_MODEL, f"{name}: {a.info[name]} in A, {b.info[name]} in B", seconds)
    rounds = min(len(a.rounds), len(b.rounds))  # of as many each: the fastest of more is faster
    replicates = (scaled(each.rounds[:rounds], a) for each in (a, b))
    shifts = [shift(one, other, confidence) for one, other in zip(*replicates, strict=True)]
    low, high = math.exp(min(each.low for each in shifts)), math.exp(max(each.high for each in shifts))
    least = max(LEAST, drift(a) or math.inf, drift(b) or math.inf)
    verdict = SLOWER if low > least else FASTER if high < 1 / least else INDISTINGUISHABLE
    ratio = math.exp(shifts[0].median)
    return Change(a.key, verdict, "", seconds, ratio, _finite(low) or None, _finite(high), _finite(least))


def _untimed(key: Key, a: Result | None, b: Result | None) -> Change:
    if a is None or b is None:
        return Change(key, ONE_ONLY, f"not in {'A' if a is None else 'B'}")
    if b.status == WRONG:
        return Change(key, WRONG, b.reason)
    if a.status == OK and b.status in ("failed", "does not fit"):
        return Change(key, BROKEN, f"{b.status}: {b.reason}")
    why = (f"{name} {one.status}: {one.reason}".rstrip(": ") for name, one in (("A", a), ("B", b)) if one.status != OK)
    return Change(key, ONE_ONLY, "; ".join(why))


def _notes(a: Run, b: Run) -> list[str]:
    notes = []
    for name, what in (("machine", "on another machine"), ("versions", "with other versions of packages")):
        if a.header.get(name) != b.header.get(name):
            notes.append(f"B was measured {what} than A: the ratios are of both together.")
    return notes


def _row(change: Change) -> tuple[str, ...]:
    a, b = (time_text(seconds) for seconds in change.seconds) if change.seconds else ("", "")
    if change.ratio is None:
        return str(change.key), a, b, "", "", f"{change.verdict}: {change.reason}", ""
    ends = (f"{end:.2f}" if end is not None else "?" for end in (change.low, change.high))
    least = f"{change.least:.2f}x" if change.least is not None else "too few rounds"
    return str(change.key), a, b, f"{change.ratio:.2f}x", f"[{', '.join(ends)}]", change.verdict, least


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None
