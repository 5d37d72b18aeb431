"""The model of when compiling pays, by hand; its panel and picture from the recorded costs."""

import pytest
import torch

from labs_lib.compilation import block_stack, measure_costs, payoff_panel, recorded_costs
from labs_lib.compilation.payoff import MODES, Costs, record

COSTS = Costs(
    origin="by hand", operators=100e-6, kernels=20e-6, call=30e-6,
    eager_element=50e-9, eager_element_large=90e-9, fused_element=10e-9, flop=1e-11,
    first=2.0, first_more=0.5, modes={"default": (1.0, 1.0), "freezing": (1.5, 0.5)},
)  # fmt: skip


def test_one_call_by_hand():
    eager, compiled = COSTS.eager(64, 2, 10), COSTS.compiled(64, 2, 10)
    assert eager.overhead == pytest.approx(200e-6)
    assert eager.pointwise == pytest.approx(2 * 640 * 50e-9)
    assert eager.products == compiled.products == pytest.approx(2 * 2 * 10 * 64**2 * 1e-11)
    assert compiled.overhead == pytest.approx(70e-6)
    assert compiled.pointwise == pytest.approx(2 * 640 * 10e-9)
    assert COSTS.eager(64, 1, 4096).pointwise == pytest.approx(4096 * 64 * 90e-9)  # an array of 1 MiB
    assert COSTS.compiled(64, 2, 10, "freezing").total == pytest.approx(compiled.total / 2)


def test_the_crossing_is_where_the_totals_cross():
    n = COSTS.break_even(256, 4, 64)
    eager, compiled, first = COSTS.eager(256, 4, 64).total, COSTS.compiled(256, 4, 64).total, COSTS.first_call(4)
    assert first == pytest.approx(3.5)
    assert (n - 1) * eager < first + (n - 1) * compiled
    assert n * eager >= first + n * compiled
    slow = Costs(**{**vars(COSTS), "fused_element": 60e-9, "call": 1.0})
    assert slow.break_even(256, 4, 64) is None


def test_the_stack_of_blocks_is_layer_norm_and_gelu():
    (block,), x = block_stack(32, 1), torch.linspace(-3, 3, 96).reshape(3, 32)
    normal = torch.nn.functional.layer_norm(x, (32,))
    torch.testing.assert_close(
        block(x), x + torch.nn.functional.gelu(block.product(normal), approximate="tanh")
    )


def test_the_recording_is_complete_and_says_where_it_is_from(tmp_path):
    costs = recorded_costs()
    assert tuple(costs.modes) == MODES
    assert costs.origin.startswith("recorded on ")
    path = tmp_path / "costs.json"
    path.write_text(record(COSTS, "a machine", "2026-01-02", "2.15"))
    assert recorded_costs(path) == Costs(**{**vars(COSTS), "origin": "recorded on a machine, 2026-01-02"})


def test_without_a_compiler_the_recorded_costs_stand_in(monkeypatch):
    monkeypatch.setattr("labs_lib.hardware.compiler", lambda: None)
    assert measure_costs() == recorded_costs()


def test_every_control_works_at_both_ends():
    panel = payoff_panel(recorded_costs())
    pictures = [picture for _, picture in panel.sweep()]
    assert len({picture.says for picture in pictures}) > len(panel.controls)
    assert all(picture.png.startswith(b"\x89PNG") for picture in pictures)


def test_the_panel_says_when_it_pays():
    panel = payoff_panel(COSTS)
    assert panel.set(width=64, depth=1, batch=1).says == (
        "Width 64, depth 1, batch 1, default (modelled; prices by hand): a call takes 103 us eager and 50.7 us "
        "compiled, the first 2 s: it pays from 38,052 calls on."
    )
    assert list(payoff_panel(Costs(**{**vars(COSTS), "modes": {"default": (1.0, 1.0)}})).controls) == [
        "width", "depth", "batch"
    ]  # fmt: skip
    never = payoff_panel(Costs(**{**vars(COSTS), "call": 1.0}))
    assert never.picture.says.endswith("it never pays.")
    assert "modelled" in never.picture.says


@pytest.mark.timing
def test_measured_costs_are_sensible():
    """Under the small preset one mode is measured; a number that is a difference is zero where noise hid it.

    They are times, so they are not compared with one another: on a busy machine either can be the larger.
    """
    costs = measure_costs()
    assert costs.origin == "measured here"
    assert tuple(costs.modes) == ("default",)
    assert min(costs.operators, costs.flop, costs.first) > 0
    assert min(costs.kernels, costs.call, costs.eager_element, costs.eager_element_large, costs.fused_element) >= 0
