"""`bench`, `report` and `bench-diff` from a terminal."""

import csv
import json
import re
import sys

import pytest

from labs_lib.cli import BAD_INPUT, FINE, GATE_FAILED, main
from labs_lib.errors import LabError
from labs_lib.inference_bench import benchmark
from labs_lib.inference_bench.bench import rounds_for
from tests.inference_bench.test_bench_sweep import name_of as name_of_sweep
from tests.inference_bench.test_bench_sweep import said


def bench(folder, *more, model="linear"):
    return main(
        ["bench", "--model", name_of_sweep(model), "--input", "3", "--batch-sizes", "2", "1", "--variants",
         "inference_mode", "channels_last", "--rounds", "6", "--output", str(folder), *more]
    )  # fmt: skip


def test_bench_report_and_diff(tmp_path, capsys):
    a, b = tmp_path / "a", tmp_path / "b"
    assert bench(a) == FINE
    text = capsys.readouterr().out
    assert re.search(r"linear inference_mode +2 +cpu +[0-9.]+ us \[", text)
    assert "channels_last (batch 1, 2): unavailable: its input is no image with channels." in " ".join(text.split())
    assert f"Rows, bench.json and bench.csv are in {a}." in text
    with (a / "bench.csv").open() as stream:
        rows = list(csv.DictReader(stream))
    assert [(row["variant"], row["batch"], row["status"]) for row in rows] == [
        (variant, batch, "unavailable" if variant == "channels_last" else "ok")
        for batch in "12"
        for variant in ("eager", "inference_mode", "channels_last")
    ]
    assert bench(b, "--json") == FINE
    found = json.loads(capsys.readouterr().out)
    assert found == json.loads((b / "bench.json").read_text())
    assert (found["schema"], found["settings"]["batch_sizes"]) == (1, [1, 2])

    assert main(["report", str(a)]) == FINE
    assert f"The report is {a / 'report.html'}." in capsys.readouterr().out
    assert main(["report", str(a), "--json"]) == FINE
    assert json.loads(capsys.readouterr().out)["measured"] == 4

    assert main(["bench-diff", str(a / "bench.json"), str(a)]) == FINE
    text = capsys.readouterr().out
    assert "4 indistinguishable, 2 only in one." in text
    slow = json.loads((b / "bench.json").read_text())
    for row in slow["results"]:
        for one in row["rounds"]:
            one["busy"] = [20 * seconds for seconds in one["busy"]]
    (tmp_path / "slow.json").write_text(json.dumps(slow))
    assert main(["bench-diff", str(a), str(tmp_path / "slow.json"), "--json"]) == GATE_FAILED
    found = json.loads(capsys.readouterr().out)
    assert found["regressed"]
    assert {change["verdict"] for change in found["changes"]} == {"slower", "only in one"}
    assert main(["bench-diff", str(tmp_path / "slow.json"), str(a)]) == FINE
    assert "4 faster" in capsys.readouterr().out


def test_few_configurations_have_more_rounds():
    """So that the samples of a model take six seconds; twenty rounds at the least."""
    assert [rounds_for(number, 0.03) for number in (1, 2, 9, 10, 21)] == [200, 100, 23, 20, 20]
    assert rounds_for(1, 0.2) == 30


def test_rounds_that_are_given_are_done(tmp_path, monkeypatch):
    asked = []
    module = sys.modules["labs_lib.inference_bench.bench"]
    monkeypatch.setenv("LABS_PRESET", "ci")
    monkeypatch.setattr(module, "sweep", lambda settings, folder: asked.append(settings.rounds) or 1 / 0)
    for rounds in (None, 7):
        with pytest.raises(ZeroDivisionError):
            benchmark("resnet50", (1,), ["inference_mode"], rounds=rounds)
    assert asked == [100, 7]


def test_a_finished_run_is_not_measured_again(tmp_path, capsys):
    assert bench(tmp_path, "--json") == FINE
    before = capsys.readouterr().out
    assert bench(tmp_path, "--json") == FINE
    assert capsys.readouterr().out == before


