"""`python -m labs_lib plan` and `python -m labs_lib analyze`."""

from __future__ import annotations

import argparse
import os
import sys
from typing import TYPE_CHECKING

from labs_lib import arguments
from labs_lib.arguments import count, positive
from labs_lib.cli import FINE, GATE_FAILED, add_json, print_result
from labs_lib.errors import LabError
from labs_lib.static_memory.graph import REGIMES, Graph, Lifetimes, lifetimes
from labs_lib.static_memory.lifetimes import Buffer, read_csv, write_csv
from labs_lib.static_memory.planners import height, keep_all, online_best_fit

if TYPE_CHECKING:
    import torch

    from labs_lib.static_memory.planning import Plan


def register(subparsers: argparse._SubParsersAction) -> None:
    """Adds the two sub-commands to the parser of `python -m labs_lib`."""
    planner = subparsers.add_parser("plan", help="pack buffers, or a torch model's values, into one arena")
    planner.add_argument("file", nargs="?", metavar="FILE.csv", help="columns id,lower,upper,size")
    planner.add_argument("--model", metavar="MODULE:FACTORY", help="such as torchvision.models:resnet18")
    planner.add_argument(
        "--input",
        action="append",
        metavar="SHAPE[:DTYPE]",
        help="shape of the model's input, such as 1x3x224x224 or 1x128:int64; once for each input",
    )
    planner.add_argument("--reuse", choices=REGIMES, help="what a model's values may share (in_place)")
    planner.add_argument("--capacity", type=count, metavar="BYTES", help="exit 1 when the plan needs more")
    planner.add_argument("--time-limit", type=positive, default=10.0, metavar="S", help="of the search (10)")
    planner.add_argument("--alignment", type=count, default=1, metavar="BYTES", help="of all offsets (1)")
    planner.add_argument("--output", metavar="OUT.csv", help="write the plan, with a column offset")
    add_json(planner)
    planner.set_defaults(run=_plan)

    analyzer = subparsers.add_parser("analyze", help="naive against arena on an MLP, on your numbers")
    analyzer.add_argument("--input", metavar="NUMBERS", help="such as 1.0,0.5 (if negative: --input=-1,2)")
    analyzer.add_argument("--input-file", metavar="DATA.csv", help="numbers with commas between, no header")
    analyzer.add_argument("--features", type=count, default=1024, help="of each layer (1024)")
    analyzer.add_argument("--batch", type=count, default=32, help="rows of the input (32)")
    analyzer.add_argument("--layers", type=count, default=3, help="of the MLP (3)")
    analyzer.add_argument(
        "--budget-kib", type=positive, metavar="X", help="exit 1 when the arena's peak with set-up is above"
    )
    add_json(analyzer)
    analyzer.set_defaults(run=_analyze)


def _analyze(args: argparse.Namespace) -> int:
    from labs_lib.static_memory.analysis import analyze, parse_values, read_values

    if (args.input is None) == (args.input_file is None):
        raise LabError("Give either --input or --input-file.", "The values come from one of them.")
    values = read_values(args.input_file) if args.input is None else parse_values(args.input, "--input")
    analysis = analyze(values, args.features, args.batch, args.layers, args.budget_kib)
    print_result(args, analysis.as_dict(), analysis)
    return FINE if analysis.within_budget and analysis.comparison.same else GATE_FAILED


def _plan(args: argparse.Namespace) -> int:
    from labs_lib.static_memory.planning import plan

    if (args.file is None) == (args.model is None):
        raise LabError("Give either a CSV file or --model.", "The buffers come from one of them.")
    if args.model is None:
        if args.input or args.reuse:
            raise LabError("--input and --reuse need --model.", "A CSV file says all about its buffers.")
        if args.output and os.path.realpath(args.output) == os.path.realpath(args.file):
            raise LabError("--output names the input file.", "It would be overwritten.", "Give another name.")
        buffers = eager = read_csv(args.file)
    else:
        eager, buffers = (life.buffers for life in _captured(args))
    best = plan(buffers, args.capacity, args.time_limit, args.alignment)
    if args.output:
        write_csv(args.output, best.buffers, best.offsets)
    row = _row(eager, best)
    print_result(args, {**row, "capacity": args.capacity}, _table(row))
    if args.capacity is not None and best.height > args.capacity:
        excess = best.height - args.capacity
        print(f"labs_lib: the plan is {excess} bytes above the capacity of {args.capacity}.", file=sys.stderr)
        return GATE_FAILED
    return FINE


def _row(eager: list[Buffer], best: Plan) -> dict[str, object]:
    return {
        "buffers": len(best.buffers),
        "keep_all_bytes": height(eager, keep_all(eager)),
        "eager_bytes": height(eager, online_best_fit(eager)),
        "lower_bound_bytes": best.lower_bound,
        "plan_bytes": best.height,
        "ratio": best.ratio,
        "proved": best.proved,
        "planner": best.planner,
        "seconds": best.seconds,
    }


def _table(row: dict[str, object]) -> str:
    eager = row["eager_bytes"] / row["plan_bytes"] if row["plan_bytes"] else 1.0
    lines = [
        ("buffers", f"{row['buffers']:,}", "counted"),
        ("keep all, bytes", f"{row['keep_all_bytes']:,}", "counted"),
        ("eager, bytes", f"{row['eager_bytes']:,}", "modelled: freed when dead, online best fit"),
        ("lower bound, bytes", f"{row['lower_bound_bytes']:,}", "counted"),
        ("plan, bytes", f"{row['plan_bytes']:,}", f"counted; eager takes {eager:.2f} times as much"),
        ("plan / lower bound", f"{row['ratio']:.4f}", "counted"),
        ("proved optimal", "yes" if row["proved"] else "no", f"found by {row['planner']}"),
        ("seconds", f"{row['seconds']:.3f}", "measured"),
    ]
    return "\n".join(f"{what:20}{value:>18}   {kind}" for what, value, kind in lines)


def _captured(args: argparse.Namespace) -> tuple[Lifetimes, Lifetimes]:
    """Lifetimes as eager has them, and in the regime asked for."""
    if not args.input:
        raise LabError("--model needs --input.", "", "Give its shape, such as --input 1x3x224x224.")
    shapes = [arguments.shape(text) for text in args.input]
    source = arguments.named(args.model, "--model")
    try:
        graph = _graph(args.model, source, shapes, "meta")  # holds no data, so any model fits
    except (LabError, RuntimeError):  # some models look into their tensors, which the meta device refuses
        graph = _graph(args.model, source, shapes, "cpu")
    return lifetimes(graph, "fresh"), lifetimes(graph, args.reuse or "in_place")


def _graph(
    name: str, source: object, shapes: list[tuple[list[int], torch.dtype]], device: str
) -> Graph:
    import torch

    from labs_lib.static_memory.capture import capture

    with torch.device(device):
        model = arguments.model_from(name, source)
        return capture(model.eval(), *(torch.empty(shape, dtype=dtype) for shape, dtype in shapes))
