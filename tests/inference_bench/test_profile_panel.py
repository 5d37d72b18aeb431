"""The panel at every end of its controls, the pictures, the table, and the command."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F

from labs_lib.cli import main
from labs_lib.inference_bench import profile_command
from labs_lib.inference_bench.layers import count_layers
from labs_lib.inference_bench.panels import BYTES, block_layers, roofline_panel
from labs_lib.inference_bench.profile import layers
from labs_lib.inference_bench.profile_pictures import HEAD, grouped, roofline_picture, rows, time_picture, together
from labs_lib.inference_bench.report import read_profile
from labs_lib.roofline import Rate, Roof

PNG = b"\x89PNG"


@pytest.fixture(scope="module")
def panel(limits):
    return roofline_panel(limits)


@pytest.fixture
def profiled(limits):
    model = nn.Sequential(nn.Linear(64, 256), nn.GELU(), nn.Linear(256, 64))
    return layers(model, torch.ones(32, 64), limits=limits, budget_s=0.02)


class Block(nn.Module):
    """What the panel's formulas describe, for real."""

    def __init__(self, width):
        super().__init__()
        self.heads = width // 64
        self.norm_1, self.norm_2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.qkv, self.out = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.up, self.down = nn.Linear(width, 4 * width), nn.Linear(4 * width, width)
        self.gelu, self.attention = nn.GELU(), Attention()

    def forward(self, x):
        q, k, v = self.qkv(self.norm_1(x)).unflatten(-1, (3, self.heads, 64)).permute(2, 0, 3, 1, 4)
        x = x + self.out(self.attention(q, k, v).transpose(1, 2).flatten(2))
        return x + self.down(self.gelu(self.up(self.norm_2(x))))


class Attention(nn.Module):
    def forward(self, q, k, v):
        return F.scaled_dot_product_attention(q, k, v)


@pytest.mark.parametrize(("batch", "tokens", "width"), [(1, 1, 64), (1, 64, 64), (3, 16, 128)])
def test_the_formulas_are_what_is_counted(batch, tokens, width):
    counts = count_layers(Block(width), torch.ones(batch, tokens, width))
    for layer in block_layers(batch, tokens, width):
        found = counts[layer.name]
        assert (layer.flops, layer.weight_bytes) == (found.flops, found.weight_bytes), layer.name
        assert layer.other_bytes == found.other_bytes, layer.name


def test_each_control_at_both_ends_and_at_its_start(panel):
    for state, picture in [({}, panel.picture), *panel.sweep()]:
        assert picture.png.startswith(PNG), state
        assert "max(FLOPs / peak, bytes / bandwidth)" in picture.says


@pytest.mark.parametrize("control", ["batch", "tokens", "width", "dtype"])
def test_each_control_changes_what_is_seen(panel, control):
    options = panel.controls[control].options
    first, last = (panel.set(**{control: option}) for option in (options[0], options[-1]))
    assert first.says != last.says
    assert first.png != last.png


def test_small_batches_of_wide_blocks_are_bound_by_memory(panel):
    wide = panel.set(batch=1, tokens=64, width=2048, dtype="float32").says
    assert "Bound by memory: norm_1, qkv, attention, out, norm_2, up, gelu, down." in wide
    many = panel.set(batch=128, tokens=64, width=2048, dtype="float32").says
    assert "Bound by memory: norm_1, attention, norm_2, gelu." in many


def test_the_panel_says_what_the_limits_give():
    """A machine that moves for nothing: the least time is FLOPs / peak."""
    roof = Roof("cpu", 1, {"float32": Rate(1e9, 1e9)}, {1: Rate(1e12, 1e12)}, 1e-6, "")
    says = roofline_panel(roof).set(batch=1, width=64).says
    flops = sum(layer.flops for layer in block_layers(1, 64, 64))
    assert f"{flops:,} FLOPs" in says
    assert f"takes at least {flops / 1e6:.3g} ms" in says
    assert "Bound by memory: norm_1, norm_2, gelu." in says


def test_only_dtypes_with_a_peak_are_offered(panel):
    assert panel.controls["dtype"].options == tuple(BYTES)
    roof = Roof("cpu", 1, {"float32": Rate(1e9, 1e9)}, {1: Rate(1e9, 1e9)}, 1e-6, "")
    assert roofline_panel(roof).controls["dtype"].options == ("float32",)


def test_pictures_say_what_they_show(profiled):
    roof, bars = roofline_picture(profiled), time_picture(profiled)
    assert roof.png.startswith(PNG)
    assert bars.png.startswith(PNG)
    assert "layers without products (1, " in roof.says
    assert "(modelled)" in bars.says


def test_layers_that_count_the_same_are_one_row(limits):
    """Two equal layers and one that is wider: the first two differ in the number of their names only."""
    linear = torch.nn.Linear
    found = layers(
        torch.nn.Sequential(linear(8, 8), torch.nn.ReLU(), linear(8, 8), linear(8, 16)), torch.ones(2, 8), limits=limits
    )
    groups = {together(group).name: group for group in grouped(found)}
    assert set(groups) == {"*", "1", "3"}
    both = together(groups["*"])
    assert {row.name for row in groups["*"]} == {"0", "2"}
    assert (both.layer.calls, both.layer.flops) == (2, 2 * 2 * 2 * 8 * 8)
    assert both.layer.bytes_moved == 2 * found["0"].layer.bytes_moved
    assert both.layer.flops_by_dtype == {"float32": both.layer.flops}
    assert both.seconds == found["0"].seconds + found["2"].seconds
    assert both.least.low == pytest.approx(2 * found["0"].least.low)
    assert sum(len(group) for group in grouped(found)) == len(found.rows)


