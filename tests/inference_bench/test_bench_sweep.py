"""The sweep: what is measured, what is refused with a reason, and that the rest goes on."""

from types import SimpleNamespace

import pytest
import torch
from torch import nn

from labs_lib import hardware
from labs_lib.errors import LabError
from labs_lib.inference_bench import calls as calls_module
from labs_lib.inference_bench import sweep as sweep_module
from labs_lib.inference_bench import variants
from labs_lib.inference_bench import warm_up as warm_up_module
from labs_lib.inference_bench.models import Info
from labs_lib.inference_bench.results import HEAD, run_of
from labs_lib.inference_bench.rows import Key, Settings, key_of
from labs_lib.inference_bench.sweep import sweep
from labs_lib.inference_bench.variants import VARIANTS, Workbench, variants_named
from labs_lib.inference_bench.warm_up import warm_up


def convolution():
    return nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(4 * 6 * 6, 5))


def linear():
    return nn.Linear(3, 2)


class FailsAtTwo(nn.Linear):
    def __init__(self):
        super().__init__(3, 2)

    def forward(self, x):
        if len(x) == 2:
            raise ValueError("two is\ntoo many")
        return super().forward(x)


class Unfinished(FailsAtTwo):
    """Fails in its 30th call, when it is being timed."""

    calls = 0

    def forward(self, x):
        type(self).calls += 1
        if self.calls == 30:
            raise RuntimeError("worn out")
        return nn.Linear.forward(self, x)


class NotANumber(nn.Module):
    def forward(self, x):
        return x * float("nan")


class OneAnswerForAll(nn.Module):
    def forward(self, x):
        return x.sum()


class NoTensor(nn.Module):
    def forward(self, x):
        return [x]


class WithoutAModule:
    def prepare_input(self, batch_size):
        return {"x": torch.ones(batch_size, 3)}

    def forward(self, batch):
        return batch["x"] * 2

    def info(self):
        return Info("without", "", 0, 0, (3,), "float32")

    def to(self, device):
        return self


def name_of(thing):
    return f"{__name__}:{thing}"


def settings(thing="linear", input="3", batches=(1, 2), chosen=("eager", "inference_mode"), rounds=2, **others):
    models = others.pop("models", (name_of(thing),))
    return Settings(models, ("cpu",), batches, tuple(chosen), 1, rounds, "ci", input, **others)


def said(capsys):
    """Lines on stderr that are no progress bar."""
    lines = capsys.readouterr().err.replace("\r", "\n").splitlines()
    return [line for line in lines if line.strip() and not line.startswith("measuring:")]


def statuses(journal):
    """(variant, batch) -> status and reason, after all rows."""
    results = run_of(journal.header, journal.rows).results
    return {(result.key.variant, result.key.batch): (result.status, result.reason) for result in results}


def test_every_variant_of_a_small_convolution_is_measured_and_right(tmp_path):
    journal = sweep(settings("convolution", "3x8x8", batches=(1, 3), chosen=variants_named(None)), tmp_path)
    run = run_of(journal.header, journal.rows)
    compiler = hardware.compiler() is not None
    for result in run.results:
        if result.key.variant == "compile" and not compiler:
            assert (result.status, result.reason) == ("unavailable", "there is no C++ compiler here")
            continue
        assert (result.status, result.reason) == ("ok", "")
        assert len(result.rounds) == 2
        assert result.facts["difference"] <= VARIANTS[result.key.variant].tolerance
        assert result.flops == result.key.batch * 2 * (4 * 6 * 6 * 27 + 4 * 6 * 6 * 5)  # counted by hand
    peaks = {(result.key.variant, result.key.batch): result.facts["peak_bytes"] for result in run.results}
    feature = 4 * 6 * 6 * 4  # bytes of what the convolution, and then the ReLU, makes of one image
    assert peaks["eager", 3] == peaks["inference_mode", 3] == 3 * 2 * feature
    assert peaks["bf16", 3] == 3 * feature
    assert peaks["onnx", 3] is None
    assert "ONNX" in run.results[5].facts["peak_by"]
    off_by = {row[0].split()[-1]: row[HEAD.index("off by")] for row in run.rows()}
    assert off_by["eager"] == off_by["inference_mode"] == ""
    assert 1e-4 < float(off_by["bf16"]) < VARIANTS["bf16"].tolerance


