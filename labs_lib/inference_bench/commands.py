"""`python -m labs_lib bench`, `report` and `bench-diff`."""

from __future__ import annotations

import argparse
import sys
from datetime import datetime
from pathlib import Path

from labs_lib import arguments
from labs_lib.cli import FINE, GATE_FAILED, add_json, print_result
from labs_lib.errors import LabError
from labs_lib.inference_bench import profile_command


def register(subparsers: argparse._SubParsersAction) -> None:
    """Adds the sub-commands to the parser of `python -m labs_lib`."""
    bench = subparsers.add_parser("bench", help="latency, throughput and memory of models, in all their variants")
    bench.add_argument(
        "--model",
        nargs="+",
        default=[],
        metavar="MODEL",
        help="resnet50, vit_b_16, gpt2, distilbert, gpt2:FOLDER for a checkpoint, or your own as MODULE:FACTORY",
    )
    bench.add_argument("--all", action="store_true", help="all models, on the CPU and on the GPU where there is one")
    bench.add_argument("--device", nargs="+", default=[], metavar="DEVICE", help="cpu, cuda or mps (cpu)")
    bench.add_argument(
        "--batch-sizes", nargs="+", type=arguments.count, default=[1, 4, 8], metavar="N", help="(1 4 8)"
    )
    bench.add_argument(
        "--variants",
        nargs="+",
        metavar="VARIANT",
        help="beside eager: inference_mode, channels_last, bf16, compile, onnx, int8 (all)",
    )
    bench.add_argument("--input", metavar="SHAPE[:DTYPE]", help="of one sample of your own model, such as 3x224x224")
    bench.add_argument("--threads", type=arguments.count, default=1, metavar="N", help="threads of torch (1)")
    bench.add_argument(
        "--rounds", type=arguments.count, metavar="N", help="repetitions (20, and more for few configurations)"
    )
    profile_command.add_preset(bench)
    bench.add_argument(
        "--output", type=Path, metavar="DIR", help="folder of the run; an interrupted one is continued (a new folder)"
    )
    add_json(bench)
    bench.set_defaults(run=_bench)

    report = subparsers.add_parser("report", help="a run of bench as one HTML file with pictures and sentences")
    report.add_argument("folder", type=Path, metavar="DIR", help="that bench wrote; a profile.json in it is included")
    add_json(report)
    report.set_defaults(run=_report)

    diff = subparsers.add_parser("bench-diff", help="did anything become slower between two runs? exits 1 if so")
    diff.add_argument("a", type=Path, metavar="A.json", help="before: bench.json, or the folder of a run")
    diff.add_argument("b", type=Path, metavar="B.json", help="after")
    add_json(diff)
    diff.set_defaults(run=_diff)

    profile_command.register(subparsers)


def _bench(args: argparse.Namespace) -> int:
    profile_command.use_preset(args)
    if not args.model and not args.all:
        raise LabError("There is no model to measure.", "", "Give --model with one or more names, or --all.")
    from labs_lib.inference_bench.bench import benchmark
    from labs_lib.inference_bench.models import MODELS

    folder = args.output
    if folder is None:
        folder = Path(f"bench-{datetime.now():%Y%m%d-%H%M%S}")
        print(f"Rows go to {folder}; interrupted, the same command with --output {folder} goes on.", file=sys.stderr)
    run = benchmark(
        [*args.model, *(MODELS if args.all else ())],
        args.batch_sizes,
        args.variants,
        args.device or (_devices() if args.all else ["cpu"]),
        threads=args.threads,
        rounds=args.rounds,
        input=args.input,
        folder=folder,
    )
    if not run.measured:
        raise LabError("Nothing was measured.", " ".join(run.reasons()))
    print_result(args, run.as_dict(), f"{run}\nRows, bench.json and bench.csv are in {folder}.")
    return FINE


def _devices() -> list[str]:
    from labs_lib.inference_bench.models import DEVICES, demand_device

    found = []
    for device in DEVICES:
        try:
            demand_device(device)
        except LabError:
            continue
        found.append(device)
    return found


def _report(args: argparse.Namespace) -> int:
    from labs_lib.inference_bench.report import write_report

    written = write_report(args.folder)
    print_result(args, written.as_dict(), written)
    return FINE


def _diff(args: argparse.Namespace) -> int:
    from labs_lib.inference_bench.diff import compare_runs
    from labs_lib.inference_bench.exports import read_run

    diff = compare_runs(read_run(args.a), read_run(args.b))
    print_result(args, diff.as_dict(), diff)
    return GATE_FAILED if diff.regressed else FINE
