"""Race conditions: run real threads under every schedule with few switches, and replay the one that breaks.

`explore` searches, `replay` runs one schedule, always the same, and `steps` tells what a schedule counts. None of
them needs more than the standard library; what draws is imported when it is used.
"""

import importlib

from labs_lib.race_conditions.explorer import Case, Report, Run, explore, replay, steps
from labs_lib.race_conditions.schedule import Schedule

DRAWN = {
    "map_panel": "panels",
    "picture": "pictures",
    "schedule_panel": "panels",
}


def __getattr__(name: str) -> object:
    if name not in DRAWN:
        raise AttributeError(f"module {__name__} has no attribute {name}")
    return getattr(importlib.import_module(f"{__name__}.{DRAWN[name]}"), name)
