"""The journal of a run: a killed run goes on where it was, and rows of another run are never mixed in."""

import json
import os
import random
import signal
import subprocess
import sys
import time
from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest

from labs_lib.errors import LabError
from labs_lib.inference_bench import rows
from labs_lib.inference_bench.exports import read_run
from labs_lib.inference_bench.rows import Journal, Settings, header, key_of, read_lines
from labs_lib.inference_bench.sweep import sweep

ROOT = Path(__file__).resolve().parents[2]
MODEL = "import torch\n\ndef model():\n    return torch.nn.Linear(64, 64)\n"
SETTINGS = Settings(("resnet50",), ("cpu",), (1, 2), ("eager",), 1, 3, "ci")


def identity(row):
    return row["kind"], key_of(row), row.get("round"), row["status"]


def settings_of(head):
    """The settings that a header holds, whose lists were tuples."""
    return Settings(**{name: tuple(v) if isinstance(v, list) else v for name, v in head["settings"].items()})


def command(folder, *more):
    arguments = ["bench", "--model", "small:model", "--input", "64", "--batch-sizes", "1", "2", "4"]
    arguments += ["--variants", "inference_mode", "channels_last", "--rounds", "8", "--output", str(folder), *more]
    return [sys.executable, "-m", "labs_lib", *arguments]


def environment():
    return os.environ | {"PYTHONPATH": str(ROOT), "LABS_PRESET": "ci"}


@pytest.mark.skipif(os.name != "posix", reason="SIGKILL is of POSIX systems")
def test_a_run_that_is_killed_again_and_again_ends_with_the_rows_of_one_that_was_not(tmp_path, monkeypatch):
    (tmp_path / "small.py").write_text(MODEL)
    folder, file = tmp_path / "killed", tmp_path / "killed" / rows.FILE
    seen, kills = b"", 0
    draws = random.Random(1)
    for enough in sorted(draws.sample(range(3, 56), 3)):  # lines, of 1 + 9 + 48
        process = subprocess.Popen(command(folder), cwd=tmp_path, env=environment(), stdout=subprocess.DEVNULL)
        while process.poll() is None and (not file.exists() or file.read_bytes().count(b"\n") < enough):
            time.sleep(0.001)
        kills += process.poll() is None
        process.send_signal(signal.SIGKILL)
        process.wait()
        now = file.read_bytes()
        assert now.startswith(seen[: seen.rfind(b"\n") + 1])  # what was written stays as it was
        seen = now
        with file.open("ab") as stream:
            stream.write(b'{"kind": "round", "model": "sm')  # what a kill in the middle of a line leaves
    assert kills == 3
    monkeypatch.syspath_prepend(tmp_path)
    settings = settings_of(read_lines(folder / rows.FILE)[0][0])
    found, expected = (
        Counter(map(identity, sweep(settings, each).rows)) for each in (folder, tmp_path / "whole")
    )
    assert found == expected
    assert set(expected.values()) == {1}
    assert len(expected) == 9 + 6 * 8  # channels_last is unavailable
    assert [result.status for result in read_run(folder).results] == 3 * ["ok", "ok", "unavailable"]


def test_another_writer_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr("labs_lib.journal_file.LOCK_SECONDS", 0.05)
    with Journal(tmp_path, header(SETTINGS)), pytest.raises(LabError, match="is in use"):
        Journal(tmp_path, header(SETTINGS)).__enter__()
    with Journal(tmp_path, header(SETTINGS)) as journal:  # the lock is gone with its holder
        assert journal.rows == []


ROW = {"kind": "round", "model": "m", "device": "cpu", "variant": "eager", "batch": 1, "round": 0, "status": "ok"}


def test_a_half_line_is_dropped_and_a_damaged_one_refused(tmp_path):
    file = tmp_path / rows.FILE
    with Journal(tmp_path, header(SETTINGS)) as journal:
        journal.write(ROW)
    whole = file.read_bytes()
    for cut in range(1, 30):
        file.write_bytes(whole[:-cut])
        with Journal(tmp_path, header(SETTINGS)) as journal:
            assert journal.rows == []
            journal.write(ROW)
        assert file.read_bytes() == whole
    for damage in (b"{}\n", b"[1]\n", b"nonsense\n", b'{"kind": "run"}\n', b"\xff\n"):
        file.write_bytes(whole + damage)
        with pytest.raises(LabError, match=r"Line 3 of .* is no row"), Journal(tmp_path, header(SETTINGS)):
            pass
        assert file.read_bytes() == whole + damage


