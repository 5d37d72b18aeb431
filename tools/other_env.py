"""Environments beside .venv, in which the course is tried with other versions than those of constraints.txt."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

from tools.setup_env import ROOT, SetupError, check_space, diagnose, probe


@dataclass(frozen=True)
class OtherEnvironment:
    """A virtual environment: its folder, its Python ("3.12"), what is installed, and the files that say so.

    Each install is the arguments of a module that runs in it, such as ("pip", "install", "numpy").
    """

    folder: Path
    version: str
    installs: tuple[tuple[str, ...], ...]
    sources: tuple[Path, ...]

    @property
    def python(self) -> Path:
        return self.folder / "bin" / "python"

    @property
    def stamp(self) -> dict[str, str]:
        """From what it is made. Another stamp in the folder, or none, means that it is to be made anew."""
        digest = hashlib.sha256(repr(self.installs).encode())
        for path in self.sources:
            digest.update(path.read_bytes())
        return {"folder": str(self.folder), "version": self.version, "from": digest.hexdigest()}

    def ready(self) -> Path:
        """Its Python, after making the environment where need be.

        Raises SetupError where that Python is not to be found, or the packages can't be installed.
        """
        stamp = self.folder / "labs-stamp.json"
        if not (probe(self.python) and stamp.exists() and json.loads(stamp.read_text()) == self.stamp):
            python = find_python(self.version)
            check_space()
            print(f"Making {self.folder.name} with {python}: some minutes, most of it PyTorch", flush=True)
            shutil.rmtree(self.folder, ignore_errors=True)
            run([python, "-m", "venv", str(self.folder)])
            for arguments in self.installs:
                run([str(self.python), "-m", *arguments])
            stamp.write_text(json.dumps(self.stamp))  # last: a half-made environment has none
        return self.python


def find_python(version: str) -> str:
    """A Python of that minor version which can make environments: the one on the path, or one of pyenv's.

    Raises SetupError where there is none.
    """
    versions = Path(os.environ.get("PYENV_ROOT", Path.home() / ".pyenv")) / "versions"
    ours = versions.glob(f"{version}.*/bin/python")
    for path in [sys.executable, shutil.which(f"python{version}"), *sorted(map(str, ours))]:
        found = probe(path) if path else None
        if found and found[0].startswith(f"{version}.") and found[1]:
            return path
    raise SetupError(
        f"Python {version} with its venv module is needed beside your own, and neither the path nor pyenv "
        f"has one: pyenv install {version}, or https://www.python.org/downloads."
    )


def run(command: list[str]) -> None:
    """Runs a step of the set-up; raises SetupError with what it said where it fails."""
    # Packages are unpacked in TMPDIR, which on many machines is a small disk in memory.
    with tempfile.TemporaryDirectory(dir=ROOT, prefix=".venv-scratch-") as scratch:
        environment = os.environ | {"TMPDIR": scratch, "PIP_NO_INPUT": "1", "UV_CACHE_DIR": scratch}
        done = subprocess.run(
            command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False
        )
    if done.returncode:
        raise SetupError(diagnose(done.stdout.splitlines()))
