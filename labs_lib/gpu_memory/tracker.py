"""Exact accounting of a step's memory: which storage was alive when, what it was for, and whose it was.

A dispatch mode sees every operator below autograd, and notes the storages that appear in its results. A weak
reference to each storage tells when it dies. What a storage is for follows from who holds it:

- *parameters*: parameters and buffers of the model (and whatever an optimiser updates)
- *gradients*: was the `.grad` of a parameter; a contribution that is added to it and dropped is a temporary
- *optimiser state*: is held by `optimizer.state` after an optimiser's step
- *activations*: autograd saved it for the backward pass; not the parameters and inputs it saved as well, which
  are there anyway. A checkpoint saves what it recomputes by itself, unseen: there, what the backward pass reads
- *inputs*: existed before the step, and is none of these
- *temporaries*: the rest

A block has one kind for all its life: a result that will be saved counts as an activation from its birth.
Not seen: what a kernel allocates and frees inside itself, and what is made without an operator, such as
`torch.from_numpy`, which counts as an input.
"""

from __future__ import annotations

import gc
import weakref
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import replace

import torch
from torch.autograd.graph import saved_tensors_hooks
from torch.nn.modules.module import register_module_forward_hook, register_module_forward_pre_hook
from torch.optim.optimizer import register_optimizer_step_post_hook, register_optimizer_step_pre_hook
from torch.utils.weak import WeakIdKeyDictionary

from labs_lib.dispatch import Watch, tensors
from labs_lib.gpu_memory.entries import Entries, Entry
from labs_lib.gpu_memory.origins import Origin, Origins
from labs_lib.gpu_memory.trace import (
    BACKWARD,
    FORWARD,
    GRADIENTS,
    INPUTS,
    OPTIMISER,
    OPTIMISER_STATE,
    PARAMETERS,
    RECOMPUTATION,
    Operator,
    Trace,
)

PARTS = {
    torch.sparse_coo: ("_indices", "_values"),
    torch.sparse_csr: ("crow_indices", "col_indices", "values"),
    torch.sparse_csc: ("ccol_indices", "row_indices", "values"),
}
MODIFIED = (
    "one of the variables needed for gradient computation has been modified by an inplace operation: it is at "
    "version {}; expected version {} instead."
)


def track(
    step: Callable[[], object],
    *,
    model: torch.nn.Module | None = None,
    optimizer: torch.optim.Optimizer | None = None,
    inputs: object = (),
) -> Trace:
    """Calls `step()` once and returns what memory it used: on any device, and on fake tensors.

    `model`, `optimizer` and `inputs` (tensors in tuples, lists and dicts) name what exists before the step and
    give modules their names. Without them, a thing is found when an operator first touches it. The result of
    `step` is dropped before the trace ends. Python's cycle collector rests during the step, so that a count
    does not depend on when it runs.

    >>> model = torch.nn.Linear(4, 2)
    >>> x = torch.ones(8, 4)
    >>> trace = track(lambda: model(x).sum().backward(), model=model, inputs=x)
    >>> trace.at(0)
    {'parameters': 40, 'inputs': 128}
    >>> trace.live_at_end - trace.live_at_start  # the gradients
    40

    Where `step` raises, the error goes on to the caller with the trace up to there as its attribute `trace`.
    The hooks by which autograd tells what it saves make it call `aten.detach` more often, which takes no memory. For
    fake tensors, enter the FakeTensorMode outside. Steps with torch.func transforms can't be tracked: these
    forbid the hooks by which autograd tells what it saves.
    """
    tracker = _Tracker(model)
    try:
        with tracker.watching():
            tracker.know(optimizer, inputs)
            step()
    except BaseException as error:
        error.trace = tracker.trace()
        raise
    return tracker.trace()


