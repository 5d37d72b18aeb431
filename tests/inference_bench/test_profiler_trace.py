"""torch's profiler: a trace that loads, operators, and the layers it gives the time to."""

import gzip
import json
import warnings

import pytest
import torch
from torch import nn

from labs_lib.errors import LabError
from labs_lib.inference_bench.profile import layers
from labs_lib.inference_bench.trace import trace


class Block(nn.Module):
    def __init__(self):
        super().__init__()
        self.linear = nn.Linear(32, 32)

    def forward(self, x):
        return nn.functional.scaled_dot_product_attention(x, self.linear(x), x) + x


@pytest.fixture
def model():
    return nn.Sequential(nn.Linear(32, 32), Block())


@pytest.fixture
def batch():
    return torch.ones(2, 8, 32)


def test_the_trace_is_valid_json_with_a_region_for_each_module(model, batch, tmp_path, capfd):
    found = trace(model, batch, tmp_path / "trace.json", budget_s=0.01)
    events = json.loads(found.path.read_text())["traceEvents"]
    seen = {event.get("name") for event in events}
    assert {"layer: 0", "layer: 1", "layer: 1.linear", "layer: Sequential", "aten::linear"} <= seen
    assert "ui.perfetto.dev" in str(found)
    assert capfd.readouterr().err == ""


def test_a_compressed_trace(model, batch, tmp_path):
    found = trace(model, batch, tmp_path / "trace.json.gz", budget_s=0.01)
    assert json.loads(gzip.decompress(found.path.read_bytes()))["traceEvents"]


def test_without_a_file_none_is_written(model, batch, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert trace(model, batch, budget_s=0.01).path is None
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", [".", "missing/trace.json"])
def test_a_file_that_cannot_be_written_is_said_before_the_work(tmp_path, name):
    with pytest.raises(LabError, match="can't be written"):
        trace(None, None, tmp_path / name)


def test_operators_are_counted_for_one_call(model, batch):
    found = {operator.name: operator for operator in trace(model, batch, budget_s=0.01).operators}
    assert found["aten::addmm"].calls == 2
    assert found["aten::scaled_dot_product_attention"].calls == 1
    assert not any(name.startswith("layer: ") for name in found)
    assert all(operator.device_s == 0 for operator in found.values())


def test_time_goes_to_the_innermost_region(model, batch, limits):
    found = trace(model, batch, budget_s=0.01)
    assert set(found.layer_s) == {"0", "1", "1.linear"}
    assert found.outside_s == 0
    assert sum(found.layer_s.values()) == pytest.approx(sum(operator.cpu_s for operator in found.operators), rel=1e-6)
    beside = found.beside(layers(model, batch, limits=limits, budget_s=0.01))
    assert {row[0] for row in beside} == {"0", "1", "1.linear", "all layers"}
    assert beside[-1][1] == pytest.approx(sum(row[1] for row in beside[:-1]))
    assert beside[-1][2] == pytest.approx(sum(row[2] for row in beside[:-1]))


def test_nothing_deprecated_is_called(model, batch, tmp_path):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        found = trace(model, batch, tmp_path / "trace.json", budget_s=0.01)
    assert json.loads(json.dumps(found.as_dict()))["overhead"]["what"] == "torch.profiler"


def test_a_model_that_fails_is_named(batch):
    with pytest.raises(LabError, match="can't take this input"):
        trace(nn.Linear(3, 3), batch, budget_s=0.01)
