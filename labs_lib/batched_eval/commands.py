"""`python -m labs_lib best-batch`."""

from __future__ import annotations

import argparse
import re
from typing import TYPE_CHECKING

from labs_lib import arguments
from labs_lib.cli import FINE, add_json, print_result
from labs_lib.errors import LabError

if TYPE_CHECKING:
    import torch

UNITS = {"": 1, "B": 1, "KiB": 2**10, "MiB": 2**20, "GiB": 2**30}
SIZE = re.compile(r"([0-9]+(?:\.[0-9]+)?) ?(B|KiB|MiB|GiB|)")


def register(subparsers: argparse._SubParsersAction) -> None:
    """Adds the sub-command to the parser of `python -m labs_lib`."""
    parser = subparsers.add_parser("best-batch", help="throughput and memory of a model against batch size")
    parser.add_argument("model", metavar="MODULE:FACTORY", help="such as torchvision.models:resnet18")
    parser.add_argument(
        "--input", required=True, metavar="SHAPE[:DTYPE]", help="of one sample, such as 3x64x64; the batch is added"
    )
    parser.add_argument("--memory-budget", type=size, metavar="SIZE", help="for a call, such as 512MiB or 1GiB")
    parser.add_argument("--budget", type=arguments.positive, metavar="S", help="seconds of timing (10)")
    parser.add_argument("--threads", type=arguments.count, default=1, metavar="N", help="threads of torch (1)")
    add_json(parser)
    parser.set_defaults(run=_best_batch)


def _best_batch(args: argparse.Namespace) -> int:
    from labs_lib.batched_eval.best_batch import best_batch

    model = arguments.model_from(args.model, arguments.named(args.model, "the model")).eval()
    shape, dtype = arguments.shape(args.input)
    try:
        sample = _sample(shape, dtype)
        found = best_batch(model, sample, args.memory_budget, budget_s=args.budget, threads=args.threads)
    except LabError:
        raise
    except Exception as error:  # the learner's own model
        raise LabError(
            f"{args.model} failed with a batch of {args.input}: {type(error).__name__}: {error}.",
            "--input is the shape of one sample; the batch dimension is added in front.",
            "Check the shape.",
        ) from error
    print_result(args, {"model": args.model, **found.as_dict()}, found)
    return FINE


def _sample(shape: list[int], dtype: torch.dtype) -> torch.Tensor:
    import numpy as np
    import torch

    if dtype.is_floating_point:
        return torch.from_numpy(np.random.default_rng(0).standard_normal(shape, dtype=np.float32)).to(dtype)
    return torch.zeros(shape, dtype=dtype)  # 0 is a valid index of any table


def size(text: str) -> int:
    """Bytes, for argparse.

    >>> size("1.5KiB"), size("100")
    (1536, 100)
    """
    match = SIZE.fullmatch(text)
    if match is None:
        raise argparse.ArgumentTypeError(f"{text!r} is no size such as 512MiB or 1GiB")
    return int(float(match[1]) * UNITS[match[2]])
