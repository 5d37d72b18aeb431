"""compare(naive, optimised): is the answer the same, what does each cost, and is one really faster?"""

from __future__ import annotations

import html
import math
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from labs_lib.equality import Difference, arrays, difference, epsilon
from labs_lib.errors import LabError
from labs_lib.figures import NAIVE, NEUTRAL, OPTIMISED, Picture, render, subplots
from labs_lib.ledger import Ledger, ledger
from labs_lib.machine import preset
from labs_lib.timing import Timing, time_pair
from labs_lib.units import time_text

TICKS = (0.001, 0.01, 0.1, 0.3, 1, 3, 10, 30, 100, 1000, 10_000)
FINE_TICKS = (0.33, 0.5, 0.67, 0.8, 0.9, 1, 1.1, 1.25, 1.5, 2, 3)
SPARE_CORES = 0.2  # for the interpreter's own threads, such as those of a notebook
BUDGET_S = {"ci": 1.0, "lab": 3.0, "gpu": 3.0}


@dataclass(frozen=True)
class Comparison:
    """What `compare` found. Factors are naive over optimised: above 1, the optimised version is ahead."""

    timing: Timing
    ledger: tuple[Ledger, Ledger]  # of naive, of optimised
    difference: Difference
    rtol: float
    threads: int

    @property
    def ratio(self) -> float:
        """Naive time over optimised time."""
        return self.timing.ratio

    @property
    def low(self) -> float:
        return self.timing.low

    @property
    def high(self) -> float:
        return self.timing.high

    @property
    def floor(self) -> float:
        """The factor under which this machine cannot tell naive from naive: 1.03 is 3 %."""
        return self.timing.floor

    @property
    def faults(self) -> tuple[float | None, float | None]:
        """Page faults in one timed call of naive and of optimised, in the mean; None where nobody counts them."""
        return self.timing.faults

    @property
    def cores(self) -> tuple[float, float]:
        """Cores that the process kept busy in a timed call of naive and of optimised, in the mean."""
        return self.timing.cores

    @property
    def verdict(self) -> str:
        """"faster", "slower" or "indistinguishable": where the optimised version stands."""
        return self.timing.verdict

    @property
    def same(self) -> bool:
        """Whether the outputs that were timed agree within the tolerance."""
        return self.difference.relative <= self.rtol

    def as_dict(self) -> dict[str, object]:
        """Numbers and words only, for `--json`; an interval without an end has None there."""
        return {
            "same": self.same,
            "difference": _finite(self.difference.relative),
            "rtol": _finite(self.rtol),
            **{name: _finite(getattr(self, name)) for name in ("ratio", "low", "high", "floor")},
            "verdict": self.verdict,
            "rounds": self.timing.rounds,
            "naive_seconds": self.timing.naive_seconds,
            "optimised_seconds": self.timing.optimised_seconds,
            "page_faults": self.faults,
            "cores": self.cores,
            "threads": self.threads,
            "ledger": {"naive": self.ledger[0].as_dict(), "optimised": self.ledger[1].as_dict()},
        }

    def __str__(self) -> str:
        answer = "The answer is the same" if self.same else "THE ANSWER DIFFERS"
        floor = f"this machine cannot tell A from A within {_percent(self.floor)}"
        digits = 3 if abs(self.ratio - 1) < 0.1 else 2
        interval = f"{self.ratio:.{digits}f}x, 95 % interval {self.low:.{digits}f} to {self.high:.{digits}f}"
        if self.low == 0:
            rounds = f"{self.timing.rounds} round" + "s" * (self.timing.rounds > 1)
            time = f"only {rounds} fitted into the time budget, too few for an interval: raise budget_s"
        elif self.verdict == "indistinguishable":
            time = f"in time they are indistinguishable here ({interval}; {floor})"
        else:
            time = f"the optimised version is {self.verdict} ({interval}; {floor})"
        found = self.difference.where or f"largest difference {self.difference.relative:.1e} of the largest value"
        return f"{answer} ({found}, allowed {self.rtol:.1e}); {time}.{self._crowd()}"

    def _crowd(self) -> str:
        """A sentence where more cores worked than threads were asked for: then the two had unequal means."""
        if not self._crowded:
            return ""
        naive, optimised = self.cores
        asked = f"{self.threads} thread was" if self.threads == 1 else f"{self.threads} threads were"
        return f" Naive kept {naive:.1f} and optimised {optimised:.1f} cores busy, where {asked} asked for."

    @property
    def _crowded(self) -> bool:
        return max(self.cores) > self.threads + SPARE_CORES

    def table(self) -> list[tuple[str, str, str, str]]:
        """(kind of number, what, naive, optimised), ready to print."""
        naive, optimised = (dict(side.rows()) for side in self.ledger)
        rows = [
            ("counted", what, *(_count(side.get(what, 0)) for side in (naive, optimised)))
            for what in (naive if len(naive) > len(optimised) else optimised)
        ]
        seconds = (self.timing.naive_seconds, self.timing.optimised_seconds)
        if None not in self.faults:
            rows.append(("measured", "page faults per call", *(f"{faults:,.0f}" for faults in self.faults)))
        if self._crowded:
            rows.append(("measured", "cores busy", *(f"{cores:.1f}" for cores in self.cores)))
        rows.append(("measured", f"time per call ({self.threads} thread)", *(time_text(s) for s in seconds)))
        return rows

    def picture(self) -> Picture:
        """The ratio with its interval, over the band in which this machine cannot tell A from A."""
        widest = 10 * max(self.ratio, 1 / self.ratio)  # stands for infinity where there is no interval
        low, high, floor = max(self.low, 1 / widest), min(self.high, widest), min(self.floor, widest)
        color = {"faster": OPTIMISED["color"], "slower": NAIVE["color"]}.get(self.verdict, NEUTRAL)
        figure, axes = subplots(7, 1.5)
        axes.axvspan(1 / floor, floor, color=NEUTRAL, alpha=0.25, lw=0)
        axes.axvline(1, color=NEUTRAL, lw=1)
        axes.plot([low, high], [0, 0], lw=5, color=color, solid_capstyle="butt")
        axes.plot(self.ratio, 0, "o", ms=9, color=color, mec="white")
        axes.annotate(f"{self.ratio:.2f}x", (self.ratio, 0), (0, 9), textcoords="offset points", ha="center")
        edge = 1.1 * max(1.15, floor, high, 1 / low)
        axes.set_xscale("log")
        axes.set_xlim(1 / edge, edge)
        axes.set_ylim(-1, 1.6)
        ticks = [tick for tick in (TICKS if edge > 4 else FINE_TICKS) if 1 / edge <= tick <= edge]
        axes.set_xticks(ticks, [f"{tick:g}x" for tick in ticks])
        axes.minorticks_off()
        axes.set_yticks([])
        axes.spines["left"].set_visible(False)
        axes.set_xlabel("naive time / optimised time (measured; grey: the noise floor)")
        return render(figure, str(self))

    def _repr_html_(self) -> str:
        head = "<tr><th></th><th></th><th>naive</th><th>optimised</th></tr>"
        body = "".join(
            f"<tr><td><i>{kind}</i></td><td>{html.escape(what)}</td><td>{a}</td><td>{b}</td></tr>"
            for kind, what, a, b in self.table()
        )
        return f"<table>{head}{body}</table>"

    def _ipython_display_(self) -> None:
        """A table, then the picture with its sentence."""
        from IPython.display import display

        text = "\n".join(f"{kind:10}{what:28}{a:>14}{b:>14}" for kind, what, a, b in self.table())
        display({"text/plain": text, "text/html": self._repr_html_()}, raw=True)
        display(self.picture())


