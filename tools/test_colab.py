"""Runs the notebooks as Colab does: python -m tools.test_colab [NOTEBOOK ...]   (make test-colab)

With Colab's Python and packages, in .venv-colab. A clone of the last commit stands in for GitHub. From there each
notebook is opened in an empty folder that stands in for /content, with google.colab loaded and without the
course's own package: the first cell must clone the course and install what Colab lacks. From then on nbval
compares the outputs, as in make test.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from tools.normal_form import NOTEBOOKS, read, write
from tools.other_env import OtherEnvironment
from tools.repository import BOOTSTRAP_ID, INSTALLED
from tools.run_tests import NBVAL, environment
from tools.set_repository import set_repository
from tools.setup_env import ROOT, SetupError

PACKAGES = ROOT / "colab-packages.txt"
COLAB = OtherEnvironment(
    folder=ROOT / ".venv-colab",
    version="3.12",
    installs=(("pip", "install", "--quiet", "-r", str(PACKAGES), "nbval"),),
    sources=(PACKAGES,),
)
OWNER, NAME = "course", "labs"  # of the address that the stand-in for GitHub has


def github(folder: Path) -> Path:
    """A stand-in for GitHub in `folder`: the last commit, and one more with the address in all notebooks."""
    work = folder / OWNER / NAME
    subprocess.run(["git", "clone", "--quiet", "--depth=1", ROOT.as_uri(), str(work)], check=True)
    set_repository(f"{OWNER}/{NAME}", work)
    commit = ["-c", "user.name=tests", "-c", "user.email=tests@localhost", "commit", "--quiet", "-am", "address"]
    subprocess.run(["git", "-C", str(work), *commit], check=True)
    return work


def open_notebook(source: Path, content: Path) -> Path:
    """A copy of the notebook in the new folder `content`, which its first cell takes for /content."""
    content.mkdir()
    notebook = read(source)
    for cell in notebook.cells:
        if cell.id == BOOTSTRAP_ID:
            cell.source = cell.source.replace("/content/", f"{content}/")
    write(content / source.name, notebook)
    return content / source.name


def variables(folder: Path) -> dict[str, str]:
    """The environment of Colab's kernels: GitHub is in folder/"github", and google.colab is loaded at the start."""
    env = environment(folder)
    env.pop("PYTHONPATH", None)
    startup = Path(env["IPYTHONDIR"]) / "profile_default" / "startup"
    startup.mkdir(parents=True)
    (startup / "00-colab.py").write_text("import google.colab\n")
    return env | {
        "GIT_CONFIG_COUNT": "1",
        "GIT_CONFIG_KEY_0": f"url.{(folder / 'github').as_uri()}/.insteadOf",
        "GIT_CONFIG_VALUE_0": "https://github.com/",
    }


def passes(python: Path, notebook: Path, env: dict[str, str]) -> bool:
    """Whether the notebook's cells pass, and its first cell has fetched the course and what Colab lacks."""
    pip = [python, "-m", "pip"]
    subprocess.run([*pip, "uninstall", "--quiet", "--yes", *INSTALLED], check=True, stderr=subprocess.DEVNULL)
    command = [python, "-m", "pytest", *NBVAL, "-q", "-p", "no:cacheprovider", f"--rootdir={notebook.parent}", notebook]
    if subprocess.run(command, cwd=notebook.parent, env=env, check=False).returncode:
        return False
    fetched = (notebook.parent / NAME / ".git" / "shallow").exists()
    installed = subprocess.run([*pip, "show", "--quiet", *INSTALLED], check=False).returncode == 0
    if not (fetched and installed):
        print(f"{notebook.name}: the first cell has fetched nothing", file=sys.stderr)
    return fetched and installed


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m tools.test_colab", description=__doc__.splitlines()[0])
    parser.add_argument("notebooks", nargs="*", type=Path, metavar="NOTEBOOK", help="default: all")
    names = [path.name for path in parser.parse_args(arguments).notebooks or sorted(NOTEBOOKS.glob("*.ipynb"))]
    started = time.monotonic()
    try:
        python = COLAB.ready()
    except SetupError as error:
        print(f"test_colab: {error}", file=sys.stderr)
        return 1
    stub = next(COLAB.folder.glob("lib/python*/site-packages")) / "google" / "colab" / "__init__.py"
    stub.parent.mkdir(parents=True, exist_ok=True)
    stub.touch()
    print(f"set-up: {time.monotonic() - started:.0f} s", flush=True)
    if subprocess.run(["git", "-C", str(ROOT), "status", "--porcelain"], capture_output=True, check=True).stdout:
        print("What is not committed is not tested.", flush=True)
    failed = []
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name).resolve()
        origin, env = github(folder / "github"), variables(folder)
        for name in names:
            start = time.monotonic()
            opened = open_notebook(origin / "notebooks" / name, folder / Path(name).stem)
            outcome = "passed" if passes(python, opened, env) else "FAILED"
            failed += [name] if outcome == "FAILED" else []
            print(f"{name}: {outcome} in {time.monotonic() - start:.0f} s", flush=True)
    print(f"make test-colab: {len(names) - len(failed)} passed, {len(failed)} failed")
    return int(bool(failed))


if __name__ == "__main__":
    try:
        sys.exit(main())
    except KeyboardInterrupt:
        sys.exit(130)
