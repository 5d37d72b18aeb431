"""Which bytecodes other threads can see, and so where a switch to another thread can make a difference.

An operation on local variables and on the stack commutes with everything that another thread does: to switch
before it or after it comes to the same. So only operations that reach beyond the frame are *visible*: attributes,
globals, variables of enclosing functions, items, iteration, calls. Arithmetic and comparisons count as part of
the step before them. That is exact for numbers and strings; for an operand that other threads change in place,
such as a list in `a + b`, the steps are coarser than the machine's, and `points="every"` leaves nothing out.
"""

from __future__ import annotations

import dis
import inspect
import linecache
import sys
import sysconfig
import traceback
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from types import BuiltinFunctionType, CodeType, FrameType, FunctionType, ModuleType

from labs_lib.errors import LabError

READS = {
    *("LOAD_ATTR", "LOAD_METHOD", "LOAD_SUPER_ATTR", "LOAD_DEREF", "LOAD_CLASSDEREF", "LOAD_FROM_DICT_OR_DEREF"),
    *("LOAD_GLOBAL", "LOAD_NAME", "LOAD_FROM_DICT_OR_GLOBALS"),
    *("BINARY_SUBSCR", "BINARY_SLICE", "CONTAINS_OP", "UNPACK_SEQUENCE", "UNPACK_EX"),
    *("LIST_EXTEND", "SET_UPDATE", "DICT_UPDATE", "DICT_MERGE"),
}
WRITES = {
    *("STORE_ATTR", "STORE_DEREF", "STORE_GLOBAL", "STORE_NAME", "STORE_SUBSCR", "STORE_SLICE"),
    *("DELETE_ATTR", "DELETE_DEREF", "DELETE_GLOBAL", "DELETE_NAME", "DELETE_SUBSCR"),
}
CALLS = {"CALL", "CALL_KW", "CALL_FUNCTION_EX", "SEND", "IMPORT_NAME"}
KINDS = {
    **dict.fromkeys(READS, "read"),
    **dict.fromkeys(WRITES, "write"),
    **dict.fromkeys(CALLS, "call"),
    **dict.fromkeys(("GET_ITER", "FOR_ITER"), "iterate"),
    "YIELD_VALUE": "yield",  # until then the generator runs, and no other thread may ask it for more
    "BEFORE_WITH": "enter",
    "WITH_EXCEPT_START": "leave",
}
METHOD_FLAG = 1 if sys.version_info >= (3, 12) else 0  # of LOAD_ATTR; earlier it is LOAD_METHOD
ARGUMENTS = {  # what loads local arguments of a call
    *("LOAD_FAST", "LOAD_FAST_LOAD_FAST", "LOAD_FAST_CHECK", "LOAD_CONST", "PUSH_NULL", "KW_NAMES", "PRECALL"),
}
GLOBAL_READS = {"LOAD_GLOBAL", "LOAD_NAME", "LOAD_FROM_DICT_OR_GLOBALS"}
CONSTANTS = (FunctionType, BuiltinFunctionType, ModuleType, type)  # a name bound to one of these is not data
POINTS = ("visible", "interpreter", "every")
OFFERS_BEHIND = ("RESUME", "CALL", "CALL_KW", "CALL_FUNCTION_EX")  # besides jumps backwards
LIBRARIES = tuple(sysconfig.get_paths()[name] for name in ("stdlib", "platstdlib", "purelib", "platlib"))
HERE = Path(__file__).resolve().parent
MACHINERY = {
    *("actors", "directors", "explorer", "locks", "reach", "recorder", "results", "schedule", "stage"),
    *("stepping", "visible"),
}


@cache
def _is_your_file(file: str) -> bool:
    path = Path(file)
    if path.parent == HERE:
        return path.stem not in MACHINERY
    return not (file.startswith(("<frozen", *LIBRARIES)) or {"site-packages", "dist-packages"} & set(path.parts))


def is_yours(code: CodeType) -> bool:
    """Whether a function is stepped through: not one of the standard library, of a package or of the explorer."""
    return _is_your_file(code.co_filename)


def told(error: BaseException) -> str:
    """The error in one line, with the last line of your code on the way to it."""
    text = f"{type(error).__name__}: {error}" if str(error) else type(error).__name__
    yours = [(frame, line) for frame, line in traceback.walk_tb(error.__traceback__) if is_yours(frame.f_code)]
    return f"{text} (line {yours[-1][1]} of {yours[-1][0].f_code.co_name})" if yours else text


