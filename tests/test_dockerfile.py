"""The Dockerfile, as far as it can be checked without building it: what it copies, installs, runs and is."""

import json
import os
import re
import shlex
import subprocess
import sys
import tomllib
from fnmatch import fnmatch
from pathlib import Path

import pytest
from packaging.specifiers import SpecifierSet

from tools import container, start_app, start_lab
from tools.setup_env import SUPPORTED

ROOT = Path(__file__).resolve().parent.parent
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
TEXT = (ROOT / "Dockerfile").read_text()


def instructions(text):
    """(instruction, its arguments in one line) in their order; comments are left out."""
    lines = [line for line in text.splitlines() if not line.lstrip().startswith("#")]
    joined = re.sub(r"\\\n\s*", "", "\n".join(lines))
    return [tuple(line.split(None, 1)) for line in joined.splitlines() if line.strip()]


STEPS = instructions(TEXT)


def all_of(name):
    return [arguments for step, arguments in STEPS if step == name]


def copied():
    """The sources of all COPY instructions."""
    return [path for line in all_of("COPY") for path in shlex.split(line)[:-1] if not path.startswith("--")]


def ignored(path):
    """Whether .dockerignore keeps this path out: of the patterns that fit it or a folder above it, the last decides."""
    parts = path.split("/")
    above = ["/".join(parts[: n + 1]) for n in range(len(parts))]
    out = False
    for line in (ROOT / ".dockerignore").read_text().splitlines():
        pattern = line.removeprefix("!")
        if pattern and not line.startswith("#"):
            anywhere = pattern.removeprefix("**/")
            names = [each.split("/")[-1] for each in above] if anywhere != pattern else above
            if any(fnmatch(each, anywhere) and (anywhere != "*" or each == above[0]) for each in names):
                out = not line.startswith("!")
    return out


def test_what_is_copied_exists_and_is_not_ignored():
    assert copied()
    for path in copied():
        assert (ROOT / path).exists(), path
        assert not ignored(path), path
    assert {"pyproject.toml", "labs_lib", "notebooks", "data", "tools", PROJECT["readme"]} <= set(copied())


@pytest.mark.parametrize(
    "path",
    [
        ".git/config", ".venv/bin/python", ".env", "id_rsa", "journal.jsonl", "tests/test_cli.py",
        "labs_lib/__pycache__/cli.cpython-311.pyc", "notebooks/.ipynb_checkpoints/a.ipynb",
    ],
)  # fmt: skip
def test_nothing_of_the_host_goes_into_the_image(path):
    assert ignored(path)


def test_the_last_user_is_not_root_and_is_made_before():
    users = all_of("USER")
    assert users
    assert not any(user in ("root", "0") or user.startswith(("root:", "0:")) for user in users)
    (made,) = [line for line in all_of("RUN") if "useradd" in line]
    assert made.endswith(f" {users[-1]}")
    assert STEPS.index(("RUN", made)) < STEPS.index(("USER", users[-1]))
    assert all("--chown=" + users[-1] in line for line in all_of("COPY"))


def test_versions_are_those_of_the_constraints():
    """No version stands in the Dockerfile but Python's, and each installation is held to constraints.txt."""
    (image,) = all_of("FROM")
    version = re.fullmatch(r"python:(3\.\d+)-slim", image)[1]
    assert version in SUPPORTED
    assert f"{version}.0" in SpecifierSet(PROJECT["requires-python"])
    runs = " ".join(all_of("RUN"))
    assert "==" not in runs
    installs = re.findall(r"pip install[^;&]*", runs)
    assert len(installs) == 3
    assert all("-c constraints.txt" in each for each in installs)
    assert '".[lab]"' in installs[-1]
    constrained = next(i for i, step in enumerate(STEPS) if step[0] == "COPY" and "constraints.txt" in step[1])
    assert constrained < next(i for i, step in enumerate(STEPS) if "pip install" in step[1])


