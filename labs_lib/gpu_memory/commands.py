"""`python -m labs_lib fit`."""

from __future__ import annotations

import argparse
import inspect
import sys
from collections.abc import Callable
from typing import TYPE_CHECKING

from labs_lib import arguments
from labs_lib.arguments import count
from labs_lib.cli import FINE, GATE_FAILED, add_json, print_result
from labs_lib.errors import LabError

if TYPE_CHECKING:
    from labs_lib.gpu_memory.steps import Step


def register(subparsers: argparse._SubParsersAction) -> None:
    """Adds the sub-command to the parser of `python -m labs_lib`."""
    fit = subparsers.add_parser("fit", help="does a training or inference step fit into a GPU's memory?")
    fit.add_argument(
        "factory",
        metavar="MODULE:FACTORY",
        help="make_step(batch), which returns a labs_lib.gpu_memory.Step; or, with --input, what makes the model",
    )
    fit.add_argument("--batch", type=count, default=32, help="samples in a step (32)")
    fit.add_argument("--device", default="T4", help="T4, L4, A10, A100-40, A100-80, H100, H200 or RTX 4090 (T4)")
    fit.add_argument(
        "--input",
        action="append",
        metavar="SHAPE[:DTYPE]",
        help="of one sample, such as 3x224x224 or 128:int64; once for each input. The loss is then the sum of the "
        "outputs, the optimiser AdamW",
    )
    fit.add_argument("--inference", action="store_true", help="with --input: a forward pass in eval mode, no training")
    add_json(fit)
    fit.set_defaults(run=_fit)


def _fit(args: argparse.Namespace) -> int:
    from labs_lib.gpu_memory.devices import find_device
    from labs_lib.gpu_memory.fit import will_it_fit
    from labs_lib.gpu_memory.verdicts import NO

    if args.inference and not args.input:
        raise LabError("--inference needs --input.", "make_step decides itself, by its Step's optimizer.", "Drop it.")
    gpu = find_device(args.device)
    factory = arguments.named(args.factory, "FACTORY")
    make_step = _of_model(args, factory) if args.input else _of_batch(args.factory, factory)
    verdict = will_it_fit(make_step, gpu, args.batch, progress=sys.stderr.isatty())
    print_result(args, verdict.as_dict(), verdict)
    return GATE_FAILED if verdict.fits == NO else FINE


def _of_batch(name: str, factory: object) -> Callable[[int], Step]:
    import torch

    if isinstance(factory, torch.nn.Module) or (isinstance(factory, type) and issubclass(factory, torch.nn.Module)):
        raise LabError(f"{name} is a model, not make_step(batch).", "", "Give the shape of one sample with --input.")
    if not callable(factory):
        raise LabError(f"{name} is no function.", "", "Name make_step(batch), or with --input what makes the model.")
    try:
        inspect.signature(factory).bind(1)
    except TypeError as error:
        raise LabError(
            f"{name} can't be called with a batch: {error}.",
            "",
            "Name make_step(batch), or give the shape of one sample with --input.",
        ) from error
    except ValueError:  # built-in functions may have no signature
        pass
    return factory


def _of_model(args: argparse.Namespace, factory: object) -> Callable[[int], Step]:
    import torch

    from labs_lib.gpu_memory.steps import Step

    shapes = [arguments.shape(text) for text in args.input]

    def make_step(batch: int) -> Step:
        model = arguments.model_from(args.factory, factory).train(not args.inference)
        inputs = tuple(torch.zeros(batch, *shape, dtype=dtype) for shape, dtype in shapes)
        return Step(model, inputs, optimizer=None if args.inference else torch.optim.AdamW)

    return make_step
