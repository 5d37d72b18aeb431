import json
import math
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from labs_lib import journal_file
from labs_lib.errors import LabError
from labs_lib.journal import journal, record

module = sys.modules["labs_lib.journal"]  # labs_lib.journal itself is the function of that name


@pytest.fixture
def path():
    return Path(os.environ["LABS_JOURNAL"])


@pytest.fixture(autouse=True)
def not_warned_yet(monkeypatch):
    monkeypatch.setattr(module, "_warned", False)
    monkeypatch.setattr(module, "_unsaved", {})


def child(code, **options):
    return subprocess.Popen([sys.executable, "-c", code], text=True, **options)


def test_an_event_is_one_line_of_strict_json(path):
    event = record("exercise", exercise="1.2", state="solved")
    assert path.read_bytes().count(b"\n") == 1
    assert json.loads(path.read_text()) == event
    assert event.keys() == {"time", "id", "kind", "version", "exercise", "state"}
    assert event["time"].endswith("+00:00")
    record("hint", exercise="1.2", number=1)
    history = journal()
    assert len(history) == 2
    assert [each["kind"] for each in history] == ["exercise", "hint"]
    assert history.of("exercise") == [event]
    assert len({each["id"] for each in history}) == 2


def test_only_appends(path):
    record("hint", exercise="1.1")
    before = path.read_bytes()
    record("hint", exercise="1.2")
    assert path.read_bytes().startswith(before)


def test_numbers_that_json_lacks(path):
    record(
        "result",
        nan=math.nan,
        interval=(-math.inf, np.inf),
        count=np.int64(3),
        ratio=np.float32(0.5),
        bad=np.float32("nan"),
        nested={"x": [np.float64("inf")]},
    )
    (event,) = journal()
    assert "NaN" not in path.read_text()
    assert math.isnan(float(event["nan"]))
    assert [float(end) for end in event["interval"]] == [-math.inf, math.inf]
    assert (event["count"], event["ratio"], event["bad"]) == (3, 0.5, "nan")
    assert event["nested"] == {"x": ["inf"]}


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=10,
)


@given(value=json_values)
def test_what_is_recorded_is_read_back(value):
    event = record("any", value=value)
    assert journal().events[-1] == event
    assert event["value"] == value


def test_a_field_that_cannot_be_kept_is_the_callers_mistake():
    with pytest.raises(TypeError):
        record("result", value=object())
    for name in ("time", "id", "version"):
        with pytest.raises(ValueError, match=name):
            record("result", **{name: 1})
    assert len(journal()) == 0


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        (b'{"time": "2026-01-01T0', "no JSON"),
        (b"\xff\xfe\x00", "no JSON"),
        (b'{"time": "t", "id": "x", "kind": "result", "value": NaN}', "no JSON"),
        (b"[" * 100_000, "no JSON"),
        (b"9" * 5000, "no JSON"),
        (b"[1, 2]", "no event"),
        (b'{"time": "t", "id": "x"}', "no event"),
        (b'{"time": 7, "id": "x", "kind": "hint"}', "no event"),
    ],
)
def test_a_broken_line_is_reported_and_skipped_and_kept(path, line, reason):
    record("hint", exercise="1.1")
    with path.open("ab") as file:
        file.write(line + b"\n\n")  # an empty line is not worth a report
    record("hint", exercise="1.2")
    history = journal()
    assert [event["exercise"] for event in history] == ["1.1", "1.2"]
    assert history.broken == [(2, reason)]
    assert f"broken lines skipped  1 (line 2 is {reason})" in str(history)
    assert "broken lines skipped" in history._repr_html_()
    assert line in path.read_bytes()


def test_half_a_line_is_ended_by_the_next_append(path):
    record("hint", exercise="1.1")
    with path.open("ab") as file:
        file.write(b'{"time": "2026')
    assert journal().broken == [(2, "no JSON")]
    record("hint", exercise="1.2")
    assert [event["exercise"] for event in journal()] == ["1.1", "1.2"]
    assert journal().broken == [(2, "no JSON")]


RECORD_UNTIL_KILLED = """
from labs_lib.journal import record
n = 0
while True:
    record("tick", n=n, padding="x" * 2000)
    n += 1
"""


@pytest.mark.skipif(sys.platform == "win32", reason="kill -9 is of POSIX")
def test_survives_kill_9(path):
    process = child(RECORD_UNTIL_KILLED)
    deadline = time.monotonic() + 60
    while not path.exists() or path.stat().st_size < 20_000:
        assert process.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.001)
    process.send_signal(signal.SIGKILL)
    process.wait()
    record("after")  # the lock died with its owner
    history = journal()
    ticks = [event["n"] for event in history.of("tick")]
    assert ticks == list(range(len(ticks)))
    assert len(ticks) >= 9
    assert len(history.broken) <= 1
    assert len(history.of("after")) == 1


