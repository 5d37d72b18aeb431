"""What happened in a run, step by step: the expression, its line, and the value that was read or written."""

from __future__ import annotations

import ast
import inspect
from dataclasses import dataclass, field
from pathlib import Path
from reprlib import Repr
from types import FrameType

from labs_lib.race_conditions.locks import StageLock
from labs_lib.race_conditions.schedule import letter
from labs_lib.race_conditions.visible import Operation

VERBS = {
    "read": "reads",
    "write": "writes",
    "call": "calls",
    "iterate": "iterates",
    "enter": "enters",
    "leave": "leaves",
    "yield": "yields",
    "step": "does",
}
PLAIN = (bool, int, float, complex, str, bytes, type(None), list, tuple, dict, set, frozenset)  # shown as they are
ABSENT = object()
SHORT = Repr()
SHORT.maxother = SHORT.maxstring = 40


@dataclass
class Step:
    """One visible operation that a thread has done."""

    thread: int
    kind: str  # as of its operation: a key of VERBS
    expression: str  # such as `counter.value`
    source: str  # the line of code, empty where it is not kept
    line: int
    place: str  # "counters.py:12", "notebook cell, line 3"
    function: str
    value: str = ""  # what was read or written, where that can be seen without running your code

    def __str__(self) -> str:
        value = f" = {self.value}" if self.value else ""
        return f"{letter(self.thread)} {VERBS[self.kind]} {self.expression}{value}   ({self.place}: {self.source})"


@dataclass
class Recorder:
    """A watcher of the stage that keeps all steps."""

    steps: list[Step] = field(default_factory=list)
    written: dict[int, tuple[Step, FrameType]] = field(default_factory=dict)  # by thread: what it is just writing

    def before(self, thread: int, frame: FrameType, operation: Operation) -> None:
        step = Step(
            thread, operation.kind, operation.expression, operation.source, operation.line,
            _place(operation), operation.code.co_name,
        )  # fmt: skip
        if operation.kind == "read":
            step.value = value_of(step.expression, frame)
        elif operation.kind == "write":
            self.written[thread] = step, frame
        self.steps.append(step)

    def after(self, thread: int) -> None:
        """Called before any other thread may go on, so what was written is still there."""
        if thread in self.written:
            step, frame = self.written.pop(thread)
            step.value = value_of(step.expression, frame)


def value_of(expression: str, frame: FrameType) -> str:
    """A name, or attributes of a name, in short; empty where it can't be seen without running code of yours."""
    try:
        tree = ast.parse(expression, mode="eval").body
    except SyntaxError:
        return ""
    value = _look(tree, frame)
    if value is ABSENT or callable(value):
        return ""
    if isinstance(value, StageLock):
        return "held" if value.locked() else "free"
    return SHORT.repr(value) if type(value) in PLAIN else f"a {type(value).__name__}"


def _look(tree: ast.expr, frame: FrameType) -> object:
    if isinstance(tree, ast.Name):
        return frame.f_locals.get(tree.id, frame.f_globals.get(tree.id, ABSENT))
    if isinstance(tree, ast.Attribute):
        owner = _look(tree.value, frame)
        if owner is ABSENT:
            return ABSENT
        value = inspect.getattr_static(owner, tree.attr, ABSENT)
        return ABSENT if hasattr(type(value), "__get__") else value  # a property or a slot
    return ABSENT


def _place(operation: Operation) -> str:
    """A cell of a notebook has a file with a name that means nothing to its reader."""
    file = operation.code.co_filename
    return f"{'notebook cell, line ' if 'ipykernel_' in file else Path(file).name + ':'}{operation.line}"
