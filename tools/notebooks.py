"""Execute notebooks and write their outputs in normal form; the only writer of committed outputs.

    python -m tools.notebooks [NOTEBOOK ...]            execute, normalise, write, then check the format
    python -m tools.notebooks --check [NOTEBOOK ...]    only check; executes and writes nothing

Without names: everything under notebooks/. Exit code 1 when a cell fails (its file is left as it was) or when
a notebook breaks a rule of tools.notebook_format.
"""

from __future__ import annotations

import argparse
import os
import re
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from labs_lib.headless import CellFailed, execute
from tools import notebook_format
from tools.normal_form import NOTEBOOKS, NotANotebook, normalise, read, write

CELL_TIMEOUT_S = 300
ONE_THREAD = dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"), "1")
ANSI_COLOURS = re.compile(r"\x1b\[[0-9;]*m")


@contextmanager
def own_environment() -> Iterator[dict[str, str]]:
    """The environment of a kernel that touches nothing of the user's: journal, cache, profile, settings."""
    with tempfile.TemporaryDirectory() as folder:
        yield ONE_THREAD | {
            "LABS_JOURNAL": os.path.join(folder, "journal.jsonl"),
            "LABS_CACHE": os.path.join(folder, "cache"),
            "LABS_PRESET": os.environ.get("LABS_PRESET", "lab"),
            "IPYTHONDIR": os.path.join(folder, "ipython"),
            "JUPYTER_CONFIG_DIR": os.path.join(folder, "config"),
            "JUPYTER_DATA_DIR": os.path.join(folder, "data"),
            "JUPYTER_RUNTIME_DIR": os.path.join(folder, "runtime"),
        }


def refresh(path: Path) -> bool:
    """Execute and rewrite one notebook; True when its text changed. CellFailed leaves the file as it was."""
    notebook = read(path)
    with own_environment() as environment:
        for _ in execute(notebook, path.parent, environment, CELL_TIMEOUT_S):
            pass
    return write(path, normalise(notebook))


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m tools.notebooks", description=__doc__.splitlines()[0])
    parser.add_argument("--check", action="store_true", help="only check; executes and writes nothing")
    parser.add_argument("notebooks", nargs="*", type=Path, metavar="NOTEBOOK", help="default: all")
    options = parser.parse_args(arguments)
    paths = options.notebooks or sorted(NOTEBOOKS.glob("*.ipynb"))
    if missing := [str(path) for path in paths if not path.is_file()]:
        parser.error(f"no such notebook: {', '.join(missing)}")

    failed = False
    for path in paths:
        try:
            if not options.check:
                start = time.monotonic()
                outcome = "written" if refresh(path) else "unchanged"
                print(f"{path}: executed in {time.monotonic() - start:.0f} s, {outcome}", flush=True)
            found = notebook_format.complaints(path)
        except CellFailed as error:
            print(ANSI_COLOURS.sub("", error.details), file=sys.stderr)
            found = [str(error)]
        except NotANotebook as error:
            found = [str(error)]
        for complaint in found:
            print(f"{path}: {complaint}", flush=True)
        failed |= bool(found)
    return int(failed)


if __name__ == "__main__":
    sys.exit(main())
