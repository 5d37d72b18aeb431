"""The ladder: answers judged, counts exact, and what the ratios are at least."""

import json
from dataclasses import replace

import pytest
import torch

from labs_lib import batched_eval as ev
from labs_lib.batched_eval import precision
from labs_lib.batched_eval.agreement import ROUNDING
from labs_lib.errors import LabError


@pytest.fixture(scope="module")
def images():
    return ev.digits().test_images[:64]


@pytest.fixture(scope="module")
def model():
    return ev.digits_cnn()


def one_by_one(model, images):
    logits, right = [], 0
    for image in images:
        logits.append(model(image[None]))
        right += (logits[-1].argmax() == 0).item()
    return torch.cat(logits).detach()


@torch.inference_mode()
def batched(model, images, size=32):
    return torch.cat([model(batch) for batch in images.split(size)])


def test_a_change_by_rounding_is_a_tie_and_any_other_is_a_mistake():
    logits = torch.tensor([[1.0, 1.0 + 2**-20, 0.0], [5.0, 0.0, 0.0], [0.0, 1.0, 2.0]])
    swapped = logits.clone()
    swapped[0, 0] += 2**-19
    assert ev.agreement(logits, swapped).changed == (0,)
    assert ev.agreement(logits, swapped).explained
    swapped[1] = torch.tensor([0.0, 5.0, 0.0])
    found = ev.agreement(logits, swapped)
    assert (found.changed, found.near_ties, found.explained, found.share) == ((0, 1), 1, False, 1 / 3)
    assert "2 of 3 predictions differ, 1 of them near-ties" in str(found)


def test_equal_logits_are_equal_bit_for_bit():
    logits = torch.eye(3)
    assert str(ev.agreement(logits, logits)) == "all 3 predictions are the same; bit for bit"


def test_nan_is_never_explained():
    assert not ev.agreement(torch.eye(3), torch.eye(3).index_fill(0, torch.tensor([2]), torch.nan)).explained


def test_nan_on_both_sides_is_refused_and_in_a_rung_named():
    nan = torch.eye(3).index_fill(0, torch.tensor([0]), torch.nan)
    with pytest.raises(LabError, match="1 of 3 samples have NaN"):
        ev.agreement(nan, nan)
    assert ev.agreement(torch.eye(3), nan).changed == (0,)  # argmax of a row of NaN is 0 too
    masked = torch.tensor([[1.0, 2.0, -torch.inf]])
    assert str(ev.agreement(masked, masked)) == "all 1 predictions are the same; bit for bit"


@pytest.mark.parametrize("logits", [torch.ones(3, 1), torch.ones(3)])
def test_without_classes_to_choose_from_nothing_agrees(logits):
    with pytest.raises(LabError, match="not predictions"):
        ev.agreement(logits, logits)


@pytest.mark.parametrize(
    ("rungs", "message"),
    [
        ([], "list of rungs"),
        ([("a", torch.ones)], "list of rungs"),
        ({"a": torch.ones}, "list of rungs"),
        ([ev.Rung("a", lambda: None)], "rung 'a'.*NoneType"),
        ([ev.Rung("a", lambda: torch.eye(3)), ev.Rung("b", lambda: 1 / 0)], "rung 'b' raised ZeroDivisionError"),
        ([ev.Rung("a", lambda: torch.eye(3)), ev.Rung("b", torch.eye(3).numpy)], "rung 'b'.*ndarray"),
        ([ev.Rung("a", lambda: None, missing="no GPU")], "No rung can be run here"),
    ],
)
def test_a_ladder_names_what_is_wrong(rungs, message):
    with pytest.raises(LabError, match=message):
        ev.ladder(rungs, budget_s=0.01)


def test_a_gain_has_its_interval_and_its_note():
    found = ev.ladder([ev.Rung("a", lambda: torch.eye(3)), ev.Rung("b", lambda: torch.eye(3))], budget_s=0.01)
    gain = replace(found["b"].gain, ratio=1.34, low=1.05, high=1.6, floor=1.02)
    known = replace(found, steps=(found.steps[0], replace(found.steps[1], gain=gain)))
    assert known.rows()[1][6] == "1.34x (1.05 to 1.60)"
    assert "need not be the quotient" in str(found)


