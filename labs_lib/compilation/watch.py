"""Watching Dynamo work: where it breaks graphs, and which guards make it compile anew.

Dynamo reports both itself, the breaks in its log `graph_breaks` and the recompilations in the record that
it keeps of each compilation. Here they are collected for one block of code, and put into plain words.
"""

from __future__ import annotations

import linecache
import logging
import re
import sysconfig
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path

from labs_lib.toolchain import quiet

# Each break is told in full in one of the first logs; PyTorch 2.8 tells in the last one that it was in a loop.
BREAK_LOGS = {
    "torch._dynamo.symbolic_convert.__graph_breaks": logging.DEBUG,
    "torch._dynamo.exc.__graph_breaks": logging.DEBUG,
    "torch._dynamo.convert_frame.__graph_breaks": logging.DEBUG,
    "torch._dynamo.symbolic_convert": logging.INFO,
}
FRAME = re.compile(r'^  File "(?P<file>.+)", line (?P<line>\d+), in ', re.MULTILINE)
PLACE = re.compile(r"Graph break in user code at (?P<file>.+):(?P<line>\d+)")
BOILERPLATE = re.compile(r"Graph Break Reason:|Encountered graph break when|Failed to handle graph break")
LOOP = re.compile(r"graph break in (a )?(for/while )?loop", re.IGNORECASE)

# kind: (how Dynamo's reason reads, what to do about it)
KINDS = {
    "compiler switched off": (
        r"compiler\.disable|_dynamo\.disable|marked as skipped|Skip (calling|inlining)",
        "take torch.compiler.disable away from what is to be compiled",
    ),
    "value read": (
        r"\.item\(\)|scalar_outputs|tolist|\.numpy\(\)",
        "keep it a tensor: torch.where, clamp and masks need no Python number",
    ),
    "branch on data": (
        r"data-dependent (branching|control flow|jump|assertion)",
        "compute both sides and choose with torch.where, or use torch.cond",
    ),
    "side effect": (
        r"builtin operator `?(print|input|open)|logg(er|ing)|time function|warnings|breakpoint",
        "return the value and print, log or time it outside of the compiled function",
    ),
    "shape from data": (
        r"dynamic (output )?shape operator|nonzero|data-dependent output",
        "replace the selection by a mask, so that shapes do not depend on values",
    ),
}
OTHER_BACKEND = "BACKEND_MATCH failure"  # so begins this reason, for which PyTorch 2.8 gives an empty one
OTHER = "unsupported code"
OTHER_ADVICE = "move it out of the compiled function; torch.compiler.disable marks what must stay eager"


@dataclass(frozen=True)
class Break:
    """One place at which Dynamo had to end a graph and go back to Python."""

    kind: str  # a key of KINDS, or OTHER
    place: str  # "model.py:12"
    source: str  # the line of code
    reason: str  # Dynamo's own words, one line
    in_loop: bool  # then Dynamo gives up the whole function: it runs eagerly

    @property
    def advice(self) -> str:
        return KINDS[self.kind][1] if self.kind in KINDS else OTHER_ADVICE

    def __str__(self) -> str:
        loop = ", in a loop: the whole function runs eagerly" if self.in_loop else ""
        reason = f" ({self.reason})" if self.kind == OTHER else ""
        return f"{self.place}: {self.kind}{reason}{loop}: `{self.source}`"


@dataclass(frozen=True)
class Recompile:
    """One compilation of a function that was compiled before, with the guard that failed."""

    function: str
    reason: str  # Dynamo's own words, one line
    given_up: bool  # the limit was reached: from here on the function runs eagerly

    def __str__(self) -> str:
        return f"{self.function}: {self.reason}" + ("; the limit is reached, it runs eagerly" if self.given_up else "")


@dataclass
class Watch:
    """What was seen so far; complete when the block is left."""

    breaks: list[Break] = field(default_factory=list)
    recompiles: list[Recompile] = field(default_factory=list)


@contextmanager
def watch() -> Iterator[Watch]:
    """Forgets all that Dynamo has compiled, then collects what it breaks and recompiles within the block.

    Dynamo's warnings about the same are kept from stderr meanwhile.
    """
    import torch._dynamo
    from torch._dynamo import utils

    seen = Watch()
    torch._dynamo.reset()
    utils.clear_compilation_metrics()
    listener = _Listener(seen.breaks)
    logs = [logging.getLogger(name) for name in BREAK_LOGS]
    before = [(log, log.level, log.propagate) for log in logs]
    for log in logs:
        log.addHandler(listener)
        log.setLevel(BREAK_LOGS[log.name])
        log.propagate = False
    try:
        with quiet():
            yield seen
    finally:
        for log, level, propagate in before:
            log.removeHandler(listener)
            log.setLevel(level)
            log.propagate = propagate
        function = ""
        for record in utils.get_compilation_metrics():
            function = record.co_name or function  # the record of a limit that was hit has no name
            if record.recompile_reason:
                seen.recompiles.append(
                    Recompile(function, _one_line(record.recompile_reason), not record.has_guarded_code)
                )


class _Listener(logging.Handler):
    """Turns each record of the log into a Break; Dynamo tells some twice."""

    def __init__(self, breaks: list[Break]) -> None:
        super().__init__()
        self.breaks = breaks

    def emit(self, record: logging.LogRecord) -> None:
        text = record.getMessage()
        found = _break(text)
        if found is not None and found not in self.breaks:
            self.breaks.append(found)
        elif found is None and self.breaks and LOOP.search(text):
            self.breaks[-1] = replace(self.breaks[-1], in_loop=True)


def _break(text: str) -> Break | None:
    place = PLACE.search(text)
    if place is None:
        return None
    frames = [frame for frame in FRAME.finditer(text) if not _is_ours_or_a_library(frame["file"])]
    where = frames[-1] if frames else place
    reason = text[place.end() :].partition("User code traceback")[0]
    kind = next((kind for kind, (words, _) in KINDS.items() if re.search(words, reason, re.IGNORECASE)), OTHER)
    file, line = where["file"], int(where["line"])
    source = linecache.getline(file, line).strip()
    return Break(kind, _place(file, line), source, _first(reason), in_loop=bool(LOOP.search(text)))


def _is_ours_or_a_library(file: str) -> bool:
    """Whether the file is no place for a learner to look at."""
    paths = sysconfig.get_paths()
    ours = Path(file).parent == Path(__file__).parent and Path(file).name != "exercises.py"
    return ours or any(file.startswith(paths[name]) for name in ("stdlib", "purelib", "platlib"))


def _place(file: str, line: int) -> str:
    """A cell of a notebook has a file with a name that means nothing to its reader."""
    return f"notebook cell, line {line}" if "ipykernel_" in file else f"{Path(file).name}:{line}"


def _first(reason: str) -> str:
    """The first line that says something, out of a text that begins with how Dynamo came there."""
    lines = [re.sub(r"^Graph Break Reason:", "", line.strip()).strip() for line in reason.splitlines()]
    return next((line for line in lines if line and not BOILERPLATE.match(line)), "").rstrip(".")


def _one_line(reason: str) -> str:
    """The guard that failed: without the number of the cache entry before it, and the comment behind it."""
    first = reason.strip().splitlines()[0]
    return re.sub(r"^\d+/\d+:|\s+# .*$", "", first).strip() or OTHER_BACKEND