@pytest.mark.parametrize(
    ("torch", "code", "says"),
    [
        ("cpu", 0, "--index-url https://download.pytorch.org/whl/cpu torch torchvision"),
        ("cuda", 0, "install -c constraints.txt torch torchvision"),
        ("rocm", 1, "TORCH=rocm is unknown"),
    ],
)
def test_the_build_argument_chooses_cpu_or_cuda(torch, code, says):
    """The shell's own reading of the instruction, with a pip that only tells what it was given."""
    assert all_of("ARG") == ["TORCH=cpu"]
    (choice,) = [line for line in all_of("RUN") if "$TORCH" in line]
    script = f'pip() {{ echo "pip $*"; }}\n{choice}'
    done = subprocess.run(["sh", "-c", script], env={"TORCH": torch}, capture_output=True, text=True)
    assert done.returncode == code
    assert says in done.stdout + done.stderr
    assert ("index-url" in done.stdout) == (torch == "cpu")


def test_no_secrets():
    assert not re.search(r"(?i)(token|password|secret|key)\s*=\s*\S", " ".join(f"{a} {b}" for a, b in STEPS))


def test_what_it_runs_exists():
    entry, default = (json.loads(all_of(step)[-1]) for step in ("ENTRYPOINT", "CMD"))
    health = json.loads(all_of("HEALTHCHECK")[0].partition("CMD ")[2])
    for line in (entry, health):
        assert line[:3] == ["python", "-m", "tools.container"]
    assert default == ["lab"]
    assert health[3:] == ["health"]
    assert all_of("EXPOSE") == [str(container.PORT)]


def test_the_commands_in_its_head_publish_on_this_machine_only():
    published = re.findall(r"-p (\S+)", TEXT)
    assert published
    assert set(published) == {f"127.0.0.1:{container.PORT}:{container.PORT}"}
    assert {"lab", "app"} == set(re.findall(r"labs (lab|app)$", TEXT, re.MULTILINE))


@pytest.mark.parametrize("what", ["lab", "app"])
def test_the_server_listens_on_all_addresses_of_the_container_alone(what):
    inside, outside = container.command(what), {"lab": start_lab, "app": start_app}[what].command(container.PORT)
    changed = [(here, there) for here, there in zip(inside, outside, strict=True) if here != there]
    assert [here.partition("=")[2] for here, _ in changed] == ["0.0.0.0"]
    assert [there.partition("=")[2] for _, there in changed] == ["127.0.0.1"]
    assert not any("secret" in part for part in inside)
    assert container.environment(what, "secret")["JUPYTER_TOKEN"] == "secret"


@pytest.mark.parametrize("arguments", [[], ["notebook"], ["lab", "app"], ["--help"]])
def test_anything_but_lab_and_app_is_refused(arguments, capsys):
    assert container.main(arguments) == 2
    assert "Give lab or app" in capsys.readouterr().err


def test_it_becomes_the_server_and_prints_its_address(monkeypatch, capsys):
    became = []
    monkeypatch.setattr(os, "execve", lambda *arguments: became.append(arguments))
    monkeypatch.chdir(ROOT)
    monkeypatch.setenv("JUPYTER_TOKEN", "mine")
    container.main(["app"])
    ((program, line, env),) = became
    assert (program, line) == (sys.executable, container.command("app"))
    assert env["JUPYTER_TOKEN"] == "mine"
    assert "http://127.0.0.1:8888/?token=mine" in capsys.readouterr().out
    monkeypatch.delenv("JUPYTER_TOKEN")
    container.main(["lab"])
    assert len(became[1][2]["JUPYTER_TOKEN"]) == 32
    assert f"/lab/tree/{start_lab.START}?token=" in capsys.readouterr().out


def test_without_a_server_it_is_not_healthy(monkeypatch):
    monkeypatch.setattr(container, "PORT", start_app.choose_port("0"))
    assert container.main(["health"]) == 1