def test_a_model_without_products_has_pictures_too(limits):
    found = layers(nn.Sequential(nn.ReLU()), torch.ones(8), limits=limits, budget_s=0.01)
    assert roofline_picture(found).png.startswith(PNG)
    assert time_picture(found).png.startswith(PNG)


def test_the_table_has_the_rest_and_the_whole(profiled):
    table = rows(profiled, top=1)
    assert [line[0] for line in table[1:]] == ["2 other layers", "between layers", "hooks", "whole"]
    assert all(len(line) == len(HEAD) for line in table)
    assert table[-1][4] == "100.0%"
    assert table[-1][5] == f"{2 * (2 * 32 * 64 * 256):,}"
    text = str(profiled)
    assert "measured, by hooks; FLOPs and bytes counted" in text
    assert "Linear" in profiled._repr_html_()


def test_names_are_escaped_in_html(limits):
    class Odd(nn.Module):
        def forward(self, x):
            return x + 1

    model = nn.Module()
    model.forward = lambda x: getattr(model, "<b>")(x)
    model.add_module("<b>", Odd())
    assert "&lt;b&gt;" in layers(model, torch.ones(2), limits=limits, budget_s=0.01)._repr_html_()


@pytest.fixture
def quick(tmp_path, monkeypatch, limits):
    """The command on a model in the current folder, with limits that are given and little time."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("labs_lib.roofline.roof", lambda threads=1, device="cpu", *, fresh=False: limits)
    monkeypatch.setattr("labs_lib.inference_bench.overhead.BUDGET_S", {"ci": 0.01})
    (tmp_path / "my_profiled.py").write_text(
        "import torch\n"
        "def net(): return torch.nn.Sequential(torch.nn.Linear(8, 16), torch.nn.ReLU(), torch.nn.Linear(16, 2))\n"
        "def sick():\n"
        "    model = net()\n"
        "    model[0].weight.data.fill_(1e-39)\n"
        "    return model\n"
    )
    return ["profile", "--model", "my_profiled:net", "--input", "8", "--batch", "4"]


def test_the_command_in_text(quick, capsys):
    assert main([*quick, "--trace", "trace.json"]) == 0
    said = capsys.readouterr().out
    parts = ["between layers", "whole", "hooks:", "torch.profiler:", "cProfile", "ui.perfetto.dev", "batch 4"]
    assert [part for part in [*parts, "by the profiler", "No denormal"] if part not in said] == []
    assert json.loads(Path("trace.json").read_text())["traceEvents"]


def test_the_command_in_json_has_the_schema_that_is_documented(quick, capsys, tmp_path):
    assert main([*quick, "--json", "--output", "out"]) == 0
    data = json.loads(capsys.readouterr().out)
    assert data == json.loads((tmp_path / "out" / "profile.json").read_text())
    assert (tmp_path / "out" / "roofline.png").read_bytes().startswith(PNG)
    assert data["schema"] == 1
    documented = profile_command.__doc__
    keys = {*data, *(key for layer in data["layers"] for key in layer), *data["python"], *data["profiler"]}
    assert [key for key in keys if key not in documented] == []
    parts = [*(layer["seconds"] for layer in data["layers"]), data["between_s"], data["hooks_s"]]
    assert sum(parts) == pytest.approx(data["whole_s"])
    assert data["flops"] == 2 * 4 * (8 * 16 + 16 * 2)
    assert np.isfinite(parts).all()


def test_the_report_reads_it(quick, capsys, tmp_path):
    assert main([*quick, "--output", "out"]) == 0
    assert "Linear" in read_profile(tmp_path / "out" / "profile.json")


def test_the_command_names_denormal_layers(quick, capsys):
    assert main(["profile", "--model", "my_profiled:sick", "--input", "8"]) == 0
    assert "Denormal (counted), which can be slow: 0 (128 weights" in capsys.readouterr().out


def test_the_preset_reaches_the_model(quick, capsys, monkeypatch):
    monkeypatch.setenv("LABS_PRESET", "lab")
    assert main(["profile", "--model", "distilbert", "--preset", "ci"]) == 0
    assert "2 of 6 layers" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--model", "resnet5"], "Did you mean resnet50?"),
        (["--model", "my_profiled:net"], "Give --input"),
        (["--model", "my_profiled:net", "--input", "9"], "can't take this input"),
        (["--model", "my_profiled:net", "--input", "8", "--batch", "0"], "no whole number above 0"),
        (["--model", "my_profiled:net", "--input", "8", "--device", "tpu"], "no device"),
        (["--model", "my_profiled:net", "--input", "8", "--trace", "missing/trace.json"], "can't be written"),
        (["--model", "my_profiled:net", "--input", "8", "--output", "my_profiled.py"], "can't be made"),
        ([], "--model"),
    ],
)
def test_bad_arguments_are_one_line(quick, capsys, arguments, message):
    assert main(["profile", *arguments]) == 2
    said = capsys.readouterr().err
    assert message in said
    assert said.count("\n") == 1