def test_a_round_times_everything_once_before_the_next_begins(tmp_path):
    journal = sweep(settings(batches=(1, 2, 4), rounds=4), tmp_path)
    rounds = [row for row in journal.rows if row["kind"] == "round"]
    assert [row["round"] for row in rounds] == [number for number in range(4) for _ in range(6)]
    orders = [tuple(map(key_of, rounds[6 * number : 6 * number + 6])) for number in range(4)]
    assert all(len(set(order)) == 6 for order in orders)
    assert len(set(orders)) > 1  # in another order each time
    assert [row["kind"] for row in journal.rows[:6]] == ["setup"] * 6
    for row in rounds:
        assert 1 <= len(row["calls"]) <= 64
        assert all(0 < busy <= wall for busy, wall in zip(row["busy"], row["calls"], strict=True))
        assert min(row["product"] + row["near"] + row["far"]) > 0


def test_a_wrong_answer_is_refused_and_not_timed(tmp_path, monkeypatch):
    torch.manual_seed(0)
    monkeypatch.setattr(Workbench, "_bf16", lambda self, batch: self.model.forward(batch.float()) * 1.5)
    journal = sweep(settings(chosen=("eager", "bf16")), tmp_path)
    found = statuses(journal)
    assert found["eager", 1] == ("ok", "")
    status, reason = found["bf16", 1]
    assert status == "wrong answer"
    off, told = reason.split(maxsplit=1)
    assert float(off) == pytest.approx(0.5, abs=0.02)  # the input was rounded to bfloat16
    assert told == "of the largest value from eager's answer, 5e-02 allowed"
    assert not [row for row in journal.rows if row["kind"] == "round" and row["variant"] == "bf16"]


def test_what_fails_is_one_row_with_its_reason_and_the_rest_goes_on(tmp_path, capsys):
    journal = sweep(settings("FailsAtTwo", batches=(1, 2, 4)), tmp_path)
    found = statuses(journal)
    assert found["eager", 2] == ("failed", "ValueError: two is too many")
    assert found["inference_mode", 2] == ("failed", "as eager: ValueError: two is too many")
    assert found["eager", 1] == found["inference_mode", 4] == ("ok", "")
    (line,) = said(capsys)
    assert line.endswith("eager, batch 2, cpu: failed: ValueError: two is too many")


def test_what_fails_while_it_is_timed_is_a_row_too(tmp_path, capsys, monkeypatch):
    Unfinished.calls = 0
    monkeypatch.setattr(sweep_module, "warm_up", lambda *_: warm_up_module.Warm(1, 1e-3))  # else it may fail in there
    journal = sweep(settings("Unfinished", batches=(1,), rounds=3), tmp_path)
    failed = [row for row in journal.rows if row["status"] == "failed"]
    assert [(row["kind"], row["reason"]) for row in failed] == [("round", "RuntimeError: worn out")]
    broken = key_of(failed[0])
    assert sorted(status for status, _ in statuses(journal).values()) == ["failed", "ok"]
    assert not [row for row in journal.rows[journal.rows.index(failed[0]) + 1 :] if key_of(row) == broken]


@pytest.mark.parametrize(
    ("thing", "says"),
    [
        ("NotANumber", "the answer has NaN or infinite values"),
        ("OneAnswerForAll", "the answer's shape is (), not one row for each sample"),
        ("NoTensor", "the answer is of type list, no tensor"),
    ],
)
def test_no_answer_to_compare_with(thing, says, tmp_path):
    journal = sweep(settings(thing, batches=(2,)), tmp_path)
    assert statuses(journal) == {
        ("eager", 2): ("failed", says),
        ("inference_mode", 2): ("failed", f"as eager: {says}"),
    }


