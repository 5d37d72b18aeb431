"""`python -m labs_lib explore`."""

from __future__ import annotations

import argparse

from labs_lib import arguments
from labs_lib.cli import FINE, GATE_FAILED, add_json, print_result
from labs_lib.errors import LabError


def register(subparsers: argparse._SubParsersAction) -> None:
    """Adds the sub-command to the parser of `python -m labs_lib`."""
    parser = subparsers.add_parser("explore", help="look for a schedule of threads that breaks a program")
    parser.add_argument(
        "case",
        metavar="MODULE:CASE",
        help="a labs_lib.race_conditions.Case, such as labs_lib.race_conditions.cases:lazy_model",
    )
    parser.add_argument("--switches", type=_switches, default=2, metavar="N", help="forced switches, at most (2)")
    parser.add_argument("--budget", type=arguments.positive, default=10.0, metavar="S", help="seconds, at most (10)")
    parser.add_argument("--replay", metavar="SCHEDULE", help='show one run, such as "A4 B A", and look for no other')
    add_json(parser)
    parser.set_defaults(run=_explore)


def _explore(args: argparse.Namespace) -> int:
    """Exit code 1 where something is wrong, or not all was run, so that a script or a build can stop there."""
    from labs_lib.race_conditions import Case

    case = arguments.named(args.case, "the case", "labs_lib.race_conditions.cases:lazy_model")
    if not isinstance(case, Case):
        raise LabError(
            f"{args.case} is a {type(case).__name__}.",
            "What is explored is a labs_lib.race_conditions.Case.",
            "Write case = Case(setup, [function, function], invariant) in that module.",
        )
    try:
        case.setup()
    except Exception as error:  # the learner's own code
        what = f"setup() failed with {type(error).__name__}: {error}."
        raise LabError(what, "", "Call it by itself first.") from error
    if args.replay:
        run = case.replay(args.replay)
        print_result(args, {"case": args.case, **run.as_dict()}, run)
        return FINE if run.ok else GATE_FAILED
    report = case.explore(switches=args.switches, budget_s=args.budget)
    text = f"{report}\n\n{report.failure}" if report.failure else report
    print_result(args, {"case": args.case, **report.as_dict()}, text)
    return FINE if report.verdict == "holds" else GATE_FAILED


def _switches(text: str) -> int:
    if not text.isdecimal():
        raise argparse.ArgumentTypeError(f"{text!r} is no whole number, 0 or more")
    return int(text)
