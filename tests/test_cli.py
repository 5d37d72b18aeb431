import argparse
import json
import os
import re
import signal
import subprocess
import sys
import time
import types

import nbformat
import pytest
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook

from labs_lib import catalogue, cli
from labs_lib.cli import main
from labs_lib.errors import LabError
from labs_lib.journal import journal, record

COMMAND = [sys.executable, "-m", "labs_lib"]


def one_line(capsys):
    """What was printed, if that is one line on stderr and nothing on stdout."""
    captured = capsys.readouterr()
    assert captured.out == ""
    (line,) = captured.err.splitlines()
    return line


# Arguments.


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        ([], "COMMAND"),
        (["bogus"], "'bogus'"),
        (["run"], "lab"),
        (["run", "99"], "There is no lab '99'. The labs are 01 (static_memory), "),
        (["doctor", "--verbose"], "--verbose"),
        (["list", "extra"], "extra"),
        (["run", "two\nlines"], "There is no lab"),
    ],
)
def test_bad_arguments_give_one_line_and_2(capsys, arguments, told):
    assert main(arguments) == 2
    line = one_line(capsys)
    assert line.startswith("labs_lib: ")
    assert told in line


@pytest.mark.parametrize("lab", catalogue.LABS, ids=lambda lab: lab.number)
def test_the_catalogue_names_the_commands_of_a_lab(lab):
    """And `python -m labs_lib` imports no other lab for them."""
    commands = cli.Parser().add_subparsers()
    lab.module("commands").register(commands)
    assert tuple(commands.choices) == lab.commands


def test_a_command_of_the_core_imports_no_lab():
    there = "import sys; print([name for name in sys.modules if name in ('torch', 'fastapi')])"
    program = f"from labs_lib.cli import main; main(['run', '99']); {there}"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"


def test_help_lists_the_commands(capsys):
    with pytest.raises(SystemExit) as stop:
        main(["--help"])
    assert stop.value.code == 0
    printed = capsys.readouterr().out
    for command in ("doctor", "list", "run"):
        assert re.search(rf"^ +{command} ", printed, re.MULTILINE)


@pytest.fixture
def command(monkeypatch):
    """Gives lab 01 a sub-command `try` that calls the given function."""

    def install(run):
        def register(subparsers):
            parser = subparsers.add_parser("try")
            parser.add_argument("--number", type=int)
            cli.add_json(parser)
            parser.set_defaults(run=run)

        modules = {"commands": types.SimpleNamespace(register=register)}
        monkeypatch.setattr(cli, "LABS", catalogue.LABS[:1])
        monkeypatch.setattr(catalogue.Lab, "module", lambda lab, name: modules.get(name))

    return install


def test_a_labs_own_commands_are_found(capsys, command):
    def run(args):
        cli.print_result(args, {"number": args.number}, f"number {args.number}")
        return 1

    command(run)
    assert main(["try", "--number", "3"]) == 1
    assert capsys.readouterr().out == "number 3\n"
    assert main(["try", "--number", "3", "--json"]) == 1
    assert json.loads(capsys.readouterr().out) == {"number": 3}
    assert main(["try", "--number", "three"]) == 2
    assert "'three'" in one_line(capsys)


def test_a_lab_without_commands_or_exercises_is_fine(monkeypatch, capsys):
    monkeypatch.setattr(catalogue.Lab, "module", lambda lab, name: None)
    assert main(["list"]) == 0
    assert "0 of 0 exercises solved" in capsys.readouterr().out


def test_an_error_of_the_learner_is_one_line(capsys, command):
    def run(args):
        raise LabError("It is too high.", "The limit is\n96.", "Lower it.")

    command(run)
    assert main(["try"]) == 2
    assert one_line(capsys) == "labs_lib: It is too high. The limit is 96. Lower it."


def test_an_error_of_ours_is_not_hidden(command):
    def run(args):
        raise ZeroDivisionError

    command(run)
    with pytest.raises(ZeroDivisionError):
        main(["try"])


def test_an_interrupt_is_130(capsys, command):
    def run(args):
        raise KeyboardInterrupt

    command(run)
    assert main(["try"]) == 130
    assert one_line(capsys) == "labs_lib: interrupted."


def test_json_is_strict():
    with pytest.raises(ValueError, match="JSON"):
        cli.print_result(argparse.Namespace(json=True), {"x": float("nan")}, "")


@pytest.mark.skipif(sys.platform == "win32", reason="pipes of POSIX")
def test_a_closed_pipe_is_no_traceback():
    reader, writer = os.pipe()
    os.close(reader)
    # Buffered, the text is written after the command has returned.
    buffered = {name: value for name, value in os.environ.items() if name != "PYTHONUNBUFFERED"}
    with os.fdopen(writer, "w") as closed:
        done = subprocess.run(
            [*COMMAND, "list"], stdout=closed, stderr=subprocess.PIPE, timeout=60, env=buffered
        )
    assert (done.returncode, done.stderr) == (cli.BROKEN_PIPE, b"")


# doctor and list.