def compare(
    naive: Callable[..., object],
    optimised: Callable[..., object],
    *inputs: object,
    fresh: Callable[[], tuple] | None = None,
    rtol: float | None = None,
    budget_s: float | None = None,
    threads: int = 1,
    progress: bool = True,
) -> Comparison:
    """Compares two functions on the same inputs: answer, exact costs, and time with its uncertainty.

    Both are warmed up, then timed in interleaved rounds with `threads` threads for about `budget_s`
    seconds (3; 1 under LABS_PRESET=ci); see `labs_lib.timing` for the method. Then the outputs that
    were timed last are compared: the largest difference may be `rtol` of the largest value. By default
    `rtol` is 32 machine epsilons of the precision of inputs and naive outputs: what rounding makes of sums
    of a thousand terms, whose error grows like the square root of their number. Where fewer bits are the
    point, say what is allowed. Last, one more call of each is counted.

    The inputs stay the same, so a function that remembers its last answer looks fast and right. Where that
    matters give, in place of inputs, `fresh`: a function that makes a tuple of them. Each round then has its
    own, a sample is one call, and the outputs of every round are compared.

    >>> import numpy as np
    >>> x = np.ones(4096, np.float32)
    >>> result = compare(lambda x: [float(v) + 1 for v in x], lambda x: (x + 1).tolist(), x, progress=False)
    >>> result.same, result.verdict, result.ledger[1].bytes_allocated
    (True, 'faster', 16384)

    Raises LabError where one of the functions changes its inputs, and where options can't be used.
    """
    budget_s = BUDGET_S[preset()] if budget_s is None else budget_s
    if budget_s <= 0 or threads < 1:
        raise LabError(
            f"budget_s={budget_s} and threads={threads} can't be used.", "Both must be above 0.", "Leave them out."
        )
    if fresh and inputs:
        raise LabError("Inputs are given, and a function that makes them.", "One would not be used.", "Give one.")
    data = _Data(fresh or (lambda: inputs))
    with _progress_bar(progress) as advance:
        timing = time_pair(
            lambda: naive(*data.inputs),
            lambda: optimised(*data.inputs),
            budget_s=budget_s,
            threads=threads,
            progress=advance,
            between=data.renew if fresh else None,
        )
    if not fresh:
        data.judge(*timing.outputs)
    return Comparison(
        timing=timing,
        ledger=(ledger(naive, *data.inputs), ledger(optimised, *data.inputs)),
        difference=data.worst,
        rtol=32 * data.epsilon if rtol is None else rtol,
        threads=threads,
    )


