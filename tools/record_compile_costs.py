"""Measures lab 02's costs on this machine and writes the recording: python -m tools.record_compile_costs DEVICE

The recording stands in where there is no compiler, and gives the tests of the panel fixed numbers. DEVICE is the
processor's public name, such as "AMD EPYC, 2 cores".
"""

from __future__ import annotations

import os
import sys
from datetime import UTC, datetime

import torch

from labs_lib.compilation.payoff import RECORDED, measure_costs, record
from labs_lib.hardware import compiler
from labs_lib.toolchain import prepare


def main(arguments: list[str]) -> int:
    if len(arguments) != 1:
        print(__doc__, file=sys.stderr)
        return 2
    if compiler() is None:
        print("There is no C++ compiler here: nothing can be recorded.", file=sys.stderr)
        return 1
    os.environ["LABS_PRESET"] = "lab"  # all modes
    prepare()
    RECORDED.parent.mkdir(exist_ok=True)
    RECORDED.write_text(record(measure_costs(), arguments[0], datetime.now(UTC).date().isoformat(), torch.__version__))
    print(f"written: {RECORDED.name}")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
