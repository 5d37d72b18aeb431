"""Verdicts and remedies on devices of made-up size, and `python -m labs_lib fit`."""

import json
import re
from functools import cache, partial

import pytest

from labs_lib.cli import main
from labs_lib.errors import LabError
from labs_lib.gpu_memory import DEVICES, Device, Plan, find_device, replay, will_it_fit
from labs_lib.gpu_memory.devices import DRIVER
from labs_lib.gpu_memory.fit import CONTEXT, HOPPER_WORKSPACE, WORKSPACE, smaller
from labs_lib.gpu_memory.models import Shape, transformer_step
from labs_lib.gpu_memory.verdicts import Bill, Remedy

TINY = partial(transformer_step, Shape(layers=2, width=32, heads=2, hidden=64, vocabulary=100, context=16))
MODELLED = CONTEXT + 2 * WORKSPACE


def gpu(usable, name="made up"):
    return Device(name, "no datasheet", int(usable) + DRIVER)


@pytest.fixture(scope="module")
def replays():
    return cache(replay)


@pytest.fixture(autouse=True)
def each_plan_is_replayed_once(replays, monkeypatch):
    monkeypatch.setattr("labs_lib.gpu_memory.fit.replay", lambda make_step, plan: replays(make_step, plan))


@pytest.fixture(scope="module")
def plain(replays):
    return replays(TINY, 16)


# --- verdicts -----------------------------------------------------------------------------------------


def test_yes_tight_and_no(plain):
    certain = plain.peak + plain.rounding + MODELLED
    fragmentation = int(0.05 * plain.peak)
    for usable, fits in (
        (certain + fragmentation, "yes"),
        (certain + fragmentation - 1, "tight"),
        (certain, "tight"),
        (certain - 1, "no"),
    ):
        verdict = will_it_fit(TINY, gpu(usable), 16)
        assert (verdict.fits, verdict.headroom) == (fits, usable - certain - fragmentation)
        assert sum(verdict.composition.values()) == plain.peak
        assert bool(verdict.remedies) == (fits != "yes")


def test_hopper_has_larger_workspaces():
    assert will_it_fit(TINY, "H100", 2).bill.workspaces == 2 * HOPPER_WORKSPACE
    assert will_it_fit(TINY, "A10", 2).bill.workspaces == 2 * WORKSPACE
    assert will_it_fit(partial(TINY, training=False), "A10", 2).bill.workspaces == WORKSPACE


def test_remedies_are_replays_and_those_that_fit_come_first(plain, replays):
    usable = MODELLED + plain.rounding + int(0.6 * plain.peak)
    verdict = will_it_fit(TINY, gpu(usable), 16)
    assert verdict.fits == "no"
    by_name = {remedy.name: remedy for remedy in verdict.remedies}
    assert set(by_name) >= {"accumulation", "checkpointing", "bfloat16", "smaller batch", "plain SGD", "freezing"}
    for remedy in verdict.remedies:
        run = replays(TINY, remedy.plan)
        assert remedy.bill.peak == run.peak
        assert remedy.saving == plain.peak - run.peak > 0
        assert remedy.flops_ratio == pytest.approx(run.flops / remedy.plan.batch / (plain.flops / 16))
        assert remedy.fits == remedy.bill.verdict(usable)
    order = [(remedy.fits == "no", not remedy.same_result) for remedy in verdict.remedies if remedy.fits != "tight"]
    assert order == sorted(order)
    assert by_name["checkpointing"].flops_ratio > by_name["accumulation"].flops_ratio == 1


def test_among_those_that_fit_the_same_result_comes_first():
    bill = Bill(peak=1, rounding=0, workspaces=0, context=0, fragmentation=0)

    def remedy(name, flops_ratio, fits):
        return Remedy(name, Plan(1), bill, 1, flops_ratio, fits, "")

    wanted = [
        remedy("accumulation", 1.0, "yes"),
        remedy("accumulation + checkpointing", 1.3, "yes"),
        remedy("freezing", 0.4, "yes"),
        remedy("freezing + checkpointing", 0.6, "yes"),
        remedy("checkpointing", 1.3, "tight"),
        remedy("plain SGD", 1.0, "no"),
    ]
    shuffled = [wanted[i] for i in (5, 2, 0, 4, 1, 3)]
    assert sorted(shuffled, key=lambda one: one.rank) == wanted


