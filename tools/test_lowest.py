"""Runs notebooks and tests with the lowest versions that pyproject.toml allows: python -m tools.test_lowest

They are what uv resolves under lowest-direct, in .venv-lowest, with the oldest Python that the course supports.
Of what is not named in pyproject.toml the newest fitting version is taken. What measures time or drives a browser
is left out: it depends on the machine more than on versions. (make test-lowest)
"""

from __future__ import annotations

import subprocess
import sys

from tools.other_env import OtherEnvironment
from tools.setup_env import ROOT, SUPPORTED, SetupError

PROJECT = ROOT / "pyproject.toml"
FOLDER = ROOT / ".venv-lowest"
LOWEST = OtherEnvironment(
    folder=FOLDER,
    version=SUPPORTED[-1],
    installs=(
        ("pip", "install", "--quiet", "uv"),
        (
            *("uv", "pip", "install", "--quiet", "--python", str(FOLDER)),
            *("--resolution", "lowest-direct", "--all-extras", "-r", str(PROJECT)),
        ),
        ("uv", "pip", "install", "--quiet", "--python", str(FOLDER), "--no-deps", "--editable", str(ROOT)),
    ),
    sources=(PROJECT,),
)


def main() -> int:
    try:
        python = LOWEST.ready()
    except SetupError as error:
        print(f"test_lowest: {error}", file=sys.stderr)
        return 1
    return subprocess.run([python, "-m", "tools.run_tests", "notebooks", "tests"], cwd=ROOT, check=False).returncode


if __name__ == "__main__":
    try:
        sys.exit(main())
    except KeyboardInterrupt:
        sys.exit(130)
