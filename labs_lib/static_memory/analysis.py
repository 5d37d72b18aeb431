"""Naive against arena on the lab's MLP, for the learner's own numbers: the answer, the memory, the time."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from labs_lib.compare import Comparison, compare
from labs_lib.errors import LabError
from labs_lib.ledger import traced_peak
from labs_lib.static_memory.arena import Arena
from labs_lib.static_memory.graph import lifetimes
from labs_lib.static_memory.mlp import MLP
from labs_lib.static_memory.planning import plan

MAX_VALUES = 1_000_000
MAX_BYTES = 32 * MAX_VALUES  # of a file: no float32 needs more characters
MAX_MODEL_BYTES = 2**30  # weights, and activations if all were kept
FLOAT32 = np.finfo(np.float32)


@dataclass(frozen=True)
class Analysis:
    """What `analyze` found. Bytes are peaks above weights and input, as tracemalloc counts them."""

    features: int
    batch: int
    layers: int
    comparison: Comparison
    keeping: int  # naive, every value kept
    naive: int  # naive, dead values freed as Python does
    with_setup: int  # arena: plan it, build it, run it once
    without_setup: int  # arena: one more run
    arena: int  # bytes of the block that the plan needs
    lower_bound: int  # bytes that no plan for this order of operations can go below
    weights: int
    budget_kib: float | None = None

    @property
    def within_budget(self) -> bool:
        """Whether the arena's peak, set-up included, is within the budget; True without a budget."""
        return self.budget_kib is None or self.with_setup <= self.budget_kib * 1024

    def as_dict(self) -> dict[str, object]:
        """For `--json`."""
        return {
            "features": self.features,
            "batch": self.batch,
            "layers": self.layers,
            "peak_bytes": {
                "naive_keeping": self.keeping,
                "naive": self.naive,
                "arena_with_setup": self.with_setup,
                "arena_without_setup": self.without_setup,
            },
            "arena_bytes": self.arena,
            "lower_bound_bytes": self.lower_bound,
            "weight_bytes": self.weights,
            "budget_kib": self.budget_kib,
            "within_budget": self.within_budget,
            "comparison": self.comparison.as_dict(),
        }

    def __str__(self) -> str:
        counts = self.comparison.ledger
        lines = [
            f"MLP of {self.layers} layers of {self.features} features, batch {self.batch}, float32.",
            str(self.comparison),
            f"Allowed are {self.features} float32 epsilons: each value is a sum of {self.features} products.",
            "",
            f"Peak memory in KiB by tracemalloc, above weights ({self.weights / 1024:,.1f} KiB) and input:",
            _row("measured", "naive, every value kept", self.keeping),
            _row("measured", "naive, dead values freed", self.naive),
            _row("measured", "arena, with set-up", self.with_setup),
            _row("measured", "arena, without set-up", self.without_setup),
            _row("counted", "the arena itself", self.arena),
            _row("counted", "lower bound of any plan", self.lower_bound),
            f"Arrays made per call (counted): naive {counts[0].allocations}, arena {counts[1].allocations}.",
        ]
        if self.budget_kib is not None:
            verdict = "within" if self.within_budget else "ABOVE"
            lines.append(f"Peak with set-up: {verdict} the budget of {self.budget_kib:,g} KiB.")
        return "\n".join(lines)


def analyze(
    values: Sequence[float] | np.ndarray,
    features: int = 1024,
    batch: int = 32,
    layers: int = 3,
    budget_kib: float | None = None,
    budget_s: float | None = None,
    progress: bool = True,
) -> Analysis:
    """Runs the MLP naively and in an arena on `values`, repeated until they fill (batch, features).

    The answers must agree within `features` machine epsilons of the largest value, because the rounding error
    of a sum is bounded by its length in epsilons (Higham, "Accuracy and Stability of Numerical Algorithms",
    section 3.1). `budget_s` is the time budget of `compare`.

    Raises LabError for no values, more than fit, values that are not finite in float32 or overflow on the
    way, and for a model above MAX_MODEL_BYTES.
    """
    if batch < 1:
        raise LabError(f"A batch of {batch} has no rows.", "", "Give a batch of at least 1.")
    size = 4 * (layers * features * (features + 1) + 3 * layers * batch * features)
    if size > MAX_MODEL_BYTES:
        raise LabError(
            f"{layers} layers of {features} features at batch {batch} take {size / 2**30:,.1f} GiB.",
            f"The limit is {MAX_MODEL_BYTES / 2**30:g} GiB, for weights and all activations.",
            "Give fewer features or layers, or a smaller batch.",
        )
    mlp = MLP(features, layers)
    x = tiled(values, batch, features)
    with np.errstate(over="ignore", invalid="ignore"):
        if not np.isfinite(mlp.naive(x)).all():
            raise LabError(
                "The forward pass overflows float32 on these values.",
                f"It can hold numbers up to {FLOAT32.max:.1e}.",
                "Give smaller values.",
            )

    def from_scratch(x: np.ndarray) -> np.ndarray:
        program = mlp.program(batch)
        return Arena(program, plan(lifetimes(program.graph, "in_place").buffers))(x)

    program = mlp.program(batch)
    best = plan(lifetimes(program.graph, "in_place").buffers)
    arena = Arena(program, best)
    return Analysis(
        features=features,
        batch=batch,
        layers=layers,
        comparison=compare(
            mlp.naive, arena, x, rtol=features * float(FLOAT32.eps), budget_s=budget_s, progress=progress
        ),
        keeping=traced_peak(mlp.naive_keeping, x),
        naive=traced_peak(mlp.naive, x),
        with_setup=traced_peak(from_scratch, x),
        without_setup=traced_peak(arena, x),
        arena=best.height,
        lower_bound=best.lower_bound,
        weights=sum(weight.nbytes + bias.nbytes for weight, bias in mlp.weights),
        budget_kib=budget_kib,
    )