def test_a_batch_that_does_not_fit_is_not_tried(tmp_path, monkeypatch):
    monkeypatch.setattr(hardware, "memory", lambda: (10**9, 1000))
    journal = sweep(settings(batches=(1, 100)), tmp_path)  # one sample: 12 bytes of input and 8 of answer
    found = statuses(journal)
    assert found["eager", 1] == ("ok", "")
    status, reason = found["eager", 100]
    assert status == "does not fit"
    assert reason == "it needs about 2.0 KiB (modelled from one sample), 1.0 KiB are available"
    assert found["inference_mode", 100] == ("does not fit", f"as eager: {reason}")


def test_memory_that_runs_out_is_said(tmp_path, monkeypatch):
    def full(self, variant, batch_size):
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate")

    monkeypatch.setattr(Workbench, "runner", full)
    assert statuses(sweep(settings(batches=(1,)), tmp_path))["eager", 1] == ("does not fit", "out of memory")


def test_unknown_models_and_devices_are_rows(tmp_path, capsys):
    models = ("resnet51", name_of("linear"))
    chosen = Settings(models, ("cpu", "tpu"), (1,), ("eager",), 1, 2, "ci", "3")
    run = run_of((journal := sweep(chosen, tmp_path)).header, journal.rows)
    found = [(each.key.model, each.key.device, each.status, each.reason.partition(". ")[0]) for each in run.results]
    assert found == [
        ("resnet51", "cpu", "unavailable", "There is no model 'resnet51'"),
        ("resnet51", "tpu", "unavailable", "There is no model 'resnet51'"),
        (models[1], "cpu", "ok", ""),
        (models[1], "tpu", "unavailable", "There is no device 'tpu'"),
    ]
    assert len(said(capsys)) == 3


def test_a_model_without_a_module_has_two_variants(tmp_path):
    journal = sweep(settings("WithoutAModule", None, (2,), variants_named(None)), tmp_path)
    found = statuses(journal)
    assert found["eager", 2] == found["inference_mode", 2] == ("ok", "")
    rest = {status for (variant, _), status in found.items() if variant not in ("eager", "inference_mode")}
    assert rest == {("unavailable", "the model shows no torch module in an attribute `module`")}


def test_missing_packages_are_named(monkeypatch):
    monkeypatch.setattr(variants.importlib.util, "find_spec", lambda name: None if name.startswith("onnx") else name)
    bench = Workbench(sweep_module.load(name_of("linear"), "3"), "cpu", 1)
    assert bench.missing("onnx") == "not installed: onnx, onnxruntime, onnxscript"
    assert bench.missing("eager") == ""
    bench.close()


def test_names_of_variants():
    assert variants_named(None) == tuple(VARIANTS)
    assert variants_named(["int8", "int8", "eager"]) == ("eager", "int8")
    with pytest.raises(LabError, match="There is no variant 'fp4'"):
        variants_named(["fp4"])


def test_the_threads_are_pinned_while_it_measures(tmp_path, monkeypatch):
    seen = []

    def watched(*run_and_device):
        seen.append(torch.get_num_threads())
        return warm_up(*run_and_device)

    monkeypatch.setattr(sweep_module, "warm_up", watched)
    sweep(Settings((name_of("linear"),), ("cpu",), (1,), ("eager",), 2, 1, "ci", "3"), tmp_path)
    assert seen == [2]


def test_what_is_done_is_not_done_again(tmp_path, monkeypatch):
    first = sweep(settings(), tmp_path)
    monkeypatch.setattr(sweep_module, "load", lambda *_: pytest.fail("loaded"))
    assert sweep(settings(), tmp_path).rows == first.rows


def test_warm_up_ends_when_calls_get_no_faster(monkeypatch):
    taken = iter([8.0, 4.0, 2.0, 1.0, 0.5, 0.25, 0.25, 0.25, 0.25, 0.25])
    clock = SimpleNamespace(now=0.0)
    monkeypatch.setattr(warm_up_module, "MOST_S", 100.0)
    for hand in ("perf_counter", "process_time"):
        monkeypatch.setattr(calls_module, hand, lambda: clock.now)

    def run():
        clock.now += next(taken)

    found = warm_up(run)
    assert (found.calls, found.seconds) == (9, 0.25)  # the last three are not faster than the sixth


