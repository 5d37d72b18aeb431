"""The committed notebooks keep the rules of tools.notebook_format, which tests/gates breaks one by one."""

import pytest

from labs_lib.catalogue import LABS
from tools.normal_form import NOTEBOOKS
from tools.notebook_format import complaints

PATHS = sorted(NOTEBOOKS.glob("*.ipynb"))


@pytest.mark.parametrize("path", PATHS, ids=lambda path: path.name)
def test_notebook(path):
    assert complaints(path) == []


def test_every_lab_has_its_notebook():
    assert {path.name for path in PATHS} >= {"00_start_here.ipynb", *(lab.notebook.name for lab in LABS)}
