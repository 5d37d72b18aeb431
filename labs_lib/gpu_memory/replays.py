"""A step, replayed on fake tensors: its memory as on a CUDA device, on a machine that has neither memory nor GPU."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from unittest import mock

import torch
from torch._subclasses import FakeTensor, FakeTensorMode
from torch._subclasses.fake_tensor import DataDependentOutputException, DynamicOutputShapeException

from labs_lib.errors import LabError
from labs_lib.gpu_memory.cuda_rules import as_on_cuda, on_cuda
from labs_lib.gpu_memory.plans import Plan, apply
from labs_lib.gpu_memory.steps import Step
from labs_lib.gpu_memory.trace import Trace
from labs_lib.gpu_memory.tracker import track

MakeStep = Callable[[int], Step]
ROUNDING = 512  # bytes: the caching allocator gives multiples of it


@dataclass(frozen=True)
class Replay:
    """One step under one plan. The trace is of a step in the middle of a training, when all states exist."""

    plan: Plan
    trace: Trace
    flops: int  # of the whole batch: counted for two micro-batches at most, and multiplied
    trains: bool

    @property
    def peak(self) -> int:
        return self.trace.peak

    @property
    def rounding(self) -> int:
        """Bytes by which the allocator rounds up the blocks alive at the peak."""
        return sum(-block.size % ROUNDING for block in self.trace.alive(self.trace.peak_at))


def replay(make_step: MakeStep, plan: Plan | int) -> Replay:
    """Runs `make_step(batch)` under a plan, or a batch as it is, on fake tensors, and counts what it holds.

    Two steps run: the first makes the optimiser's state, the second is traced. Of several micro-batches two are
    run, for the second adds to the gradients of the first, and every further one is like the second.

    >>> from labs_lib.gpu_memory.models import mlp
    >>> plain = replay(mlp, 64)
    >>> half = replay(mlp, Plan(64, half=True))
    >>> half.trace.at(0) == plain.trace.at(0), half.flops == plain.flops
    (True, True)

    Raises LabError where `make_step` or its step fails on fake tensors.
    """
    plan = plan if isinstance(plan, Plan) else Plan(plan)
    run = min(plan.micro_batches, 2)
    with FakeTensorMode(allow_non_fake_inputs=True), as_on_cuda():
        with _no_initial_values(), _explained("make_step"):
            step = make_step(plan.batch // plan.micro_batches)
        _check(step)
        apply(plan, step)
        step.micro_batches = run
        with _explained("The step"):
            step.prepare()
            if step.trains:
                on_cuda(step.state)
                step.run()
            given = (step.inputs, step.targets)
            trace = track(step.run, model=step.model, optimizer=step.state, inputs=given)
    if any(block.device.startswith("cuda") for block in trace.blocks):
        trace = trace.on("cuda")
    return Replay(plan, trace, trace.flops * plan.micro_batches // run, step.trains)


def _check(step: object) -> None:
    if not isinstance(step, Step):
        raise LabError(
            f"make_step(batch) returned {type(step).__name__}, and no Step.",
            "",
            "Return labs_lib.gpu_memory.Step(model, inputs, loss, targets, optimizer).",
        )
    if not all(isinstance(parameter, FakeTensor) for parameter in step.model.parameters()):
        raise LabError(
            "make_step uses a model that was made before.",
            "Its weights are real, and a replay works on fake tensors without data.",
            "Build model and inputs inside make_step.",
        )


@contextmanager
def _no_initial_values() -> Iterator[None]:
    """Fake weights have no values, and some of torch's initialisers look at the values that they have drawn."""

    def untouched(tensor: torch.Tensor, *args: object, **kwargs: object) -> torch.Tensor:
        return tensor

    names = [name for name in vars(torch.nn.init) if name.endswith("_") and not name.startswith("_")]
    with mock.patch.multiple(torch.nn.init, **dict.fromkeys(names, untouched)):
        yield


@contextmanager
def _explained(what: str) -> Iterator[None]:
    """Turns what the learner's code raises into a LabError. torch would log a traceback of its own before."""
    logging_before = logging.root.manager.disable
    logging.disable(logging.CRITICAL)
    try:
        yield
    except LabError:
        raise
    except (DataDependentOutputException, DynamicOutputShapeException) as error:
        raise LabError(
            f"{what} looks into a tensor's values, by {error.func}.",
            "On fake tensors, which have none, it can't be replayed.",
            "Leave .item(), float(tensor), masks as indices and the like out of it.",
        ) from error
    except Exception as error:  # the learner's own code
        lines = str(error).strip().splitlines() or [""]
        raise LabError(
            f"{what} failed on fake tensors with {type(error).__name__}: {lines[0].rstrip('.')}.",
            "It runs on the CPU, on tensors with a shape and no data.",
            "Run it once on real tensors with a small batch; if that works, leave out .cuda() and what reads data.",
        ) from error
    finally:
        logging.disable(logging_before)
