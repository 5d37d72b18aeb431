"""Counts of layers, exactly: FLOPs, bytes, calls, outputs, peaks; and times that add up."""

from dataclasses import dataclass

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from labs_lib.errors import LabError
from labs_lib.inference_bench.layers import OUTSIDE, count_layers
from labs_lib.inference_bench.models import load
from labs_lib.inference_bench.modules import calling, watching
from labs_lib.inference_bench.profile import layers
from labs_lib.peak import counted_peak

F32 = 4


class Doing(nn.Module):
    """A module that does what a function does."""

    def __init__(self, do, **parts):
        super().__init__()
        self.do = do
        for name, part in parts.items():
            setattr(self, name, part)

    def forward(self, *args, **kwargs):
        return self.do(self, *args, **kwargs)


def one(do, *inputs):
    """The only layer of a module that does this."""
    (layer,) = count_layers(Doing(lambda self, *args: do(*args)), inputs).layers
    return layer


def test_a_linear_layer_by_hand():
    (layer,) = count_layers(nn.Sequential(nn.Linear(64, 10)), torch.ones(32, 64)).layers
    assert (layer.name, layer.kind, layer.calls) == ("0", "Linear", 1)
    assert layer.flops == 2 * 32 * 64 * 10
    assert layer.weight_bytes == F32 * (64 * 10 + 10)
    assert layer.other_bytes == F32 * (32 * 64 + 32 * 10)
    assert layer.intensity == layer.flops / layer.bytes_moved
    assert layer.output_bytes == layer.peak_bytes == F32 * 32 * 10
    assert layer.flops_by_dtype == {"float32": layer.flops}


def test_a_convolution_by_hand():
    (layer,) = count_layers(nn.Sequential(nn.Conv2d(3, 8, 3, padding=1, bias=False)), torch.ones(2, 3, 16, 16)).layers
    assert layer.flops == 2 * (2 * 8 * 16 * 16) * (3 * 3 * 3)
    assert layer.weight_bytes == F32 * 8 * 3 * 3 * 3
    assert layer.other_bytes == F32 * 2 * (3 + 8) * 16 * 16


@pytest.mark.parametrize(
    ("do", "moved"),
    [
        (lambda x: x.relu(), 2 * 1000),
        (lambda x: x + x, 2 * 1000),  # one storage, read once
        (lambda x: x.clone().relu_(), 4 * 1000),  # in place: read and written
        (lambda x: torch.empty(1000).copy_(x), 2 * 1000),  # what is overwritten is not read
        (lambda x: x.clone().fill_(1.0), 3 * 1000),
        (lambda x: x[:10] * 2, 2 * 10),  # of a part only the part
        (lambda x: x.view(10, 100)[0].expand(5, 100) * 1, 100 + 500),
        (lambda x: x.view(10, 100).t().contiguous(), 2 * 1000),
        (lambda x: torch.add(x, 1, out=torch.empty(1000)), 2 * 1000),
        (lambda x: torch.cat([x, x[:10]]), 1000 + 1010),  # the part lies in what is read anyway
    ],
)
def test_bytes_of_an_operator_by_hand(do, moved):
    layer = one(do, torch.ones(1000))
    assert layer.bytes_moved == F32 * moved
    assert layer.flops == 0


def test_views_move_nothing_but_are_operators():
    layer = one(lambda x: x.view(10, 100).t()[2:4].unsqueeze(0), torch.ones(1000))
    assert (layer.bytes_moved, layer.operators) == (0, 4)


def test_a_view_that_is_not_declared_as_one_moves_nothing():
    (layer,) = count_layers(nn.Sequential(nn.Linear(10, 4, bias=False)), torch.ones(10, 10, 10)).layers
    assert layer.by_operator["_unsafe_view"] == 1
    assert (layer.weight_bytes, layer.other_bytes) == (F32 * 40, F32 * (1000 + 400))


def test_of_an_embedding_only_the_rows_are_read():
    (layer,) = count_layers(nn.Sequential(nn.Embedding(5000, 16)), torch.tensor([[1, 2, 3]])).layers
    assert layer.weight_bytes == F32 * 3 * 16
    assert layer.other_bytes == 3 * 8 + F32 * 3 * 16


def test_attention_belongs_to_the_module_that_calls_it():
    class Attention(nn.Module):
        def __init__(self):
            super().__init__()
            self.q = nn.Linear(16, 16)

        def forward(self, x):
            q = self.q(x).view(2, 8, 4, 4).transpose(1, 2)
            return F.scaled_dot_product_attention(q, q, q) + q @ q.transpose(-1, -2) @ q

    found = count_layers(nn.Sequential(Attention()), torch.ones(2, 8, 16))
    assert [layer.name for layer in found.layers] == ["0", "0.q"]
    batch_heads, tokens, width = 8, 8, 4
    assert found["0"].flops == 2 * (2 * 2 * batch_heads * tokens * tokens * width)  # twice two products
    assert found["0.q"].flops == 2 * 16 * 16 * 16


