"""tools.notebooks: executing, normalising and writing notebooks."""

import pytest
from nbformat.v4 import new_code_cell, new_notebook, new_output

from labs_lib.headless import CellFailed, execute
from tests.lab_notebook import code, lab_notebook, markdown, notebook, prints, shows
from tools.normal_form import WIDGET_VIEW, normalise, read, text_of, write
from tools.notebooks import main, own_environment, refresh

TQDM = "from tqdm.auto import tqdm\nfor _ in tqdm(range(2)): pass\nprint('two')"
WIDGET = "import ipywidgets\nipywidgets.IntSlider()"
BOTH = """\
class Panel:
    def _repr_mimebundle_(self, include=None, exclude=None):
        widget = "application/vnd.jupyter.widget-view+json"
        return {"text/plain": "One bar.", "image/png": "iVBORw0KGgo=", widget: {"model_id": "1"}}
Panel()"""


def raw(*cells):
    return new_notebook(cells=list(cells))


def test_execution_counts_and_metadata():
    messy = raw(
        new_code_cell(
            "1", execution_count=17, metadata={"collapsed": True, "tags": ["a"], "editable": False}
        ),
        new_code_cell("2  \n\n", execution_count=None, metadata={"tags": [], "scrolled": True}),
    )
    messy.metadata.update(widgets={"state": {}}, language_info={"name": "python", "version": "3.11.7"})
    normal = normalise(messy)
    assert [cell.execution_count for cell in normal.cells] == [1, 2]
    assert [dict(cell.metadata) for cell in normal.cells] == [{"tags": ["a"], "editable": False}, {}]
    assert normal.cells[1].source == "2"
    assert set(normal.metadata) == {"accelerator", "colab", "kernelspec", "language_info"}
    assert normal.metadata.language_info == {"name": "python"}


def test_what_is_dropped_and_what_is_kept():
    outputs = [
        prints("a\n"),
        prints("careful\n", name="stderr"),
        prints("b\n"),
        shows(**{WIDGET_VIEW: {"model_id": "1"}, "text__plain": "IntSlider(value=0)"}),
        shows(**{WIDGET_VIEW: {"model_id": "2"}, "text__plain": "One bar.", "image__png": "iVBORw0KGgo="}),
        shows(text__plain=" 50%|#####     | 1/2 [00:00<00:00, 9.51it/s]"),
        new_output("execute_result", data={"text/plain": "4"}, execution_count=9),
    ]
    [cell] = normalise(raw(new_code_cell("1", outputs=outputs))).cells
    assert [output.output_type for output in cell.outputs] == ["stream", "display_data", "execute_result"]
    assert cell.outputs[0].text == "a\nb\n"
    assert set(cell.outputs[1].data) == {"text/plain", "image/png"}
    assert cell.outputs[2].execution_count == 1


def test_a_normal_notebook_is_not_changed(tmp_path):
    path = tmp_path / "a.ipynb"
    assert write(path, lab_notebook())
    assert path.read_bytes().endswith(b"}\n")
    assert text_of(normalise(read(path))) == path.read_text()
    assert not write(path, read(path))


def test_refresh_is_stable_and_keeps_ids_and_tags(tmp_path):
    """Two runs give the same bytes, and neither progress bars nor live widgets are in them."""
    path = tmp_path / "a.ipynb"
    cells = [
        code("bar", TQDM, checked=True),
        code("widget", WIDGET),
        code("panel", BOTH),
        code("more", "1 + 1"),
    ]
    write(path, notebook(markdown("title", "# A"), *cells))
    assert refresh(path)
    first = path.read_bytes()
    assert not refresh(path)
    assert path.read_bytes() == first
    title, bar, widget, panel, more = read(path).cells
    assert title.id == "title"
    assert bar.metadata.tags == ["nbval-check-output"]
    assert [output.text for output in bar.outputs] == ["two\n"]
    assert widget.outputs == []
    assert set(panel.outputs[0].data) == {"text/plain", "image/png"}
    assert more.outputs[0].data == {"text/plain": "2"}
    assert more.execution_count == more.outputs[0].execution_count == 4


def test_a_failing_cell_leaves_the_file_alone(tmp_path, capsys):
    path = tmp_path / "a.ipynb"
    write(path, notebook(code("fine", "print(1)"), code("divide", "1 / 0"), code("never", "2")))
    before = path.read_bytes()
    assert main([str(path)]) == 1
    assert path.read_bytes() == before
    shown = capsys.readouterr()
    assert shown.out == f"{path}: cell divide: ZeroDivisionError: division by zero\n"
    assert "1 / 0" in shown.err
    assert "\x1b" not in shown.err


def test_an_error_that_is_only_displayed_fails_as_well(tmp_path):
    """ipywidgets shows what a button's callback raises, and the kernel calls the cell a success."""
    click = (
        "import ipywidgets\nbutton = ipywidgets.Button()\nbutton.on_click(lambda _: 1 / 0)\nbutton.click()"
    )
    with pytest.raises(CellFailed, match="cell click: ZeroDivisionError"):
        list(execute(notebook(code("click", click)), tmp_path, {}))


def test_a_kernel_that_dies_or_hangs_is_named(tmp_path):
    with pytest.raises(CellFailed, match="cell die: Kernel died"):
        list(execute(notebook(code("die", "import os; os._exit(1)")), tmp_path, {}))
    with pytest.raises(CellFailed, match=r"cell hang: .*1 seconds"):
        list(execute(notebook(code("hang", "import time; time.sleep(60)")), tmp_path, {}, timeout_s=1))


def test_the_kernel_is_the_notebooks_own(tmp_path, monkeypatch):
    """One thread, the lab preset, a journal of its own, and the notebook's folder as working directory."""
    monkeypatch.delenv("LABS_PRESET", raising=False)
    monkeypatch.setenv("LABS_JOURNAL", "mine")
    source = (
        "import os\nfor name in ('LABS_PRESET', 'OMP_NUM_THREADS', 'LABS_JOURNAL'): print(os.environ[name])"
    )
    asked = notebook(code("environment", source), code("folder", "print(os.getcwd())"))
    with own_environment() as environment:
        list(execute(asked, tmp_path, environment))
    preset, threads, journal = asked.cells[0].outputs[0].text.split()
    assert (preset, threads) == ("lab", "1")
    assert journal != "mine"
    assert asked.cells[1].outputs[0].text.strip() == str(tmp_path)


def test_check_executes_nothing(tmp_path, capsys):
    path = tmp_path / "01_example.ipynb"
    write(path, lab_notebook())
    assert main(["--check", str(path)]) == 0
    path.write_text(path.read_text().rstrip())
    assert main(["--check", str(path)]) == 1
    assert capsys.readouterr().out == f"{path}: not in normal form: run python -m tools.notebooks on it\n"
    path.write_text("no notebook")
    assert main(["--check", str(path)]) == 1
    assert main([str(path)]) == 1


def test_a_missing_notebook(tmp_path, capsys):
    with pytest.raises(SystemExit) as exit_:
        main([str(tmp_path / "a.ipynb")])
    assert exit_.value.code == 2
    assert "no such notebook" in capsys.readouterr().err
