"""The panel of lab 05: each control moves something, at both of its ends, and the counts are the library's."""

import numpy as np
import pytest

from labs_lib.batched_eval import bucketed, count_padding, in_order, sentences
from labs_lib.batched_eval.panels import padding_panel


@pytest.fixture(scope="module")
def panel():
    return padding_panel()


def test_each_control_at_both_ends(panel):
    for state, picture in panel.sweep():
        assert picture.png.startswith(b"\x89PNG"), state
        assert "is padding" in picture.says


@pytest.mark.parametrize("control", ["batch", "order", "spread"])
def test_each_control_changes_what_is_seen(panel, control):
    options = panel.controls[control].options
    first, last = (panel.set(**{control: option}) for option in (options[0], options[-1]))
    assert first.says != last.says
    assert first.png != last.png


@pytest.mark.parametrize(("order", "make"), [("as they come", in_order), ("sorted by length", bucketed)])
def test_it_says_what_is_counted(panel, order, make):
    lengths = np.array([len(sentence) for sentence in sentences(128, spread=0.6)])
    batches = make(len(lengths) if make is in_order else lengths, 32)
    assert str(count_padding(lengths, batches)) in panel.set(batch=32, order=order, spread=0.6).says


def test_without_spread_sorting_changes_nothing(panel):
    for order in ("as they come", "sorted by length"):
        assert "0.0% is padding" in panel.set(batch=32, order=order, spread=0.0).says


def test_no_padding_in_batches_of_one(panel):
    assert "0.0% is padding" in panel.set(batch=1, order="as they come", spread=1.0).says
