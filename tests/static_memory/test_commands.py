import json
import re

import pytest

from labs_lib.cli import main
from labs_lib.static_memory.lifetimes import read_csv, verify

BUFFERS = "id,lower,upper,size\na,0,2,64\nb,1,3,64\nc,2,4,64\n"


@pytest.fixture
def csv(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    file = tmp_path / "buffers.csv"
    file.write_text(BUFFERS)
    return file


@pytest.fixture
def models(tmp_path, monkeypatch):
    """A module of the learner's own in the current folder."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "my_models.py").write_text(
        "import torch\n"
        "net = torch.nn.Sequential(torch.nn.Linear(16, 16), torch.nn.ReLU(), torch.nn.Linear(16, 16))\n"
        "def small(): return net\n"
        "def words(): return torch.nn.Embedding(10, 16)\n"
        "def peeking():\n"
        "    if torch.ones(1).item() != 1: raise ValueError\n"
        "    return torch.nn.ReLU()\n"
        "def broken(): raise KeyError('weights')\n"
        "def nothing(): return None\n"
        "number = 3\n"
    )
    (tmp_path / "my_broken_module.py").write_text("1 / 0\n")


def said(capsys, *arguments):
    """Exit code, stdout and stderr; an error is one line without a traceback."""
    code = main([str(argument) for argument in arguments])
    out, err = capsys.readouterr()
    err = "".join(line + "\n" for line in err.splitlines() if "measuring" not in line)
    if code == 2:
        assert out == ""
        assert re.fullmatch(r"labs_lib: [^\n]+\n", err), err
    return code, out, err


def test_plan_of_a_file_as_a_table_and_as_json(csv, capsys):
    code, out, _ = said(capsys, "plan", csv)
    assert code == 0
    rows = {line[:20].strip(): line[20:].split()[0] for line in out.splitlines()}
    assert rows["buffers"] == "3"
    assert rows["keep all, bytes"] == "192"
    assert rows["eager, bytes"] == "128"
    assert rows["lower bound, bytes"] == rows["plan, bytes"] == "128"
    assert rows["plan / lower bound"] == "1.0000"
    assert rows["proved optimal"] == "yes"
    code, out, _ = said(capsys, "plan", csv, "--json")
    data = json.loads(out)
    assert (code, data["plan_bytes"], data["proved"], data["capacity"]) == (0, 128, True, None)


def test_a_capacity_is_a_gate(csv, capsys):
    assert said(capsys, "plan", csv, "--capacity", 128)[0] == 0
    code, out, err = said(capsys, "plan", csv, "--capacity", 127, "--json")
    assert (code, json.loads(out)["plan_bytes"]) == (1, 128)
    assert err == "labs_lib: the plan is 1 bytes above the capacity of 127.\n"


def test_the_plan_is_written_with_offsets(csv, capsys, tmp_path):
    out = tmp_path / "plan.csv"
    csv.write_text(BUFFERS.replace("64", "60"))
    assert said(capsys, "plan", csv, "--output", out, "--alignment", 64, "--time-limit", 5)[0] == 0
    offsets = [int(line.split(",")[4]) for line in out.read_text().splitlines()[1:]]
    verify(read_csv(csv), offsets, alignment=64)
    assert [b.id for b in read_csv(out)] == ["a", "b", "c"]


def test_an_empty_plan(csv, capsys):
    csv.write_text("id,lower,upper,size\n")
    code, out, _ = said(capsys, "plan", csv)
    assert code == 0
    assert "buffers                              0" in out


@pytest.mark.parametrize("spelling", ["buffers.csv", "./buffers.csv", "link.csv"])
def test_the_input_is_never_overwritten(csv, capsys, spelling):
    (csv.parent / "link.csv").symlink_to(csv)
    code, _, err = said(capsys, "plan", csv, "--output", spelling)
    assert code == 2
    assert "would be overwritten" in err
    assert csv.read_text() == BUFFERS


def test_bad_arguments_of_plan(csv, capsys):
    for arguments, message in (
        ([], "either a CSV file or --model"),
        ([csv, "--model", "a:b"], "either a CSV file or --model"),
        ([csv, "--input", "1x3"], "need --model"),
        ([csv, "--reuse", "fresh"], "need --model"),
        (["missing.csv"], "missing.csv"),
        ([csv, "--capacity", "-1"], "no whole number above 0"),
        ([csv, "--alignment", "0"], "no whole number above 0"),
        ([csv, "--time-limit", "nan"], "no number above 0"),
        ([csv, "--output", csv.parent / "no" / "plan.csv"], "plan.csv"),
        ([csv, "--output", csv.parent], "Cannot write"),
    ):
        code, _, err = said(capsys, "plan", *arguments)
        assert code == 2
        assert message in err, (arguments, err)


def test_plan_of_a_model(models, capsys):
    code, out, err = said(capsys, "plan", "--model", "my_models:small", "--input", "4x16", "--json")
    data = json.loads(out)
    assert code == 0, err
    # Three values of 256 bytes. Eager holds two at a time; in place, relu and the first layer share one.
    assert (data["keep_all_bytes"], data["eager_bytes"]) == (768, 512)
    assert (data["buffers"], data["plan_bytes"]) == (2, 512)
    fresh = ["--model", "my_models:net", "--input", "4x16", "--reuse", "fresh", "--json"]
    assert json.loads(said(capsys, "plan", *fresh)[1])["buffers"] == 3


def test_inputs_of_another_dtype_and_models_that_look_at_data(models, capsys):
    code, out, _ = said(capsys, "plan", "--model", "my_models:words", "--input", "2x8:int64", "--json")
    assert (code, json.loads(out)["plan_bytes"]) == (0, 2 * 8 * 16 * 4)
    code, out, _ = said(capsys, "plan", "--model", "my_models:peeking", "--input", "16", "--json")
    assert (code, json.loads(out)["plan_bytes"]) == (0, 64)


def test_models_that_cannot_be_planned(models, capsys):
    for model, shape, message in (
        ("my_models", "1", "is not MODULE:NAME"),
        ("my_models:", "1", "is not MODULE:NAME"),
        ("no_such_module:net", "1", "Can't import no_such_module: ModuleNotFoundError"),
        ("my_broken_module:net", "1", "Can't import my_broken_module: ZeroDivisionError"),
        ("my_models:large", "1", "Module my_models has no large"),
        ("my_models:number", "1", "my_models:number is no function"),
        ("my_models:nothing", "1", "returns no torch.nn.Module"),
        ("my_models:broken", "1", "my_models:broken() failed with KeyError: 'weights'"),
        ("my_models:small", "4x5", "can't capture Sequential"),
        ("my_models:small", "axb", "--input axb is no shape"),
        ("my_models:small", "4x16:nn", "--input 4x16:nn: torch has no dtype nn"),
        ("my_models:small", "4x-16", "--input 4x-16 is no shape"),
    ):
        code, _, err = said(capsys, "plan", "--model", model, "--input", shape)
        assert code == 2
        assert message in err, (model, err)
    code, _, err = said(capsys, "plan", "--model", "my_models:small")
    assert (code, "--model needs --input" in err) == (2, True)


def test_analyze_prints_a_report_and_is_a_gate(capsys):
    size = ["--features", 64, "--batch", 4, "--layers", 2]
    code, out, err = said(capsys, "analyze", "--input", "1.0,0.5", *size)
    assert code == 0, err
    assert out.startswith("MLP of 2 layers of 64 features, batch 4, float32.\nThe answer is the same")
    code, out, _ = said(capsys, "analyze", "--input=-1,0.5", *size, "--budget-kib", 0.5, "--json")
    data = json.loads(out)
    assert (code, data["within_budget"], data["budget_kib"]) == (1, False, 0.5)
    assert data["peak_bytes"]["arena_with_setup"] > 512
    assert said(capsys, "analyze", "--input", "1", *size, "--budget-kib", 1e6)[0] == 0


def test_analyze_reads_a_file(tmp_path, capsys):
    (tmp_path / "data.csv").write_text("1,2\n3,4\n")
    arguments = ["--input-file", tmp_path / "data.csv", "--features", 16, "--batch", 1]
    assert said(capsys, "analyze", *arguments)[0] == 0


def test_bad_arguments_of_analyze(tmp_path, capsys):
    for arguments, message in (
        ([], "either --input or --input-file"),
        (["--input", "1", "--input-file", "x.csv"], "either --input or --input-file"),
        (["--input", "one"], "'one' is not a number"),
        (["--input", "1,nan"], "'nan' is not finite"),
        (["--input", ""], "no values in --input"),
        (["--input-file", tmp_path / "x.csv"], "x.csv: No such file"),
        (["--input", "1", "--features", "many"], "'many' is no whole number above 0"),
        (["--input", "1", "--batch", "0"], "'0' is no whole number above 0"),
        (["--input", "1", "--budget-kib", "-3"], "no number above 0"),
        (["--input", "1,2,3", "--features", "1", "--batch", "2"], "There are 3 values"),
        (["--input", "1", "--features", "100000"], "GiB"),
    ):
        code, _, err = said(capsys, "analyze", *arguments)
        assert code == 2
        assert message in err, (arguments, err)