def test_without_a_folder_each_run_gets_a_new_one(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    command = ["bench", "--model", name_of_sweep("linear"), "--input", "3", "--batch-sizes", "1"]
    assert main([*command, "--variants", "eager", "--rounds", "1"]) == FINE
    (folder,) = tmp_path.iterdir()
    assert re.fullmatch(r"bench-[0-9]{8}-[0-9]{6}", folder.name)
    assert {path.name for path in folder.iterdir()} == {"rows.jsonl", "bench.json", "bench.csv"}


def test_the_preset_reaches_the_models(tmp_path, capsys, monkeypatch):
    monkeypatch.setenv("LABS_PRESET", "lab")
    command = ["bench", "--model", "distilbert", "--batch-sizes", "1", "--variants", "eager", "--rounds", "1"]
    assert main([*command, "--preset", "ci", "--output", str(tmp_path)]) == FINE
    assert "2 of 6 layers" in capsys.readouterr().out


def test_a_device_that_is_not_there_does_not_stop_the_others(tmp_path, capsys):
    assert bench(tmp_path, "--device", "cpu", "tpu") == FINE
    streams = capsys.readouterr()
    assert "unavailable: There is no device 'tpu'." in streams.out


def test_all_takes_every_model(tmp_path, monkeypatch):
    asked = []

    def stop(settings, folder):
        asked.append(settings)
        raise KeyboardInterrupt

    monkeypatch.setattr(sys.modules["labs_lib.inference_bench.bench"], "sweep", stop)
    assert main(["bench", "--all", "--model", "gpt2", "--output", str(tmp_path)]) == 130
    (settings,) = asked
    assert settings.models == ("gpt2", "resnet50", "vit_b_16", "distilbert")
    assert settings.devices[0] == "cpu"
    assert settings.batch_sizes == (1, 4, 8)
    assert settings.variants[0] == "eager"
    assert len(settings.variants) == 7


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["bench"], "There is no model to measure. Give --model"),
        (["bench", "--model"], "expected at least one argument"),
        (["bench", "--model", "resnet51"], "Nothing was measured. resnet51 (batch 1, 4, 8): unavailable: There is no"),
        (["bench", "--model", "resnet50", "--device", "tpu"], "There is no device 'tpu'."),
        (["bench", "--model", "resnet50", "--variants", "fp4"], "There is no variant 'fp4'."),
        (["bench", "--model", "resnet50", "--batch-sizes", "0"], "'0' is no whole number above 0"),
        (["bench", "--model", "resnet50", "--batch-sizes", "many"], "'many' is no whole number above 0"),
        (["bench", "--model", "resnet50", "--rounds", "-1"], "'-1' is no whole number above 0"),
        (["bench", "--model", "resnet50", "--preset", "big"], "invalid choice: 'big'"),
        (["bench", "--model", "torch.nn:Identity"], "Nothing was measured."),
        (["bench", "--model", "resnet50", "--output", "/dev/null/x"], "Can't write /dev/null/x"),
        (["report", "absent"], "There is no folder absent."),
        (["bench-diff", "absent.json", "absent.json"], "There is no run in absent.json."),
        (["bench-diff", "one.json"], "the following arguments are required: B.json"),
    ],
)
def test_mistakes_are_one_line(arguments, says, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert main(arguments) == BAD_INPUT
    line = said(capsys)[-1]
    assert line.startswith("labs_lib:")
    assert says in line


@pytest.mark.parametrize(
    ("arguments", "options", "says"),
    [
        ([[]], {}, "models is []"),
        ([7], {}, "models is 7"),
        (["resnet50", 4], {}, "batch_sizes is 4"),
        (["resnet50", [1, 0]], {}, "batch_sizes is [1, 0]"),
        (["resnet50", [1.0]], {}, "batch_sizes is [1.0]"),
        (["resnet50", [1], None, "cpu"], {}, "devices is 'cpu'"),
        (["resnet50", [1], "fp4"], {}, "There is no variant 'fp4'"),
        (["resnet50"], {"threads": 0}, "threads is [0]"),
        (["resnet50"], {"rounds": 0}, "rounds is [0]"),
        (["resnet50"], {"folder": "/dev/null/x"}, "Can't write"),
    ],
)
def test_mistakes_in_a_call_are_said(arguments, options, says):
    with pytest.raises(LabError) as caught:
        benchmark(*arguments, **options)
    assert says in str(caught.value)
