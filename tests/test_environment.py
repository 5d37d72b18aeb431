"""pyproject.toml, constraints.txt and environment.yml say the same, and the README's commands exist."""

import re
import tomllib
from pathlib import Path

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from packaging.utils import canonicalize_name

from tools.repository import INSTALLED

ROOT = Path(__file__).resolve().parent.parent
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
CONDA = yaml.safe_load((ROOT / "environment.yml").read_text())
CONDA_NAMES = {"matplotlib-base": "matplotlib", "playwright-python": "playwright", "pytorch": "torch"}
PINS = dict(line.partition("==")[::2] for line in (ROOT / "constraints.txt").read_text().splitlines())


def project_requirements():
    """Name -> version specifier over the dependencies and all extras of pyproject.toml."""
    extras = PROJECT["optional-dependencies"].values()
    lines = [*PROJECT["dependencies"], *(line for extra in extras for line in extra)]
    assert len(lines) == len({Requirement(line).name for line in lines}), "a package is named twice"
    return {canonicalize_name(Requirement(line).name): Requirement(line).specifier for line in lines}


def conda_requirements():
    """The same from environment.yml, under PyPI's names."""
    plain = [entry for entry in CONDA["dependencies"] if isinstance(entry, str)]
    (pip,) = [entry["pip"] for entry in CONDA["dependencies"] if isinstance(entry, dict)]
    assert "--editable ." in pip
    parsed = [Requirement(line) for line in [*plain, *pip] if not line.startswith("--editable")]
    return {canonicalize_name(CONDA_NAMES.get(each.name, each.name)): each.specifier for each in parsed}


def test_environment_yml_equals_pyproject():
    conda = conda_requirements()
    assert conda.pop("python") == SpecifierSet(PROJECT["requires-python"])
    assert conda.pop("pip") == SpecifierSet()
    assert conda == project_requirements()


def test_conda_takes_packages_from_conda_forge_only():
    assert CONDA["channels"] == ["conda-forge", "nodefaults"]


def test_only_lower_bounds():
    for name, specifier in project_requirements().items():
        assert [each.operator for each in specifier] == [">="], name


def colab_packages():
    lines = (ROOT / "colab-packages.txt").read_text().splitlines()
    return dict(line.split("==") for line in lines if not line.startswith("#"))


def test_bounds_admit_what_colab_ships():
    """Colab's own torch, NumPy and ipywidgets must never be replaced."""
    colab = colab_packages()
    for requirement in map(Requirement, PROJECT["dependencies"]):
        if requirement.name not in INSTALLED:
            assert colab[requirement.name] in requirement.specifier, requirement.name


def test_on_colab_only_what_it_lacks_is_installed():
    """None of Colab's own packages is replaced, and what its notebooks install is what the package asks for."""
    assert not set(INSTALLED) & set(colab_packages())
    assert set(INSTALLED) <= {Requirement(line).name for line in PROJECT["dependencies"]}


def test_constraints_are_exact_versions_only():
    for line in (ROOT / "constraints.txt").read_text().splitlines():
        assert re.fullmatch(r"[A-Za-z0-9._-]+==[0-9][A-Za-z0-9.]*", line), line


def test_constraints_satisfy_pyproject():
    pins = {canonicalize_name(name): version for name, version in PINS.items()}
    for name, specifier in project_requirements().items():
        assert name in pins, f"{name} is not pinned"
        assert pins[name] in specifier, name


def test_torch_and_torchvision_are_a_matching_pair():
    assert (PINS["torch"], PINS["torchvision"]) == ("2.15.0", "0.29.2")


def make_targets():
    return set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), flags=re.MULTILINE))


@pytest.mark.parametrize("document", ["README.md", "CONTRIBUTING.md", "TEACHING.md", ".ci/run"])
def test_make_commands_named_in_documents_exist(document):
    named = set(re.findall(r"(?:`|^\s*)make ([a-z-]+)", (ROOT / document).read_text(), flags=re.MULTILINE))
    assert named, f"{document} names no make command"
    assert named <= make_targets()


@pytest.mark.parametrize("document", ["README.md", "CONTRIBUTING.md", "TEACHING.md", "Makefile"])
def test_tools_named_in_documents_exist(document):
    named = re.findall(r"-m tools\.([a-z_]+)", (ROOT / document).read_text())
    assert [name for name in named if not (ROOT / "tools" / f"{name}.py").exists()] == []


def test_plain_commands_in_the_readme_are_what_make_does():
    readme = (ROOT / "README.md").read_text()
    for line in (
        "python3 -m venv .venv",
        '.venv/bin/python -m pip install -e ".[lab]" -c constraints.txt',
        ".venv/bin/jupyter lab notebooks/00_start_here.ipynb",
    ):
        assert line in readme
