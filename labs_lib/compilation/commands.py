"""`python -m labs_lib compile-report`."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

from labs_lib import arguments
from labs_lib.cli import FINE, add_json, print_result
from labs_lib.errors import LabError

if TYPE_CHECKING:
    import torch


def register(subparsers: argparse._SubParsersAction) -> None:
    """Adds the sub-command to the parser of `python -m labs_lib`."""
    parser = subparsers.add_parser("compile-report", help="what torch.compile makes of a model, and what it buys")
    parser.add_argument("model", metavar="MODULE:FACTORY", help="such as torchvision.models:resnet18")
    parser.add_argument(
        "--input",
        action="append",
        required=True,
        metavar="SHAPE[:DTYPE]",
        help="shape of the model's input, such as 1x3x224x224 or 1x128:int64 (zeros); once for each input",
    )
    parser.add_argument(
        "--more",
        action="append",
        default=[],
        metavar="SHAPE[,SHAPE...]",
        help="the inputs of one further call, to see whether it compiles anew; once for each call",
    )
    parser.add_argument("--budget", type=arguments.positive, metavar="S", help="seconds of steady timing (3)")
    add_json(parser)
    parser.set_defaults(run=_report)


def _report(args: argparse.Namespace) -> int:
    from labs_lib.compilation.report import report

    model = arguments.model_from(args.model, arguments.named(args.model, "the model")).eval()
    more = [_inputs(call.split(",")) for call in args.more]
    found = report(model, *_inputs(args.input), more=more, budget_s=args.budget)
    print_result(args, {"model": args.model, **found.as_dict()}, found)
    return FINE


def _inputs(texts: list[str]) -> tuple[torch.Tensor, ...]:
    """Normal numbers from a seed; integers are 0, which is a valid index of any table."""
    import numpy as np
    import torch

    rng = np.random.default_rng(0)
    try:
        return tuple(
            torch.from_numpy(rng.standard_normal(shape, dtype=np.float32)).to(dtype)
            if dtype.is_floating_point
            else torch.zeros(shape, dtype=dtype)
            for shape, dtype in map(arguments.shape, texts)
        )
    except (MemoryError, RuntimeError) as error:
        raise LabError(f"--input {' '.join(texts)} does not fit into memory.", "", "Give smaller shapes.") from error
