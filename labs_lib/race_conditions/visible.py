"""Which bytecodes other threads can see, and so where a switch to another thread can make a difference.

An operation on local variables and on the stack commutes with everything that another thread does: to switch
before it or after it comes to the same. So only operations that reach beyond the frame are *visible*: attributes,
globals, variables of enclosing functions, items, iteration, calls. Arithmetic and comparisons count as part of
the step before them. That is exact for numbers and strings; for an operand that other threads change in place,
such as a list in `a + b`, the steps are coarser than the machine's, and `points="every"` leaves nothing out.
"""

from __future__ import annotations

import dis
import linecache
import sys
from dataclasses import dataclass, field
from types import BuiltinFunctionType, CodeType, FrameType, FunctionType, ModuleType

from labs_lib.errors import LabError

READS = {
    *("LOAD_ATTR", "LOAD_METHOD", "LOAD_SUPER_ATTR", "LOAD_DEREF", "LOAD_CLASSDEREF", "LOAD_FROM_DICT_OR_DEREF"),
    *("LOAD_GLOBAL", "LOAD_NAME", "LOAD_FROM_DICT_OR_GLOBALS"),
    *("BINARY_SUBSCR", "BINARY_SLICE", "CONTAINS_OP", "GET_ITER", "FOR_ITER", "UNPACK_SEQUENCE", "UNPACK_EX"),
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
    "BEFORE_WITH": "enter",
    "WITH_EXCEPT_START": "leave",
}
PADDING = ("PRECALL",)  # between the arguments of a call and the call itself, in Python 3.11
GLOBAL_READS = {"LOAD_GLOBAL", "LOAD_NAME", "LOAD_FROM_DICT_OR_GLOBALS"}
CONSTANTS = (FunctionType, BuiltinFunctionType, ModuleType, type)  # a name bound to one of these is not data
POINTS = ("visible", "interpreter", "every")


@dataclass(frozen=True)
class Operation:
    """One bytecode before which a thread can be stopped."""

    code: CodeType = field(repr=False)
    offset: int
    name: str  # of the bytecode
    kind: str  # "read", "write", "call", "enter" or "leave" (a with block), "step" for what is none of them
    variable: str  # the name that it reads or writes, if any
    line: int
    columns: tuple[int, int] | None  # of its expression in the line, in bytes; None where it has none of its own

    @property
    def source(self) -> str:
        """The line of code; empty where the source is not kept."""
        return linecache.getline(self.code.co_filename, self.line).strip()

    @property
    def expression(self) -> str:
        """The part of the line that this bytecode computes, such as `counter.value`."""
        line = linecache.getline(self.code.co_filename, self.line)
        if self.kind in ("enter", "leave") and line:
            return line.strip().partition(":")[0]
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


def operations(code: CodeType, points: str) -> dict[int, Operation]:
    """The operations of a function before which a thread can be stopped, by their offset in the bytecode.

    `points` is "visible"; "every" for each bytecode; or "interpreter" for those places alone where this CPython
    looks whether another thread wants to run: the entry of a function, a jump backwards, a call.
    """
    found = {}
    before, constants, extended = None, 0, None
    for instruction in dis.get_instructions(code):
        if instruction.opname == "EXTENDED_ARG":  # one with the instruction that follows, and stopped before
            extended = instruction.offset if extended is None else extended
            continue
        position = instruction.positions
        name, where, extended = instruction.opname, instruction.offset if extended is None else extended, None
        if _is_point(name, before, points) and position is not None and position.lineno is not None:
            one_line = position.lineno == position.end_lineno and position.col_offset is not None
            columns = (position.col_offset, position.end_col_offset) if one_line else None
            variable = instruction.argval if isinstance(instruction.argval, str) else ""
            # A with block is left by calling __exit__(None, None, None).
            kind = "leave" if constants == 3 and name == "CALL" else KINDS.get(name, "step")
            found[where] = Operation(code, where, name, kind, variable, position.lineno, columns)
        before = name
        constants = constants + (instruction.argval is None) if name == "LOAD_CONST" else constants * (name in PADDING)
    return found


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


def _is_point(name: str, before: str | None, points: str) -> bool:
    if points == "every":
        return name != "RESUME"
    if points == "interpreter":
        # CHECK_EVAL_BREAKER in CPython's ceval.c: at RESUME, at backward jumps, and behind calls. A thread is
        # stopped before an instruction, so "behind" is before the next one.
        return before in (*CALLS, "BEFORE_WITH", "RESUME") or ("JUMP_BACKWARD" in name and "NO_INTERRUPT" not in name)
    return name in KINDS
