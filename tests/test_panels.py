import pytest

from labs_lib.errors import LabError
from labs_lib.figures import Picture
from labs_lib.panels import Choice, Panel


def draw(n, mode):
    if mode == "broken":
        raise ZeroDivisionError("planted")
    return Picture(str(n).encode(), f"{n} {mode}")


@pytest.fixture
def panel():
    return Panel(
        draw, n=Choice("number", (1, 2, 3), 2), mode=Choice("mode", ("fine", "broken"), "fine", widget="menu")
    )


def test_starts_with_the_picture_of_its_start(panel):
    assert panel.picture.says == "2 fine"


def test_code_moves_controls_widgets_and_picture_together(panel):
    box = panel.widget()
    assert panel.set(n=3).says == "3 fine"
    number, _, _, image, text = box.children
    assert (number.value, image.value, text.value) == (3, b"3", "<p>3 fine</p>")


def test_a_hand_on_a_widget_draws_anew(panel):
    number, _, progress, image, _ = panel.widget().children
    number.value = 1
    assert panel.picture.says == "1 fine"
    assert image.value == b"1"
    assert not number.disabled
    assert progress.layout.visibility == "hidden"


def test_an_error_is_shown_and_raised_and_the_controls_stay_usable(panel):
    number, mode, _, _, text = panel.widget().children
    with pytest.raises(ZeroDivisionError):
        mode.value = "broken"
    assert "labs-error" in text.value
    assert "planted" in text.value
    assert not number.disabled
    mode.value = "fine"
    assert text.value == "<p>2 fine</p>"


def test_controls_are_locked_while_it_works():
    seen = []

    def look(n):
        if panels:
            seen.append([control.disabled for control in panels[0].widget().children[:1]])
        return Picture(b"", "x")

    panels = []
    panels.append(Panel(look, n=Choice("number", (1, 2), 1)))
    panels[0].widget().children[0].value = 2
    assert seen == [[True]]


@pytest.mark.parametrize("state", [{"n": 7}, {"unknown": 1}])
def test_wrong_states_are_refused(panel, state):
    with pytest.raises(LabError):
        panel.set(**state)
    assert panel.picture.says == "2 fine"


def test_a_choice_starts_with_one_of_its_options():
    with pytest.raises(LabError, match="not one of its options"):
        Choice("number", (1, 2), 3)


def test_sweep_tries_both_ends_of_every_control(panel):
    with pytest.raises(ZeroDivisionError):
        list(panel.sweep())
    states = [state for state, _ in Panel(lambda n: Picture(b"", "x"), n=Choice("n", (1, 2, 3), 2)).sweep()]
    assert states == [{"n": 1}, {"n": 3}]


def test_readers_without_a_kernel_get_picture_and_sentence(panel):
    bundle = panel._repr_mimebundle_()
    assert bundle["text/plain"] == "2 fine"
    assert "image/png" in bundle
    assert "application/vnd.jupyter.widget-view+json" in bundle


def test_a_failed_state_is_not_kept(panel):
    with pytest.raises(ZeroDivisionError):
        panel.set(mode="broken")
    assert panel.state == {"n": 2, "mode": "fine"}
