"""tools/run_tests.py: it stops at the first failure, counts what ran, and says when there is no browser."""

import os
from pathlib import Path

import pytest

from tools import run_tests
from tools.run_tests import Step

PASSING = "def test_a(): pass\ndef test_b(): pass\ndef test_c():\n    import pytest; pytest.skip('why')\n"
FAILING = "def test_a(): pass\ndef test_b(): assert False\n"


@pytest.fixture
def pytest_step(tmp_path):
    """A step that runs pytest on a file of its own."""

    def make(name, content):
        path = tmp_path / f"test_{name}.py"
        path.write_text(content)
        alone = ["-p", "no:cacheprovider", "--rootdir", str(tmp_path), "-c", os.devnull]
        return Step(name, ["pytest", "-q", *alone, str(path)])

    return make


@pytest.fixture
def run(monkeypatch, capfd):
    """Run these steps as make test would; (exit code, output)."""
    monkeypatch.setattr(run_tests, "find_browser", lambda: "/usr/bin/chromium")
    monkeypatch.setenv("PYTEST_DISABLE_PLUGIN_AUTOLOAD", "1")  # none is needed, and nbval loads slowly

    def with_steps(*steps, names=()):
        monkeypatch.setattr(run_tests, "steps", lambda: list(steps))
        code = run_tests.main(names)
        return code, capfd.readouterr().out

    return with_steps


def test_everything_passes_and_is_counted(run, pytest_step):
    code, output = run(pytest_step("one", PASSING), pytest_step("two", PASSING))
    assert code == 0
    assert output.count("2 passed, 1 skipped in") == 2, "pytest's own closing line stays visible"
    assert "make test: everything passed, 4 tests in" in output


def test_stops_at_the_first_failing_step_and_names_it(run, pytest_step):
    code, output = run(pytest_step("one", FAILING), pytest_step("two", PASSING))
    assert code == 1
    assert "make test: FAILED in step 'one'" in output
    assert "== two" not in output


def test_only_the_steps_that_are_named_run(run, pytest_step):
    code, output = run(pytest_step("one", FAILING), pytest_step("two", PASSING), names=["two"])
    assert code == 0
    assert "== one" not in output
    with pytest.raises(SystemExit):
        run(pytest_step("one", PASSING), names=["three"])


def test_the_time_of_each_notebook_is_the_sum_of_its_cells(tmp_path):
    report = tmp_path / "report.xml"
    cells = [("notebooks.00_a.ipynb", "Cell 1", 0.5), ("notebooks.01_b.ipynb", "Cell 0", 2)]
    cells += [("notebooks.00_a.ipynb", "Cell 0", 0.25), ("tests.test_c", "test_it", 9)]
    cases = "".join(f'<testcase classname="{file}" name="{name}" time="{time}"/>' for file, name, time in cells)
    report.write_text(f"<testsuites><testsuite>{cases}</testsuite></testsuites>")
    assert run_tests.notebook_seconds(report) == {"00_a.ipynb": 0.75, "01_b.ipynb": 2.0}


def test_step_that_collects_nothing_fails(run, pytest_step):
    """pytest's exit code 5: a suite that has lost its tests must not look green."""
    assert run(pytest_step("empty", ""))[0] == 1


def test_missing_browser_is_loud(run, pytest_step, monkeypatch):
    monkeypatch.setattr(run_tests, "find_browser", lambda: None)
    monkeypatch.delenv("LABS_REQUIRE_BROWSER", raising=False)
    code, output = run(pytest_step("one", PASSING))
    assert code == 0
    assert "*** NO CHROMIUM OR CHROME FOUND" in output


def test_missing_browser_is_an_error_where_it_is_required(run, pytest_step, monkeypatch):
    monkeypatch.setattr(run_tests, "find_browser", lambda: None)
    monkeypatch.setenv("LABS_REQUIRE_BROWSER", "1")
    code, output = run(pytest_step("one", PASSING))
    assert code == 1
    assert "== one" not in output


def test_steps_touch_nothing_of_the_home_folder(tmp_path, monkeypatch):
    monkeypatch.setenv("MPLBACKEND", "TkAgg")
    monkeypatch.setenv("LABS_JOURNAL", "/home/someone/journal.jsonl")
    env = run_tests.environment(tmp_path)
    assert "MPLBACKEND" not in env
    for name in ("JUPYTER_CONFIG_DIR", "JUPYTER_DATA_DIR", "JUPYTER_RUNTIME_DIR"):
        assert env[name].startswith(str(tmp_path)), name
    assert env["IPYTHONDIR"].startswith(str(tmp_path))
    assert env["LABS_JOURNAL"].startswith(str(tmp_path))


def test_each_test_is_run_by_exactly_one_step():
    """The last three steps share all tests among them by mark and folder; the notebooks are all named."""
    lint, notebooks, parallel, browser, alone = run_tests.steps()
    assert lint.command == ["ruff", "check", "."]
    assert "notebooks/00_start_here.ipynb" in notebooks.command
    assert parallel.command[-1] == "not timing and not browser"
    assert browser.command[-1] == "tests/browser"
    assert alone.command[:3] == ["pytest", "-m", "timing"]
    texts = {str(path.relative_to(run_tests.ROOT)): path.read_text() for path in run_tests.ROOT.glob("tests/**/*.py")}
    timing, browser_tests = (
        {name for name, text in texts.items() if f"= pytest.mark.{mark}" in text or f"@pytest.mark.{mark}" in text}
        for mark in ("timing", "browser")
    )
    assert set(alone.command[3:]) == timing
    assert browser_tests == {name for name in texts if name.startswith("tests/browser/test_")}


def test_journal_of_a_test_is_its_own(tmp_path):
    assert os.environ["LABS_JOURNAL"].startswith(str(tmp_path))
    assert os.environ["LABS_PRESET"] == "ci"
    assert os.environ["OMP_NUM_THREADS"] == "1"


def test_what_nobody_removes_goes_with_the_run(run, pytest_step, tmp_path):
    """A kernel that is killed cannot remove its temporary files."""
    note = tmp_path / "left"
    leave = "def test(): pathlib.Path({!r}).write_text(tempfile.mkdtemp())\n"
    assert run(pytest_step("leaves", "import pathlib, tempfile\n" + leave.format(str(note))))[0] == 0
    assert not Path(note.read_text()).exists()
