"""tools.set_repository and the bootstrap cell, which is run here as Colab would run it."""

import os
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from tests.lab_notebook import NAME, lab_notebook
from tools import notebook_format, repository, set_repository
from tools.normal_form import NotANotebook, read, write
from tools.repository import BOOTSTRAP_ID, badge, bootstrap

ROOT = Path(__file__).resolve().parent.parent
README = "Clone https://github.com/OWNER/NAME.git\n\n| <!-- colab: 01_example.ipynb --> | 30 |\n"
COLAB = "import sys, types\nsys.modules['google.colab'] = types.ModuleType('google.colab')\n"
WHERE = "\nimport os, labs_lib\nprint(labs_lib.WHERE, os.getcwd())"


@pytest.fixture
def root(tmp_path):
    """A small copy of the repository: the constant, two notebooks and a README."""
    root = tmp_path / "course"
    (root / "notebooks").mkdir(parents=True)
    (root / "tools").mkdir()
    shutil.copy(repository.__file__, root / "tools")
    code = (root / "tools" / "repository.py").read_text()
    (root / "tools" / "repository.py").write_text(
        code.replace(f'REPOSITORY = "{repository.REPOSITORY}"', 'REPOSITORY = ""', 1)
    )
    (root / "README.md").write_text(README)
    for name in (NAME, "00_start_here.ipynb"):
        notebook = lab_notebook()
        set_repository.set_in_notebook(notebook, name, "")
        write(root / "notebooks" / name, notebook)
    return root


def texts(root):
    return {path: path.read_bytes() for path in root.rglob("*") if path.is_file()}


def test_the_address_is_written_everywhere(root):
    before = texts(root)
    changed = set_repository.set_repository("ann/fast-ml", root)
    assert set(changed) == set(before)
    for path in (root / "notebooks").iterdir():
        notebook = read(path)
        assert notebook.cells[0].source == f"{badge(path.name, 'ann/fast-ml')}\n\n# A lab"
        [source] = [cell.source for cell in notebook.cells if cell.id == BOOTSTRAP_ID]
        assert source == bootstrap("ann/fast-ml")
    assert '\nREPOSITORY = "ann/fast-ml"\n' in (root / "tools" / "repository.py").read_text()
    readme = (root / "README.md").read_text()
    assert "https://github.com/ann/fast-ml.git" in readme
    assert f"| <!-- colab: {NAME} -->{badge(NAME, 'ann/fast-ml')} | 30 |" in readme


def test_twice_changes_nothing_and_another_address_leaves_nothing_of_the_first(root):
    set_repository.set_repository("ann/fast-ml", root)
    assert set_repository.set_repository("ann/fast-ml", root) == []
    set_repository.set_repository("bob/course.2", root)
    assert not [path for path, text in texts(root).items() if b"fast-ml" in text]
    again = texts(root)
    set_repository.set_repository("ann/fast-ml", root)
    set_repository.set_repository("bob/course.2", root)
    assert texts(root) == again


@pytest.mark.parametrize("address", ["", "ann/fast-ml", "bob/course.2"])
def test_the_format_gate_wants_the_one_address(root, monkeypatch, address):
    monkeypatch.setattr(notebook_format, "bootstrap", lambda: bootstrap(address))
    monkeypatch.setattr(notebook_format, "badge", lambda name: badge(name, address))
    set_repository.set_repository("ann/fast-ml", root)
    found = notebook_format.complaints(root / "notebooks" / NAME)
    # Of another address both are wrong: the badge and the bootstrap cell.
    assert len(found) == (0 if address == "ann/fast-ml" else 2)


def test_a_file_that_cannot_be_read_stops_it_before_anything_is_written(root):
    (root / "notebooks" / "99_broken.ipynb").write_text("no notebook")
    before = texts(root)
    with pytest.raises(NotANotebook, match="not a valid notebook"):
        set_repository.set_repository("ann/fast-ml", root)
    assert texts(root) == before


@pytest.mark.parametrize(
    "address", ["", "name", "a/b/c", "https://github.com/a/b", "-a/b", "a b/c", 'a/b"', "OWNER/NAME", "a/\n"]
)
def test_a_bad_address_gives_one_line(address, capsys, monkeypatch):
    monkeypatch.setattr(set_repository, "set_repository", lambda *_: pytest.fail("written"))
    assert set_repository.main(["--", address]) == 2
    assert capsys.readouterr().err.count("\n") == 1


