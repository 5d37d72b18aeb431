"""The analyzer's page without a browser: its numbers, its sentences, its history, and what a hand on it does."""

import base64
import json
import re

import pytest
import torch

from labs_lib import cli
from labs_lib.compare import BUDGET_S
from labs_lib.errors import LabError
from labs_lib.journal import record
from labs_lib.static_memory import app, app_history, app_run
from labs_lib.static_memory.app import Analyzer, uploaded
from labs_lib.static_memory.app_guard import GUARD
from labs_lib.static_memory.app_run import LIMIT, MODELS, numbers
from labs_lib.static_memory.app_torch import TorchArena, TorchProgram, analyze_model
from labs_lib.static_memory.capture import capture


@pytest.fixture
def small(monkeypatch):
    """A small MLP and a short measurement: what is tested is the page."""
    monkeypatch.setattr(app_run, "FEATURES", 64)
    monkeypatch.setitem(BUDGET_S, "ci", 0.02)


@pytest.fixture
def page(small):
    """A page whose widgets are made."""
    page = Analyzer()
    page.widget()
    return page


def terminal(capsys, *arguments):
    """What the command line prints with --json."""
    assert cli.main([*map(str, arguments), "--json"]) == 0
    return json.loads(capsys.readouterr().out)


def exported(link):
    return json.loads(base64.b64decode(re.search(r"base64,([^\"]+)", link)[1]))


def counted(analysis):
    """What is the same on every machine."""
    costs = analysis["comparison"]["ledger"]
    return {name: analysis[name] for name in ("arena_bytes", "lower_bound_bytes", "weight_bytes")} | costs


def press(page, text=None, **controls):
    """What a hand does: writes into the box, chooses, presses the button."""
    view = page._view
    if text is not None:
        view.numbers.value = text
    for name, value in controls.items():
        getattr(view, name).value = value
    view.button.click()
    return view.message.value


def test_page_terminal_and_export_count_the_same(capsys):
    page = Analyzer()
    page.widget()
    done = page.analyze("1.0,0.5", batch=8, budget_s=0.05)
    cli_says = terminal(capsys, "analyze", "--input", "1.0,0.5", "--batch", 8)
    saved = exported(page._view.export.value)
    assert counted(done.as_dict()) == counted(saved) == counted(cli_says)
    assert json.loads(json.dumps(done.as_dict())) == saved
    assert set(saved) == set(cli_says) | {"model", "values", "time", "machine"}
    assert done.plan.height == saved["arena_bytes"]
    assert [saved[name] for name in ("model", "batch", "values")] == ["MLP", 8, 2]


def test_a_torch_model_counts_what_the_plan_command_counts(capsys):
    page = Analyzer()
    page.widget()
    done = page.analyze("1.0,0.5", model="mobilenet_v3_small", batch=2, budget_s=0.05)
    shape = ["--model", "torchvision.models:mobilenet_v3_small", "--input", "2x3x224x224"]
    planned = terminal(capsys, "plan", *shape)
    saved = exported(page._view.export.value)
    for found in (done.as_dict(), saved):
        assert found["peak_bytes"]["naive_keeping"] == planned["keep_all_bytes"]
        assert found["arena_bytes"] == planned["plan_bytes"]
        assert found["lower_bound_bytes"] == planned["lower_bound_bytes"]
        assert found["buffers"] == planned["buffers"]
    assert done.analysis.comparison.same
    peaks = saved["peak_bytes"]
    assert peaks["arena_with_setup"] == peaks["arena_without_setup"] + saved["arena_bytes"]
    assert peaks["naive"] < peaks["naive_keeping"]
    costs = saved["comparison"]["ledger"]
    assert costs["naive"]["flops"] == costs["optimised"]["flops"] > 0
    assert saved["input_shape"] == [2, 3, 224, 224]


class Residual(torch.nn.Module):
    """A value that is read twice, a change in place, a concatenation, a view and two kinds of operators."""

    def __init__(self):
        super().__init__()
        self.first = torch.nn.Conv2d(3, 8, 3, padding=1)
        self.norm = torch.nn.BatchNorm2d(8)
        self.last = torch.nn.Linear(16 * 64, 5)

    def forward(self, x):
        x = self.norm(self.first(x))
        y = torch.relu_(x * 2)
        y += x
        return self.last(torch.cat([x, y], 1).flatten(1))


def test_an_arena_of_torch_tensors_reads_nothing_that_is_dead():
    torch.manual_seed(0)
    model = Residual().eval()
    x = torch.rand(2, 3, 8, 8)
    program = TorchProgram(model, x)
    assert program.graph == capture(model, x)
    arena = TorchArena(program)
    with torch.no_grad():
        for each in (x, x + 1):
            arena.block.fill_(0xFF)  # NaN
            torch.testing.assert_close(arena(each), model(each))
    assert arena.block.nbytes == program.plan.height
    assert (arena.straight, arena.copied) == (6, 1)  # all but the convolution


