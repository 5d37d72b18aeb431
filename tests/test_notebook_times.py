"""The README's table of labs: a row for each notebook, and its column of recorded seconds."""

import re
from pathlib import Path

import pytest

from labs_lib.catalogue import LABS
from labs_lib.headless import CellFailed
from tools import notebook_times
from tools.notebook_times import COLUMN, LINK, TABLE, with_times

README = (Path(__file__).resolve().parent.parent / "README.md").read_text(encoding="utf-8")
ROWS = {LINK.search(row)[1]: row for row in TABLE.search(README)[0].splitlines() if LINK.search(row)}
RECORDED = r"^\\\* Seconds from top to bottom, recorded on \d\d \w+ \d{4}: .+ cores, .+, one thread\.$"
EXAMPLE = """\
Before | a | b |

<!-- labs -->
| lab | minutes |
| --- | --- |
| [A](notebooks/00_a.ipynb) | 5 |
| [B](notebooks/01_b.ipynb) | 40 |
<!-- /labs -->

After
"""
FILLED = """\
Before | a | b |

<!-- labs -->
| lab | minutes | seconds* |
| --- | --- | --- |
| [A](notebooks/00_a.ipynb) | 5 | 4 |
| [B](notebooks/01_b.ipynb) | 40 | 61 |

\\* Recorded here.
<!-- /labs -->

After
"""


def test_the_table_has_a_row_for_each_lab():
    assert list(ROWS) == ["00_start_here.ipynb", *(lab.file for lab in LABS)]


@pytest.mark.parametrize("lab", LABS, ids=lambda lab: lab.number)
def test_a_row_says_what_the_catalogue_says(lab):
    cells = [cell.strip() for cell in ROWS[lab.file].split("|")]
    assert cells[1] == f"[{lab.number} {lab.title}](notebooks/{lab.file})"
    assert cells[3] == str(lab.minutes)


def test_recorded_seconds_say_where_and_when():
    """As long as nothing is recorded there is no such column."""
    table = TABLE.search(README)[0]
    if COLUMN in table:
        assert re.search(RECORDED, table, re.MULTILINE)
        assert all(re.search(r"\| \d+ \|$", row) for row in ROWS.values())


def test_seconds_are_written_into_the_table_and_then_renewed():
    filled = with_times(EXAMPLE, {"00_a.ipynb": 4.2, "01_b.ipynb": 60.7}, "Recorded here.")
    assert filled == FILLED
    assert with_times(filled, {"00_a.ipynb": 4.2, "01_b.ipynb": 60.7}, "Recorded here.") == FILLED
    assert "| 40 | 7 |\n" in with_times(filled, {"00_a.ipynb": 4, "01_b.ipynb": 7}, "Elsewhere.")


def test_a_row_without_a_time_is_an_error():
    with pytest.raises(KeyError):
        with_times(EXAMPLE, {"00_a.ipynb": 4.2}, "")


def test_a_notebook_that_fails_leaves_the_readme_alone(tmp_path, monkeypatch, capsys):
    def fails(names):
        raise CellFailed("divide", "ZeroDivisionError")

    path = tmp_path / "README.md"
    path.write_text(EXAMPLE)
    monkeypatch.setattr(notebook_times, "README", path)
    monkeypatch.setattr(notebook_times, "seconds", fails)
    assert notebook_times.main() == 1
    assert path.read_text() == EXAMPLE
    assert capsys.readouterr().err == "notebook_times: cell divide: ZeroDivisionError\n"


def test_the_readme_names_machine_and_date(tmp_path, monkeypatch):
    path = tmp_path / "README.md"
    path.write_text(EXAMPLE)
    monkeypatch.setattr(notebook_times, "README", path)
    monkeypatch.setattr(notebook_times, "seconds", lambda names: {"00_a.ipynb": 4.2, "01_b.ipynb": 60.7})
    assert notebook_times.main() == 0
    assert re.search(RECORDED, path.read_text(), re.MULTILINE)
