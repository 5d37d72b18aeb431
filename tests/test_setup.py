"""tools/setup_env.py: which Python, what .venv needs, and one clear line for each thing that can go wrong."""

import ast
import errno
import json
import platform
import shutil
import signal
import subprocess
import sys
from collections import namedtuple
from pathlib import Path

import pytest

from tools import setup_env

VERSION = platform.python_version()


@pytest.fixture
def repository(tmp_path, monkeypatch):
    """An empty repository in place of this one; pip and venv must not be reached unless a test says so."""
    for name in setup_env.SOURCES:
        (tmp_path / name).write_text(name)
    monkeypatch.setattr(setup_env, "ROOT", tmp_path)
    monkeypatch.setattr(setup_env, "VENV", tmp_path / ".venv")
    monkeypatch.setattr(setup_env, "STAMP", tmp_path / ".venv" / "labs-stamp.json")
    monkeypatch.setattr(setup_env, "VENV_PYTHON", tmp_path / ".venv" / "bin" / "python")
    return tmp_path


def fake_python(path, version, complete=True):
    """A program that answers the probe as a Python of that version would."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"#!/bin/sh\n{f'echo {version}' if version else ''}\nexit {0 if complete else 1}\n")
    path.chmod(0o755)
    return str(path)


def finished(repository, **changes):
    """A complete environment with its stamp, as the last install left it."""
    fake_python(setup_env.VENV_PYTHON, VERSION)
    stamp = {"python": VERSION, "root": str(repository), "requirements": setup_env.requirements()}
    setup_env.STAMP.write_text(json.dumps(stamp | changes))


def test_parses_under_old_pythons():
    source = Path(setup_env.__file__).read_text()
    ast.parse(source, feature_version=(3, 6))


def test_starts_with_the_standard_library_alone():
    """-S -I: no site-packages, no environment variables."""
    code = f"import runpy; runpy.run_path({setup_env.__file__!r})"
    assert subprocess.run([sys.executable, "-S", "-I", "-c", code], check=False).returncode == 0


def test_probe_reads_version_and_completeness(tmp_path):
    assert setup_env.probe(fake_python(tmp_path / "a", "3.12.1")) == ("3.12.1", True)
    assert setup_env.probe(fake_python(tmp_path / "b", "3.12.1", complete=False)) == ("3.12.1", False)
    assert setup_env.probe(fake_python(tmp_path / "c", "", complete=False)) is None
    assert setup_env.probe(tmp_path / "absent") is None
    assert setup_env.probe(sys.executable)[0] == VERSION


def test_first_suitable_python_is_chosen(tmp_path):
    old = fake_python(tmp_path / "old", "3.9.18")
    bare = fake_python(tmp_path / "bare", "3.11.2", complete=False)
    good = fake_python(tmp_path / "good", "3.13.0")
    other = fake_python(tmp_path / "other", "3.12.1")
    assert setup_env.choose_python([old, bare, good, other]) == good


def test_missing_venv_module_is_named_with_its_package(tmp_path):
    bare = fake_python(tmp_path / "bare", "3.12.3", complete=False)
    with pytest.raises(setup_env.SetupError, match=r"3\.12\.3 .* lacks .* sudo apt install python3\.12-venv"):
        setup_env.choose_python([bare])


@pytest.mark.parametrize("version", ["3.10.13", "3.14.0", "2.7.18"])
def test_wrong_python_is_named(tmp_path, version):
    wrong = fake_python(tmp_path / "python", version)
    with pytest.raises(setup_env.SetupError, match=rf"3\.11, 3\.12 or 3\.13 is needed; found: {version}"):
        setup_env.choose_python([wrong])


def test_no_environment_is_made(repository):
    assert setup_env.decide() == "make"


def test_finished_environment_needs_nothing(repository):
    finished(repository)
    assert setup_env.decide() == "nothing"


@pytest.mark.parametrize("name", setup_env.SOURCES)
def test_changed_requirements_are_installed_on_top(repository, name):
    finished(repository)
    (repository / name).write_text("changed")
    assert setup_env.decide() == "install"


@pytest.mark.parametrize("changes", [{"root": "/elsewhere"}, {"python": "3.11.0"}, {"unfinished": True}])
def test_moved_upgraded_or_unfinished_environment_is_made_again(repository, changes):
    finished(repository, **changes)
    if "unfinished" in changes:
        setup_env.STAMP.write_text(json.dumps(changes))
    assert setup_env.decide() == "make"


def test_broken_stamp_or_python_is_made_again(repository):
    finished(repository)
    setup_env.STAMP.write_text('{"python": "3.1')
    assert setup_env.decide() == "make"
    finished(repository)
    setup_env.VENV_PYTHON.unlink()
    assert setup_env.decide() == "make"


def test_environment_made_by_hand_is_kept(repository):
    fake_python(setup_env.VENV_PYTHON, VERSION)
    assert setup_env.decide() == "install"


def pip_that(repository, does):
    """An environment made by hand whose pip is this piece of shell."""
    fake_python(setup_env.VENV_PYTHON, VERSION)
    setup_env.VENV_PYTHON.write_text(f'#!/bin/sh\n[ "$2" = pip ] || exec echo {VERSION}\n{does}\n')


def test_install_killed_half_way_is_seen_by_the_next_one(repository):
    """Its pip ends the set-up with kill -9, which leaves no chance to clean up."""
    finished(repository, requirements="older")
    pip_that(repository, "kill -9 $PPID")
    (repository / "tools").mkdir()
    program = shutil.copy(setup_env.__file__, repository / "tools")
    assert setup_env.decide() == "install"
    assert subprocess.run([sys.executable, program], check=False).returncode == -signal.SIGKILL
    assert setup_env.decide() == "make"


def run_main(capsys):
    """(exit code, the one line on stderr)."""
    code = setup_env.main()
    message = capsys.readouterr().err
    assert message.count("\n") == 1
    assert "Traceback" not in message
    return code, message


def test_full_disk_is_found_before_anything_is_written(repository, monkeypatch, capsys):
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr(setup_env.shutil, "disk_usage", lambda path: usage(0, 0, 1_500_000_000))
    code, message = run_main(capsys)
    assert code == 1
    assert "1.5 GB are free" in message
    assert not setup_env.VENV.exists()


def test_disk_that_fills_up_on_the_way(repository, monkeypatch, capsys):
    def full():
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(setup_env, "make_venv", full)
    code, message = run_main(capsys)
    assert code == 1
    assert message.startswith("The disk is full.")


def test_folder_that_cannot_be_written(repository, monkeypatch, capsys):
    def refused():
        raise PermissionError(errno.EACCES, "Permission denied", str(setup_env.VENV))

    monkeypatch.setattr(setup_env, "make_venv", refused)
    code, message = run_main(capsys)
    assert code == 1
    assert "Permission denied" in message


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("ERROR: Could not install packages due to an OSError: [Errno 28]", "The disk is full."),
        ("ERROR: Exception:\nTraceback (most recent call last):\nOSError: [Errno 28] full", "disk is full"),
        ("WARNING: connection broken by 'NewConnectionError'\nERROR: No version of torch", "the network"),
        ("WARNING: noise\nERROR: No matching distribution for torch", "(ERROR: No matching distribution"),
    ],
)
def test_failing_pip_is_put_into_one_line(repository, capsys, words, message):
    pip_that(repository, f"cat >&2 <<END\n{words}\nEND\nexit 1")
    code, line = run_main(capsys)
    assert code == 1
    assert message in line
    assert "same command again" in line
    assert setup_env.decide() == "make"


def test_successful_install_leaves_a_stamp_and_no_scratch(repository, capsys):
    fake_python(setup_env.VENV_PYTHON, VERSION)
    assert setup_env.main() == 0
    assert setup_env.decide() == "nothing"
    assert sorted(path.name for path in setup_env.VENV.iterdir()) == ["bin", "labs-stamp.json"]