def test_a_header_that_was_cut_off_begins_anew(tmp_path):
    (tmp_path / rows.FILE).write_bytes(b'{"kind": "run", "sche')
    with Journal(tmp_path, header(SETTINGS)):
        pass
    (line,) = read_lines(tmp_path / rows.FILE)[0]
    assert line["settings"]["rounds"] == 3


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda head: head | {"settings": head["settings"] | {"threads": 2, "rounds": 9}}, "other threads, rounds"),
        (lambda head: head | {"settings": head["settings"] | {"models": ["gpt2"]}}, "other models"),
        (lambda head: head | {"machine": head["machine"] | {"fingerprint": "0"}}, "other machine"),
        (lambda head: head | {"code": "0"}, "other code"),
        (lambda head: head | {"versions": {}}, "other versions"),
        (lambda head: head | {"schema": 0}, "other schema"),
        (lambda head: {"kind": "run"}, "other schema, settings"),
    ],
)
def test_rows_of_another_run_are_refused(change, says, tmp_path):
    mine = header(SETTINGS)
    text = f"{json.dumps(change(mine))}\n{json.dumps(ROW)}\n"
    (tmp_path / rows.FILE).write_text(text)
    with pytest.raises(LabError, match=says), Journal(tmp_path, mine):
        pass
    assert (tmp_path / rows.FILE).read_text() == text


def test_a_run_that_measured_nothing_makes_way(tmp_path):
    """A model that could not be loaded leaves its reason in the folder that was asked for."""
    reason = {**ROW, "kind": "setup", "status": "unavailable", "reason": "There is no model 'gpt3'."}
    with Journal(tmp_path, header(SETTINGS)) as journal:
        journal.write(reason)
    with Journal(tmp_path, header(SETTINGS)) as journal:
        assert journal.rows == [reason]  # the same command goes on as ever
    mended = header(replace(SETTINGS, models=("gpt2",)))
    with Journal(tmp_path, mended) as journal:
        assert journal.rows == []
    assert read_lines(tmp_path / rows.FILE)[0] == [mended]


def test_another_date_is_no_other_run(tmp_path):
    with Journal(tmp_path, header(SETTINGS) | {"date": "2020-01-01T00:00:00+00:00"}):
        pass
    with Journal(tmp_path, header(SETTINGS)) as journal:
        assert journal.header["date"] == "2020-01-01T00:00:00+00:00"


def test_the_code_version_follows_the_code_and_the_models_own_file(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "own_model.py").write_text(MODEL)
    own = rows.code_version(("own_model:model",))
    assert own == rows.code_version(("own_model:model",)) != rows.code_version(("resnet50",))
    (tmp_path / "own_model.py").write_text(MODEL + "# changed\n")
    assert rows.code_version(("own_model:model",)) != own
    before = rows.code_version(())
    monkeypatch.setattr(rows, "MEASURING", rows.MEASURING[:-1])
    assert rows.code_version(()) != before


def test_every_module_that_measures_is_in_the_code_version():
    """What the sweep imports of its own subject, directly or not."""
    folder = Path(rows.__file__).parent
    pending, found = ["sweep"], set()
    while pending:
        name = pending.pop()
        found.add(name)
        imported = [
            line.split()[1].rpartition(".")[2]
            for line in (folder / f"{name}.py").read_text().splitlines()
            if line.startswith("from labs_lib.inference_bench.")
        ]
        pending += [each for each in imported if each not in found]
    assert found == set(rows.MEASURING)


def test_a_folder_that_cannot_be_written(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(LabError, match="Can't write"), Journal(tmp_path / "file" / "run", header(SETTINGS)):
        pass


def test_configurations_come_in_the_order_of_their_set_up():
    chosen = replace(SETTINGS, models=("a", "b"), variants=("eager", "bf16"))
    names = [(key.model, key.batch, key.variant) for key in chosen.configurations()]
    assert names[:4] == [("a", 1, "eager"), ("a", 1, "bf16"), ("a", 2, "eager"), ("a", 2, "bf16")]
    assert len(names) == 8