def test_the_fast_path_of_attention_is_kept_and_counted():
    attention = nn.MultiheadAttention(32, 4, batch_first=True)
    model = Doing(lambda self, x: self.attention(x, x, x, need_weights=False)[0], attention=attention)
    layer = count_layers(model, torch.ones(2, 8, 32))["attention"]
    assert set(layer.by_operator) == {"_native_multi_head_attention"}
    slow = count_layers(model.requires_grad_(True).train(), torch.ones(2, 8, 32))["attention"]
    assert layer.flops == slow.flops == 4 * 2 * 8 * 32 * (2 * 32) + 4 * 2 * 8 * 8 * 32
    assert not layer.uncounted


def test_a_shared_module_is_one_layer_called_often():
    shared = nn.Linear(8, 8)
    found = count_layers(nn.Sequential(shared, nn.ReLU(), shared, nn.Sequential(shared)), torch.ones(4, 8))
    assert [(layer.name, layer.calls) for layer in found.layers] == [("0", 3), ("1", 1)]
    assert found["0"].flops == 3 * 2 * 4 * 8 * 8
    assert found["0"].output_bytes == 3 * F32 * 4 * 8
    assert found.weights == F32 * 72


def test_nested_containers_and_modules_without_parameters():
    model = nn.Sequential(nn.Sequential(nn.Flatten(), nn.Sequential(nn.Linear(6, 2))), nn.Softmax(1))
    found = count_layers(model, torch.ones(3, 2, 3))
    assert [layer.name for layer in found.layers] == ["0.0", "0.1.0", "1"]
    assert found["0.0"].bytes_moved == 0


@dataclass
class Output:
    logits: torch.Tensor
    others: dict


def test_outputs_of_any_shape_and_keyword_arguments():
    def do(self, *, x, twice):
        y = self.linear(x)
        return Output(y, {"pair": (y, [y + 1]), "twice": twice, "none": None})

    model = Doing(do, linear=nn.Linear(8, 8))
    found = count_layers(model, {"x": torch.ones(4, 8), "twice": True})
    assert found["Doing"].output_bytes == 2 * F32 * 4 * 8  # y twice, but one storage
    assert [layer.name for layer in found.layers] == ["Doing", "linear"]


def test_outputs_of_transformers():
    from transformers import DistilBertConfig, DistilBertModel

    config = DistilBertConfig(vocab_size=50, dim=16, hidden_dim=32, n_layers=2, n_heads=2, max_position_embeddings=8)
    found = count_layers(DistilBertModel(config), {"input_ids": torch.ones(2, 8, dtype=torch.int64)})
    attention = found["transformer.layer.1.attention"]
    assert attention.flops == 2 * 2 * (2 * 2) * 8 * 8 * 8
    assert found["embeddings.word_embeddings"].output_bytes == F32 * 2 * 8 * 16


def test_what_runs_in_no_module_is_outside():
    class Mine:
        module = nn.Linear(8, 2)

        def forward(self, batch):
            return self.module(batch) * 2

    found = count_layers(Mine(), torch.ones(4, 8))
    assert [layer.name for layer in found.layers] == ["Linear", OUTSIDE]
    assert found[OUTSIDE].bytes_moved == 2 * F32 * 4 * 2


def test_the_layers_add_up_to_what_the_ledger_says():
    from labs_lib.ledger import ledger

    model, batch = (made := load("resnet50")), made.prepare_input(1)
    found = count_layers(model, batch)
    with torch.inference_mode():
        whole = ledger(model.forward, batch)
        assert found.peak_bytes == counted_peak(lambda: model.forward(batch))
    assert found.total("flops") == whole.flops
    assert found.total("operators") == whole.operators
    assert sum(layer.kind == "Conv2d" for layer in found.layers) == 53
    assert max(layer.peak_bytes for layer in found.layers) == found.peak_bytes


def test_an_operator_without_a_formula_is_named():
    found = count_layers(nn.LSTM(4, 4), torch.ones(3, 2, 4))
    assert found["LSTM"].uncounted
    assert not count_layers(nn.Linear(4, 4), torch.ones(3, 4))["Linear"].uncounted


def test_rows_of_different_lengths():
    """Behind the mask of padding, torch's encoder works on a nested tensor, which has no shape."""
    encoder = nn.TransformerEncoder(nn.TransformerEncoderLayer(32, 4, 64, batch_first=True), 1)
    padding = torch.zeros(3, 7, dtype=torch.bool)
    padding[0, 4:] = True
    found = count_layers(encoder, {"src": torch.ones(3, 7, 32), "src_key_padding_mask": padding})
    assert found["layers.0"].other_bytes >= 2 * F32 * (7 + 7 + 4) * 32
    assert found["layers.0"].uncounted == {"_transformer_encoder_layer_fwd"}


