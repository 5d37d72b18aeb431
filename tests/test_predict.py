import math
import re

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from labs_lib import figures
from labs_lib.errors import LabError
from labs_lib.journal import journal, record
from labs_lib.predict import calibration, predict, quantity


def ask(value=None, key="peak", **changes):
    options = {"key": key, "low": 10, "high": 10_000, "value": value} | changes
    return predict("Peak memory of the naive pass?", "KiB", **options)


def revealed(prediction, truth, capsys):
    """The one line that reveal() prints."""
    capsys.readouterr()
    assert prediction.reveal(truth) is None
    (line,) = capsys.readouterr().out.splitlines()
    return line


def test_a_guess_is_scored_by_its_ratio(capsys):
    line = revealed(ask(300), 417, capsys)
    assert line == "You predicted 300 KiB; it is 417 KiB: off by a factor of 1.39."
    (event,) = journal().of("truth")
    assert event["score"] == pytest.approx(math.log(417 / 300))
    assert (event["truth"], event["guess"], event["unit"]) == (417, 300, "KiB")


positive = st.floats(1e-9, 1e12)


@given(guess=positive, truth=positive)
def test_half_and_double_are_equally_wrong(guess, truth):
    scores = []
    for key, committed, known in [("a", guess, truth), ("b", truth, guess)]:
        before = len(journal())
        ask(committed, key=f"{key}{before}").reveal(known)
        scores.append(journal().events[-1]["score"])
    assert scores[0] == pytest.approx(scores[1], abs=1e-12)
    assert scores[0] == pytest.approx(abs(math.log(guess / truth)), abs=1e-9)


def test_run_all_is_never_blocked(capsys):
    prediction = ask()
    assert str(prediction) == "Peak memory of the naive pass? Commit to a number between 10 and 10,000 KiB."
    assert len(journal()) == 0  # nothing is recorded before a commitment
    assert prediction.guess is None
    assert revealed(prediction, 417, capsys) == "No prediction recorded; it is 417 KiB."
    assert journal().of("truth")[0]["score"] is None


@pytest.mark.parametrize(
    ("truth", "shown"), [(0, "0"), (-3.5, "-3.50"), (math.nan, "nan"), (math.inf, "inf")]
)
def test_a_truth_without_a_ratio_is_told_and_not_scored(capsys, truth, shown):
    line = revealed(ask(300), truth, capsys)
    assert line == f"You predicted 300 KiB; it is {shown} KiB: no ratio can score that."
    assert journal().scored == []


@pytest.mark.parametrize(
    "bad",
    [
        {"low": 0},
        {"low": -1},
        {"high": 10},
        {"high": math.inf},
        {"low": math.nan},
        {"value": 0},
        {"value": -5},
        {"value": math.nan},
        {"value": math.inf},
    ],
)
def test_what_has_no_ratio_is_refused(bad):
    with pytest.raises(LabError):
        ask(**bad)
    assert len(journal()) == 0


def test_a_guess_outside_the_range_is_the_learners_right(capsys):
    prediction = ask(20_000)
    assert "20,000 KiB" in revealed(prediction, 417, capsys)
    prediction._repr_mimebundle_()  # the slider ends before it


def test_the_first_commitment_counts(capsys):
    ask(300).commit(417)
    again = ask(417)
    assert again.guess == 300
    assert "off by a factor of 1.39" in revealed(again, 417, capsys)
    assert len(journal().of("prediction")) == 1


def test_the_first_commitment_counts_after_a_merge():
    for value in (300, 417):
        record("prediction", key="peak", unit="KiB", value=value)
    assert ask().guess == 300


def test_a_commitment_of_an_earlier_session_is_shown(capsys):
    ask(300)
    later = ask()
    assert str(later).endswith("? You predicted 300 KiB.")
    assert revealed(later, 417, capsys).startswith("You predicted 300 KiB; ")


def test_a_commitment_after_the_reveal_is_not_counted(capsys):
    prediction = ask()
    prediction.reveal(417)
    assert prediction.says.endswith("The answer was shown before: it will not be counted.")
    prediction.commit(417)
    assert prediction.says.endswith("after the answer was shown, so it is not counted.")
    line = revealed(prediction, 417, capsys)
    assert line.startswith("You predicted 417 KiB after the answer was shown; it is 417 KiB: ")
    assert line.endswith("off by a factor of 1.00, not counted.")
    assert journal().scored == []