def test_batch_and_micro_batches_are_the_first_that_fit(plain, replays):
    usable = MODELLED + plain.rounding + int(0.6 * plain.peak)
    device = gpu(usable)
    by_name = {remedy.name: remedy.plan for remedy in will_it_fit(TINY, device, 16).remedies}

    def fits(plan):
        run = replays(TINY, plan)
        return run.peak + run.rounding + MODELLED <= usable

    batch = by_name["smaller batch"].batch
    assert fits(Plan(batch))
    assert not fits(Plan(min(size for size in [*smaller(16), 16] if size > batch)))
    count = by_name["accumulation"].micro_batches
    assert fits(Plan(16, micro_batches=count))
    assert not fits(Plan(16, micro_batches=count // 2))


def test_pairs_are_tried_where_no_single_change_fits():
    nothing = will_it_fit(TINY, gpu(1), 16)
    assert "Nothing of this makes it fit." in str(nothing)
    needs = {pair: [r.bill.certain for r in nothing.remedies if (" + " in r.name) is pair] for pair in (False, True)}
    assert min(needs[True]) < min(needs[False])
    verdict = will_it_fit(TINY, gpu(min(needs[True])), 16)
    fitting = [remedy for remedy in verdict.remedies if remedy.fits != "no"]
    assert fitting
    assert all(" + " in remedy.name and "; " in remedy.caveat for remedy in fitting)
    assert "Nothing of this" not in str(verdict)


def test_inference_has_a_shorter_list():
    verdict = will_it_fit(partial(TINY, training=False), gpu(1), 4)
    assert {remedy.name for remedy in verdict.remedies} == {"bfloat16", "smaller batch"}
    assert "inference step" in verdict.sentence


def test_a_t4_has_no_bfloat16():
    t4, other = (will_it_fit(TINY, gpu(1, name), 16) for name in ("T4", "L4"))
    assert any("a T4 has none" in remedy.caveat for remedy in t4.remedies)
    assert not any("a T4 has none" in remedy.caveat for remedy in other.remedies)


def test_shown_as_text_html_and_json(plain):
    verdict = will_it_fit(TINY, gpu(MODELLED + plain.peak // 2), 16)
    text, page, data = str(verdict), verdict._repr_html_(), json.loads(json.dumps(verdict.as_dict()))
    for part in (verdict.sentence, "counted   peak of the step", "modelled  fragmentation", "cuDNN", "checkpointing"):
        assert part in text
    assert page.count("<tr>") == len(verdict.rows()) + 1 + len(verdict.remedies)
    assert data["counted"]["peak_bytes"] == sum(data["counted"]["composition_bytes"].values()) == plain.peak
    assert data["headroom_bytes"] == verdict.headroom < 0
    assert [remedy["name"] for remedy in data["remedies"]] == [remedy.name for remedy in verdict.remedies]


def test_devices():
    assert list(DEVICES) == ["T4", "L4", "A10", "A100-40", "A100-80", "H100", "H200", "RTX 4090"]
    assert all(device.usable < device.total and "NVIDIA" in device.datasheet + "NVIDIA" for device in DEVICES.values())
    assert find_device("a100 80") is DEVICES["A100-80"]
    with pytest.raises(LabError, match=r"(?s)'V100' is not known.*T4, L4.*RTX 4090"):
        find_device("V100")


# --- the command --------------------------------------------------------------------------------------


@pytest.fixture
def models(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "my_steps.py").write_text(
        "import torch\n"
        "from labs_lib.gpu_memory import Step\n"
        "def net(): return torch.nn.Sequential(torch.nn.Linear(16, 16), torch.nn.ReLU(), torch.nn.Linear(16, 16))\n"
        "def large(): return torch.nn.Linear(62_000, 62_000)\n"
        "def words(): return torch.nn.Embedding(10, 16)\n"
        "def make_step(batch): return Step(net(), torch.ones(batch, 16), optimizer=torch.optim.SGD)\n"
        "def infer(batch): return Step(net().eval(), torch.ones(batch, 16))\n"
        "def broken(batch): raise KeyError('weights')\n"
        "def broken_model(): raise KeyError('weights')\n"
        "def nothing(batch): return None\n"
        "def on_gpu(batch): return Step(net(), torch.ones(batch, 17), optimizer=torch.optim.SGD)\n"
        "model = net()\n"
        "number = 3\n"
    )
    (tmp_path / "my_broken_steps.py").write_text("1 / 0\n")


def said(capsys, *arguments):
    """Exit code, stdout and stderr; an error is one line without a traceback."""
    code = main(["fit", *(str(argument) for argument in arguments)])
    out, err = capsys.readouterr()
    if code == 2:
        assert out == ""
        assert re.fullmatch(r"labs_lib: [^\n]+\n", err), err
    return code, out, err


def test_the_command_is_a_gate(models, capsys):
    code, out, _ = said(capsys, "my_steps:make_step", "--batch", 8, "--device", "l4")
    assert code == 0
    assert out.startswith("It fits: one training step with batch 8 on L4")
    code, out, _ = said(capsys, "my_steps:infer", "--json")
    assert (code, json.loads(out)["training"], json.loads(out)["batch"]) == (0, False, 32)
    code, out, _ = said(capsys, "my_steps:large", "--input", 62000, "--batch", 1, "--inference", "--json")
    assert (code, json.loads(out)["fits"]) == (1, "no")


def test_a_model_needs_the_shape_of_one_sample(models, capsys):
    code, out, _ = said(capsys, "my_steps:net", "--input", 16, "--batch", 4, "--json")
    data = json.loads(out)
    assert (code, data["training"]) == (0, True)
    parameters = 2 * (16 * 16 + 16) * 4
    assert data["counted"]["composition_bytes"]["parameters"] == parameters
    assert data["counted"]["composition_bytes"]["inputs"] == 4 * 16 * 4
    code, out, _ = said(capsys, "my_steps:net", "--input", 16, "--batch", 4, "--inference", "--json")
    assert (code, json.loads(out)["training"]) == (0, False)
    assert said(capsys, "my_steps:words", "--input", "5:int64")[0] == 0


def test_bad_input(models, capsys):
    for arguments, message in (
        (["my_steps"], "is not MODULE:NAME"),
        (["my_steps:"], "is not MODULE:NAME"),
        (["no_such_module:net"], "Can't import no_such_module"),
        (["my_broken_steps:net"], "Can't import my_broken_steps: ZeroDivisionError"),
        (["my_steps:missing"], "Module my_steps has no missing"),
        (["my_steps:number"], "my_steps:number is no function"),
        (["my_steps:model"], "my_steps:model is a model, not make_step(batch)"),
        (["torch.nn:Linear"], "torch.nn:Linear is a model"),
        (["my_steps:net"], "can't be called with a batch"),
        (["my_steps:nothing"], "returned NoneType, and no Step"),
        (["my_steps:broken"], "make_step failed on fake tensors with KeyError: 'weights'"),
        (["my_steps:on_gpu"], "The step failed on fake tensors"),
        (["my_steps:make_step", "--inference"], "--inference needs --input"),
        (["my_steps:make_step", "--batch", "0"], "'0' is no whole number above 0"),
        (["my_steps:make_step", "--batch", "many"], "'many' is no whole number above 0"),
        (["my_steps:make_step", "--device", "K80"], "The device 'K80' is not known."),
        (["my_steps:net", "--input", "axb"], "--input axb is no shape"),
        (["my_steps:net", "--input", "17"], "The step failed on fake tensors"),
        (["my_steps:number", "--input", "16"], "my_steps:number is no function"),
        (["my_steps:model", "--input", "16"], "a model that was made before"),
        (["my_steps:broken_model", "--input", "16"], "my_steps:broken_model() failed with KeyError: 'weights'"),
        ([], "required: MODULE:FACTORY"),
    ):
        code, _, err = said(capsys, *arguments)
        assert code == 2, (arguments, err)
        assert message in err, (arguments, err)
