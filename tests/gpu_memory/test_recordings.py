"""Recordings: written, read and compared with the prediction; the CPU's tracker stands in for a GPU."""

from functools import partial

import pytest
import torch

from labs_lib.errors import LabError
from labs_lib.gpu_memory import DEVICES, Plan, replay, track
from labs_lib.gpu_memory.cuda_rules import on_cuda
from labs_lib.gpu_memory.fit import HOPPER_WORKSPACE, WORKSPACE
from labs_lib.gpu_memory.models import STEPS, Shape, mlp, transformer_step
from labs_lib.gpu_memory.plans import apply
from labs_lib.gpu_memory.recordings import CASES, Case, predicted, recordings, write_recordings
from tools import record_gpu_memory
from tools.record_gpu_memory import record

ABOUT = {"device": "Tesla T4", "driver": "535.104", "torch": "2.15.0", "date": "2026-01-02"}
SMALL = {
    "MLP": partial(mlp, width=64, layers=2),
    "encoder": partial(
        transformer_step, Shape(layers=2, width=32, heads=2, hidden=64, vocabulary=100, context=16, causal=False)
    ),
}


@pytest.fixture
def small(monkeypatch):
    for name, make in SMALL.items():
        monkeypatch.setitem(STEPS, name, make)
    return [Case(name, training, half, 4) for name in SMALL for training in (True, False) for half in (False, True)]


def on_this_cpu(case, repeats):
    """The tracker on real tensors in the place of CUDA's counter, with the allocator's rounding."""
    step = apply(case.plan, case.make_step(case.batch))
    step.prepare()
    if step.trains:
        on_cuda(step.state)
        step.run()
    samples = []
    for _ in range(repeats):
        trace = track(step.run, model=step.model, optimizer=step.state, inputs=(step.inputs, step.targets))
        rounding = sum(-block.size % 512 for block in trace.alive(trace.peak_at))
        samples.append(trace.peak + rounding + (2 if case.training else 1) * WORKSPACE)
    return samples


def test_the_prediction_is_what_real_tensors_need_where_cuda_and_cpu_agree(small, capsys):
    """Half precision in training is left out: the CPU's autocast has other lists."""
    cases = [case for case in small if not (case.training and case.half)]
    for one in record(on_this_cpu, DEVICES["T4"], ABOUT, cases, repeats=2):
        if one.case.model == "MLP":
            assert one.samples == (one.predicted,) * 2, one.case
        else:  # CUDA's attention kernel saves its row sums in multiples of 32 rows
            assert 0 <= one.error < 1e-3, one.case
    assert len(capsys.readouterr().out.splitlines()) == len(cases)


def test_the_prediction_counts_peak_rounding_and_workspaces(small):
    case = Case("MLP", True, False, 4)
    run = replay(case.make_step, Plan(4))
    assert predicted(case, DEVICES["A10"]) == run.peak + run.rounding + 2 * WORKSPACE
    assert predicted(case, DEVICES["H100"]) == run.peak + run.rounding + 2 * HOPPER_WORKSPACE


def test_written_and_read_again(small, tmp_path):
    found = record(lambda case, repeats: [100, 110, 90][:repeats], DEVICES["T4"], ABOUT, small[:2], repeats=3)
    write_recordings(tmp_path / "sub" / "gpu_memory_tesla_t4.json", found)
    again = recordings(tmp_path / "sub")
    assert again == found
    assert again[0].measured == 100
    assert again[0].error == pytest.approx(found[0].predicted / 100 - 1)
    assert again[0].says == "recorded on Tesla T4 on 2026-01-02, torch 2.15.0, driver 535.104"
    assert str(again[0].case) == "MLP, training, float32"


def test_no_recordings_is_an_empty_list(tmp_path):
    assert recordings(tmp_path) == []
    assert recordings(tmp_path / "missing") == []


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"device": 1}', '{"cases": 3}'])
def test_broken_files(tmp_path, text):
    (tmp_path / "gpu_memory_x.json").write_text(text)
    with pytest.raises(LabError, match="is no recording"):
        recordings(tmp_path)


def test_what_is_in_the_repository_can_be_read():
    assert all(abs(one.error) < 1 and len(one.samples) > 1 for one in recordings())


def test_twenty_cases_of_five_models():
    assert len(CASES) == 20
    assert {case.model for case in CASES} == set(STEPS)
    assert len({str(case) for case in CASES}) == 20


def test_without_a_gpu_it_says_what_is_needed(monkeypatch, capsys):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert record_gpu_memory.main([]) == 2
    out, err = capsys.readouterr()
    assert (out, err.count("\n")) == ("", 1)
    assert "needs an NVIDIA GPU" in err


def test_with_a_gpu_it_writes_the_file(small, monkeypatch, tmp_path, capsys):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(record_gpu_memory, "CASES", [case for case in small if not case.training][:1])
    monkeypatch.setattr(record_gpu_memory, "FOLDER", tmp_path)
    monkeypatch.setattr(record_gpu_memory, "measure_on_cuda", on_this_cpu)
    monkeypatch.setattr(record_gpu_memory, "this_device", lambda: (DEVICES["T4"], ABOUT))
    assert record_gpu_memory.main(["--repeats", "2"]) == 0
    assert [len(one.samples) for one in recordings(tmp_path)] == [2]
    assert (tmp_path / "gpu_memory_tesla_t4.json").exists()
    with pytest.raises(SystemExit):
        record_gpu_memory.main(["--repeats", "0"])
