"""best_batch: counted memory, the knee, budgets, and what running out of memory leaves behind."""

import json
import weakref

import pytest
import torch

from labs_lib import batched_eval as ev
from labs_lib.batched_eval.best_batch import Point
from labs_lib.cli import main
from labs_lib.errors import LabError
from labs_lib.timing import Interval

SAMPLE = torch.ones(1024)  # 4 KiB


class Doubling(torch.nn.Module):
    """Allocates one batch; runs out of memory, as a GPU would, above `limit` samples."""

    def __init__(self, limit=10**9, error=None):
        super().__init__()
        self.limit, self.error, self.scraps = limit, error or (torch.OutOfMemoryError, "CUDA out of memory"), []

    def forward(self, x):
        held = x * 2
        self.scraps.append(weakref.ref(held))
        if len(x) > self.limit:
            kind, message = self.error
            raise kind(message)
        return held


def measured(*throughputs, budget=None):
    points = [Point(2**i, 1024 * 2**i, Interval(2**i / t, 2**i / t, 2**i / t)) for i, t in enumerate(throughputs)]
    return ev.BestBatch(tuple(points), 0, budget, 1)


def test_memory_is_counted_the_batch_and_its_answer():
    found = ev.best_batch(Doubling(), SAMPLE, batches=(1, 4, 16), budget_s=0.4)
    assert [point.peak for point in found.points] == [2 * 4096 * batch for batch in (1, 4, 16)]
    assert found.model_bytes == 0


def test_the_knee_is_the_smallest_batch_near_the_best():
    found = measured(100, 400, 960, 1000, 990)
    assert (found.knee.batch, found.best.batch, found.largest.batch) == (4, 8, 16)
    assert "Evaluate with a batch of 4: 960 samples a second, 9.6 times what a batch of 1 reaches" in found.sentence


def test_a_batch_above_the_budget_is_not_timed():
    found = ev.best_batch(Doubling(), SAMPLE, memory_budget=40_000, batches=(1, 4, 16, 64), budget_s=0.4)
    assert found.largest.batch == 4
    assert [point.why for point in found.points] == ["", "", "more bytes than 39.1 KiB"]
    assert "the largest within 39.1 KiB is 4" in str(found)
    assert ev.batch_picture(found).says == found.sentence


@pytest.mark.parametrize(
    "error",
    [(torch.OutOfMemoryError, "CUDA"), (MemoryError, ""), (RuntimeError, "you tried: not enough memory")],
)
def test_out_of_memory_ends_the_search_and_leaves_nothing_behind(error):
    model = Doubling(limit=4, error=error)
    found = ev.best_batch(model, SAMPLE, batches=(1, 4, 16, 64), budget_s=0.4)
    assert found.largest.batch == 4
    assert found.points[-1].why == "out of memory"
    assert all(scrap() is None for scrap in model.scraps)
    assert len(model(_batch(4))) == 4  # the process still works


def _batch(size):
    return SAMPLE.repeat(size, 1)


def test_any_other_error_is_the_model_s_own():
    with pytest.raises(LabError, match=r"failed with a batch of shape \(4, 1024\).*RuntimeError: no room at 4"):
        ev.best_batch(Doubling(limit=2, error=(RuntimeError, "no room at 4")), SAMPLE, budget_s=0.4)


def test_nothing_fits():
    with pytest.raises(LabError, match="Not even a batch of 1 fits: more bytes than"):
        ev.best_batch(Doubling(), SAMPLE, memory_budget=100, budget_s=0.4)
    with pytest.raises(LabError, match="Not even a batch of 1 fits: out of memory"):
        ev.best_batch(Doubling(limit=0), SAMPLE, budget_s=0.4)


def test_what_would_take_more_memory_than_there_is_is_not_tried(monkeypatch):
    monkeypatch.setattr("labs_lib.hardware.memory", lambda: (100_000, 20_000))
    model = Doubling()
    found = ev.best_batch(model, SAMPLE, batches=(1, 2, 4, 8), budget_s=0.4)
    assert [point.batch for point in found.timed] == [1, 2]
    assert found.points[-1].why == "more than the memory available (modelled)"


def test_sizes_that_take_too_long_are_left_out():
    found = ev.best_batch(Doubling(), SAMPLE, batches=(1, 2**16), budget_s=0.001)
    assert [point.batch for point in found.timed] == [1]
    assert "7 turns do not fit" in found.points[-1].why