def test_a_data_loader_s_own_reads_are_not_the_evaluation_s():
    loader = torch.utils.data.DataLoader(torch.utils.data.TensorDataset(torch.ones(8, 2)), 4)
    assert ev.count(lambda: [batch.sum() for (batch,) in loader]).reads == 0
    assert ev.count(lambda: [batch.sum().item() for (batch,) in loader]).reads == 2


@pytest.mark.parametrize("actual", [torch.eye(3)[:2], torch.zeros(3)])
def test_logits_of_other_samples_are_refused(actual):
    with pytest.raises(LabError, match="can't be compared"):
        ev.agreement(torch.eye(3), actual)


def test_counts_of_one_by_one_and_of_batches(model, images):
    naive = ev.count(lambda: one_by_one(model, images))
    assert naive.reads == 64
    assert naive.saved > 64
    better = ev.count(lambda: batched(model, images))
    assert (better.reads, better.saved) == (0, 0)
    assert naive.operators > 25 * better.operators  # 64 calls against 2


def test_a_condition_on_a_tensor_reads_it():
    assert ev.count(lambda: bool(torch.ones(1) > 0)).reads == 1


def test_batches_change_last_bits_at_most(model, images):
    with torch.inference_mode():
        found = ev.agreement(one_by_one(model, images), batched(model, images))
    assert found.explained
    assert found.relative <= ROUNDING


def test_wrong_answers_are_named_in_the_table(images):
    def logits(change=0.0):
        return images.flatten(1)[:, :10] + change * torch.arange(10)

    rungs = [
        ev.Rung("first", logits),
        ev.Rung("scaled", lambda: 2 * logits()),
        ev.Rung("shifted", lambda: logits(0.1)),
        ev.Rung("shifted, coarse", lambda: logits(0.1), exact=False),
        ev.Rung("not tried", lambda: 1 / 0, missing="no unit for it"),
    ]
    found = ev.ladder(rungs, budget_s=0.01)
    assert [step.holds for step in found.steps] == [True, True, False, False]
    assert str(found).count("THE ANSWER DIFFERS") == 2
    assert str(found).endswith("Not here: not tried (no unit for it).")
    assert "Not here: not tried" in found._repr_html_()
    data = json.loads(json.dumps(found.as_dict(), allow_nan=False))
    assert data["missing"] == {"not tried": "no unit for it"}
    assert [step["name"] for step in data["steps"]] == ["first", "scaled", "shifted", "shifted, coarse"]
    assert found["scaled"].agreement.relative == 1


def test_fewer_bits_may_change_a_few_predictions():
    logits = torch.eye(40)
    changed = logits.clone()
    changed[0] = changed[1]
    rungs = [ev.Rung("first", lambda: logits), ev.Rung("coarse", lambda: changed, exact=False)]
    assert ev.ladder(rungs, budget_s=0.01)["coarse"].holds
    rungs[1] = ev.Rung("coarse", lambda: changed)
    assert not ev.ladder(rungs, budget_s=0.01)["coarse"].holds


def test_compiled_code_is_not_counted_as_what_it_is_not(model, images):
    compiled = torch.compile(model, backend="eager")
    with torch.inference_mode():
        assert ev.count(lambda: compiled(images)).operators is None


def test_units_for_bfloat16(monkeypatch):
    monkeypatch.setattr(precision.hardware, "instruction_sets", lambda names: ["AMX BF16"])
    assert ev.no_bfloat16() == ""
    monkeypatch.setattr(precision.hardware, "instruction_sets", lambda names: [])
    assert ev.no_bfloat16() == "this processor has none of AMX BF16, AVX-512 BF16, Arm BF16"

    def refuse(names):
        raise OSError("win32 does not list them")

    monkeypatch.setattr(precision.hardware, "instruction_sets", refuse)
    assert "win32" in ev.no_bfloat16()
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert ev.no_bfloat16("cuda")


@pytest.mark.timing
def test_batches_are_several_times_as_fast_as_one_by_one(model, images):
    rungs = [
        ev.Rung("one by one", lambda: one_by_one(model, images)),
        ev.Rung("batches", lambda: batched(model, images, 64)),
    ]
    found = ev.ladder(rungs, budget_s=2.0)
    assert found["batches"].holds
    assert found["batches"].timing.ratio > 2.5
    assert found.best is found["batches"]
    assert "batches is" in ev.ladder_picture(found).says
