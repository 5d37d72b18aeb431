from types import SimpleNamespace

import pytest

from labs_lib.errors import LabError
from labs_lib.figures import Picture
from labs_lib.race_conditions import Case, cases, explore, map_panel, picture, replay, schedule_panel
from labs_lib.race_conditions.panels import BROKEN, HOLDS, IMPOSSIBLE, outcomes


def is_png(drawn):
    return drawn.png.startswith(b"\x89PNG")


def add(counter):
    counter.value += 1


def new():
    return SimpleNamespace(value=0)


def both_counted(counter):
    return counter.value == 2 or f"the counter says {counter.value}"


CASE = Case(new, [add, add], both_counted)


def test_lanes_say_the_schedule_its_turns_and_its_end():
    assert picture(CASE.explore()).says == "Schedule A1 B A (steps of each turn: A 1, B 2, A 1). The counter says 1."
    drawn = picture(CASE.replay("A B"))
    assert drawn.says == "Schedule A B (steps of each turn: A 2, B 2). All is well in the end."
    assert is_png(drawn)


def test_a_report_without_a_failure_has_no_lanes():
    holds = explore(new, [add], lambda counter: counter.value == 1)
    with pytest.raises(LabError, match="no failing schedule to draw"):
        picture(holds)


def test_a_long_run_loses_the_middle_of_its_turns():
    def many(counter):
        for _ in range(100):
            counter.value += 1

    short, long = (picture(replay(Case(new, [function] * 2, lambda counter: True), "A B")) for function in (add, many))
    height = [int.from_bytes(drawn.png[20:24], "big") for drawn in (short, long)]
    assert height[1] < 6 * height[0]


def test_three_threads_have_three_lanes():
    drawn = picture(cases.batcher.explore(switches=1))
    assert "pop from an empty deque" in drawn.says
    assert is_png(drawn)


def test_a_map_has_its_red_squares_where_b_checks_before_a_has_acted():
    plain, locked = outcomes("plain", 1), outcomes("lock around both", 1)
    assert plain[4, 8] == BROKEN  # A has read `taken`; then B runs to its end
    assert plain[3, 8] == HOLDS  # A has not
    assert BROKEN not in locked.values()
    assert locked[4, 10] == IMPOSSIBLE  # B waits for the lock that A holds


def test_half_a_lock_leaves_red_squares():
    assert list(outcomes("lock around the act", 1).values()).count(BROKEN) == 32


@pytest.mark.parametrize("make", [schedule_panel, map_panel], ids=["schedule", "map"])
def test_every_control_changes_something_and_works_at_both_ends(make):
    panel = make()
    swept = list(panel.sweep())
    assert all(is_png(drawn) for _, drawn in swept)
    for name, control in panel.controls.items():
        seen = {drawn.png for state, drawn in swept if all(
            state[other] == panel.controls[other].value for other in panel.controls if other != name
        )}  # fmt: skip
        assert len(seen) > 1, control.label


def test_the_panel_replays_the_schedule_that_its_sliders_say():
    panel = schedule_panel()
    assert panel.set(first=4, second="to its end").says.startswith("Schedule A4 B A ")
    assert panel.set(first=2, second=3).says.startswith("Schedule A2 B3 A B ")
    locked = panel.set(remedy="lock around both", first=5, second=8).says
    assert "All is well in the end. Asked for: A5 B8 A. Thread B waits after" in locked


def test_the_sentence_of_the_panel_tells_each_step_of_each_slider(monkeypatch):
    """A slider that seems to do nothing says why: B has no more steps, or waits. Here nobody looks at the lanes."""
    monkeypatch.setattr("labs_lib.race_conditions.pictures.render", lambda figure, says: Picture(b"", says))
    panel = schedule_panel()
    for remedy in ("plain", "lock around both"):
        for name in ("first", "second"):
            said = [panel.set(remedy=remedy, **{name: value}).says for value in panel.controls[name].options]
            assert len(set(said)) == len(said), (remedy, name)
