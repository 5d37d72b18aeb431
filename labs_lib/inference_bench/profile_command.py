"""`python -m labs_lib profile`: where the time of a model goes, layer by layer.

The JSON, printed by --json and written by --output, has schema 1. Times are seconds, of one call, and are measured;
least times are modelled, as [best rates, their lower ends]; all else is counted.

    schema, machine, device, threads, model (name, parameters, ...), batch
    whole_s     one call with hooks: the layers' seconds, between_s and hooks_s add up to it
    plain_s     one call without hooks
    least_s, reached, share_by_limit, flops, bytes_moved, operators, weights, peak_bytes, page_faults
    layers      slowest first: name, kind, calls, operators, by_operator, flops, flops_by_dtype, uncounted,
                weight_bytes, other_bytes, output_bytes, peak_bytes, intensity; seconds, seconds_median (95 % interval:
                low, median, high), least_s, computing_s, memory_s, calling_s, reached, explained,
                limit ("computing", "memory", "calls" or "unexplained"), missing (what has no formula or no peak)
    hooks       what hooks cost: factor, low, high, floor, rounds, plain_s
    profiler    of torch's profiler: operators, layer_s (seconds by layer), outside_s, overhead, path (of the trace)
    python      operators x call_s = dispatch_s; function_calls, python_s, inflation and slowest by cProfile
    denormals   layers with denormal weights or outputs: name, weights, weights_of, outputs, outputs_of
    roof        the machine: peaks and bandwidths as [low, best], call_s, when, notes
"""

from __future__ import annotations

import argparse
import json
import os
from pathlib import Path
from typing import TYPE_CHECKING

from labs_lib import arguments
from labs_lib.cli import FINE, add_json, print_result
from labs_lib.errors import LabError
from labs_lib.machine import PRESETS

if TYPE_CHECKING:
    from labs_lib.figures import Picture


def add_preset(parser: argparse.ArgumentParser) -> None:
    """Adds the option --preset, which `bench` has too."""
    parser.add_argument("--preset", choices=PRESETS, help="sizes of the models; ci: the smallest (LABS_PRESET, or lab)")


def use_preset(args: argparse.Namespace) -> None:
    """From here on the preset is the one that was asked for."""
    if args.preset:
        os.environ["LABS_PRESET"] = args.preset


def register(subparsers: argparse._SubParsersAction) -> None:
    """Adds the sub-command to the parser of `python -m labs_lib`."""
    parser = subparsers.add_parser("profile", help="where the time of a model goes, and how far it is from the limit")
    parser.add_argument(
        "--model", required=True, metavar="MODEL", help="resnet50, vit_b_16, gpt2, distilbert, or MODULE:FACTORY"
    )
    parser.add_argument("--input", metavar="SHAPE[:DTYPE]", help="of one sample of your own model, such as 3x224x224")
    parser.add_argument("--batch", type=arguments.count, default=1, metavar="N", help="samples in a call (1)")
    parser.add_argument("--device", default="cpu", metavar="DEVICE", help="cpu, cuda or mps (cpu)")
    parser.add_argument("--threads", type=arguments.count, default=1, metavar="N", help="threads of torch (1)")
    add_preset(parser)
    parser.add_argument("--trace", type=Path, metavar="FILE", help="write a Chrome trace, for ui.perfetto.dev")
    parser.add_argument("--fresh", action="store_true", help="measure the limits of this machine anew")
    parser.add_argument("--output", type=Path, metavar="DIR", help="write profile.json and two pictures there")
    add_json(parser)
    parser.set_defaults(run=_profile)


def _profile(args: argparse.Namespace) -> int:
    from labs_lib.inference_bench.denormals import census
    from labs_lib.inference_bench.models import load
    from labs_lib.inference_bench.overhead import python_cost
    from labs_lib.inference_bench.profile import layers
    from labs_lib.inference_bench.profile_pictures import roofline_picture, time_picture
    from labs_lib.inference_bench.trace import trace
    from labs_lib.roofline import roof

    use_preset(args)
    if args.output:
        _folder(args.output)
    model = load(args.model, args.input).to(args.device)
    batch = model.prepare_input(args.batch)
    traced = trace(model, batch, args.trace, threads=args.threads)
    limits = roof(args.threads, args.device, fresh=args.fresh)
    profile = layers(model, batch, limits=limits)
    python = python_cost(model, batch, limits=limits)
    denormals = [row for row in census(model, batch) if row.weights or row.outputs]
    data = {
        **profile.as_dict(),
        "model": model.info().as_dict(),
        "batch": args.batch,
        "profiler": traced.as_dict(),
        "python": python.as_dict(),
        "denormals": [vars(row) for row in denormals],
    }
    lines = [f"{model.info()}; batch {args.batch}", "", str(profile), "", traced.beside_text(profile), "", str(traced)]
    lines += [str(python), _denormals(denormals)]
    if args.output:
        pictures = {"roofline.png": roofline_picture(profile), "time.png": time_picture(profile)}
        lines.append(_write(args.output, data, pictures))
    print_result(args, data, "\n".join(lines))
    return FINE


def _denormals(found: list) -> str:
    if not found:
        return "No denormal weights or outputs (counted)."
    said = [f"{row.name} ({row.weights:,} weights, {row.outputs:,} of {row.outputs_of:,} outputs)" for row in found[:3]]
    return f"Denormal (counted), which can be slow: {', '.join(said)}{' and others' * (len(found) > 3)}."


def _folder(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise LabError(f"The folder {folder} can't be made: {error.strerror}.", "", "Give another --output.") from error


def _write(folder: Path, data: dict[str, object], pictures: dict[str, Picture]) -> str:
    try:
        (folder / "profile.json").write_text(json.dumps(data, allow_nan=False), encoding="utf-8")
        for name, picture in pictures.items():
            (folder / name).write_bytes(picture.png)
    except OSError as error:
        raise LabError(f"{folder} can't be written: {error.strerror}.", "", "Give another --output.") from error
    return f"Written to {folder}: profile.json, {', '.join(pictures)}."
