"""`python -m labs_lib explore`, and the four races of machine-learning code that it can be tried on."""

import json

import pytest

from labs_lib.cli import BAD_INPUT, FINE, GATE_FAILED, main
from labs_lib.race_conditions import cases

CASES = "labs_lib.race_conditions.cases"


@pytest.mark.parametrize("name", cases.PAIRS)
def test_each_race_is_found_and_its_mended_twin_holds(name):
    racy, mended = cases.PAIRS[name]
    assert racy.explore().verdict in ("broken", "raises")
    report = mended.explore(switches=1)
    assert (report.verdict, report.complete) == ("holds", True)


def test_a_bug_fails_the_gate_and_shows_its_schedule(capsys):
    assert main(["explore", f"{CASES}:lazy_model"]) == GATE_FAILED
    out = capsys.readouterr().out
    assert "The model was loaded 2 times. The schedule: A2 B A" in out
    assert "A reads self.model = None" in out


def test_what_holds_is_fine(capsys):
    assert main(["explore", f"{CASES}:lazy_model_mended", "--switches", "1"]) == FINE
    assert "It holds in all 22 schedules" in capsys.readouterr().out


def test_json(capsys):
    assert main(["explore", f"{CASES}:metrics", "--json"]) == GATE_FAILED
    found = json.loads(capsys.readouterr().out)
    assert (found["verdict"], found["schedule"], found["complete"]) == ("broken", "A2 B A", True)
    assert main(["explore", f"{CASES}:metrics", "--replay", "A B", "--json"]) == FINE
    run = json.loads(capsys.readouterr().out)
    assert (run["kind"], run["schedule"]) == ("ok", "A B")


def test_a_replay_of_what_fails_fails(capsys):
    assert main(["explore", f"{CASES}:metrics", "--replay", "A2 B A"]) == GATE_FAILED
    assert "A2 B A: the losses 2 and 4" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["json:dumps"], "is a function"),
        ([f"{CASES}:nothing"], "has no nothing"),
        ([f"{CASES}:metrics", "--switches", "-1"], "-1"),
        ([f"{CASES}:metrics", "--replay", "A0"], "is no turn of a thread"),
        ([f"{CASES}:metrics", "--replay", "C"], "There is no thread C"),
    ],
)
def test_what_cannot_be_explored_is_said_in_one_line(arguments, message, capsys):
    assert main(["explore", *arguments]) == BAD_INPUT
    error = capsys.readouterr().err
    assert message in error
    assert error.count("\n") == 1
