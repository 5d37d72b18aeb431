"""Execute the labs' notebooks and write their seconds into the README's table of labs: python -m tools.notebook_times

From top to bottom in a fresh kernel with one thread and the preset that learners use, one notebook after the
other. Run it where nothing else computes. Below the table it says when and on which machine that was. No notebook
is written.
"""

from __future__ import annotations

import re
import sys
import time
from datetime import date

from labs_lib import hardware
from labs_lib.headless import CellFailed, execute
from tools.normal_form import NOTEBOOKS, read
from tools.notebooks import CELL_TIMEOUT_S, own_environment
from tools.setup_env import ROOT

README = ROOT / "README.md"
TABLE = re.compile(r"(?<=<!-- labs -->\n).*?(?=<!-- /labs -->)", re.DOTALL)
COLUMN = "seconds*"
LINK = re.compile(r"\(notebooks/(\w+\.ipynb)\)")


def seconds(names: list[str]) -> dict[str, float]:
    """How long each notebook takes. Raises CellFailed where one does not run."""
    found = {}
    for path in [NOTEBOOKS / name for name in names]:
        start = time.monotonic()
        with own_environment() as environment:
            for _ in execute(read(path), path.parent, environment, CELL_TIMEOUT_S):
                pass
        found[path.name] = time.monotonic() - start
        print(f"{path.name:32} {found[path.name]:6.1f} s", flush=True)
    return found


def with_times(readme: str, times: dict[str, float], where: str) -> str:
    """The README's text with a last column of seconds in its table of labs, and below it where they were recorded.

    Raises KeyError for a row whose notebook has no time.
    """
    rows = [row for row in TABLE.search(readme)[0].splitlines() if row.startswith("|")]
    cells = [row.strip("|").split("|") for row in rows]
    if cells[0][-1].strip() == COLUMN:
        cells = [row[:-1] for row in cells]
    last = [COLUMN, "---", *(f"{times[LINK.search(row)[1]]:.0f}" for row in rows[2:])]
    table = ["|".join(["", *row, f" {cell} ", ""]) for row, cell in zip(cells, last, strict=True)]
    return TABLE.sub(lambda _: "\n".join([*table, "", f"\\* {where}", ""]), readme)


def main() -> int:
    gpu = hardware.gpu()
    device = f"{hardware.cpu_model()}, {hardware.usable_cores()} cores, {gpu['name'] if gpu else 'no GPU'}"
    where = f"Seconds from top to bottom, recorded on {date.today():%d %B %Y}: {device}, one thread."
    readme = README.read_text(encoding="utf-8")
    try:
        times = seconds(LINK.findall(TABLE.search(readme)[0]))
    except CellFailed as error:
        print(f"notebook_times: {error}", file=sys.stderr)
        return 1
    README.write_text(with_times(readme, times, where), encoding="utf-8", newline="\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