@pytest.mark.parametrize(
    ("model", "message"),
    [
        (lambda x: x.t() @ x, "view of the input"),
        (lambda x: x.max(0).values, "returns 2 tensors"),
        (lambda x: x.relu_() + 1, "changes its input in place"),
        (lambda x: (x + 1, x + 2), "returns 2 things"),
        (lambda x: x if x.sum() > 0 else -x, "torch.export can't capture it"),
    ],
)
def test_models_that_the_arena_refuses(model, message):
    class Model(torch.nn.Module):
        def forward(self, x):
            return model(x)

    with pytest.raises(LabError, match=message):
        TorchArena(TorchProgram(Model().eval(), torch.ones(3, 3)))


def test_an_arena_takes_one_shape():
    arena = TorchArena(TorchProgram(torch.nn.Linear(4, 4).eval(), torch.ones(2, 4)))
    for wrong in (torch.ones(3, 4), torch.ones(2, 4, dtype=torch.float64)):
        with pytest.raises(LabError, match=r"takes \(2, 4\) of torch.float32"):
            arena(wrong)


def test_a_torch_model_that_overflows():
    model = torch.nn.Linear(4, 4).eval()
    torch.nn.init.ones_(model.weight)
    with pytest.raises(LabError, match="overflows"):
        analyze_model(model, torch.full((1, 4), 3e38))


def test_no_model_answers_with_nothing_but_zeros():
    """Some heads are initialised to zero, and then every answer would be "the same"."""
    assert app_run._network("vit_b_16").heads.head.weight.any()


WRONG = {
    "empty": ("", "There are no values in the box."),
    "blank": (" \n ", "There are no values"),
    "text": ("hello", "&#x27;hello&#x27; is not a number."),
    "markup": ("<b>1</b>", "&#x27;&lt;b&gt;1&lt;/b&gt;&#x27; is not a number."),
    "nan": ("1, nan", "&#x27;nan&#x27; is not finite."),
    "inf": ("1\n-inf", "Value 1 in line 2 of the box"),
    "ragged": ("1,2\n3", "Line 2 of the box has 1 values, the first line has 2."),
    "too large for float32": ("1e39", "Value 1 is 1e+39."),
    "overflow on the way": ("3e38", "overflows float32"),
    "more than the batch holds": ("1," * 64 + "1", "The input holds from 1 to 1 x 64 = 64 of them."),
    "more than a million": ("1," * 1_000_001, "There are too many values in the box."),
    "a gigabyte, if the browser lets it through": ("1" * (LIMIT + 1), "There are 8,000,001 bytes in the box."),
}


@pytest.mark.parametrize("case", WRONG)
def test_wrong_input_is_a_sentence_and_loses_nothing(page, case):
    text, says = WRONG[case]
    press(page, "1, 2", batch=1)
    done, shown = page.done, (page._view.answer.value, page._view.history.value, page._view.pictures[0][0].value)
    message = press(page, text)
    assert says in message
    assert "labs-error" in message
    assert page.done is done
    assert (page._view.answer.value, page._view.history.value, page._view.pictures[0][0].value) == shown
    assert page._view.numbers.value == text
    assert not page._view.button.disabled


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"1,\xff", "a.csv is no text file.\nByte 3 is not UTF-8."),
        (b"\x00\x01", "is not a number"),
        (b"1" * (LIMIT + 1), "There are 8,000,001 bytes in a.csv"),
        ("1,2".encode("utf-16"), "no text file"),
    ],
)
def test_files_that_cannot_be_used(data, message):
    with pytest.raises(LabError, match=message):
        numbers(data, "a.csv")
    assert numbers(b"\xef\xbb\xbf1,2\r\n3,4\r\n").tolist() == [1, 2, 3, 4]


def test_an_upload_in_the_form_of_ipywidgets_7_and_of_8(page):
    """The box stays as it is; the last good file is kept when a wrong one comes after it."""
    view = page._view
    seven = {"a.csv": {"metadata": {"name": "a.csv", "size": 5}, "content": b"1,2,3"}}
    view.file_chosen({"new": seven})
    assert view.source.value == "the file"
    assert view.message.value == '<p role="status">a.csv: numbers read, 3 of them.</p>'
    assert "Done." in press(page, batch=1)
    assert page.done.values == 3
    view.file_chosen({"new": ({"name": "<i>.csv", "content": memoryview(b"1,x")},)})
    assert "&lt;i&gt;.csv can&#x27;t be used" in view.message.value
    assert view.file == ("a.csv", b"1,2,3")
    view.file_chosen({"new": ({"name": "b" * 99, "content": memoryview(b"1")},)})
    assert view.file == (f"{'b' * 57}...", b"1")
    view.file_chosen({"new": ()})  # nothing was chosen
    assert uploaded(seven) == ("a.csv", b"1,2,3")
    assert press(page, source="the box").count("Done.") == 1
    assert page.done.values == 3  # the example in the box


