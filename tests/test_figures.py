import pytest

from labs_lib.errors import LabError
from labs_lib.figures import NAIVE, OPTIMISED, Picture, bars, render, show, subplots


def line():
    figure, axes = subplots()
    axes.plot([1, 2])
    return figure


def test_a_picture_is_png_and_sentence_in_every_form():
    bundle = render(line(), "It rises <from> 1.")._repr_mimebundle_()
    assert bundle["text/plain"] == "It rises <from> 1."
    assert 'alt="It rises &lt;from&gt; 1."' in bundle["text/html"]
    assert bundle["image/png"].startswith("iVBOR")


@pytest.mark.parametrize("says", ["", "   "])
def test_no_picture_without_a_sentence(says):
    with pytest.raises(LabError, match="no sentence"):
        render(line(), says)


def test_show_prints_the_sentence_outside_a_notebook(capsys):
    show(line(), says="A line.")
    assert capsys.readouterr().out == "A line.\n"


def test_the_same_figure_gives_the_same_bytes():
    assert render(line(), "A line.").png == render(line(), "A line.").png


def test_bars_write_their_values():
    _, axes = subplots()
    bars(axes, ["naive", "optimised"], [1234.5, 2], [NAIVE, OPTIMISED], "KiB", digits=1)
    assert [text.get_text().strip() for text in axes.texts] == ["1,234.5 KiB", "2.0 KiB"]


def test_naive_and_optimised_differ_in_more_than_colour():
    assert NAIVE["color"] != OPTIMISED["color"]
    assert NAIVE["hatch"] != OPTIMISED["hatch"]


def test_picture_prints_as_its_sentence():
    assert str(Picture(b"", "A line.")) == "A line."
