"""`python -m labs_lib best-batch`."""

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
    parser = subparsers.add_parser("best-batch", help="throughput and memory of a model against batch size")
    parser.add_argument("model", metavar="MODULE:FACTORY", help="such as torchvision.models:resnet18")
    parser.add_argument(
        "--input", required=True, metavar="SHAPE[:DTYPE]", help="of one sample, such as 3x64x64; the batch is added"
    )
    parser.add_argument("--memory-budget", metavar="SIZE", help="for a call, such as 512MiB or 1GiB")
    parser.add_argument("--budget", type=arguments.positive, metavar="S", help="seconds of timing (10)")
    parser.add_argument("--batches", type=batches, metavar="N,N,...", help="sizes to try, such as 1,64,1024")
    parser.add_argument("--threads", type=arguments.count, default=1, metavar="N", help="threads of torch (1)")
    add_json(parser)
    parser.set_defaults(run=_best_batch)


def _best_batch(args: argparse.Namespace) -> int:
    from labs_lib.batched_eval.best_batch import BATCHES, best_batch

    model = arguments.model_from(args.model, arguments.named(args.model, "the model")).eval()
    shape, dtype = arguments.shape(args.input)
    try:
        sample = _sample(shape, dtype)
    except (MemoryError, RuntimeError, ValueError) as error:
        raise LabError(f"No sample of {args.input} can be made: {error}.", "", "Give a smaller shape.") from error
    found = best_batch(
        model, sample, args.memory_budget, args.batches or BATCHES, budget_s=args.budget, threads=args.threads
    )
    print_result(args, {"model": args.model, **found.as_dict()}, found)
    return FINE


def _sample(shape: list[int], dtype: torch.dtype) -> torch.Tensor:
    import numpy as np
    import torch

    if dtype.is_floating_point:
        return torch.from_numpy(np.random.default_rng(0).standard_normal(shape, dtype=np.float32)).to(dtype)
    return torch.zeros(shape, dtype=dtype)  # 0 is a valid index of any table


def batches(text: str) -> tuple[int, ...]:
    """Batch sizes, for argparse.

    >>> batches("1,64,1024")
    (1, 64, 1024)
    """
    return tuple(arguments.count(part) for part in text.split(","))
