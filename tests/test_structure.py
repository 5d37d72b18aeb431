"""The house's rules that a test can hold: the two floors, a light import, examples, and cards as in the library."""

import ast
import json
import subprocess
import sys
from pathlib import Path

import pytest

import labs_lib
from labs_lib.catalogue import LABS, NOTEBOOKS

PACKAGE = Path(labs_lib.__file__).parent
SUBJECTS = {path.name for path in PACKAGE.iterdir() if (path / "__init__.py").exists()}
HEAVY = {"torch", "torchvision", "matplotlib", "ipywidgets", "IPython", "numpy", "pandas", "tqdm"}


def imported(path: Path) -> set[str]:
    """The subjects that a module imports, anywhere in it."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            names = [f"{node.module}.{alias.name}" for alias in node.names]
        else:
            continue
        parts = [name.split(".") for name in names]
        found |= {part[1] for part in parts if part[0] == "labs_lib" and len(part) > 1 and part[1] in SUBJECTS}
    return found


def test_the_finder_of_imports_finds_them(tmp_path):
    module = tmp_path / "core.py"
    module.write_text("def f():\n    from labs_lib import static_memory\n")
    assert imported(module) == {"static_memory"}
    module.write_text("import labs_lib.static_memory.graph\nfrom labs_lib.errors import LabError\n")
    assert imported(module) == {"static_memory"}


@pytest.mark.parametrize("path", sorted(PACKAGE.glob("*.py")), ids=lambda path: path.name)
def test_the_core_imports_no_subject(path):
    assert imported(path) == set()


@pytest.mark.parametrize("path", sorted(PACKAGE.glob("*/*.py")), ids=lambda path: f"{path.parent.name}/{path.name}")
def test_a_subject_imports_no_other_subject(path):
    assert imported(path) <= {path.parent.name}


def test_every_subject_is_a_lab():
    assert {lab.subject for lab in LABS} == SUBJECTS
    assert all(lab.notebook.exists() for lab in LABS)


def test_importing_the_vocabulary_loads_nothing_heavy():
    program = f"import sys, labs_lib; print(sorted(set(sys.modules) & {HEAVY}))"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_the_vocabulary_is_about_a_dozen_names_and_each_has_an_example():
    assert 8 <= len(labs_lib.__all__) <= 13
    for name in labs_lib.__all__:
        thing = getattr(labs_lib, name)
        assert callable(thing), f"lab.{name} is {thing!r}: a module hides the function"
        assert ">>>" in thing.__doc__, f"lab.{name} has no example"


@pytest.mark.parametrize("lab", LABS, ids=lambda lab: lab.number)
def test_the_cards_in_the_notebook_are_those_of_the_library(lab):
    cells = json.loads(lab.notebook.read_text(encoding="utf-8"))["cells"]
    prose = "\n\n".join("".join(cell["source"]) for cell in cells if cell["cell_type"] == "markdown")
    code = "\n".join("".join(cell["source"]) for cell in cells if cell["cell_type"] == "code")
    for exercise in lab.module("exercises").EXERCISES.values():
        assert exercise.card in prose
        assert f'lab.check("{exercise.id}"' in code


def test_the_readme_names_every_notebook():
    readme = (NOTEBOOKS.parent / "README.md").read_text(encoding="utf-8")
    for path in NOTEBOOKS.glob("*.ipynb"):
        assert f"notebooks/{path.name}" in readme