def test_the_file_is_asked_for_before_there_is_one(page):
    assert "No file has been uploaded yet." in press(page, source="the file")


def test_a_model_offers_its_own_batches(page):
    view = page._view
    assert view.batch.value == 32
    view.model.value = "resnet18"
    assert (view.batch.value, view.batch.options) == (8, MODELS["resnet18"].batches)
    assert "one row is 150,528 numbers" in view.about.value
    view.model.value = "MLP"
    assert view.batch.value == 8


@pytest.mark.parametrize(("options", "message"), [({"model": "gpt"}, "no model 'gpt'"), ({"batch": 3}, "batch of 3")])
def test_what_is_not_offered(options, message):
    with pytest.raises(LabError, match=message):
        Analyzer().analyze("1", **options)


def test_controls_are_locked_and_progress_is_shown_while_it_works(page, monkeypatch):
    seen = []
    analyze = app_run.analyze

    def look(*arguments, **options):
        view = page._view
        seen.append(([each.disabled for each in view.inputs], view.progress.layout.visibility, view.progress.value))
        return analyze(*arguments, **options)

    monkeypatch.setattr(app_run, "analyze", look)
    press(page, batch=1)
    assert seen == [([True] * 6, "visible", 1)]
    assert page._view.progress.layout.visibility == "hidden"
    assert not any(each.disabled for each in page._view.inputs)


def test_an_error_that_nobody_expected_is_shown_and_raised(page, monkeypatch):
    def broken(*arguments, **options):
        raise MemoryError("planted")

    monkeypatch.setattr(app_run, "analyze", broken)
    with pytest.raises(MemoryError):  # the kernel tells it to whoever listens; a click would only log it here
        page._view.pressed(None)
    assert "The analysis failed: MemoryError: planted" in page._view.message.value
    assert not page._view.button.disabled


def test_the_run_is_shown_with_answer_pictures_link_and_history(page):
    press(page, "1, 2, 3", batch=2)
    view = page._view
    assert "Is the answer the same? Yes." in view.answer.value
    assert all(bytes(image.value).startswith(b"\x89PNG") for image, _ in view.pictures)
    says = [text.value for _, text in view.pictures]
    assert "with set-up and" in says[0]
    assert "this machine cannot tell A from A within" in says[1] or "too few for an interval" in says[1]
    assert "MLP, batch 2: 1.0 KiB of arena, 1.000 times the lower bound" in says[2]
    assert 'download="analysis_MLP_2.json"' in view.export.value
    assert "this session" in view.history.value


def test_history_tells_sessions_and_machines_apart_and_bears_what_others_wrote(small):
    first = Analyzer()
    first.analyze("1", batch=1)
    second = Analyzer()
    second.analyze("1, 2", batch=2)
    record("analysis", model="resnet18", batch="many", ratio=float("nan"), low=0, high=float("inf"), machine="other")
    record("analysis", ratio=1.5, low=0.0, high=float("inf"), floor=float("inf"), naive_bytes=2048, same=[])
    record("exercise", exercise="1.1", state="solved")
    rows = app_history.rows(second.session)
    assert [row[0] for row in rows] == ["another machine", "another machine", "this session", "earlier"]
    assert rows[0][5:] == ("?", "2.0 KiB", "?", "1.50x, too few rounds for an interval")
    assert rows[1][2:4] == ("resnet18", "?")
    assert [row[4] for row in rows[2:]] == ["2", "1"]
    assert app_history.table(()).count("<tr>") == 5


def test_history_shows_the_newest_runs(small):
    record("analysis", model="<script>")
    assert "&lt;script&gt;" in app_history.table(())
    for _ in range(app_history.SHOWN):
        record("analysis", model="MLP")
    assert "The newest 10 of 11 runs" in app_history.table(())
    assert "script" not in app_history.table(())


def test_readers_without_a_kernel_see_the_memory_and_its_sentence(small, monkeypatch):
    shown = []
    monkeypatch.setattr("IPython.display.display", lambda data, raw: shown.append(data))
    page = Analyzer()
    page._ipython_display_()
    assert "run this cell" in shown[1]["text/plain"]
    page.analyze("1", batch=1)
    page._ipython_display_()
    assert "labsGuard" in shown[2]["text/html"]
    assert shown[3]["text/plain"].startswith("Peak memory above weights and input (measured, tracemalloc)")
    assert base64.b64decode(shown[3]["image/png"]).startswith(b"\x89PNG")
    assert shown[3][app.WIDGET_VIEW]["model_id"] == page.widget().model_id


def test_the_guard_knows_the_limit():
    assert f"const limit = {LIMIT};" in GUARD
