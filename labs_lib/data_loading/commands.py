"""`python -m labs_lib diagnose-loader`."""

from __future__ import annotations

import argparse
import inspect

from labs_lib import arguments
from labs_lib.cli import FINE, add_json, print_result
from labs_lib.errors import LabError


def register(subparsers: argparse._SubParsersAction) -> None:
    """Adds the sub-command to the parser of `python -m labs_lib`."""
    loader = subparsers.add_parser("diagnose-loader", help="what keeps a DataLoader and its step from being faster?")
    loader.add_argument(
        "factory", metavar="MODULE:FACTORY", help="a function without arguments that returns (loader, step)"
    )
    add_json(loader)
    loader.set_defaults(run=_diagnose)


def _diagnose(args: argparse.Namespace) -> int:
    from labs_lib.data_loading.diagnose import diagnose

    factory = arguments.named(args.factory, "FACTORY")
    if not callable(factory):
        raise LabError(f"{args.factory} is no function.", "", "Name a function that returns (loader, step).")
    try:
        made = factory()
    except Exception as error:  # the learner's own code
        do = "Call it in Python to see where." if _takes_nothing(factory) else "Name a function without arguments."
        raise LabError(f"{args.factory}() failed with {type(error).__name__}: {error}.", "", do) from error
    if not isinstance(made, tuple) or len(made) != 2 or not callable(made[1]):
        raise LabError(
            f"{args.factory}() returns {type(made).__name__}, not (loader, step).", "", "Return both as a tuple."
        )
    found = diagnose(*made)
    print_result(args, found.as_dict(), found)
    return FINE


def _takes_nothing(factory: object) -> bool:
    """Whether it can be called without arguments; a callable without a signature may."""
    try:
        inspect.signature(factory).bind()
    except TypeError:
        return False
    except ValueError:
        return True
    return True