def test_several_processes_append_at_once(path):
    code = 'from labs_lib.journal import record\nfor n in range(40): record("tick", who={who}, n=n)'
    processes = [child(code.format(who=who)) for who in range(3)]
    assert [process.wait(timeout=60) for process in processes] == [0, 0, 0]
    history = journal()
    assert history.broken == []
    for who in range(3):
        assert [event["n"] for event in history if event["who"] == who] == list(range(40))


def test_one_writer_at_a_time(path, monkeypatch, capsys):
    monkeypatch.setattr(journal_file, "LOCK_SECONDS", 0.05)
    with journal_file.opened(path):
        with pytest.raises(LabError, match="is locked"), journal_file.opened(path):
            pass
        record("hint", exercise="1.1")
    assert "is locked" in capsys.readouterr().err
    assert path.read_bytes() == b""
    record("hint", exercise="1.2")
    assert [event["exercise"] for event in journal()] == ["1.1", "1.2"]
    assert path.read_bytes().count(b"\n") == 2


def test_a_writer_waits_for_the_lock(path):
    with journal_file.opened(path) as file:
        thread = threading.Thread(target=record, args=("second",))
        thread.start()
        time.sleep(0.05)
        journal_file.append(file, [{"time": "2026", "id": "a", "kind": "first"}])
    thread.join()
    assert [json.loads(line)["kind"] for line in path.read_text().splitlines()] == ["first", "second"]


# Taking it elsewhere.


def test_export_and_restore_elsewhere(path, tmp_path, monkeypatch):
    for n in range(3):
        record("exercise", exercise=f"1.{n}", state="solved", unit="µs")
    exported = journal().export(tmp_path / "kept.jsonl")
    there = tmp_path / "other machine" / "deep" / "journal.jsonl"
    monkeypatch.setenv("LABS_JOURNAL", str(there))
    own = record("exercise", exercise="1.9", state="not yet")
    assert journal().restore(exported) == 3
    assert journal().restore(exported) == 0
    assert [event["exercise"] for event in journal()] == ["1.0", "1.1", "1.2", "1.9"]  # oldest first
    assert own in journal().events
    assert path.exists()


def test_export_replaces_an_older_one_but_never_the_journal(path, tmp_path):
    record("hint", exercise="1.1")
    target = tmp_path / "kept.jsonl"
    target.write_text("older")
    journal().export(target)
    assert target.read_bytes() == path.read_bytes()
    assert {file.name for file in tmp_path.iterdir()} == {"journal.jsonl", "kept.jsonl"}
    with pytest.raises(LabError, match="the journal itself"):
        journal().export(path)
    with pytest.raises(LabError, match="Cannot write"):
        journal().export(tmp_path / "missing" / "kept.jsonl")
    with pytest.raises(LabError, match="Cannot write"):
        journal().export(tmp_path)


def test_restore_takes_only_journals(tmp_path):
    (tmp_path / "notes.txt").write_text("bought milk\n")
    with pytest.raises(LabError, match=r"is no journal.*\nLine 1 is no JSON"):
        journal().restore(tmp_path / "notes.txt")
    with pytest.raises(LabError, match="Cannot read"):
        journal().restore(tmp_path / "missing")
    assert len(journal()) == 0


def test_restore_takes_the_good_lines_of_a_damaged_file(tmp_path):
    good = b'{"time": "2026-01-01", "id": "a", "kind": "hint", "exercise": "1.1"}'
    (tmp_path / "damaged").write_bytes(good + b"\n" + good[:30])
    assert journal().restore(tmp_path / "damaged") == 1
    assert [event["id"] for event in journal()] == ["a"]


def test_two_restores_at_once_add_nothing_twice(path, tmp_path):
    record("hint", exercise="1.1")
    exported = journal().export(tmp_path / "kept.jsonl")
    path.unlink()
    added = []
    with journal_file.opened(path) as file:
        thread = threading.Thread(target=lambda: added.append(journal().restore(exported)))
        thread.start()
        time.sleep(0.05)
        journal_file.append(file, journal_file.from_lines(exported.read_bytes())[0])
    thread.join()
    assert added == [0]
    assert path.read_bytes().count(b"\n") == 1