def test_a_slow_model_is_not_warmed_up_for_long(monkeypatch):
    clock = SimpleNamespace(now=0.0)
    for hand in ("perf_counter", "process_time"):
        monkeypatch.setattr(calls_module, hand, lambda: clock.now)

    def run():
        clock.now += 5.0

    assert warm_up(run).calls == 1


def test_a_warm_call_is_sized_without_what_others_took_of_it(monkeypatch):
    """Half of each call another process has the core: samples of that would be too short."""
    clock = SimpleNamespace(now=0.0)
    monkeypatch.setattr(calls_module, "perf_counter", lambda: clock.now)
    monkeypatch.setattr(calls_module, "process_time", lambda: clock.now / 2)
    monkeypatch.setattr(calls_module, "_switches", lambda: 0)

    def run(seconds):
        clock.now += seconds

    assert warm_up(lambda: run(0.5)) == warm_up_module.Warm(4, 0.25)
    assert warm_up(lambda: run(1.5)).calls == 2  # two seconds are two seconds of who waits


def test_keys_are_said_in_words():
    assert str(Key("gpt2", "cpu", "bf16", 8)) == "gpt2, bf16, batch 8, cpu"


class Moody(nn.Linear):
    """Works until `fails` is set."""

    fails = False

    def __init__(self):
        super().__init__(3, 2)

    def forward(self, x):
        if self.fails:
            raise RuntimeError("not today")
        return super().forward(x)


def test_what_no_longer_works_when_a_run_goes_on_is_said(tmp_path, monkeypatch):
    chosen = settings("Moody", batches=(1,), rounds=3)
    journal = sweep(chosen, tmp_path)
    lines = (tmp_path / "rows.jsonl").read_text().splitlines(keepends=True)
    (tmp_path / "rows.jsonl").write_text("".join(lines[:-2]))  # as a kill before the last round leaves it
    monkeypatch.setattr(Moody, "fails", True)
    journal = sweep(chosen, tmp_path)
    found = statuses(journal)
    assert found["eager", 1] == ("failed", "RuntimeError: not today")
    assert [row["status"] for row in journal.rows if row["kind"] == "round"][:4] == ["ok"] * 4


class InfoLess(WithoutAModule):
    def info(self):
        return {"name": "wrong kind of info"}


def test_an_info_of_another_kind_is_a_row(tmp_path):
    status, reason = statuses(sweep(settings("InfoLess", None, (1,)), tmp_path))["eager", 1]
    assert (status, reason) == ("failed", "AttributeError: 'dict' object has no attribute 'as_dict'")


def test_the_progress_ends_where_everything_is_said(tmp_path, monkeypatch):
    moved = []

    class Bar:
        def __init__(self, total, initial, **others):
            moved.append([total, initial])

        def __enter__(self):
            return self

        def __exit__(self, *error):
            pass

        def update(self, steps):
            moved[-1][1] += steps

        write = staticmethod(lambda line, file: None)

    monkeypatch.setattr(sweep_module, "tqdm", Bar)
    chosen = settings("FailsAtTwo", batches=(1, 2), chosen=("eager", "channels_last"), rounds=3)
    sweep(chosen, tmp_path)
    sweep(chosen, tmp_path)
    assert moved == [[16, 16], [16, 16]]


def test_peak_memory_names_the_tool_of_each_device(monkeypatch):
    def run():
        return torch.ones(256).exp()

    assert warm_up_module.peak_memory(run, "cpu") == (2048, "counted")
    assert warm_up_module.peak_memory(run, "cpu", counted=False)[0] is None
    monkeypatch.setattr(warm_up_module, "counted_peak", lambda run: None)
    with pytest.raises(MemoryError, match="out of memory"):
        warm_up_module.peak_memory(run, "cpu")
    monkeypatch.setattr(torch.cuda, "memory_allocated", lambda: 1000)
    monkeypatch.setattr(torch.cuda, "reset_peak_memory_stats", lambda: None)
    monkeypatch.setattr(torch.cuda, "max_memory_allocated", lambda: 1700)
    assert warm_up_module.peak_memory(run, "cuda") == (700, "measured by torch.cuda")
    monkeypatch.setattr(torch.mps, "driver_allocated_memory", lambda: 5)
    assert warm_up_module.peak_memory(run, "mps")[0] == 5
