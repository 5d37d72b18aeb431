"""Stopping a thread before each bytecode of interest: `sys.monitoring` from Python 3.12 on, `sys.settrace` before.

Both call `stage.step(frame, offset)` in the thread that is about to execute the bytecode at that offset. Python
3.12 has `settrace` too, but there its opcode events of several threads get in each other's way.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from types import CodeType, FrameType
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from labs_lib.race_conditions.stage import Stage

if sys.version_info >= (3, 12):
    TOOLS = (3, 4, 5, 2, 1, 0)  # the ids that no kind of tool has for itself come first
    MONITORING = sys.monitoring
    EVENTS = MONITORING.events

    @contextmanager
    def stepping(stage: Stage) -> Iterator[None]:
        """While the block runs, the stage hears of the bytecodes of all functions that it asks for."""
        tool = next(tool for tool in TOOLS if MONITORING.get_tool(tool) is None)
        heard: list[CodeType] = []

        def on_start(code: CodeType, offset: int) -> object:
            if stage.table(code) is None:
                return MONITORING.DISABLE
            if not MONITORING.get_local_events(tool, code):
                MONITORING.set_local_events(tool, code, EVENTS.INSTRUCTION)
                heard.append(code)
            return None

        def on_bytecode(code: CodeType, offset: int) -> object:
            if offset not in stage.table(code):
                return MONITORING.DISABLE
            stage.step(sys._getframe(1), offset)
            return None

        MONITORING.use_tool_id(tool, "labs_lib")
        try:
            MONITORING.register_callback(tool, EVENTS.PY_START, on_start)
            MONITORING.register_callback(tool, EVENTS.INSTRUCTION, on_bytecode)
            MONITORING.set_events(tool, EVENTS.PY_START)
            MONITORING.restart_events()  # what an earlier stage has switched off
            yield
        finally:
            MONITORING.set_events(tool, EVENTS.NO_EVENTS)
            for code in heard:
                MONITORING.set_local_events(tool, code, EVENTS.NO_EVENTS)
            for event in (EVENTS.PY_START, EVENTS.INSTRUCTION):
                MONITORING.register_callback(tool, event, None)
            MONITORING.free_tool_id(tool)

    @contextmanager
    def stepped() -> Iterator[None]:
        """One thread of the stage. Monitoring hears all threads anyway."""
        yield

else:
    CURRENT: list[Stage] = []

    @contextmanager
    def stepping(stage: Stage) -> Iterator[None]:
        """While the block runs, threads in `stepped()` tell this stage of their bytecodes."""
        CURRENT.append(stage)
        try:
            yield
        finally:
            CURRENT.pop()

    @contextmanager
    def stepped() -> Iterator[None]:
        """One thread of the stage; tracing is switched on and off by thread."""
        stage = CURRENT[-1]

        def on_call(frame: FrameType, event: str, argument: object) -> object:
            table = stage.table(frame.f_code)
            if table is None:
                return None

            def in_frame(frame: FrameType, event: str, argument: object) -> object:
                if event == "opcode" and frame.f_lasti in table:
                    stage.step(frame, frame.f_lasti)
                return in_frame

            frame.f_trace_lines, frame.f_trace_opcodes = False, True
            return in_frame

        sys.settrace(on_call)
        try:
            yield
        finally:
            sys.settrace(None)
