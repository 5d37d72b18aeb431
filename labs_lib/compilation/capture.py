"""What the compiler makes of a model, counted: graphs, breaks, recompilations, guards, kernels and bytes.

Nothing is built and nothing is timed here, so the counts need no compiler. Each captured graph is lowered to
the text of its kernels (`lowering`), then run operator by operator, so that the model's calls go their usual way.
"""

from __future__ import annotations

import copy
import os
import re
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, redirect_stdout
from dataclasses import dataclass
from typing import TYPE_CHECKING

from labs_lib.compilation.lowering import Lowered, lower
from labs_lib.compilation.traffic import Traffic, eager_traffic
from labs_lib.compilation.watch import Break, Recompile, watch
from labs_lib.equality import arrays, difference
from labs_lib.errors import LabError

if TYPE_CHECKING:
    import torch

GUARD = re.compile(r"\+- (?P<kind>[A-Z_]+): (?P<text>.+)$", re.MULTILINE)
TENSOR = re.compile(
    r"check_tensor\((?P<name>.+?), (Tensor|Parameter), .*?torch\.(?P<dtype>\w+), .*?(?P<size>size=.*)\)"
)
SHOWN = 3  # recompilations that are told in full
AMBIENT = ("GLOBAL_STATE", "TORCH_FUNCTION_MODE_STACK", "DEFAULT_DEVICE", "LAMBDA_GUARD")


@dataclass(frozen=True, repr=False)
class Capture:
    """All of it counted. `graphs` and `launches` are of the first inputs, each graph with its launches in one call."""

    eager: Traffic
    graphs: tuple[Lowered, ...]
    launches: tuple[int, ...]
    outside: Traffic  # what runs between the graphs, operator by operator; nothing for a model without breaks
    compiled: int  # graphs compiled in all calls together
    settled: bool  # False where even the same inputs compile anew at each call
    breaks: tuple[Break, ...]
    recompiles: tuple[Recompile, ...]
    guards: tuple[str, ...]  # of the first graph: what must hold for it to be used again

    @property
    def regions(self) -> int:
        """Compiled regions that one call runs through: 1 for a model without breaks, 0 if all of it stays eager."""
        return sum(self.launches)

    @property
    def kernels(self) -> int:
        """Launches of kernels in one call that the compiler wrote."""
        return self._per_call(lambda graph: len(graph.kernels))

    @property
    def library_calls(self) -> int:
        return self._per_call(lambda graph: len(graph.library_calls))

    @property
    def bytes(self) -> int:
        """Bytes read and written in one call: by the compiled regions after fusion, and by what runs between them."""
        return self._per_call(lambda graph: graph.bytes) + self.outside.bytes

    @property
    def least_bytes(self) -> int:
        """Each input of a region read once, each of its outputs written once; what runs between them as it is."""
        return self._per_call(lambda graph: graph.least_bytes) + self.outside.bytes

    def _per_call(self, count: Callable[[Lowered], int]) -> int:
        return sum(times * count(graph) for graph, times in zip(self.graphs, self.launches, strict=True))

    def rows(self) -> list[tuple[str, str]]:
        """(label, text) pairs of the stages, from eager code to generated kernels, and what went wrong on the way."""
        operations = self._per_call(lambda graph: len(graph.operations))
        rows = [
            ("eager operators", f"{self.eager.operators:,}"),
            ("operations captured", f"{operations:,} in {self.regions:,} graph{'s' if self.regions != 1 else ''}"),
            ("ATen operators", f"{self._per_call(lambda graph: len(graph.aten)):,}"),
            ("kernels written", f"{self.kernels:,}, and {self.library_calls:,} library calls"),
            ("operators left eager", f"{self.outside.operators:,}"),
            ("bytes, eager", f"{self.eager.bytes:,}"),
            ("bytes, compiled", f"{self.bytes:,}"),
            ("bytes, least", f"{self.least_bytes:,}"),
            ("graph breaks", str(len(self.breaks))),
            *(("", str(each)) for each in self.breaks),
            ("recompilations", str(len(self.recompiles))),
            *(("", str(each)) for each in self.recompiles[:SHOWN]),
        ]
        return rows + ([("", "...")] if len(self.recompiles) > SHOWN else [])

    def __str__(self) -> str:
        return "\n".join(f"{label:21}{text}" for label, text in self.rows())

    __repr__ = __str__