def test_restoring_into_a_journal_that_cannot_be_written_is_said(tmp_path, monkeypatch):
    record("hint", exercise="1.1")
    exported = journal().export(tmp_path / "kept.jsonl")
    monkeypatch.setenv("LABS_JOURNAL", str(exported / "below a file"))
    with pytest.raises(LabError, match="Cannot write the journal"):
        journal().restore(exported)


# A disk that refuses.


def test_an_unwritable_place_is_said_once_and_stops_nobody(tmp_path, monkeypatch, capsys):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("LABS_JOURNAL", str(tmp_path / "file" / "journal.jsonl"))
    for n in range(3):
        assert record("tick", n=n)["n"] == n
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.count("\n") == 1
    assert "your journal is not being saved" in captured.err
    assert "Set LABS_JOURNAL" in captured.err
    assert [event["n"] for event in journal()] == [0, 1, 2]  # kept for this process


@pytest.mark.skipif(sys.platform == "win32" or os.geteuid() == 0, reason="root writes everywhere")
def test_a_read_only_folder(tmp_path, monkeypatch, capsys):
    folder = tmp_path / "locked"
    folder.mkdir(mode=0o500)
    monkeypatch.setenv("LABS_JOURNAL", str(folder / "journal.jsonl"))
    record("tick")
    assert "Permission denied" in capsys.readouterr().err


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
def test_a_full_disk(monkeypatch, capsys):
    monkeypatch.setenv("LABS_JOURNAL", "/dev/full")
    record("tick")
    assert "No space left on device" in capsys.readouterr().err


DISK_FILLS_AND_IS_FREED = """
import resource
from labs_lib.journal import journal, record
_, most = resource.getrlimit(resource.RLIMIT_FSIZE)
resource.setrlimit(resource.RLIMIT_FSIZE, (1000, most))
for n in range(20):
    record("tick", n=n)
resource.setrlimit(resource.RLIMIT_FSIZE, (most, most))
record("tick", n=20)
"""


@pytest.mark.skipif(sys.platform == "win32", reason="sets a limit of POSIX")
def test_nothing_is_lost_when_the_disk_fills_up_and_is_freed(path):
    done = subprocess.run(
        [sys.executable, "-c", DISK_FILLS_AND_IS_FREED], capture_output=True, text=True, timeout=60
    )
    assert (done.returncode, done.stdout, done.stderr.count("\n")) == (0, "", 1)
    history = journal()
    assert [event["n"] for event in history] == list(range(21))
    assert len(history.broken) == 1  # the half line of the moment when it filled up


def test_an_unreadable_journal_is_said_once_and_stops_nobody(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("LABS_JOURNAL", str(tmp_path))  # a folder
    assert len(journal()) == 0
    assert len(journal()) == 0
    assert capsys.readouterr().err.count("not being saved") == 1


# Where it is, and what it says.


def test_place(monkeypatch, tmp_path):
    monkeypatch.setenv("LABS_JOURNAL", "~/mine.jsonl")
    assert journal_file.location() == Path.home() / "mine.jsonl"
    monkeypatch.delenv("LABS_JOURNAL")
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("APPDATA", str(tmp_path / "Roaming"))
    tail = Path("labs_lib/journal.jsonl")
    for platform, xdg, folder in [
        ("linux", str(tmp_path / "xdg"), tmp_path / "xdg"),
        ("linux", "relative", tmp_path / ".local/share"),
        ("linux", "", tmp_path / ".local/share"),
        ("darwin", "", tmp_path / "Library/Application Support"),
        ("win32", "", tmp_path / "Roaming"),
    ]:
        monkeypatch.setattr(sys, "platform", platform)
        monkeypatch.setenv("XDG_DATA_HOME", xdg)
        assert journal_file.location() == folder / tail


def test_summary():
    assert str(journal()).splitlines() == [
        "labs begun            none",
        "exercises solved      none",
        "predictions scored    0",
    ]
    for exercise, state in [("2.1", "not yet"), ("1.2", "solved"), ("1.1", "solved"), ("1.2", "not yet")]:
        record("exercise", exercise=exercise, state=state)
    record("truth", key="a", unit="s", truth=1, guess=2, score=math.log(2))
    record("truth", key="a", unit="s", truth=1, guess=1, score=0.0)
    record("truth", key="b", unit="s", truth=1, guess=None, score=None)
    history = journal()
    assert str(history).splitlines() == [
        "labs begun            01, 02",
        "exercises solved      1.2, 1.1",
        "predictions scored    1",
    ]
    assert history.scored[0]["guess"] == 2
    assert json.loads(json.dumps(history.as_dict()))["exercises_solved"] == ["1.2", "1.1"]
    assert repr(history) == str(history)
    assert "<td" in history._repr_html_()