@pytest.mark.parametrize("batches", [(), (0, 1), (4, 1), (1, 1)])
def test_batches_must_grow(batches):
    with pytest.raises(LabError, match="do not grow"):
        ev.best_batch(Doubling(), SAMPLE, batches=batches)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        *(({"memory_budget": value}, "memory_budget") for value in (-1, 0, float("nan"), float("inf"), True, [1])),
        ({"memory_budget": "lots"}, "no size such as 512MiB"),
        *(({"budget_s": value}, "budget_s") for value in (-1, 0, "a", float("nan"))),
        *(({"batches": value}, "do not grow") for value in (5, None, (1.5,), "ab", (True, 2))),
    ],
)
def test_arguments_without_a_meaning_are_refused(options, message):
    with pytest.raises(LabError, match=message):
        ev.best_batch(Doubling(), SAMPLE, **options)


def test_a_memory_budget_may_be_a_text():
    assert ev.best_batch(Doubling(), SAMPLE, "40KiB", (1,), budget_s=0.1).budget == 40 * 2**10


@pytest.mark.parametrize(
    ("sample", "message"),
    [
        ((SAMPLE, SAMPLE), "of type tuple"),
        ({"x": SAMPLE}, "wrap the model"),
        ("text", "of type str"),
        (SAMPLE.numpy(), "torch.from_numpy"),
        (SAMPLE[:0], "it is empty"),
        (SAMPLE * torch.nan, "NaN"),
    ],
)
def test_what_is_no_sample_is_refused(sample, message):
    with pytest.raises(LabError, match=message):
        ev.best_batch(Doubling(), sample)


@pytest.mark.parametrize(
    ("model", "message"),
    [
        (None, "of type NoneType"),
        ("resnet18", "of type str"),
        (torch.nn.ReLU, "the class ReLU"),
        (torch.relu, "wrap a function"),
        (SAMPLE, "first argument is a tensor"),
    ],
)
def test_what_is_no_model_is_refused_before_anything_is_timed(model, message):
    with pytest.raises(LabError, match=message):
        ev.best_batch(model, SAMPLE)


class Returning(torch.nn.Module):
    def __init__(self, make):
        super().__init__()
        self.make = make

    def forward(self, x):
        return self.make(x)


class TwoInputs(torch.nn.Module):
    def forward(self, x, y):
        return x + y


@pytest.mark.parametrize(
    ("model", "sample", "message"),
    [
        (Returning(lambda x: None), SAMPLE, "NoneType, without a tensor"),
        (Returning(lambda x: x.sum()), SAMPLE, "the first dimension is the batch"),
        (Returning(lambda x: x[0]), SAMPLE, "the first dimension is the batch"),
        (TwoInputs(), SAMPLE, "One input only"),
        (torch.nn.Embedding(10, 4), torch.ones(5), "--input 5:int64"),
        (torch.nn.Linear(8, 2), torch.ones(9), r"batch of shape \(2, 9\)"),
        (torch.nn.Conv2d(3, 4, 3), torch.ones(1, 3, 8, 8), r"give sample\[0\]"),
    ],
)
def test_what_the_model_does_wrong_is_said_in_three_lines(model, sample, message):
    with pytest.raises(LabError, match=message) as caught:
        ev.best_batch(model, sample, budget_s=0.1)
    assert str(caught.value).count("\n") == 2


def test_an_lstm_must_take_the_batch_first():
    sample = torch.linspace(0, 1, 24).view(6, 4)
    torch.manual_seed(0)
    with pytest.raises(LabError, match="depends on what else is in the batch"):
        ev.best_batch(torch.nn.LSTM(4, 8), sample)
    attention = torch.nn.TransformerEncoderLayer(4, 2, 8)
    with pytest.raises(LabError, match="batch_first=True"):
        ev.best_batch(attention, sample)
    assert ev.best_batch(torch.nn.LSTM(4, 8, batch_first=True), sample, batches=(1,), budget_s=0.1).timed


def test_a_model_that_draws_at_random_is_measured():
    model = Returning(lambda x: torch.nn.functional.dropout(x, 0.5))
    assert ev.best_batch(model, SAMPLE, batches=(1,), budget_s=0.1).timed


def test_the_model_comes_back_as_it_was():
    model = torch.nn.Sequential(torch.nn.Linear(8, 4), torch.nn.BatchNorm1d(4), torch.nn.Dropout(0.5).eval())
    before = {name: value.clone() for name, value in model.state_dict().items()}
    ev.best_batch(model, torch.arange(8.0), batches=(1, 2), budget_s=0.1)
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert [module.training for module in model.modules()] == [True, True, True, False]