@dataclass(frozen=True)
class Operation:
    """One bytecode before which a thread can be stopped."""

    code: CodeType = field(repr=False)
    offset: int
    name: str  # of the bytecode
    kind: str  # a value of KINDS, "step" where it is none of them
    variable: str  # the name that it reads or writes, if any
    line: int
    columns: tuple[int, int] | None  # of its expression in the line, in bytes; None where it has none of its own
    behind_call: bool  # the bytecode before it is a call

    @property
    def source(self) -> str:
        """The line of code; empty where the source is not kept."""
        return linecache.getline(self.code.co_filename, self.line).strip()

    @property
    def expression(self) -> str:
        """The part of the line that this bytecode computes, such as `counter.value`."""
        line = linecache.getline(self.code.co_filename, self.line)
        if self.kind in ("enter", "leave") or (self.kind == "iterate" and line.lstrip().startswith("for ")):
            return line.strip().partition(":")[0] or self.kind
        if self.columns is None or not line:
            return self.variable or line.strip() or self.name.lower()
        start, stop = self.columns
        return line.encode()[start:stop].decode().strip()

    def reaches_data(self, frame: FrameType) -> bool:
        """False for a global name that now stands for a function, a class or a module: nobody rebinds these."""
        if self.name not in GLOBAL_READS:
            return True
        for names in (frame.f_locals if self.name == "LOAD_NAME" else {}, frame.f_globals, frame.f_builtins):
            if self.variable in names:
                return not isinstance(names[self.variable], CONSTANTS)
        return True


def is_suspended(function: object) -> bool:
    """Whether a call of it only makes a coroutine or a generator."""
    kinds = (inspect.isgeneratorfunction, inspect.iscoroutinefunction, inspect.isasyncgenfunction)
    return any(kind(function) for kind in kinds)


def operations(code: CodeType, points: str) -> dict[int, Operation]:
    """The operations of a function before which a thread can be stopped, by their offset in the bytecode.

    `points` is "visible"; "every" for each bytecode; or "interpreter" for those places alone where this CPython
    looks whether another thread wants to run: the entry of a function, a jump backwards, a call.
    """
    found: dict[int, Operation] = {}
    earlier: list[tuple[int, dis.Instruction]] = []
    for offset, instruction in _instructions(code):
        if _is_point(instruction, earlier, points):
            kind = KINDS.get(instruction.opname, "step")
            if kind == "call" and _leaves_a_block(instruction, earlier):
                kind = "leave"
            lookup = _lookup(kind, earlier) if points == "visible" else None
            behind_call = bool(earlier) and earlier[-1][1].opname in CALLS
            found[offset if lookup not in found else lookup] = _operation(code, instruction, offset, kind, behind_call)
        earlier.append((offset, instruction))
    return found


def _instructions(code: CodeType) -> Iterator[tuple[int, dis.Instruction]]:
    """With the offset at which a thread is stopped: an EXTENDED_ARG is one with the instruction behind it."""
    first = None
    for instruction in dis.get_instructions(code):
        first = instruction.offset if first is None else first
        if instruction.opname != "EXTENDED_ARG":
            yield first, instruction
            first = None


def _lookup(kind: str, earlier: list[tuple[int, dis.Instruction]]) -> int | None:
    """Where the method that is called was looked up, or what a `with` enters, if nothing visible came between.

    Nobody rebinds a method or a lock, so to look it up and to use it is one step.
    """
    if kind == "enter" and earlier[-1][1].opname in READS:  # a call before it is a step of its own
        return earlier[-1][0]
    for offset, instruction in reversed(earlier) if kind == "call" else ():
        if instruction.opname == "LOAD_METHOD" or (instruction.opname == "LOAD_ATTR" and METHOD_FLAG & instruction.arg):
            return offset
        if instruction.opname not in ARGUMENTS:
            break
    return None


def _leaves_a_block(instruction: dis.Instruction, earlier: list[tuple[int, dis.Instruction]]) -> bool:
    """A with block is left by calling __exit__(None, None, None)."""
    loads = [each for _, each in earlier[-4:] if each.opname != "PRECALL"][-3:]
    return instruction.arg == 2 and len(loads) == 3 and all(
        each.opname == "LOAD_CONST" and each.argval is None for each in loads
    )


def _operation(
    code: CodeType, instruction: dis.Instruction, offset: int, kind: str, behind_call: bool
) -> Operation:
    position = instruction.positions
    one_line = position.lineno == position.end_lineno and position.col_offset is not None
    columns = (position.col_offset, position.end_col_offset) if one_line else None
    variable = instruction.argval if isinstance(instruction.argval, str) else ""
    return Operation(code, offset, instruction.opname, kind, variable, position.lineno, columns, behind_call)


def check_points(points: str) -> None:
    """LabError for an unknown set of points, or one that this interpreter does not have."""
    if points not in POINTS:
        raise LabError(f"There is no {points!r} set of switch points.", f"There are {', '.join(POINTS)}.", "Use one.")
    if points == "interpreter" and not getattr(sys, "_is_gil_enabled", lambda: True)():
        raise LabError(
            "This Python has no global interpreter lock.",
            "Its threads run at the same time, so there are no places at which one hands over to another.",
            'Use points="visible".',
        )


def _is_point(instruction: dis.Instruction, earlier: list[tuple[int, dis.Instruction]], points: str) -> bool:
    name = instruction.opname
    if instruction.positions.lineno is None or name == "RESUME":
        return False
    if points == "interpreter":
        # CHECK_EVAL_BREAKER in CPython's ceval.c: at RESUME, at backward jumps, and behind calls. A thread is
        # stopped before an instruction, so "behind" is before the next one.
        behind = bool(earlier) and earlier[-1][1].opname in OFFERS_BEHIND
        return behind or ("JUMP_BACKWARD" in name and "NO_INTERRUPT" not in name)
    return points == "every" or name in KINDS
