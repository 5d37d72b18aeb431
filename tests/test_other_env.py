"""tools/other_env.py, test_colab.py and test_lowest.py, as far as that needs no other environment."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.lab_notebook import NAME, lab_notebook
from tools import other_env, test_colab, test_lowest
from tools.normal_form import NOTEBOOKS, read, write
from tools.other_env import OtherEnvironment, find_python
from tools.repository import BOOTSTRAP_ID, bootstrap
from tools.set_repository import set_in_notebook
from tools.setup_env import SetupError

MINOR = "{}.{}".format(*sys.version_info)


def fake_python(path, version):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"#!/bin/sh\necho {version}\n")
    path.chmod(0o755)
    return str(path)


@pytest.fixture
def pythons(tmp_path, monkeypatch):
    """A machine with no Python but what the test makes: on its path, or as pyenv's."""
    monkeypatch.setenv("PYENV_ROOT", str(tmp_path / "pyenv"))
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))
    monkeypatch.setattr(sys, "executable", str(tmp_path / "none"))
    return tmp_path


@pytest.fixture
def environment(tmp_path, monkeypatch):
    """Brings one up to date whose installs do nothing, and returns whether it was made for that."""
    monkeypatch.setattr(other_env, "check_space", lambda: None)
    monkeypatch.setattr(other_env, "find_python", lambda version: sys.executable)
    ran = []

    def run(command):
        ran.append(command[1:])
        if "venv" in command:
            fake_python(Path(command[-1]) / "bin" / "python", f"{MINOR}.1")

    monkeypatch.setattr(other_env, "run", run)
    source = tmp_path / "packages.txt"
    source.write_text("numpy==2.0.2\n")

    def make(*arguments):
        environment = OtherEnvironment(tmp_path / ".venv-other", MINOR, (arguments or ("pip", "check"),), (source,))
        ran.clear()
        assert environment.ready() == environment.python
        return ["-m", "venv", str(environment.folder)] in ran

    return make


def test_a_python_of_pyenv_is_found_where_its_stand_in_on_the_path_does_not_run(pythons):
    stand_in = Path(fake_python(pythons / "bin" / "python3.12", "no"))
    stand_in.write_text("#!/bin/sh\nexit 127\n")
    fake_python(pythons / "pyenv" / "versions" / "3.11.7" / "bin" / "python", "3.11.7")
    ours = fake_python(pythons / "pyenv" / "versions" / "3.12.1" / "bin" / "python", "3.12.1")
    assert find_python("3.12") == ours


def test_the_path_comes_before_pyenv(pythons):
    first = fake_python(pythons / "bin" / "python3.12", "3.12.4")
    fake_python(pythons / "pyenv" / "versions" / "3.12.1" / "bin" / "python", "3.12.1")
    assert find_python("3.12") == first


def test_a_missing_python_is_told_in_one_line(pythons, monkeypatch, capsys):
    with pytest.raises(SetupError, match=r"^Python 3\.12 with its venv module is needed .* pyenv install 3\.12"):
        find_python("3.12")
    for tool in (test_colab, test_lowest):
        environment = OtherEnvironment(pythons / ".venv-none", "3.12", (), ())
        monkeypatch.setattr(tool, "COLAB" if tool is test_colab else "LOWEST", environment)
        assert tool.main(*([[]] if tool is test_colab else [])) == 1
        assert capsys.readouterr().err.count("\n") == 1


def test_an_environment_is_made_once(environment):
    assert environment()
    assert not environment()


def test_other_packages_or_another_install_make_it_anew(environment, tmp_path):
    environment()
    (tmp_path / "packages.txt").write_text("numpy==2.1.3\n")
    assert environment()
    assert environment("pip", "list")
    assert not environment("pip", "list")


def test_a_moved_environment_and_one_without_python_are_made_anew(environment, tmp_path):
    environment()
    stamp = tmp_path / ".venv-other" / "labs-stamp.json"
    stamp.write_text(json.dumps(json.loads(stamp.read_text()) | {"folder": "/elsewhere"}))
    assert environment()
    (tmp_path / ".venv-other" / "bin" / "python").unlink()
    assert environment()


def test_an_install_that_fails_leaves_no_stamp(environment, tmp_path, monkeypatch):
    def fails(command):
        if command[-1] == "check":
            raise SetupError("no network")

    monkeypatch.setattr(other_env, "run", fails)
    with pytest.raises(SetupError):
        environment()
    assert not (tmp_path / ".venv-other" / "labs-stamp.json").exists()


def test_a_failing_command_is_told_in_one_line(tmp_path, monkeypatch):
    monkeypatch.setattr(other_env, "ROOT", tmp_path)
    with pytest.raises(SetupError, match="No module named no_such_module"):
        other_env.run([sys.executable, "-m", "no_such_module"])
    assert list(tmp_path.iterdir()) == []


def test_a_notebook_is_opened_in_place_of_content(tmp_path):
    notebook = lab_notebook()
    set_in_notebook(notebook, NAME, "course/labs")
    write(tmp_path / NAME, notebook)
    opened = test_colab.open_notebook(tmp_path / NAME, tmp_path / "content")
    (source,) = [cell.source for cell in read(opened).cells if cell.id == BOOTSTRAP_ID]
    assert source == bootstrap("course/labs").replace("/content/", f"{tmp_path}/content/")
    assert "/content/{" in bootstrap("course/labs"), "the cell's own folder has another name now"


def test_a_kernel_finds_google_colab_and_not_the_course(tmp_path, monkeypatch):
    monkeypatch.setenv("PYTHONPATH", str(NOTEBOOKS.parent))
    env = test_colab.variables(tmp_path)
    assert "PYTHONPATH" not in env
    startup = Path(env["IPYTHONDIR"]) / "profile_default" / "startup" / "00-colab.py"
    assert startup.read_text() == "import google.colab\n"


def test_the_stand_in_for_github_has_the_address_in_all_notebooks(tmp_path):
    if not (NOTEBOOKS.parent / ".git").exists():
        pytest.skip("no git repository")
    origin = test_colab.github(tmp_path / "github")
    for path in (origin / "notebooks").glob("*.ipynb"):
        (source,) = [cell.source for cell in read(path).cells if cell.id == BOOTSTRAP_ID]
        assert 'REPOSITORY = "course/labs"' in source
    clone = ["git", "clone", "--quiet", "--depth=1", "https://github.com/course/labs", str(tmp_path / "clone")]
    env = os.environ | test_colab.variables(tmp_path)
    subprocess.run(clone, check=True, env=env)
    assert (tmp_path / "clone" / ".git" / "shallow").exists()


def test_lowest_versions_are_those_of_the_oldest_python():
    assert test_lowest.LOWEST.version == "3.11"
    assert [each for each in test_lowest.LOWEST.installs if "lowest-direct" in each]