def tiled(values: Sequence[float] | np.ndarray, batch: int, features: int) -> np.ndarray:
    """The values one after the other, repeated until they fill (batch, features), float32.

    >>> tiled([1, 2, 3], 2, 2)
    array([[1., 2.],
           [3., 1.]], dtype=float32)

    Raises LabError for no values, for more than batch x features, and for NaN, infinity and overflow.
    """
    flat = np.asarray(values, np.float64).ravel()
    if not 0 < flat.size <= batch * features:
        raise LabError(
            f"There are {flat.size:,} values.",
            f"The input holds from 1 to {batch} x {features} = {batch * features:,} of them.",
            "Give fewer values, or a larger batch." if flat.size else "Give at least one value.",
        )
    bad = ~(np.abs(flat) <= FLOAT32.max)
    if bad.any():
        place = int(bad.argmax())
        raise LabError(
            f"Value {place + 1} is {flat[place]}.",
            "Only finite float32 numbers can be compared.",
            f"Remove it, or give numbers up to {FLOAT32.max:.1e}.",
        )
    return np.resize(flat.astype(np.float32), (batch, features))


def parse_values(text: str, source: str = "the input") -> np.ndarray:
    """Numbers separated by commas, in one line or in lines of equal length, as a flat float64 array.

    >>> parse_values("1.0, 0.5")
    array([1. , 0.5])

    Raises LabError, naming line and field, for text, NaN, infinity, empty fields and lines of unequal
    length; for no numbers at all; and for more than MAX_VALUES.
    """
    if text.count(",") + text.count("\n") > MAX_VALUES:  # counted before each value becomes an object
        raise _too_many(source)
    values: list[float] = []
    columns = 0
    for number, line in enumerate(text.split("\n"), start=1):
        if not line.strip():
            continue
        fields = line.split(",")
        columns = columns or len(fields)
        if len(fields) != columns:
            raise LabError(
                f"Line {number} of {source} has {len(fields)} values, the first line has {columns}.",
                "All lines must be of equal length.",
                "Fill or remove the line.",
            )
        values.extend(_number(field, source, number, place) for place, field in enumerate(fields, start=1))
    if not values:
        raise LabError(f"There are no values in {source}.", "", "Give numbers separated by commas: 1.0,0.5")
    return np.array(values)


def read_values(path: str | Path) -> np.ndarray:
    """`parse_values` of a CSV file in UTF-8, without a header.

    Raises LabError as well when the file can't be read, is larger than MAX_BYTES, or is no text.
    """
    try:
        with open(path, "rb") as file:
            data = file.read(MAX_BYTES + 1)
    except OSError as error:
        raise LabError(f"Can't read {path}: {error.strerror}.", "", "Give the path of a CSV file.") from None
    if len(data) > MAX_BYTES:
        raise _too_many(str(path))
    return parse_values(decoded(data, str(path)), str(path))


def decoded(data: bytes, source: str) -> str:
    """The text of a CSV file; `source` names it in the LabError that is raised where it is no text."""
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise LabError(
            f"{source} is no text file.",
            f"Byte {error.start + 1} is not UTF-8.",
            "Save it as CSV: numbers separated by commas.",
        ) from None


def _number(field: str, source: str, line: int, place: int) -> float:
    text = field.strip()
    try:
        number = float(text)
        why = "" if math.isfinite(number) else f"{text!r} is not finite."
    except ValueError:
        why = f"{text[:30]!r} is not a number." if text else "It is empty."
    if why or "_" in text:  # Python would read 1_0 as ten
        raise LabError(
            f"Value {place} in line {line} of {source} can't be used.",
            why or f"{text[:30]!r} is not a number.",
            "Give finite numbers separated by commas: 1.0,0.5",
        )
    return number


def _too_many(source: str) -> LabError:
    return LabError(
        f"There are too many values in {source}.",
        f"The limit is {MAX_VALUES:,} values and {MAX_BYTES // 10**6} MB.",
        "Give a part of them: short inputs are repeated until they fill the batch.",
    )


def _row(kind: str, what: str, size: int) -> str:
    return f"  {what:28} {size / 1024:>12,.1f}   ({kind})"
