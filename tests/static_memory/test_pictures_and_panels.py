import pytest

from labs_lib import static_memory as sm
from labs_lib.compare import Comparison
from labs_lib.equality import Difference
from labs_lib.ledger import Ledger
from labs_lib.static_memory.pictures import gain_picture
from labs_lib.timing import Timing

BUFFERS = [sm.Buffer("a", 0, 3, 2048), sm.Buffer("b", 2, 5, 1024), sm.Buffer("c", 4, 6, 3072)]
PUZZLE = sm.read_csv(sm.DATA / "puzzle_14.csv")


def test_lifetimes_say_total_and_bound():
    assert sm.lifetimes_picture(BUFFERS).says == (
        "3 buffers of 6.0 KiB in all. At most 4.0 KiB of them are alive at one step: no plan can need less."
    )


def test_the_arena_says_how_far_it_is_and_how_high():
    offsets = sm.keep_all(BUFFERS)
    assert sm.arena_picture(BUFFERS, offsets, [0, 1], "keep all").says == (
        "keep all: 2 of 3 buffers placed, up to address 3.0 KiB."
    )
    assert sm.arena_picture(BUFFERS, offsets, [0, 1, 2], "keep all").says == (
        "keep all: 6.0 KiB of arena, 1.500 times the lower bound of 4.0 KiB."
    )


def test_gains_can_be_drawn_without_intervals_and_without_faults():
    infinite = float("inf")
    none = Ledger(0, 0, 0, 0, 0)
    found = [
        Comparison(Timing(2.0, low, high, floor, 9, 1, 1, (1, 1), faults), (none, none), Difference(0, 0), 0, 1)
        for low, high, floor, faults in ((1.9, 2.1, 1.1, (900.0, 0.0)), (0, infinite, infinite, (None, None)))
    ]
    picture = gain_picture([(2**20, found[0]), (2**24, found[1])])
    assert picture.says == "Reuse pays most for arrays of 1.00 MiB: 2.00 times as fast."


@pytest.mark.parametrize("make", [sm.memory_panel, lambda: sm.packing_panel(PUZZLE)], ids=["memory", "packing"])
def test_every_control_works_at_both_ends(make):
    panel = make()
    says = [picture.says for _, picture in panel.sweep()]
    assert len(set(says)) > len(panel.controls)
    assert all(picture.png.startswith(b"\x89PNG") for _, picture in panel.sweep())


def test_the_packing_panel_ends_with_the_plan_of_the_planner():
    panel = sm.packing_panel(PUZZLE)
    assert panel.picture.says == "greedy by size: 30.0 KiB of arena, 1.250 times the lower bound of 24.0 KiB."
    assert panel.set(planner="complete search").says.startswith("complete search: 24.0 KiB of arena, 1.000 times")
    assert panel.set(placed=1).says.startswith("complete search: 1 of 14 buffers placed")


def test_the_graph_by_sizes_is_that_of_the_labs_mlp():
    program = sm.MLP(features=128, layers=3).program(batch=32)
    graph = sm.mlp_graph(depth=3, width=128, batch=32)
    for reuse in ("fresh", "in_place"):
        counted = [
            [(b.lower, b.upper, b.size) for b in sm.lifetimes(g, reuse).buffers] for g in (graph, program.graph)
        ]
        assert counted[0] == counted[1]


def test_every_other_layer_is_wider():
    assert sm.mlp_graph(depth=3, width=8, batch=2, expansion=4).sizes == (64, 256, 256, 256, 64, 64, 64, 64, 64)


def test_the_memory_panel_tells_planners_apart():
    panel = sm.memory_panel()
    online = panel.set(planner="online best fit").says
    best = panel.set(planner="complete search").says
    assert "1.000 times the lower bound" in best
    assert "1.000 times the lower bound" not in online
