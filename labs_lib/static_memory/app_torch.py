"""A torch model in one block of memory: the plan of lab 01, carried out by torch's own operators.

Each operator whose result has a place in the plan writes it there, through `out=` where torch has such a
kernel. Where it has none, as for convolutions, the result is made as usual and copied to its place: that takes
time and, for that moment, memory. So this shows what a plan is worth to a library that was not built for one;
engines that own their kernels write into the arena throughout.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from time import perf_counter

import torch
from torch.fx.node import map_arg

from labs_lib.compare import BUDGET_S, Comparison, compare
from labs_lib.errors import LabError
from labs_lib.ledger import ledger
from labs_lib.machine import pinned_threads, preset
from labs_lib.static_memory.capture import _quiet, _Recorder, _tensors
from labs_lib.static_memory.graph import lifetimes
from labs_lib.static_memory.lifetimes import verify
from labs_lib.static_memory.planners import height, keep_all
from labs_lib.static_memory.planning import Plan, plan

CALLS_NEEDED = 30  # of naive, so that an interval can be given: three a round, six rounds and the warm-up
LONGEST_S = 60.0


class _Notes(_Recorder):
    """Notes, beside the graph, the new tensors that each call into ATen returned, in order."""

    def __init__(self) -> None:
        super().__init__()
        self.made: list[list[torch.Tensor]] = []

    def call(self, target: Callable[..., object], args: tuple, kwargs: dict[str, object]) -> object:
        known = len(self.sizes)
        result = super().call(target, args, kwargs)
        self.made.append([t for t in _tensors(result) if (self.values[t.untyped_storage()._cdata] or 0) >= known])
        return result


class TorchProgram:
    """A torch model, exported for one float32 input of a fixed shape, with its graph and its plan.

    The model is taken as it is: call `eval()` first. What is offered on the page of the analyzer runs here;
    of other models those whose operators return one tensor each and that read their input directly.

    >>> from torch import nn
    >>> model = nn.Sequential(nn.Linear(16, 32), nn.GELU(), nn.Linear(32, 16)).eval()
    >>> program = TorchProgram(model, torch.ones(4, 16))
    >>> arena = TorchArena(program)
    >>> with torch.no_grad():
    ...     torch.equal(arena(torch.ones(4, 16)), model(torch.ones(4, 16)))
    True
    >>> arena.block.nbytes == program.plan.lower_bound, arena.straight, arena.copied
    (True, 3, 0)

    Raises LabError for a model that can't be captured or run in this way.
    """

    def __init__(self, model: torch.nn.Module, x: torch.Tensor) -> None:
        notes = _Notes()
        with torch.no_grad(), _quiet():
            try:
                self.exported = torch.export.export(model, (x,), strict=False)
            except Exception as error:  # export raises many kinds, the model's own code any kind
                raise _refused(f"torch.export can't capture it: {type(error).__name__}.") from error
            self.graph = notes.graph(self.exported)
        if any(value in operator.writes for operator in self.graph.operators for value in self.graph.inputs):
            raise _refused("It changes its input in place.")
        self.made = notes.made
        self.value_of = notes.values
        self.life = lifetimes(self.graph, "in_place")
        self.plan: Plan = plan(self.life.buffers)
        everything = lifetimes(self.graph, "fresh").buffers
        self.keeping = height(everything, keep_all(everything))


class TorchArena:
    """Runs a `TorchProgram` in one block of `plan.height` bytes; the result is valid until the next call.

    Everything but the input lies at a fixed address, so views are made once, here, and a call only runs
    what computes. `straight` operators write into the block, the results of `copied` ones are copied there.
    """

    def __init__(self, program: TorchProgram) -> None:
        best = program.plan
        verify(best.buffers, best.offsets, alignment=1, capacity=best.height)
        self.block = torch.empty(best.height, dtype=torch.uint8)
        self.calls: list[Callable[[], object]] = []
        self.straight = self.copied = 0
        exported, self._program = program.exported, program
        given = iter(exported.graph_signature.input_specs)
        made = iter(program.made)
        fixed: dict[torch.fx.Node, object] = {}
        for node in exported.graph.nodes:
            if node.op == "placeholder":
                fixed[node] = self._given(next(given), node)
            elif node.op == "call_function":
                args, kwargs = map_arg((node.args, dict(node.kwargs)), fixed.__getitem__)
                fixed[node] = self._bind(node.target, args, kwargs, next(made))
            elif node.op == "output":
                results = map_arg(node.args, fixed.__getitem__)[0]
                if len(results) > 1:
                    raise _refused(f"It returns {len(results)} things.")
                self.result = results[0]
            else:
                raise _refused(f"It contains a {node.op} of {node.target}.")

    def __call__(self, x: torch.Tensor) -> torch.Tensor:
        """The model's output for `x`, float32 of the shape for which the program was made.

        Raises LabError for another shape or dtype.
        """
        if x.shape != self.x.shape or x.dtype != self.x.dtype:
            raise LabError(
                f"The program takes {tuple(self.x.shape)} of {self.x.dtype}.",
                f"It was given {tuple(x.shape)} of {x.dtype}.",
                "A plan holds for one shape: make a program for this one.",
            )
        self.x.set_(x)
        for call in self.calls:
            call()
        return self.result

    def _given(self, spec: object, node: torch.fx.Node) -> object:
        """The tensor behind a placeholder: a weight, a constant, or the input, which each call sets."""
        if spec.target is not None:
            known = self._program.exported.state_dict | self._program.exported.constants
            return known[spec.target].detach()
        self.x = torch.empty(0).set_(torch.zeros(1).expand(node.meta["val"].shape))
        return self.x

    def _bind(self, target: Callable[..., object], args: tuple, kwargs: dict, made: list[torch.Tensor]) -> object:
        """What this call into ATen returns, always the same tensors; adds the call where it computes."""
        if not made:
            result = target(*args, **kwargs)
            if not isinstance(result, torch.Tensor):
                raise _refused(f"{target} returns no tensor.")
            if any(result is each for each in args):  # changed in place
                self.calls.append(lambda: target(*args, **kwargs))
                self.straight += 1
            elif result.untyped_storage()._cdata == self.x.untyped_storage()._cdata:
                raise _refused(f"{target} makes a view of the input.")  # which the next call replaces
            return result
        if len(made) > 1:
            raise _refused(f"{target} returns {len(made)} tensors.")
        slot = self._slot(made[0])
        straight = _writer(target, args, kwargs, slot)
        self.calls.append(straight or (lambda: slot.copy_(target(*args, **kwargs))))
        self.straight += straight is not None
        self.copied += straight is None
        return slot

    def _slot(self, made: torch.Tensor) -> torch.Tensor:
        """The place in the block of a tensor that the capture has seen, in the layout it had there."""
        life, storage = self._program.life, made.untyped_storage()
        if not storage.nbytes():
            return torch.empty_like(made, device="cpu")
        index, inside = life.home[self._program.value_of[storage._cdata]]
        start = self._program.plan.offsets[index] + inside
        memory = self.block[start : start + storage.nbytes()].view(made.dtype)
        return memory.as_strided(made.shape, made.stride(), memory.storage_offset() + made.storage_offset())


def _writer(target: torch._ops.OpOverload, args: tuple, kwargs: dict, slot: torch.Tensor) -> Callable | None:
    """The same call through a kernel that writes into `slot`; None where torch has none.

    Operators tagged "generated" only seem to be such kernels: they make their result and copy it.
    """
    aten = torch.ops.aten
    if target is aten.batch_norm.default and not args[5]:  # at inference: its statistics are constants
        nothing = torch.empty(0)
        return lambda: aten.native_batch_norm.out(*args[:8], out=slot, save_mean=nothing, save_invstd=nothing)
    if target is aten.linear.default and args[0].dim() > 1 and len(args) > 2 and slot.is_contiguous():
        x, weight, bias = args  # as the product that it is: the ledger knows the FLOPs of addmm, not of linear
        rows = slot.view(-1, slot.shape[-1])
        return lambda: aten.addmm.out(bias, x.flatten(0, -2), weight.t(), out=rows)
    packet = target.overloadpacket
    if "out" not in packet.overloads() or torch.Tag.generated in packet.out.tags:
        return None
    takes = [(a.name, str(a.type)) for a in target._schema.arguments]
    if takes != [(a.name, str(a.type)) for a in packet.out._schema.arguments if not a.is_out]:
        return None
    return lambda: packet.out(*args, **kwargs, out=slot)


def _refused(why: str) -> LabError:
    return LabError("This model can't be run in an arena.", why, "Plan it only: python -m labs_lib plan --model")


@dataclass(frozen=True)
class TorchAnalysis:
    """What `analyze_model` found. Bytes are peaks above weights and input, as the ledger counts storages."""

    input_shape: tuple[int, ...]
    comparison: Comparison
    plan: Plan
    keeping: int  # every value kept: the sum over the graph
    naive: int  # as the model runs, dead values freed
    with_setup: int  # arena: make the block, run once
    without_setup: int  # arena: one more run
    weights: int
    operators: tuple[int, int]  # writing into the block, copied to it

    @property
    def arena(self) -> int:
        return self.plan.height

    @property
    def lower_bound(self) -> int:
        return self.plan.lower_bound

    def as_dict(self) -> dict[str, object]:
        """Numbers and words for JSON, under the names that `Analysis.as_dict` uses."""
        return {
            "input_shape": list(self.input_shape),
            "peak_bytes": {
                "naive_keeping": self.keeping,
                "naive": self.naive,
                "arena_with_setup": self.with_setup,
                "arena_without_setup": self.without_setup,
            },
            "arena_bytes": self.arena,
            "lower_bound_bytes": self.lower_bound,
            "weight_bytes": self.weights,
            "buffers": len(self.plan.buffers),
            "operators": {"straight": self.operators[0], "copied": self.operators[1]},
            "comparison": self.comparison.as_dict(),
        }


def analyze_model(model: torch.nn.Module, x: torch.Tensor, budget_s: float | None = None) -> TorchAnalysis:
    """Runs `model` as it is and in an arena on `x`, for the same numbers that `analyze` gives of the MLP.

    Without `budget_s` the time is that of `compare`, or what thirty calls take, up to a minute: enough for an
    interval. Raises LabError for a model that `TorchProgram` refuses, and for an output that is not finite.
    """
    with torch.no_grad():
        if not model(x).isfinite().all():
            raise LabError(
                "The forward pass overflows float32 on these values.",
                "Its output is not finite.",
                "Give smaller values.",
            )
        program = TorchProgram(model, x)
        arena = TorchArena(program)
        if budget_s is None:
            budget_s = max(BUDGET_S[preset()], min(LONGEST_S, CALLS_NEEDED * _seconds(model, x)))
        return TorchAnalysis(
            input_shape=tuple(x.shape),
            comparison=compare(model, arena, x, budget_s=budget_s, progress=False),
            plan=program.plan,
            keeping=program.keeping,
            naive=ledger(model, x).peak_bytes,
            with_setup=ledger(lambda x: TorchArena(program)(x), x).peak_bytes,
            without_setup=ledger(arena, x).peak_bytes,
            weights=sum(each.nbytes for each in model.state_dict().values()),
            operators=(arena.straight, arena.copied),
        )


def _seconds(model: torch.nn.Module, x: torch.Tensor) -> float:
    """Of one call on one thread."""
    with pinned_threads(1):
        start = perf_counter()
        model(x)
        return perf_counter() - start