def capture(
    model: Callable[..., object],
    *inputs: object,
    more: Sequence[tuple[object, ...]] = (),
    dynamic: bool | None = None,
    mode: str | None = None,
) -> Capture:
    """Follows `model(*inputs)` through the compiler, then calls it with the inputs of each tuple in `more`.

    The model, a function or module, is called without autograd, some times over; a module is copied before, so that
    yours stays as it is. What the model prints is not shown. `dynamic` and `mode` are torch.compile's.

    >>> import torch
    >>> found = capture(lambda x: torch.relu(x * 2) + 1, torch.ones(1024))
    >>> found.eager.operators, found.regions, found.kernels, found.bytes, found.least_bytes
    (3, 1, 1, 8192, 8192)

    Raises LabError where the model itself fails on these inputs or changes them, or the compiler on the model.
    """
    import torch

    _check_mode(mode)
    model = copied(model)
    traffic = _eagerly(model, [inputs, *more])
    graphs: list[Lowered] = []
    runs: Counter[int] = Counter()
    inside: list[Traffic] = []
    compiled, counting = 0, True

    def backend(graph: torch.fx.GraphModule, examples: list[object]) -> Callable[..., object]:
        nonlocal compiled
        if counting:
            graphs.append(lower(graph, examples, mode))  # may raise, and Dynamo comes back with another graph
        number = compiled
        compiled += 1

        def run(*arguments: object) -> object:
            runs[number] += 1
            if counting:
                inside.append(eager_traffic(graph.forward, *arguments))
            return graph.forward(*arguments)

        return run

    with watch() as seen, torch.no_grad(), silenced():
        followed = torch.compile(model, backend=backend, dynamic=dynamic)
        try:
            followed(*inputs)
            guards = _guards(model)
            runs.clear()  # the first call may compile what a later one does not run
            inside.clear()
            followed(*inputs)
            launches = tuple(runs[number] for number in range(len(graphs)))
            counting = False
            followed(*inputs)
            before = compiled
            followed(*inputs)
            settled = compiled == before
            for call in more:
                followed(*call)
        except Exception as error:
            raise LabError(
                f"torch.compile failed with {type(error).__name__}: {_first_line(error)}",
                "The model runs eagerly, so this is between it and the compiler.",
                "Compile its parts one by one to find the one at fault.",
            ) from error
    outside = Traffic(
        max(0, traffic.operators - sum(part.operators for part in inside)),
        max(0, traffic.bytes - sum(part.bytes for part in inside)),
    )
    return Capture(
        traffic, tuple(graphs), launches, outside, compiled, settled, tuple(seen.breaks), tuple(seen.recompiles), guards
    )


def _check_mode(mode: str | None) -> None:
    from torch._inductor import list_mode_options

    modes = list_mode_options()
    if mode is not None and mode not in modes:
        raise LabError(f"torch.compile has no mode {mode!r}.", f"It has {', '.join(modes)}.", "Take one of these.")


def copied(model: Callable[..., object]) -> Callable[..., object]:
    """A copy of a module, so that counters and running statistics of the caller's stay as they are.

    A module that holds results of autograd can't be copied, and is taken itself, as a function is.
    """
    import torch

    try:
        return copy.deepcopy(model) if isinstance(model, torch.nn.Module) else model
    except RuntimeError:
        return model


def _eagerly(model: Callable[..., object], calls: Sequence[tuple[object, ...]]) -> Traffic:
    """The traffic of the first call, after all calls were seen to work, and to leave their inputs alone."""
    counts = []
    for call in calls:
        if not isinstance(call, tuple | list):
            raise LabError(
                f"A further call is a {type(call).__name__}.", "Each call is a tuple of inputs.", "Write more=[(x,)]."
            )
        before = arrays(call)
        try:
            with silenced():
                counts.append(eager_traffic(model, *call))
        except Exception as error:  # the learner's own code
            raise LabError(
                f"The model failed with {type(error).__name__}: {_first_line(error)}",
                "It was called as it is, before anything was compiled.",
                "Call it on the same inputs yourself first.",
            ) from error
        if difference(before, arrays(call)).relative > 0:
            raise LabError(
                "The model changes its inputs.",
                "Each call then works on the result of the one before.",
                "Let it copy what it changes.",
            )
    return counts[0]


@contextmanager
def silenced() -> Iterator[None]:
    """What is printed within the block is dropped: a model that prints would do so at each of some thousand calls."""
    with open(os.devnull, "w") as nowhere, redirect_stdout(nowhere):
        yield


def _guards(model: Callable[..., object]) -> tuple[str, ...]:
    """The conditions under which the newest graph of the model is used again, as Dynamo wrote them down."""
    from torch._dynamo.eval_frame import _debug_get_cache_entry_list

    code = getattr(getattr(model, "forward", model), "__code__", None)
    entries = _debug_get_cache_entry_list(code) if code else []
    found = GUARD.finditer(str(entries[0].guard_manager)) if entries else ()
    texts = [_guard(guard["kind"], guard["text"]) for guard in found]
    return tuple(dict.fromkeys(filter(None, texts)))


def _guard(kind: str, text: str) -> str:
    """One guard in short, without addresses; empty for those that say nothing of the model."""
    text = re.sub(r"\s+# .*$", "", text).replace("L['self']", "self")
    if tensor := TENSOR.search(text):
        return f"{tensor['name']}: {tensor['dtype']}, {tensor['size']}"
    if kind in AMBIENT or "dynamic_indices" in text or "_indices')" in text:
        return ""
    return re.sub(r", type=<class '(.+?)'>$", r" (\1)", re.sub(r"___check_(\w+)\((.+?), \d+\)", r"\1 of \2", text))


def _first_line(error: Exception) -> str:
    return next(iter(str(error).strip().splitlines()), "no message").rstrip(".") + "."