def test_sparse_tensors_are_refused():
    with pytest.raises(LabError, match="can't be counted"):
        count_layers(Doing(lambda self, x: x.to_sparse() @ x), torch.eye(3))


def test_a_name_that_is_no_layer():
    with pytest.raises(LabError, match="Did you mean '0'"):
        count_layers(nn.Sequential(nn.Linear(2, 2)), torch.ones(1, 2))["O"]


@pytest.mark.parametrize(
    ("model", "batch", "message"),
    [
        (nn.Linear(8, 2), torch.ones(4, 9), "can't take this input: RuntimeError"),
        (nn.Linear(8, 2), None, "can't take this input"),
        (nn.Linear(8, 2), {"nothing": 1}, "can't take this input: TypeError"),
        (lambda x: x, torch.ones(1), "function has no layers"),
        (None, torch.ones(1), "NoneType has no layers"),
        (torch.compile(nn.Linear(8, 2)), torch.ones(4, 8), "compiled model has no layers"),
    ],
)
def test_what_is_no_model_is_refused(model, batch, message):
    with pytest.raises(LabError, match=message):
        count_layers(model, batch)


def test_the_model_comes_back_as_it_was_and_without_hooks():
    model = nn.Sequential(nn.BatchNorm1d(4), nn.Dropout(0.5).eval())
    before = {name: value.clone() for name, value in model.state_dict().items()}
    count_layers(model, torch.arange(12.0).view(3, 4))
    assert [module.training for module in model.modules()] == [True, True, False]
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    seen = []
    with calling(model, torch.ones(3, 4)) as call:
        with watching(model, seen.append, lambda name, output: seen.append(output)):
            call.run()
        after = len(seen)
        call.run()
    assert after == len(seen) == 6


def test_hooks_end_when_the_model_fails():
    def fail(self, x):
        raise ValueError("no")

    left = []
    model = nn.Sequential(Doing(fail))
    with pytest.raises(ValueError, match="no"), watching(model, left.append, lambda name, output: left.pop()):
        model(torch.ones(1))
    assert left == []


def test_times_and_the_rest_add_up_to_the_whole(limits):
    model = nn.Sequential(nn.Sequential(nn.Linear(64, 64), nn.ReLU()), nn.Linear(64, 64))
    found = layers(model, torch.ones(32, 64), limits=limits, budget_s=0.05)
    parts = [*(row.seconds for row in found.rows), found.between_s, found.hooks_s]
    assert sum(parts) == pytest.approx(found.whole_s, rel=1e-12)
    assert all(part > 0 for part in parts)
    assert [row.seconds for row in found.rows] == sorted((row.seconds for row in found.rows), reverse=True)
    assert all(row.interval.low <= row.interval.median <= row.interval.high for row in found.rows)
    assert {row.name for row in found.rows} == {"0.0", "0.1", "1"}


def test_time_goes_to_the_innermost_module(monkeypatch, limits):
    """A clock that only the modules move: to the millisecond."""
    from labs_lib.inference_bench import profile

    now = [0.0]
    monkeypatch.setattr(profile, "perf_counter", lambda: now[0])

    def working(seconds):
        def do(self, x):
            now[0] += seconds
            for part in self.children():
                x = part(x)
            now[0] += seconds
            return x + 1

        return do

    inner = Doing(working(0.001))
    model = Doing(working(0.1), first=inner, middle=nn.Sequential(inner))
    found = layers(model, torch.ones(4), limits=limits, budget_s=0.01)
    assert found["Doing"].seconds == pytest.approx(0.2)
    assert found["first"].seconds == pytest.approx(0.004)  # called twice
    assert found.whole_s == pytest.approx(0.204)
    assert (found.between_s, found.hooks_s) == (0, 0)
    assert found.rows[0].name == "Doing"


def test_no_second_is_lost(monkeypatch):
    """A clock that ticks at each reading: what layers, the rest and the hooks are given is all that passed."""
    from labs_lib.inference_bench import profile

    ticks = iter(range(10**6))
    with calling(nn.Sequential(nn.Sequential(nn.ReLU()), nn.ReLU()), torch.ones(4)) as call:
        clock = profile._Clock(call)
        monkeypatch.setattr(profile, "perf_counter", lambda: float(next(ticks)))
        whole = clock.timed()
    assert sum(clock.seconds.values()) == whole - 1  # the reading that ends the whole
    assert clock.seconds[profile.HOOKS] == 8  # two readings around each hook
