"""The ladder of lab 08 on this machine: every way to run the text pipeline, in one run.

    python -m tools.bench_text                       # 20000 sentences, six rounds: some minutes
    python -m tools.bench_text --sentences 300000 --fast   # the fast rungs alone, where processes have work to share

Prints a table, or one JSON document with --json. Take a quiet machine.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence

from labs_lib.arguments import count, positive
from labs_lib.machine import doctor
from labs_lib.text_pipeline import sentences
from labs_lib.text_pipeline.ladder import ladder
from labs_lib.text_pipeline.processes import METHODS
from labs_lib.text_pipeline.rungs import RUNGS, rungs_here

SLOW = ("characters", "a task an item", "chunks", "string by string")


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m tools.bench_text", description=__doc__.split("\n")[0])
    parser.add_argument("--sentences", type=count, default=20_000, metavar="N", help="how many (20000)")
    parser.add_argument("--rungs", nargs="+", metavar="NAME", help=f"of: {'; '.join(RUNGS)}")
    parser.add_argument("--fast", action="store_true", help="without the rungs that loop over characters or strings")
    parser.add_argument("--budget", type=positive, default=1.0, metavar="S", help="seconds; at least six rounds")
    parser.add_argument("--method", choices=METHODS, default="spawn", help="how processes start (spawn)")
    parser.add_argument("--json", action="store_true", help="print one JSON document")
    args = parser.parse_args(argv)
    names = args.rungs or [name for name in rungs_here() if not (args.fast and any(slow in name for slow in SLOW))]
    found = ladder(sentences(args.sentences), names, budget_s=args.budget, method=args.method)
    if args.json:
        print(json.dumps({"cpu": doctor().cpu, **found.as_dict()}))
    else:
        print(doctor().cpu)
        print(found)
    return 0 if found.same else 1


if __name__ == "__main__":
    raise SystemExit(main())