class _Data:
    """What the two functions work on, and the largest difference of their answers so far."""

    def __init__(self, make: Callable[[], tuple]) -> None:
        self.make = make
        self.worst = Difference(0.0, 0.0)
        self.epsilon = 0.0
        self.take()

    def take(self) -> None:
        self.inputs = self.make()
        if not isinstance(self.inputs, tuple):
            raise LabError(
                f"fresh() returns an object of type {type(self.inputs).__name__}.",
                "The two functions take what is in a tuple as their inputs.",
                "Return a tuple, for one input: (x,).",
            )
        self.before = arrays(self.inputs)

    def judge(self, expected: object, actual: object) -> None:
        found = difference(expected, actual)
        if found.relative >= self.worst.relative:
            self.worst = found
        # Else whoever answers in 8 bits would be allowed the rounding of 8 bits.
        self.epsilon = max(self.epsilon, min(found.epsilon, max(epsilon(expected), epsilon(self.inputs))))
        if difference(self.before, arrays(self.inputs)).relative > 0:
            raise LabError(
                "One of the two functions changes its inputs.",
                "Each call then works on the result of the one before, so the two are not compared on the same data.",
                "Let the function copy what it changes, or write into a buffer of its own.",
            )

    def renew(self, expected: object, actual: object) -> None:
        self.judge(expected, actual)
        self.take()


def _count(value: int | None) -> str:
    return "not counted" if value is None else f"{value:,}"


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None


def _percent(factor: float) -> str:
    return f"{100 * (factor - 1):.1f} %"


@contextmanager
def _progress_bar(wanted: bool) -> Iterator[Callable[[float], None]]:
    """A bar over the time budget, gone when the work is done."""
    from tqdm.auto import tqdm

    seen = sys.stderr.isatty() or "ipykernel" in sys.modules  # else it would fill a log
    with tqdm(total=100, desc="measuring", unit="%", leave=False, disable=not (wanted and seen)) as bar:
        yield lambda fraction: bar.update(int(100 * fraction) - bar.n) and None
        bar.update(100 - bar.n)  # measuring may end early; a bar closed before its end would turn red and stay
