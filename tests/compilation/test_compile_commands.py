"""`python -m labs_lib compile-report`: a report as text and as JSON; wrong arguments in one line."""

import json

import pytest

from labs_lib.cli import main


@pytest.fixture(autouse=True)
def models(tmp_path, monkeypatch):
    """A module of the learner's own in the current folder; no compiler, so that nothing is timed."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("labs_lib.hardware.compiler", lambda: None)
    (tmp_path / "my_compiled.py").write_text(
        "import torch\n"
        "def words(): return torch.nn.Sequential(torch.nn.Embedding(10, 16), torch.nn.ReLU())\n"
        "class Reads(torch.nn.Module):\n"
        "    def forward(self, x): return x * x.sum().item()\n"
        "class Talks(torch.nn.Module):\n"
        "    def forward(self, x): print(x); return x * 2\n"
    )


def test_text_and_json(capsys):
    assert main(["compile-report", "my_compiled:Reads", "--input", "4x8"]) == 0
    assert "graph break (value read)" in capsys.readouterr().out
    arguments = ["compile-report", "my_compiled:words", "--input", "2x8:int64", "--more", "3x8:int64", "--json"]
    assert main(arguments) == 0
    found = json.loads(capsys.readouterr().out)
    assert (found["cause"], found["regions"], found["measured"]) == ("not timed", 1, None)
    assert len(found["recompiles"]) == 1


def test_what_a_model_prints_is_not_in_the_json(capsys):
    assert main(["compile-report", "my_compiled:Talks", "--input", "4", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["cause"] == "graph break (side effect)"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["my_compiled:words"], "--input"),
        (["my_compiled", "--input", "4"], "is not MODULE:NAME"),
        (["my_compiled:none", "--input", "4"], "has no none"),
        (["my_compiled:Reads", "--input", "4by4"], "is no shape"),
        (["my_compiled:Reads", "--input", "4", "--more", "4,by"], "is no shape"),
        (["my_compiled:Reads", "--input", "4", "--budget", "0"], "no number above 0"),
        (["my_compiled:words", "--input", "4x4"], "The model failed with"),
        (["no_such_module:f", "--input", "4"], "Can't import no_such_module"),
        (["my_compiled:Reads", "--input", "9000000000000x8"], "does not fit into memory"),
        (["my_compiled:Reads", "--input", "4", "--more", "4,4"], "The model failed with"),
    ],
)
def test_what_is_wrong_is_said_in_one_line(arguments, message, capsys):
    assert main(["compile-report", *arguments]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert message in err
    assert err.count("\n") == 1