class _Tracker(Watch):
    def __init__(self, model: torch.nn.Module | None) -> None:
        super().__init__()
        self.origins = Origins(model)
        self.entries = Entries(lambda: self.operators)
        self.owners = WeakIdKeyDictionary()  # parameter -> name of its module; weak, or the step could not free it
        self.optimizers: weakref.WeakSet[torch.optim.Optimizer] = weakref.WeakSet()
        self.log: list[Operator] = []
        self.hooks = ExitStack()
        self.optimising = False
        self.muted = False  # while the tracker itself calls operators

    # --- before and after the step -------------------------------------------------------------------

    @contextmanager
    def watching(self) -> Iterator[None]:
        """Hooks everything up, and leaves everything as it was."""
        collecting = gc.isenabled()
        gc.disable()
        try:
            with self.hooks as hooks:
                for register, hook in (
                    (register_optimizer_step_pre_hook, self.optimizer_starts),
                    (register_optimizer_step_post_hook, self.optimizer_ends),
                    (register_module_forward_pre_hook, self.origins.enter),
                ):
                    hooks.callback(register(hook).remove)
                hooks.callback(register_module_forward_hook(self.origins.leave, always_call=True).remove)
                hooks.enter_context(saved_tensors_hooks(self.pack, self.unpack))
                with self:
                    yield
        finally:
            self.finish()
            if collecting:
                gc.enable()

    def know(self, optimizer: torch.optim.Optimizer | None, inputs: object) -> None:
        """Enters what exists before the step."""
        for module, name in self.origins.names.items():
            for tensor in (*module._parameters.values(), *module._buffers.values()):
                if tensor is not None and tensor not in self.owners:
                    self.parameter(tensor, name)
        if optimizer is not None:
            self.optimizer(optimizer)
        for tensor in tensors(inputs):
            self.existing(tensor, INPUTS)

    def finish(self) -> None:
        """Last look at gradients and states, and no more news from storages that live on."""
        self.look_at_optimizers()
        for parameter in list(self.owners):
            self.gradient(parameter)
            self.mark(parameter, PARAMETERS, self.owners[parameter])  # `parameter.data = ...` may have renewed it
        self.entries.stop()

    def trace(self) -> Trace:
        return Trace(tuple(entry.block() for entry in self.entries.all), tuple(self.log), self.flops)

    # --- operators -----------------------------------------------------------------------------------

    def __torch_dispatch__(self, operator, types, args=(), kwargs=None):
        if self.muted:
            return operator(*args, **(kwargs or {}))
        return super().__torch_dispatch__(operator, types, args, kwargs)

    def before(self, operator: torch._ops.OpOverload, operands: list[torch.Tensor]) -> None:
        self.origins.remember()
        if operator is torch.ops.aten.lift_fresh.default:  # torch.tensor(...) fills its memory unseen: not here before
            return
        reads = self.phase() == BACKWARD
        for tensor in operands:
            for entry in self.existing(tensor):
                entry.saved |= reads and entry.origin.phase == RECOMPUTATION

    def after(self, operator: torch._ops.OpOverload, operands: list[torch.Tensor], results: list[torch.Tensor]) -> None:
        phase = self.phase()
        self.log.append(Operator(_name(operator), phase, self.origins.module(phase)))
        for tensor in operands:
            self.resized(tensor, operator)
        for tensor in results:
            self.enter(tensor, operator)

    def phase(self) -> str:
        if torch._C._current_graph_task_id() != -1:  # autograd's engine runs; it records only what is recomputed
            return RECOMPUTATION if torch.is_grad_enabled() else BACKWARD
        return OPTIMISER if self.optimising else FORWARD

    # --- storages ------------------------------------------------------------------------------------

    def enter(self, tensor: torch.Tensor, operator: torch._ops.OpOverload) -> None:
        """A storage that is not known is born at this operator."""
        for storage in self.storages(tensor):
            if self.entries.of(storage) is None:
                self.entries.add(storage, tensor, Entry(_name(operator), self.here(), self.operators))

    def existing(self, tensor: torch.Tensor, kind: str = INPUTS) -> list[Entry]:
        """The entries of a tensor's storages; one that is not known existed before the step."""
        if isinstance(tensor, torch.nn.Parameter) and tensor not in self.owners:
            self.parameter(tensor, self.origins.running())
        return [
            self.entries.of(storage) or self.entries.add(storage, tensor, Entry("", Origin(), 0, kind))
            for storage in self.storages(tensor)
        ]

    def resized(self, tensor: torch.Tensor, operator: torch._ops.OpOverload) -> None:
        """A storage whose size an operator has changed is another block from here on."""
        for storage in self.storages(tensor):
            entry = self.entries.of(storage)
            if entry is not None and entry.size != storage.nbytes():
                entry.died = self.operators
                again = Entry(_name(operator), self.here(), self.operators, entry.kind, entry.saved)
                self.entries.add(storage, tensor, again)

    def here(self) -> Origin:
        return self.origins.here(self.phase())

    def storages(self, tensor: torch.Tensor) -> list[torch.UntypedStorage]:
        """The tensor's storage, or those of its parts; none where it is laid out in a way that has none."""
        if tensor.layout is torch.strided:
            return [tensor.untyped_storage()]
        parts = PARTS.get(tensor.layout, ())
        with self.silence():
            return [getattr(tensor, part)().untyped_storage() for part in parts]

    # --- what a storage is for -----------------------------------------------------------------------

    def parameter(self, tensor: torch.Tensor, module: str) -> None:
        self.owners[tensor] = module
        self.mark(tensor, PARAMETERS, module)
        self.gradient(tensor)
        if tensor.requires_grad and tensor.is_leaf:
            self.hooks.callback(tensor.register_post_accumulate_grad_hook(self.gradient).remove)

    def gradient(self, parameter: torch.Tensor) -> None:
        if parameter.grad is not None:
            self.mark(parameter.grad, GRADIENTS, self.owners[parameter])

    def mark(self, tensor: torch.Tensor, kind: str, module: str) -> None:
        for entry in self.existing(tensor, kind):
            entry.kind = kind
            entry.origin = replace(entry.origin, module=module)

    def optimizer(self, optimizer: torch.optim.Optimizer) -> None:
        self.optimizers.add(optimizer)
        for group in optimizer.param_groups:
            for tensor in group["params"]:
                if tensor not in self.owners:
                    self.parameter(tensor, "")
        self.look_at_optimizers()

    def look_at_optimizers(self) -> None:
        for optimizer in self.optimizers:
            for parameter, state in optimizer.state.items():
                for tensor in tensors(state):
                    self.mark(tensor, OPTIMISER_STATE, self.owners.get(parameter, ""))

    def optimizer_starts(self, optimizer: torch.optim.Optimizer, args: tuple, kwargs: dict) -> None:
        self.optimizer(optimizer)
        self.optimising = True

    def optimizer_ends(self, optimizer: torch.optim.Optimizer, args: tuple, kwargs: dict) -> None:
        self.optimising = False
        self.look_at_optimizers()

    def pack(self, tensor: torch.Tensor) -> tuple[torch.Tensor, int]:
        """Autograd saves this tensor. A detached one shares its storage without closing a circle through the graph."""
        for entry in self.existing(tensor):
            entry.saved = True
        with self.silence():
            return tensor.detach(), tensor._version

    def unpack(self, packed: tuple[torch.Tensor, int]) -> torch.Tensor:
        """Autograd leaves its check for changes in place to the hooks, so here it is."""
        tensor, version = packed
        if tensor._version != version:
            raise RuntimeError(MODIFIED.format(tensor._version, version))
        return tensor

    @contextmanager
    def silence(self) -> Iterator[None]:
        before, self.muted = self.muted, True
        try:
            yield
        finally:
            self.muted = before


def _name(operator: torch._ops.OpOverload) -> str:
    return str(operator._overloadpacket)
