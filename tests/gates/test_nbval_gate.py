"""nbval, with the options of `make test`, turns red on a notebook that no longer tells the truth."""

import subprocess
import sys
from xml.etree import ElementTree

import pytest

from tests.lab_notebook import code, notebook, prints
from tools.normal_form import write
from tools.run_tests import NBVAL

FACTS = "ARENA = 417_300\n"
COUNT = code(
    "count-bytes", "import facts\nprint(facts.ARENA, 'bytes')", prints("417300 bytes\n"), checked=True
)
PANEL = """\
from labs_lib.figures import Picture
from labs_lib.panels import Choice, Panel

def draw(n):
    return Picture(b"", f"{8 // n} bytes")

panel = Panel(draw, n=Choice("depth", [2, 1, 0], value=2))
slider = panel.widget().children[0]"""
BUTTON = """\
import ipywidgets
button = ipywidgets.Button()
button.on_click(lambda _: 1 / 0)"""

GREEN = {
    "true": notebook(COUNT),
    "panel-works": notebook(code("panel", PANEL), code("move", "slider.value = 1")),
    # Not compared although its output is wrong: why the format gate refuses it.
    "not-executed": notebook(code("count-bytes", "print(5)", prints("4\n"), checked=True)),
}
GREEN["not-executed"].cells[0].update(execution_count=None, outputs=[])
TQDM = "from tqdm import tqdm\nprint(len([*tqdm([1])]))"
RED = {
    "output-changed": notebook(code("count-bytes", "print(4)", prints("5\n"), checked=True)),
    "output-lost": notebook(code("count-bytes", "pass", prints("4\n"), checked=True)),
    "library-changed": notebook(COUNT),
    "panel-raises": notebook(code("panel", PANEL), code("move", "slider.value = 0")),
    "button-raises": notebook(code("button", BUTTON), code("click", "button.click()")),
    "progress-in-a-checked-cell": notebook(code("count", TQDM, prints("1\n"), checked=True)),
}
REASONS = {
    "output-changed": "Cell outputs differ",
    "output-lost": "Missing output fields",
    "library-changed": "418300 bytes",
    "panel-raises": "ZeroDivisionError",
    "button-raises": "ZeroDivisionError",
    "progress-in-a-checked-cell": "Unexpected output fields",
}


@pytest.fixture(scope="module")
def failures(tmp_path_factory):
    """What nbval says of each notebook that failed, by name; from one run over all of them."""
    root = tmp_path_factory.mktemp("notebooks")
    for name, cells in (GREEN | RED).items():
        folder = root / name
        folder.mkdir()
        (folder / "facts.py").write_text(FACTS.replace("7", "8") if name == "library-changed" else FACTS)
        write(folder / f"{name}.ipynb", cells)
    report = root / "report.xml"
    command = [sys.executable, "-m", "pytest", *NBVAL, "-p", "no:cacheprovider", f"--junit-xml={report}"]
    finished = subprocess.run([*command, "--rootdir", root, root], cwd=root, capture_output=True, text=True)
    assert report.exists(), finished.stdout + finished.stderr
    cases = list(ElementTree.parse(report).getroot().iter("testcase"))
    assert len(cases) == sum(len(each.cells) for each in (GREEN | RED).values()), finished.stdout
    failed = [(case.get("classname").split(".")[0], case.find("failure")) for case in cases]
    return {name: failure.text for name, failure in failed if failure is not None}


def test_only_the_broken_notebooks_are_red(failures):
    assert set(failures) == set(RED)


@pytest.mark.parametrize("name", RED)
def test_red_for_the_right_reason(failures, name):
    assert REASONS[name] in failures[name]
