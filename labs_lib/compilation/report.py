"""report(model, *inputs): what the compiler makes of a model, what it buys here, and what stands in the way."""

from __future__ import annotations

import html
import math
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass

from labs_lib import hardware
from labs_lib.compare import BUDGET_S
from labs_lib.compilation.capture import Capture, capture, copied, silenced
from labs_lib.compilation.watch import watch
from labs_lib.equality import Difference, difference
from labs_lib.errors import LabError
from labs_lib.machine import pinned_threads, preset, synchronize
from labs_lib.timing import Timing, time_pair
from labs_lib.toolchain import cold_cache, forget_in_memory, one_compile_thread
from labs_lib.units import size_text, time_text

# An operator that takes less than so many dispatches of an operator on one number is mostly overhead.
SMALL = 20
SLOW = 30  # dispatches: what guards and the way into compiled code may take
STORM = 3  # recompilations: the automatic one, when a size becomes a variable, is no reason to worry
NOISY = 1.25  # a noise floor above which "no faster" may be "not seen"


@dataclass(frozen=True)
class Measured:
    """Seconds on this machine; ratios are eager over compiled."""

    cold: float  # the first call, with nothing compiled before
    warm: float  # the first call again, with the kernels on disk: capture and fusion are looked up or repeated
    timing: Timing  # eager against compiled, in the steady state
    difference: Difference
    dispatch: float  # one eager operator on one number

    @property
    def break_even(self) -> int | None:
        """The number of calls from which compiling has paid off, cold; None where it never does."""
        return self._calls(self.timing.ratio) if self.timing.verdict == "faster" else None

    @property
    def break_even_range(self) -> tuple[int, int] | None:
        """The same at both ends of the ratio's interval."""
        if self.timing.verdict != "faster" or not math.isfinite(self.timing.high):
            return None
        return self._calls(self.timing.high), self._calls(self.timing.low)

    def _calls(self, ratio: float) -> int:
        eager, compiled = self.timing.naive_seconds, self.timing.naive_seconds / ratio
        return max(1, math.ceil((self.cold - compiled) / (eager - compiled)))

    @property
    def same(self) -> bool:
        """Whether the two answers agree up to rounding: 32 machine epsilons, as in `lab.compare`."""
        return self.difference.relative <= 32 * self.difference.epsilon


@dataclass(frozen=True, repr=False)
class Report:
    """What `report` found. `measured` is None where there is no compiler."""

    capture: Capture
    measured: Measured | None
    cause: str  # what stands in the way: see `report`
    advice: str

    def rows(self) -> list[tuple[str, str, str]]:
        """(kind of number, what, text), one for each line."""
        rows = [("counted" if what else "", what, text) for what, text in self.capture.rows()]
        if self.measured:
            one = self.measured
            timing, ends = one.timing, one.break_even_range
            calls = f"{one.break_even:,}" if one.break_even else "never: it is not faster here"
            calls += f", between {ends[0]:,} and {ends[1]:,}" if ends else ""
            rows += [
                ("measured", "first call, cold", f"{time_text(one.cold)} (the first kernel of a process is extra)"),
                ("measured", "first call, warm", time_text(one.warm)),
                ("measured", "eager, per call", time_text(timing.naive_seconds)),
                ("measured", "compiled, per call", time_text(timing.optimised_seconds)),
                ("measured", "eager / compiled", f"{timing.ratio:.2f}, 95 % interval {timing.low:.2f} to "
                 f"{timing.high:.2f}; noise floor {timing.floor:.2f}: {timing.verdict}"),
                ("measured", "calls to break even", calls),
                ("measured", "largest difference", f"{one.difference.relative:.1e} of the largest value"),
            ]  # fmt: skip
        return [*rows, ("", "in the way", self.cause), ("", "", self.advice)]

    def as_dict(self) -> dict[str, object]:
        """Numbers and words only, for `--json`."""
        found, one = self.capture, self.measured
        return {
            "cause": self.cause,
            "advice": self.advice,
            "eager": asdict(found.eager),
            **{
                name: getattr(found, name)
                for name in ("regions", "compiled", "settled", "kernels", "library_calls", "bytes", "least_bytes")
            },
            "outside": asdict(found.outside),
            "breaks": [asdict(each) for each in found.breaks],
            "recompiles": [asdict(each) for each in found.recompiles],
            "measured": one
            and {
                "cold_seconds": one.cold,
                "warm_seconds": one.warm,
                "eager_seconds": one.timing.naive_seconds,
                "compiled_seconds": one.timing.optimised_seconds,
                **{name: _finite(getattr(one.timing, name)) for name in ("ratio", "low", "high", "floor")},
                "verdict": one.timing.verdict,
                "break_even_calls": one.break_even,
                "break_even_range": one.break_even_range,
                "same": one.same,
                "difference": _finite(one.difference.relative),
            },
        }

    def __str__(self) -> str:
        return "\n".join(f"{kind:10}{what:22}{text}".rstrip() for kind, what, text in self.rows())

    __repr__ = __str__

    def _repr_html_(self) -> str:
        left = 'style="text-align:left"'
        body = "".join(
            f"<tr><td {left}><i>{kind}</i></td><th {left}>{what}</th><td {left}>{html.escape(text)}</td></tr>"
            for kind, what, text in self.rows()
        )
        return f"<table>{body}</table>"


