"""What commands of several labs take as arguments: a thing in a module, an input's shape, counts.

Each raises LabError, or argparse's own error, with one line that says what to write instead.
"""

from __future__ import annotations

import argparse
import importlib
import os
import re
import sys
from math import isfinite
from typing import TYPE_CHECKING

from labs_lib.errors import LabError

if TYPE_CHECKING:
    import torch

SHAPE = re.compile(r"(?P<shape>[0-9]+(x[0-9]+)*)(:(?P<dtype>[a-z0-9]+))?", re.ASCII)


def named(name: str, option: str, example: str = "torchvision.models:resnet18") -> object:
    """The thing that MODULE:NAME names, looked for in the current folder too.

    >>> named("math:pi", "--model")
    3.141592653589793
    """
    module, _, attribute = name.partition(":")
    if not module or not attribute:
        raise LabError(f"{option} {name} is not MODULE:NAME.", "", f"Write it as in {example}.")
    sys.path.insert(0, os.getcwd())
    try:
        found = importlib.import_module(module)
    except Exception as error:  # the learner's own module may raise anything
        raise LabError(
            f"Can't import {module}: {type(error).__name__}: {error}.",
            "",
            "Run this in the folder of the module, or install it.",
        ) from error
    finally:
        sys.path.remove(os.getcwd())
    if not hasattr(found, attribute):
        raise LabError(f"Module {module} has no {attribute}.", "", "Check the name after the colon.")
    return getattr(found, attribute)


def model_from(name: str, source: object) -> torch.nn.Module:
    """The module that `source` is, or makes when it is called without arguments."""
    import torch

    if not isinstance(source, torch.nn.Module) and not callable(source):
        raise LabError(f"{name} is no function.", "", "Name a function or class that makes the model.")
    try:
        model = source if isinstance(source, torch.nn.Module) else source()
    except Exception as error:  # the learner's own code
        raise LabError(
            f"{name}() failed with {type(error).__name__}: {error}.", "", "Name a function without arguments."
        ) from error
    if not isinstance(model, torch.nn.Module):
        raise LabError(f"{name}() returns no torch.nn.Module.", "", "Name a function that returns the model.")
    return model


def shape(text: str) -> tuple[list[int], torch.dtype]:
    """The shape and dtype that a text such as 1x3x224x224 or 1x128:int64 stands for.

    >>> shape("1x128:int64")
    ([1, 128], torch.int64)
    """
    import torch

    match = SHAPE.fullmatch(text)
    if match is None:
        raise LabError(
            f"--input {text} is no shape.",
            "A shape is whole numbers with x between them, and a torch dtype after a colon if not float32.",
            "Write for instance 1x3x224x224 or 1x128:int64.",
        )
    dtype = getattr(torch, match["dtype"] or "float32", None)
    if not isinstance(dtype, torch.dtype):
        raise LabError(f"--input {text}: torch has no dtype {match['dtype']}.", "", "Write for instance 1x128:int64.")
    return [int(size) for size in match["shape"].split("x")], dtype


def count(text: str) -> int:
    """A whole number above 0, for argparse."""
    if not re.fullmatch("[0-9]+", text, re.ASCII) or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is no whole number above 0")
    return int(text)


def positive(text: str) -> float:
    """A number above 0, for argparse."""
    try:
        number = float(text)
    except ValueError:
        number = 0.0
    if not (number > 0 and isfinite(number)):
        raise argparse.ArgumentTypeError(f"{text!r} is no number above 0")
    return number
