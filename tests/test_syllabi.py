"""Syllabi name labs that exist, fit into their time, and stand in TEACHING.md as in the catalogue."""

import json
from pathlib import Path

import pytest

from labs_lib.catalogue import LABS, SYLLABI
from labs_lib.cli import main

START_HERE = 5  # minutes of notebook 00, in the first session
TEACHING = (Path(__file__).resolve().parent.parent / "TEACHING.md").read_text(encoding="utf-8")
HOURS = {"two-hours": (2, 1), "one-day": (7, 1), "one-week": (3, 5)}  # of a session, and how many there are


@pytest.mark.parametrize("syllabus", SYLLABI.values(), ids=SYLLABI)
def test_each_session_fits_into_its_time(syllabus):
    hours, sessions = HOURS[syllabus.name]
    assert syllabus.session_minutes == hours * 60
    assert len(syllabus.sessions) == sessions
    for session in syllabus.sessions:
        assert 0 < syllabus.minutes(session) + START_HERE <= syllabus.session_minutes


@pytest.mark.parametrize("lab", LABS, ids=lambda lab: lab.number)
def test_a_lab_takes_its_exercises_and_a_quarter_of_an_hour(lab):
    assert lab.minutes == 15 + sum(exercise.minutes for exercise in lab.module("exercises").EXERCISES.values())


@pytest.mark.parametrize("syllabus", SYLLABI.values(), ids=SYLLABI)
def test_no_lab_is_named_twice(syllabus):
    named = [lab.number for session in syllabus.sessions for lab in syllabus.labs(session)]
    assert len(named) == len(set(named))


def test_a_week_has_all_labs():
    assert {number for session in SYLLABI["one-week"].sessions for number in session} == {lab.number for lab in LABS}


def test_two_hours_need_neither_a_gpu_nor_a_compiler():
    (session,) = SYLLABI["two-hours"].sessions
    assert not any(lab.compiler for lab in SYLLABI["two-hours"].labs(session))


def test_teaching_md_has_the_table_of_the_catalogue():
    rows = [
        f"| {each.name} | {number} | {', '.join(session)} | {each.minutes(session)} | {each.session_minutes} |"
        for each in SYLLABI.values()
        for number, session in enumerate(each.sessions, start=1)
    ]
    assert [line for line in TEACHING.splitlines() if line.startswith(tuple(f"| {name} |" for name in SYLLABI))] == rows


@pytest.mark.parametrize("syllabus", SYLLABI.values(), ids=SYLLABI)
def test_list_shows_a_syllabus(syllabus, capsys):
    assert main(["list", "--syllabus", syllabus.name]) == 0
    printed = capsys.readouterr().out
    assert printed.count("\nsession ") == len(syllabus.sessions)
    assert main(["list", "--syllabus", syllabus.name, "--json"]) == 0
    data = json.loads(capsys.readouterr().out)
    assert [[lab["number"] for lab in session["labs"]] for session in data["sessions"]] == [
        list(session) for session in syllabus.sessions
    ]
    for session in data["sessions"]:
        assert session["minutes"] == sum(lab["minutes"] for lab in session["labs"])
        assert all(f"{lab['number']}  {lab['title']} " in printed for lab in session["labs"])


def test_an_unknown_syllabus_is_named_in_one_line(capsys):
    assert main(["list", "--syllabus", "one-year"]) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    assert "'one-year'" in error
    assert "one-week" in error
