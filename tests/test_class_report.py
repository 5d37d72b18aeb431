"""class-report: a folder of exported journals as one table."""

import csv
import io
import json
import math

import pytest

from labs_lib.class_report import class_report
from labs_lib.cli import main
from labs_lib.errors import LabError
from labs_lib.journal import journal, record


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A class of three: Ann solves, Bo needs help, Cy has opened nothing and his file is damaged."""
    folder = tmp_path / "class"
    folder.mkdir()

    def learner(name):
        monkeypatch.setenv("LABS_JOURNAL", str(tmp_path / f"{name}.journal"))
        return lambda: journal().export(folder / f"{name}.jsonl")

    export = learner("ann")
    record("exercise", exercise="1.1", state="not yet")
    record("exercise", exercise="1.1", state="solved")
    record("solution", exercise="1.1")
    for guess, truth in ((2.0, 4.0), (8.0, 1.0)):
        record("truth", key=f"k{guess}", unit="", truth=truth, guess=guess, score=abs(math.log(guess / truth)))
    export()
    export = learner("bo")
    for number in (1, 2, 3, 3):
        record("hint", exercise="1.2", number=number)
    record("solution", exercise="1.2")
    record("exercise", exercise="1.2", state="solved")
    record("exercise", exercise="1.3", state="not yet")
    record("exercise", exercise="1.4", state="not attempted")
    record("exercise", exercise="0.9", state="solved")
    export()
    (folder / "cy.jsonl").write_text("half a li")
    (folder / "notes.txt").write_text("no journal")
    return folder


def test_who_solved_what(folder):
    ann, bo, cy = class_report(folder).learners
    assert (ann.name, ann.solved, ann.not_yet, ann.solution_first, ann.hints) == ("ann", ("1.1",), (), (), {})
    assert ann.factors == pytest.approx((2, 8))
    assert ann.median_factor == pytest.approx(5)
    assert (bo.solved, bo.not_yet, bo.solution_first) == (("1.2", "0.9"), ("1.3",), ("1.2",))
    assert bo.hints == {"1.2": 3}, "the last hint was opened twice"
    assert (cy.solved, cy.median_factor, cy.broken_lines) == ((), None, 1)


def test_csv_has_every_exercise_of_the_course_and_those_it_no_longer_has(folder, capsys):
    assert main(["class-report", str(folder), "--csv"]) == 0
    ann, bo, cy = csv.DictReader(io.StringIO(capsys.readouterr().out))
    assert ann["1.1"] == "solved"
    assert (bo["1.2"], bo["1.2 hints"], bo["1.3"], bo["1.4"]) == ("solved after the solution", "3", "not yet", "")
    assert (bo["0.9"], ann["0.9"], cy["6.4"]) == ("solved", "", "")
    assert (ann["median factor"], cy["median factor"], cy["broken lines"]) == ("5.00", "", "1")


def test_text_and_json(folder, capsys):
    assert main(["class-report", str(folder)]) == 0
    shown = capsys.readouterr().out
    assert "ann" in shown
    assert "a factor of 5.00" in shown
    assert "cy: 1 lines could not be read" in shown
    assert main(["class-report", str(folder), "--json"]) == 0
    assert [row["name"] for row in json.loads(capsys.readouterr().out)["learners"]] == ["ann", "bo", "cy"]


def test_no_folder_and_no_journals(tmp_path):
    with pytest.raises(LabError, match="There is no folder"):
        class_report(tmp_path / "nowhere")
    with pytest.raises(LabError, match=r"holds no \.jsonl file"):
        class_report(tmp_path)
