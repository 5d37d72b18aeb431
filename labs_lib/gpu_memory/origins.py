"""Where in the learner's program an operator comes from: its module and its line, in the backward pass too.

Autograd numbers its nodes in the order in which the forward pass makes them. So the module and line of each
number, noted in the forward pass, answer for the operators of that node in the backward pass.
"""

from __future__ import annotations

import linecache
import os
import sys
from dataclasses import dataclass

import torch

from labs_lib.gpu_memory.trace import BACKWARD, FORWARD

TORCH = os.path.dirname(torch.__file__) + os.sep
HERE = os.path.dirname(__file__) + os.sep
MACHINERY = {HERE + name for name in ("tracker.py", "origins.py", "cuda_rules.py")} | {
    os.path.join(os.path.dirname(os.path.dirname(__file__)), "dispatch.py")
}


@dataclass(frozen=True)
class Origin:
    module: str = ""
    line: str = ""
    phase: str = FORWARD


class Origins:
    """The module that is running, and the way back from a node of the graph to the code that made it."""

    def __init__(self, model: torch.nn.Module | None) -> None:
        self.names: dict[torch.nn.Module, str] = {}
        if model is not None:
            self.names = {module: name or type(module).__name__ for name, module in model.named_modules()}
        self.stack: list[torch.nn.Module] = []
        self.made: dict[int, Origin] = {}  # number of an autograd node -> where the forward pass made it

    def enter(self, module: torch.nn.Module, args: tuple) -> None:
        self.stack.append(module)

    def leave(self, module: torch.nn.Module, args: tuple, result: object) -> None:
        while self.stack and self.stack.pop() is not module:  # those above it were left by an error
            pass

    def remember(self) -> None:
        """Called before each operator: where autograd differentiates it, the latest node was made for it."""
        latest = torch._C._autograd._get_sequence_nr() - 1
        if torch.is_grad_enabled() and latest not in self.made:
            self.made[latest] = Origin(self.running(), source_line())

    def module(self, phase: str) -> str:
        """The innermost module that is running, or the one whose backward is."""
        made = None if self.stack or phase != BACKWARD else self.maker()
        return made.module if made else self.running()

    def here(self, phase: str) -> Origin:
        made = None if self.stack or phase != BACKWARD else self.maker()
        return Origin(made.module, made.line, phase) if made else Origin(self.running(), source_line(), phase)

    def maker(self) -> Origin | None:
        node = torch._C._current_autograd_node()
        return self.made.get(node._sequence_nr()) if node is not None else None

    def running(self) -> str:
        if not self.stack:
            return ""
        return self.names.get(self.stack[-1], type(self.stack[-1]).__name__)


def source_line() -> str:
    """The line of the first frame outside torch and outside the tracker: "file.py:12  source"."""
    frame = sys._getframe(1)
    while frame is not None:
        file = frame.f_code.co_filename
        if not file.startswith((TORCH, "<frozen")) and file not in MACHINERY:
            text = linecache.getline(file, frame.f_lineno, frame.f_globals).strip()
            return f"{_short(file)}:{frame.f_lineno}  {text}".rstrip()
        frame = frame.f_back
    return ""


def _short(file: str) -> str:
    """The file's name; a notebook's cell has none that says anything."""
    folder, name = os.path.split(file)
    return "cell" if name.startswith("<") or "ipykernel_" in folder else name
