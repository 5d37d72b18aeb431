"""Compiled functions, which torch's dispatcher does not see: does one run, and what does it allocate?"""

from __future__ import annotations

import os
import sys
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

# Every compiled function is called by this one; others in the file keep the compiler out, as checkpointing does.
ENTRANCE = "compile_wrapper"
FILE = os.path.join("torch", "_dynamo", "eval_frame.py")


def runs_compiled(fn: Callable[..., object], *inputs: object) -> bool:
    """Calls `fn(*inputs)` once, and says whether a function made by torch.compile was called in it.

    >>> runs_compiled(abs, -1)
    False
    """
    if "torch._dynamo" not in sys.modules:
        fn(*inputs)
        return False
    found = False

    def look(frame: FrameType, event: str, argument: object) -> None:
        nonlocal found
        code = frame.f_code
        found = found or (event == "call" and code.co_name == ENTRANCE and code.co_filename.endswith(FILE))

    before = sys.getprofile()
    sys.setprofile(look)
    try:
        fn(*inputs)
    finally:
        sys.setprofile(before)
    return found


@contextmanager
def torch_blocks(take: Callable[[object, int], None], give: Callable[[object], None]) -> Iterator[None]:
    """Calls `take(block, bytes)` and `give(block)` for what torch's allocators did in the block, after its end.

    By torch's profiler, which tells sizes and order, not addresses: a block that is freed is taken to be the
    newest one of its size.
    """
    import torch

    with quiet_stderr(), torch.profiler.profile(
        activities=[torch.profiler.ProfilerActivity.CPU], profile_memory=True
    ) as profile:
        yield
    events = [event for event in profile.profiler.kineto_results.events() if event.name() == "[memory]"]
    open_blocks: dict[int, list[object]] = defaultdict(list)
    for number, event in enumerate(sorted(events, key=lambda event: event.start_ns())):
        size = event.nbytes()
        if size > 0:
            open_blocks[size].append(("torch", number))
            take(open_blocks[size][-1], size)
        elif open_blocks[-size]:
            give(open_blocks[-size].pop())


@contextmanager
def quiet_stderr() -> Iterator[None]:
    """The profiler's C++ code writes a line to file descriptor 2 when it starts, and when it stops."""
    sys.stderr.flush()
    kept, nowhere = os.dup(2), os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 2)
    try:
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)
        os.close(nowhere)