def test_small_tensors_are_counted_too():
    found = ev.best_batch(torch.nn.Linear(64, 10), torch.ones(64), batches=(1, 2), budget_s=0.4)
    assert [point.peak for point in found.points] == [4 * 74, 8 * 74]
    assert [row[1] for row in found.rows()] == ["296 B", "592 B"]


def test_a_knee_at_the_edge_is_no_answer_yet():
    assert "still rising at the largest size timed, and larger ones may do better" in measured(100, 200).sentence
    assert "all sizes tried fit" in measured(100, 101).sentence
    stopped = ev.BestBatch((*measured(100, 101).points, Point(4096, None, None, "too slow")), 0, 2**26, 1)
    assert "4096 was not timed: too slow" in stopped.sentence
    assert "within" not in stopped.sentence
    assert measured(100, 200).as_dict()["still_rising"]


def test_flops_and_least_traffic_are_counted():
    weight, x = torch.ones(64, 128), torch.ones(32, 64)
    found = ev.roofline(lambda: torch.relu((x @ weight)[:, :10]))
    assert found.flops == 2 * 32 * 64 * 128
    assert found.bytes_moved == 4 * (64 * 128 + 32 * 64 + 32 * 10)


def test_the_roof_is_the_slower_of_the_two():
    limits = ev.Limits(flops=1e9, bandwidth=1e9, threads=1)
    assert limits.ridge == 1
    computing = ev.Roofline(10**9, 10**6, 2.0, limits)
    assert (computing.limit, computing.least_seconds, computing.share) == ("computing", 1.0, 0.5)
    memory = ev.Roofline(10**6, 10**9, 4.0, limits)
    assert (memory.limit, memory.least_seconds, memory.share) == ("memory", 1.0, 0.25)
    assert "25% of it is reached" in str(memory)
    assert "Above 100 %" in str(ev.Roofline(10**9, 10**6, 0.6, limits))
    assert "busy; run again" in str(ev.Roofline(10**9, 10**6, 0.6, limits))


def test_of_a_part_only_the_part_is_read():
    images, weight = torch.ones(100, 64), torch.ones(64, 10)
    bytes_of_one = 4 * (64 + 64 * 10 + 10)
    assert ev.roofline(lambda: images[:1] @ weight).bytes_moved == bytes_of_one
    assert ev.roofline(lambda: images[:1].clone() @ weight).bytes_moved == bytes_of_one
    assert ev.roofline(lambda: images[:1].expand(5, -1) + 1).bytes_moved == 4 * (64 + 5 * 64)


def test_a_roof_needs_tensors():
    with pytest.raises(LabError, match="moves no tensor"):
        ev.roofline(lambda: 1)


@pytest.fixture
def my_models(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "my_batched.py").write_text(
        "import torch\n"
        "def linear(): return torch.nn.Linear(8, 2)\n"
        "def words(): return torch.nn.Embedding(10, 16)\n"
    )


def test_the_command_in_text_and_json(my_models, capsys):
    assert main(["best-batch", "my_batched:linear", "--input", "8", "--budget", "0.4"]) == 0
    assert capsys.readouterr().out.startswith("Evaluate with a batch of")
    command = ["best-batch", "my_batched:words", "--input", "8:int64", "--memory-budget", "16KiB", "--budget", "0.4"]
    assert main([*command, "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["largest_timed"] == 16  # 512 bytes of answer and 64 of token ids each
    assert found["points"][-1]["why_not"] == "more bytes than 16.0 KiB"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["my_batched:linear", "--input", "9"], "failed with a batch of shape (2, 9), torch.float32: RuntimeError"),
        (["my_batched:words", "--input", "9"], "--input 5:int64"),
        (["my_batched:linear", "--input", "8", "--memory-budget", "0"], "no size above 0"),
        (["my_batched:linear", "--input", "8", "--batches", "4,1"], "do not grow"),
        (["my_batched:linear", "--input", "8", "--batches", "4,x"], "no whole number"),
        (["my_batched:linear", "--input", "9000000000000x8"], "No sample of"),
        (["my_batched:linear", "--input", "8", "--memory-budget", "lots"], "no size such as"),
        (["my_batched:linear", "--input", "8", "--threads", "0"], "no whole number"),
        (["my_batched:linear", "--input", "8by8"], "is no shape"),
        (["my_batched:none", "--input", "8"], "has no none"),
    ],
)
def test_what_is_wrong_is_said_in_one_line(my_models, arguments, message, capsys):
    assert main(["best-batch", *arguments]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert message in err
    assert err.count("\n") == 1