def test_this_tree_holds_one_address():
    """The README has the address of the constant; of the notebooks the format gate says the same."""
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    assert set_repository.set_in_readme(text, repository.REPOSITORY, repository.REPOSITORY) == text


def run_on_colab(source, tmp_path, origin):
    """What IPython shows of the cell, with /content in tmp_path and GitHub in the folder `origin`."""
    content = tmp_path / "content"
    content.mkdir(exist_ok=True)
    environment = os.environ | {
        "GIT_CONFIG_COUNT": "1",
        "GIT_CONFIG_KEY_0": f"url.file://{origin}/.insteadOf",
        "GIT_CONFIG_VALUE_0": "https://github.com/",
        "IPYTHONDIR": str(tmp_path / "ipython"),
        "PIP_NO_INDEX": "1",  # what pip is asked for is here already, and must not be looked for elsewhere
    }
    cell = COLAB + source.replace("/content", str(content)) + WHERE
    command = [sys.executable, "-m", "IPython", "--colors=NoColor", "-c", cell]
    finished = subprocess.run(command, cwd=content, env=environment, capture_output=True, text=True)
    return finished.stdout + finished.stderr


@pytest.fixture
def origin(tmp_path):
    """A stand-in for GitHub that holds ann/fast-ml, with two commits."""
    work = tmp_path / "origin" / "ann" / "fast-ml"
    for folder in ("labs_lib", "notebooks"):
        (work / folder).mkdir(parents=True)
    (work / "labs_lib" / "__init__.py").write_text("WHERE = 'the clone'\n")
    (work / "notebooks" / "a.ipynb").write_text("{}")
    git = ["git", "-C", str(work), "-c", "user.name=Ann", "-c", "user.email=ann@example.org"]
    for command in (
        ["init", "-q"],
        ["add", "."],
        ["commit", "-qm", "one"],
        ["commit", "-qm", "2", "--allow-empty"],
    ):
        subprocess.run([*git, *command], check=True)
    return tmp_path / "origin"


def test_the_bootstrap_cell_fetches_the_course_once(tmp_path, origin):
    clone = tmp_path / "content" / "fast-ml"
    fetched = f"the clone {clone / 'notebooks'}\n"
    assert run_on_colab(bootstrap("ann/fast-ml"), tmp_path, origin) == fetched
    depth = subprocess.run(
        ["git", "-C", clone, "rev-list", "--count", "HEAD"], capture_output=True, text=True
    )
    assert depth.stdout == "1\n"
    shutil.rmtree(origin)  # the second time needs no network
    assert run_on_colab(bootstrap("ann/fast-ml"), tmp_path, origin) == fetched


def test_no_network_gives_one_line_and_stops(tmp_path):
    shown = run_on_colab(bootstrap("ann/fast-ml"), tmp_path, tmp_path / "nowhere")
    message = "Could not fetch https://github.com/ann/fast-ml: check the network, then run this cell again."
    assert shown.strip() == message


def test_without_an_address_the_cell_says_so_in_one_line(tmp_path):
    shown = run_on_colab(bootstrap(""), tmp_path, tmp_path).strip()
    assert shown == "The course has no address yet: run python -m tools.set_repository OWNER/NAME and push."


@pytest.mark.parametrize("address", ["", "ann/fast-ml"])
def test_anywhere_else_the_cell_does_nothing(address, monkeypatch):
    monkeypatch.setattr(subprocess, "run", lambda *_, **__: pytest.fail("ran a command"))
    path, folder = list(sys.path), Path.cwd()
    exec(bootstrap(address), {})
    assert (sys.path, Path.cwd()) == (path, folder)


def test_the_cell_installs_all_that_colab_lacks():
    """Of the package's dependencies, Colab has these; the others are named in the cell."""
    on_colab = {"fastapi", "httpx", "ipywidgets", "matplotlib", "numba", "numpy", "pillow", "psutil"}
    on_colab |= {"python-multipart", "scikit-learn", "tokenizers", "torch", "torchvision", "tqdm", "transformers"}
    on_colab |= {"uvicorn"}
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    needed = {dependency.split(">=")[0] for dependency in project["dependencies"]}
    assert [name for name in sorted(needed - on_colab) if f'"{name}"' not in bootstrap()] == []
    assert not [name for name in on_colab if f'"{name}"' in bootstrap()]
