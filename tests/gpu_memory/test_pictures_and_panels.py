import pytest
import torch

from labs_lib.gpu_memory import pictures
from labs_lib.gpu_memory.caching_allocator import CachingAllocator, Request, serve
from labs_lib.gpu_memory.leaks import Leak
from labs_lib.gpu_memory.panels import SCATTERED, allocator_panel, composition_panel, counted
from labs_lib.gpu_memory.plans import Plan
from labs_lib.gpu_memory.recordings import Case, Recorded
from labs_lib.gpu_memory.segments import MIB
from labs_lib.gpu_memory.trace import KINDS, Block, Operator, Trace
from labs_lib.gpu_memory.tracker import track

OPERATORS = tuple(Operator("aten.mm", phase, "") for phase in ("forward", "forward", "backward"))
TRACE = Trace(
    (
        Block(4 * MIB, "parameters", "blocks.0.mlp", "", "", 0, None),
        Block(3 * MIB, "activations", "blocks.0.mlp", "aten.mm", "a.py:1  y = f(x)", 1, 3),
        Block(2 * MIB, "activations", "blocks.1.mlp", "aten.mm", "a.py:1  y = f(x)", 2, 4),
        Block(1 * MIB, "temporaries", "", "aten.mm", "a.py:9  loss(y)", 2, 3),
    ),
    OPERATORS,
    0,
)


def is_png(picture):
    return picture.png.startswith(b"\x89PNG")


def test_the_timeline_says_the_peak_and_what_it_is_made_of():
    picture = pictures.timeline_picture(TRACE, "a step")
    assert picture.says == (
        "a step: peak 10.00 MiB after operator 2 of 3: activations 5.00 MiB, parameters 4.00 MiB, "
        "temporaries 1.00 MiB."
    )
    assert is_png(picture)


def test_owners_are_modules_repeated_blocks_together_and_lines_outside_any():
    assert pictures.owners(TRACE) == [
        ("blocks.*.mlp", 5 * MIB, "activations"),
        ("blocks.*.mlp", 4 * MIB, "parameters"),
        ("loss(y)", 1 * MIB, "temporaries"),
    ]
    assert pictures.owners(TRACE, at=0) == [("blocks.*.mlp", 4 * MIB, "parameters")]
    assert pictures.owners_picture(TRACE).says == (
        "The largest holder at the peak of 10.00 MiB: blocks.*.mlp, 5.00 MiB of activations, 50%."
    )


def test_what_was_there_before_and_belongs_to_nobody_has_a_name_too():
    trace = track(lambda: None, inputs=torch.ones(1024))
    assert pictures.owners(trace) == [("before the step", 4096, "inputs")]
    assert "100%" in pictures.owners_picture(trace).says


def test_every_kind_has_a_colour_and_a_hatch_of_its_own():
    assert set(pictures.LOOKS) == set(KINDS)
    for name in ("facecolor", "hatch"):
        assert len({look[name] for look in pictures.LOOKS.values()}) == len(KINDS)


def test_a_composition_can_be_drawn_with_and_without_a_limit():
    rows = [("plain", {"parameters": 3 * MIB, "activations": MIB}), ("none", {})]
    assert pictures.composition_picture(rows, "Four.", 2 * MIB, "a device").says == "Four."
    assert is_png(pictures.composition_picture(rows, "Four."))


def test_the_segments_say_what_can_go_back():
    gpu = serve([Request("allocate", name, size * MIB) for name, size in (("a", 5), ("b", 5), ("c", 40))])
    gpu.free("a")
    gpu.free("c")
    assert pictures.segments_picture(gpu, "now").says == (
        "now: 5.00 MiB allocated of 60.00 MiB reserved, largest free piece 40.00 MiB, empty_cache can give back "
        "40.00 MiB (modelled)."
    )
    assert pictures.segments_picture(CachingAllocator()).says.startswith("0.0 KiB allocated of 0.0 KiB reserved, em")


def test_reserved_over_allocated():
    picture = pictures.reserved_picture([(0, 0), (3 * MIB, 20 * MIB), (10 * MIB, 20 * MIB)], "three")
    assert picture.says == "three: at most 10.00 MiB allocated and 20.00 MiB reserved, 100.0% more (modelled)."


def test_growth_of_a_loop_with_and_without_its_mistake():
    flat = Leak((5, 5, 5), (0, 0, 0), 0, (), ())
    picture = pictures.growth_picture([("as found", flat), ("mended", flat)])
    assert picture.says == "as found: grows by 0 bytes a step. mended: grows by 0 bytes a step."


def test_recorded_peaks_stand_beside_their_prediction():
    cases = (Case("MLP", True, False, 256), Case("ResNet-50", False, True, 32))
    about = ("a GPU", "1", "2.15", "2026-01-01")
    rows = [Recorded(case, *about, (100, 102, 100), n) for case, n in zip(cases, (101, 95), strict=True)]
    assert pictures.recorded_picture(rows).says == (
        "1 of 2 predictions are within 3 % of the peak that the GPU reported; the worst is -5.0 %, ResNet-50, "
        "inference, bfloat16 (recorded)."
    )


# --- panels --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("make", [composition_panel, allocator_panel], ids=["composition", "allocator"])
def test_every_control_works_at_both_ends(make):
    panel = make()
    swept = list(panel.sweep())
    assert len({picture.says for _, picture in swept}) > len(panel.controls)
    assert all(is_png(picture) for _, picture in swept)


def test_the_composition_panel_compares_with_the_plain_step():
    panel = composition_panel()
    assert "(+0%), 1.00 times the FLOPs (counted)." in panel.picture.says
    saved = panel.set(checkpointing="on")
    plain, chosen = (counted(2, 512, plan) for plan in (Plan(64), Plan(64, checkpoint=True)))
    assert chosen.peak < plain.peak
    assert f"{chosen.peak / plain.peak - 1:+.0%}" in saved.says
    assert 1.1 < chosen.flops / plain.flops < 4 / 3  # one more forward pass of the blocks, not of the head


def test_the_allocator_panel_runs_out_of_memory_with_fixed_segments_alone():
    panel = allocator_panel()
    assert panel.picture.says.startswith("fixed segments, 17: allocate large 16.00 MiB: out of memory: 12.00 MiB all")
    assert panel.set(segments="expandable").says.startswith(
        "expandable segments, 17: allocate large 16.00 MiB: 28.00 MiB allocated of 60.00 MiB reserved, largest free"
    )
    assert panel.set(served=0).says.startswith("expandable segments, before the first request: 0.0 KiB allocated")
    assert len(SCATTERED) == 17
