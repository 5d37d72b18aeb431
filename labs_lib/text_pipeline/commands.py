"""`python -m labs_lib augment`."""

from __future__ import annotations

import argparse
import os
import sys
from dataclasses import fields
from pathlib import Path

from labs_lib.cli import FINE, add_json, print_result
from labs_lib.errors import LabError


def register(subparsers: argparse._SubParsersAction) -> None:
    """Adds the sub-command to the parser of `python -m labs_lib`."""
    from labs_lib.text_pipeline.rates import Rates

    parser = subparsers.add_parser("augment", help="misspell the lines of a text file, the same way for the same seed")
    parser.add_argument("file", metavar="INPUT.txt", help="in UTF-8, of any size; each line is a sentence")
    parser.add_argument("--output", required=True, metavar="OUT.txt", help="where the misspelt lines go")
    parser.add_argument("--seed", type=_seed, default=0, help="a whole number (0)")
    for field in fields(Rates):
        what = "a sentence's words are shuffled" if field.name == "shuffle" else f"a character: {field.name}"
        parser.add_argument(
            f"--{field.name}", type=float, default=field.default, metavar="P", help=f"{what} ({field.default})"
        )
    parser.add_argument("--engine", choices=("numpy", "numba", "torch"), default="numpy", help="same bytes from each")
    parser.add_argument("--clean", action="store_true", help="first to lower case, without unwanted characters")
    add_json(parser)
    parser.set_defaults(run=_augment)


def _augment(args: argparse.Namespace) -> int:
    from labs_lib.text_pipeline.rates import Rates
    from labs_lib.text_pipeline.stream import augment_file

    source, target = Path(args.file), Path(args.output)
    if os.path.realpath(source) == os.path.realpath(target):
        raise LabError("--output names the input file.", "It would be overwritten.", "Give another name.")
    rates = Rates(*(getattr(args, field.name) for field in fields(Rates)))
    found = augment_file(source, target, args.seed, rates, args.engine, args.clean, progress=sys.stderr.isatty())
    print_result(args, found.as_dict(), found)
    return FINE


def _seed(text: str) -> int:
    if not (text.isascii() and text.isdigit() and int(text) < 2**64):
        raise argparse.ArgumentTypeError(f"{text!r} is no whole number from 0 to 2**64 - 1")
    return int(text)
