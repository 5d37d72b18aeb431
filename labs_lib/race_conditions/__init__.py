"""Race conditions: run real threads under every schedule with few switches, and replay the one that breaks.

`explore` searches, `replay` runs one schedule, always the same, and `steps` tells what a schedule counts. None of
them needs more than the standard library.
"""

from labs_lib.race_conditions.explorer import Case, Report, Run, explore, replay, steps
