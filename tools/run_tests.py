"""Runs every check, one after the other: python -m tools.run_tests [STEP ...]  (make test, after the set-up).

Without names: all steps. It stops at the first that fails. Nothing of the person's home is used: Jupyter, IPython
and the journal get folders of their own, and what a killed kernel leaves among the temporary files goes with them.
What measures time runs last, with nothing beside it.
"""

from __future__ import annotations

import argparse
import os
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from xml.etree import ElementTree

from tools.find_browser import find_browser

ROOT = Path(__file__).resolve().parent.parent
PARALLEL = ["-n", "4", "--dist=loadscope"]
NBVAL = ["--nbval-lax", "--nbval-current-env", "--nbval-cell-timeout=300"]
# With the last one, each of some hundred interpreters would compile every module and every assertion anew.
NOT_PASSED_ON = ("MPLBACKEND", "PYTHONWARNINGS", "PYTHONDONTWRITEBYTECODE")
NO_BROWSER = "NO CHROMIUM OR CHROME FOUND: the browser tests do not run (Debian: sudo apt install chromium)."


@dataclass
class Step:
    """One command of the suite; pytest steps also count their tests."""

    name: str
    command: list[str]
    seconds: float = 0.0
    passed: int | None = None
    skipped: int = 0
    notebooks: dict[str, float] = field(default_factory=dict)  # seconds of each

    def run(self, env: dict[str, str], folder: Path) -> int:
        """Run it with its output going straight to the terminal; the exit code."""
        print(f"\n== {self.name}: {' '.join(self.command)}", flush=True)
        report = folder / "report.xml"
        report.unlink(missing_ok=True)
        command = [sys.executable, "-m", *self.command]
        if self.command[0] == "pytest":
            command.append(f"--junit-xml={report}")
        started = time.monotonic()
        code = subprocess.run(command, cwd=ROOT, env=env, check=False).returncode
        self.seconds = time.monotonic() - started
        if report.exists():
            self.passed, self.skipped = count(report)
            self.notebooks = notebook_seconds(report)
        return code


def count(report: Path) -> tuple[int, int]:
    """(passed, skipped) of a JUnit report."""
    suites = ElementTree.parse(report).getroot().iter("testsuite")
    total = bad = skipped = 0
    for suite in suites:
        total += int(suite.get("tests"))
        skipped += int(suite.get("skipped"))
        bad += int(suite.get("failures")) + int(suite.get("errors"))
    return total - bad - skipped, skipped


def notebook_seconds(report: Path) -> dict[str, float]:
    """Seconds of each notebook in a JUnit report of nbval, in which each cell is a test case."""
    seconds: dict[str, float] = {}
    for case in ElementTree.parse(report).getroot().iter("testcase"):
        if re.fullmatch(r"Cell \d+", case.get("name")):
            notebook = case.get("classname").removeprefix("notebooks.")
            seconds[notebook] = seconds.get(notebook, 0.0) + float(case.get("time"))
    return seconds


def steps() -> list[Step]:
    notebooks = sorted(str(path.relative_to(ROOT)) for path in (ROOT / "notebooks").glob("*.ipynb"))
    return [
        Step("lint", ["ruff", "check", "."]),
        Step("notebooks", ["pytest", *NBVAL, *PARALLEL, *notebooks]),
        Step("tests", ["pytest", *PARALLEL, "-m", "not timing and not browser"]),
        # Each worker has a JupyterLab and a browser of its own; one file's tests may go to all.
        Step("browser", ["pytest", "-n", "3", "--dist=worksteal", "tests/browser"]),
        Step("timing", ["pytest", "-m", "timing", *files_with("pytest.mark.timing")]),
    ]


def files_with(mark: str) -> list[str]:
    """The test files with this mark in them: to collect all others would take longer than most tests."""
    found = [path for path in (ROOT / "tests").rglob("test_*.py") if mark in path.read_text(encoding="utf-8")]
    return sorted(str(path.relative_to(ROOT)) for path in found)


def environment(folder: Path) -> dict[str, str]:
    """The variables of all steps: small sizes, one thread, and folders of their own for what is written."""
    env = {name: value for name, value in os.environ.items() if name not in NOT_PASSED_ON}
    for name in ("JUPYTER_CONFIG_DIR", "JUPYTER_DATA_DIR", "JUPYTER_RUNTIME_DIR", "IPYTHONDIR"):
        env[name] = str(folder / name.lower())
    env["TMPDIR"] = tempfile.mkdtemp(dir=folder)
    return env | {"LABS_PRESET": "ci", "LABS_JOURNAL": str(folder / "journal.jsonl"), "OMP_NUM_THREADS": "1"}


def main(arguments: Sequence[str] = ()) -> int:
    names = [step.name for step in steps()]
    parser = argparse.ArgumentParser(prog="python -m tools.run_tests", description=__doc__.splitlines()[0])
    parser.add_argument("steps", nargs="*", metavar="STEP", help=f"default: all of {', '.join(names)}")
    wanted = parser.parse_args(arguments).steps
    if unknown := [name for name in wanted if name not in names]:
        parser.error(f"no such step: {', '.join(unknown)}")
    browser = find_browser()
    if browser is None:
        print(f"*** {NO_BROWSER}", file=sys.stderr)
        if os.environ.get("LABS_REQUIRE_BROWSER") == "1":
            return 1
    started, done = time.monotonic(), []
    with tempfile.TemporaryDirectory() as folder:
        env = environment(Path(folder))
        for step in steps():
            if wanted and step.name not in wanted:
                continue
            code = step.run(env, Path(folder))
            done.append(step)
            if code:
                break
    print()
    for step in done:
        tests = "" if step.passed is None else f"{step.passed:6d} passed {step.skipped:4d} skipped"
        print(f"{step.name:32} {step.seconds:7.1f} s {tests}")
        for notebook, seconds in step.notebooks.items():
            print(f"  {notebook:30} {seconds:7.1f} s")
    if browser is None:
        print(f"*** {NO_BROWSER}")
    passed = sum(step.passed or 0 for step in done)
    seconds = time.monotonic() - started
    if code:
        print(f"make test: FAILED in step {done[-1].name!r} after {seconds:.0f} s")
        return 1
    print(f"make test: everything passed, {passed} tests in {seconds:.0f} s")
    return 0


if __name__ == "__main__":
    try:
        sys.exit(main(sys.argv[1:]))
    except KeyboardInterrupt:
        sys.exit(130)