def test_only_the_first_answer_is_scored(capsys):
    ask(300).reveal(417)
    assert "factor of 3.00" in revealed(ask(), 100, capsys)  # told, but not scored again
    (event,) = journal().scored
    assert event["truth"] == 417


def test_the_same_key_in_another_unit_is_another_question():
    ask(300)
    assert predict("?", "ms", key="peak", low=1, high=10).guess is None


# The widget.


def test_the_button_commits_what_the_slider_shows(capsys):
    prediction = ask()
    assert prediction._repr_mimebundle_().keys() == {"application/vnd.jupyter.widget-view+json", "text/plain"}
    view = prediction._view
    assert len(journal()) == 0
    assert not view.button.disabled
    view.slider.value = 251.18864
    view.button.click()
    assert journal().of("prediction")[0]["value"] == 251
    assert view.slider.disabled
    assert view.button.disabled
    assert view.text.value == "You predicted 251 KiB."
    view.button.click()
    assert len(journal()) == 1


def test_the_widget_follows_what_code_does(capsys):
    prediction = ask()
    view = shown(prediction)
    prediction.reveal(417)
    assert "will not be counted" in view.text.value
    assert not view.button.disabled
    prediction.commit(300)
    assert view.slider.value == 300
    assert view.button.disabled


def test_a_widget_shown_again_is_the_same_one():
    prediction = ask()
    assert shown(prediction) is shown(prediction)


def test_a_widget_of_a_committed_question_is_closed():
    ask(300)
    view = shown(ask())
    assert view.slider.disabled
    assert view.slider.value == 300


def test_the_question_is_text_and_not_markup():
    view = shown(predict("a < b & c?", "<i>", key="x", low=1, high=2))
    assert "a &lt; b &amp; c?" in view.box.children[0].value
    assert "<i>" not in view.text.value


def shown(prediction):
    prediction._repr_mimebundle_()
    return prediction._view


def test_texts_hold_no_address():
    for prediction in (ask(), ask(300)):
        for text in (str(prediction), repr(prediction), prediction._repr_mimebundle_()["text/plain"]):
            assert not re.search("0x[0-9a-f]{6}", text)


# Calibration.


def test_calibration_without_predictions_is_a_sentence():
    ask().reveal(417)
    ask(300, key="zero").reveal(0)
    picture = calibration()
    assert picture.says.startswith("No prediction has been scored yet")
    assert picture.png.startswith(b"\x89PNG")


def test_calibration_shows_every_scored_prediction(monkeypatch):
    drawn = {}

    def render(figure, says):
        (axes,) = figure.axes
        drawn["points"] = axes.collections[-1].get_offsets().tolist()
        drawn["scales"] = (axes.get_xscale(), axes.get_yscale())
        drawn["limits"] = axes.get_xlim() == axes.get_ylim()
        return figures.Picture(b"", says)

    monkeypatch.setattr(figures, "render", render)
    for key, guess, truth in [("a", 100, 100), ("b", 300, 100), ("c", 50, 100), ("d", 1, 1000)]:
        ask(guess, key=key).reveal(truth)
    ask(7, key="open")
    says = "4 predictions: off by a factor of 2.45 in the median, 2 within a factor of 2."
    assert calibration().says == says
    assert drawn["points"] == [[100, 100], [100, 300], [100, 50], [1000, 1]]
    assert drawn["scales"] == ("log", "log")
    assert drawn["limits"]


def test_calibration_counts_a_question_once_after_a_merge():
    for guess in (2, 8):
        record("truth", key="a", unit="s", truth=1, guess=guess, score=math.log(guess))
    says = "1 prediction: off by a factor of 2.00 in the median, 1 within a factor of 2."
    assert calibration().says == says


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (1e-9, "1.00e-09"),
        (0.5, "0.500"),
        (99.94, "99.9"),
        (99.96, "100"),
        (999.6, "1,000"),
        (12_345.6, "12,346"),
        (1e18, "1.00e+18"),
        (0, "0"),
        (np.int64(8), "8"),
        (12_345, "12,345"),
    ],
)
def test_quantity(value, text):
    assert quantity(value) == text