def report(
    model: Callable[..., object],
    *inputs: object,
    more: Sequence[tuple[object, ...]] = (),
    dynamic: bool | None = None,
    budget_s: float | None = None,
    threads: int = 1,
) -> Report:
    """Counts what the compiler makes of `model(*inputs)`, times it against eager, and names what is in the way.

    `model` is a module or function; call `eval()` first to see inference. `more` are further calls, a tuple of
    inputs each, to see whether they compile anew. All calls are without autograd. Compiled is in caches of its
    own, so that the cold first call is cold; the steady state is timed as in `labs_lib.timing`.

    The cause is the first of these that holds:
    "graph break (KIND)"; "recompilation", again and again (a size that becomes a variable at its second value is
    none); "the answers differ"; "none", if the compiled model is faster; "cannot tell here", on a machine too busy;
    "nothing to compile"; "slow kernels", where what the compiler wrote takes far longer; "too small", where an
    operator takes hardly longer than calling one; "library kernels", where the time is in kernels that the compiler
    does not write; "nothing to fuse". Without a compiler it is "not timed".

    Raises LabError where the model fails on the inputs, or the compiler on the model.
    """
    found = capture(model, *inputs, more=more, dynamic=dynamic)
    measured = None
    if found.settled and hardware.compiler() is not None:
        budget_s = BUDGET_S[preset()] if budget_s is None else budget_s
        measured = _measure(copied(model), inputs, dynamic, budget_s, threads)
    return Report(found, measured, *_verdict(found, measured))


def _measure(
    model: Callable[..., object], inputs: tuple[object, ...], dynamic: bool | None, budget_s: float, threads: int
) -> Measured:
    import torch

    one = torch.ones(1)
    with pinned_threads(threads), cold_cache(), one_compile_thread(), watch(), torch.no_grad(), silenced():
        compiled = torch.compile(model, dynamic=dynamic)
        try:
            cold = _seconds(compiled, inputs)
        except Exception as error:
            raise LabError(
                f"The kernels can't be built: {type(error).__name__}.",
                str(error).strip().splitlines()[0],
                "See what torch.compile says of torch.cos alone: if that fails too, it is the compiler.",
            ) from error
        forget_in_memory()
        warm = _seconds(compiled, inputs)
        timing = time_pair(lambda: model(*inputs), lambda: compiled(*inputs), budget_s=budget_s, threads=threads)
        dispatch = time_pair(lambda: one + 1, lambda: one + 1, budget_s=0.05, threads=threads).naive_seconds
    return Measured(cold, warm, timing, difference(*timing.outputs), dispatch)


def _seconds(fn: Callable[..., object], inputs: tuple[object, ...]) -> float:
    start = time.perf_counter()
    fn(*inputs)
    synchronize()
    return time.perf_counter() - start


def _verdict(found: Capture, measured: Measured | None) -> tuple[str, str]:
    """The cause and what to do, worst first: what is broken, then what is slow."""
    if found.breaks:
        first = next((each for each in found.breaks if each.in_loop), found.breaks[0])
        return f"graph break ({first.kind})", f"{first.place}: {first.advice}."
    if len(found.recompiles) >= STORM or not found.settled:
        last = found.recompiles[-1]
        return "recompilation", (
            f"{last.function}: {last.reason}. Mark a size that varies with torch._dynamo.mark_dynamic, or pad to few "
            "sizes; keep counters and other Python numbers that change out of the model."
        )
    if measured is None:
        return "not timed", "There is no C++ compiler here, so nothing was built."
    if not measured.same:
        return "the answers differ", (
            "Dropout in training mode, random numbers or a state that changes from call to call would do that. If it "
            "is none of these, compile the parts one by one."
        )
    return _verdict_on_time(found, measured)


def _verdict_on_time(found: Capture, measured: Measured) -> tuple[str, str]:
    timing, dispatch = measured.timing, measured.dispatch
    if timing.verdict == "faster":
        before, after = size_text(found.eager.bytes), size_text(found.bytes)
        return "none", f"One graph, always the same. A call moves {after} where eager code moves {before} (counted)."
    if timing.floor > NOISY:
        return "cannot tell here", "The machine is too busy: close what you can, or raise budget_s."
    if not found.eager.operators:
        return "nothing to compile", "The model calls no operator that computes."
    per_operator = timing.naive_seconds / found.eager.operators
    if timing.optimised_seconds - timing.naive_seconds > SLOW * dispatch and timing.ratio < 0.5:
        return "slow kernels", (
            "What the compiler wrote takes far longer than PyTorch's own kernels: look with torch.profiler which of "
            f"{', '.join(dict.fromkeys(kernel for graph in found.graphs for kernel in graph.kernels))}."
        )
    if per_operator < SMALL * dispatch:
        return "too small", (
            f"An operator takes {time_text(per_operator)}, and calling one on a single number "
            f"{time_text(dispatch)} (measured): larger batches first, then compile."
        )
    if found.library_calls:
        return "library kernels", (
            f"{found.library_calls} library calls a call hold the time, and the compiler leaves them as they are: "
            "try another dtype or layout."
        )
    return "nothing to fuse", (
        f"A call moves {size_text(found.eager.bytes)} eager and {size_text(found.bytes)} compiled (counted): there is "
        "little to save."
    )


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None
