"""Lab 02 on a machine without a C++ compiler: it says so, shows every count all the same, and goes on."""

import sys

from labs_lib.catalogue import find
from labs_lib.headless import execute
from tools.normal_form import normalise, read
from tools.notebook_format import CHECKED


def test_the_notebook_runs_and_counts_the_same(tmp_path):
    (tmp_path / "python3").symlink_to(sys.executable)
    path = find("02").notebook
    notebook, stored = read(path), {cell.id: cell for cell in read(path).cells}
    bare = {"PATH": str(tmp_path), "CXX": "", "LABS_PRESET": "ci", "LABS_JOURNAL": str(tmp_path / "journal.jsonl")}
    ran = {cell.id: cell for cell in execute(notebook, path.parent, bare, timeout_s=300)}
    normalise(notebook)
    assert "No C++ compiler here." in ran["setup"].outputs[0].text
    checked = [cell_id for cell_id, cell in ran.items() if CHECKED in cell.metadata.get("tags", [])]
    assert len(checked) > 8
    for cell_id in checked:
        assert ran[cell_id].outputs == stored[cell_id].outputs, cell_id