def test_doctor(capsys):
    assert main(["doctor"]) == 0
    assert "C++ compiler" in capsys.readouterr().out
    assert main(["doctor", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["labs"]["01"]


def test_list_shows_your_progress(capsys):
    lab = catalogue.LABS[0]
    exercises = list(lab.module("exercises").EXERCISES)
    record("exercise", exercise=exercises[0], state="solved")
    record("exercise", exercise=exercises[1], state="not yet")
    record("exercise", exercise="1.99", state="solved")  # of an older edition of the course
    assert main(["list"]) == 0
    printed = capsys.readouterr().out
    assert f"01  {lab.title}" in printed
    assert f"{lab.minutes} min" in printed
    assert f"1 of {len(exercises)} exercises solved" in printed
    assert str(journal()) in printed
    assert main(["list", "--json"]) == 0
    read = json.loads(capsys.readouterr().out)
    assert read["labs"][0]["solved"] == exercises[:1]
    assert read["labs"][0]["exercises"] == exercises
    assert read["journal"]["events"] == 3


def test_python_m_labs_lib_is_this_command():
    done = subprocess.run([*COMMAND, "run", "99"], capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stdout, done.stderr.count("\n")) == (2, "", 1)


# run.


@pytest.fixture
def lab(tmp_path, monkeypatch):
    """Puts cells {id: source} into lab 01's notebook, in a folder of its own, and returns its path."""
    monkeypatch.setattr(catalogue, "NOTEBOOKS", tmp_path)
    path = catalogue.find("01").notebook

    def write(**cells):
        notebook = new_notebook(cells=[new_markdown_cell("# Lab")])
        notebook.cells += [new_code_cell(source, id=name) for name, source in cells.items()]
        nbformat.write(notebook, path)
        return path

    return write


WHERE = """
import os, sys
print(sys.executable, os.environ["LABS_PRESET"], os.getcwd(), sep="\\n")
print("for the log", file=sys.stderr)
from IPython.display import Markdown
Markdown("**done**")
"""
PREDICT = """
import sys
from labs_lib.predict import predict
prediction = predict("How many?", "bytes", key="run", low=1, high=1000)
prediction.reveal(8)
prediction
"""


def test_run_executes_a_lab_and_leaves_everything_as_it_was(lab, tmp_path, monkeypatch, capsys):
    path = lab(predict=PREDICT, summary=WHERE)
    before = path.read_bytes()
    # A kernel installed under the usual name that belongs to another Python.
    decoy = tmp_path / "jupyter" / "kernels" / "python3"
    decoy.mkdir(parents=True)
    (decoy / "kernel.json").write_text('{"argv": ["false"], "display_name": "x", "language": "python"}')
    monkeypatch.setenv("JUPYTER_PATH", str(tmp_path / "jupyter"))
    assert main(["run", "1", "--json"]) == 0
    read = json.loads(capsys.readouterr().out)
    expected = [sys.executable, os.environ["LABS_PRESET"], str(tmp_path), "**done**"]
    assert read.pop("summary").splitlines() == expected
    assert read.pop("seconds") > 0
    assert read == {"lab": "01", "cells": 2, "failed_cell": None, "error": None}
    assert path.read_bytes() == before
    assert len(journal()) == 0  # what it revealed was revealed to nobody
    assert {each.name for each in tmp_path.iterdir()} == {path.name, "jupyter"}


@pytest.mark.parametrize(
    ("cells", "cell", "error"),
    [
        ({"fine": "1", "divide": "1 / 0", "after": "2"}, "divide", "ZeroDivisionError: division by zero"),
        (
            {
                "fine": "import ipywidgets\nbutton = ipywidgets.Button()",
                "press": "button.on_click(lambda _: {}['x'])\nbutton.click()",
            },
            "press",
            "KeyError: 'x'",
        ),
        ({"fine": "import os", "die": "os._exit(3)"}, "die", "Kernel died"),
    ],
)
def test_a_failing_cell_is_named_and_gives_1(lab, capsys, cells, cell, error):
    lab(**cells)
    assert main(["run", "01"]) == 1
    captured = capsys.readouterr()
    assert captured.out.startswith("Lab 01, Static memory planning: 1 code cells in ")
    assert captured.err.splitlines()[-1].startswith(f"labs_lib: cell {cell} failed with {error}")


def test_a_notebook_that_is_none(lab, capsys):
    path = lab()
    path.write_text("bought milk")
    assert main(["run", "01"]) == 2
    assert "is no notebook" in one_line(capsys)
    path.unlink()
    assert main(["run", "01"]) == 2
    assert "No such file" in one_line(capsys)


@pytest.mark.parametrize("package", ["nbclient", "ipykernel", "nbformat"])
def test_without_what_executes_notebooks(lab, monkeypatch, capsys, package):
    lab()
    monkeypatch.setitem(sys.modules, package, None)
    assert main(["run", "01"]) == 2
    line = one_line(capsys)
    assert f"{package} is not installed." in line
    assert "pip install nbclient ipykernel" in line


INTERRUPT = """
import sys
from pathlib import Path
from labs_lib import catalogue, cli
catalogue.NOTEBOOKS = Path(sys.argv[1])
sys.exit(cli.main(["run", "01"]))
"""


@pytest.mark.skipif(sys.platform == "win32", reason="signals of POSIX")
def test_an_interrupted_run_takes_its_kernel_along(lab, tmp_path):
    lab(
        wait=f"""
import os, time
from pathlib import Path
Path({str(tmp_path)!r}, "started").write_text(str(os.getpid()))
time.sleep(60)
"""
    )
    command = [sys.executable, "-c", INTERRUPT, str(tmp_path)]
    process = subprocess.Popen(
        command,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        # A test run in the background of a shell ignores SIGINT, and its children would too.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )
    started = tmp_path / "started"
    deadline = time.monotonic() + 60
    while not (started.exists() and started.read_text()):
        assert process.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.02)
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=30)
    assert (process.returncode, out) == (130, "")
    assert err == "labs_lib: interrupted.\n"
    with pytest.raises(ProcessLookupError):
        os.kill(int(started.read_text()), 0)
