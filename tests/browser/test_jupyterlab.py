"""The notebooks in a real JupyterLab in a real browser, where every control is moved by hand.

nbval has run all their cells: here run only those that show a control, and what these need. The other cells show
their stored outputs. To see all cells run in the browser: python -m tools.browser NOTEBOOK.

Set LABS_SCREENSHOTS to a folder to keep pictures of what was seen.
"""

import ast
import os
from pathlib import Path

import pytest
from nbformat import NotebookNode
from playwright.sync_api import Locator, expect

from tests.lab_notebook import code, notebook
from tools.browser import JupyterLab
from tools.needed_cells import calls, needed
from tools.normal_form import NOTEBOOKS, read, write
from tools.notebook_format import CHECKED

pytestmark = pytest.mark.browser

MOVE_TIMEOUT_S = 60
LOOK_EVERY_MS = 100
# All that a panel shows except the controls themselves: the pictures, by their addresses, and the text.
SHOWN = """panel => {
    const copy = panel.cloneNode(true);
    copy.querySelectorAll('.labs-control').forEach(control => control.remove());
    return [...copy.querySelectorAll('img')].map(image => image.src).join() + copy.textContent;
}"""
CHANGED = f"([panel, before]) => !panel.matches('.labs-busy') && ({SHOWN})(panel) !== before"
BROKEN_PANEL = """\
from labs_lib.figures import Picture
from labs_lib.panels import Choice, Panel

def draw(depth):
    return Picture(b"", f"{8 // depth} bytes")

Panel(draw, depth=Choice("depth", [2, 1, 0], value=1))"""


def move(control: Locator) -> None:
    """Move one control as a hand would: a slider by a step, a menu to its next entry, a button by a click."""
    handle, menu = control.locator(".noUi-handle"), control.locator("select")
    others = control.locator("button:not(.mod-active)")
    if handle.count():
        handle.first.focus()
        at_end = handle.first.evaluate("handle => handle.ariaValueNow === handle.ariaValueMax")
        control.page.keyboard.press("ArrowLeft" if at_end else "ArrowRight")
    elif menu.count():
        chosen, options = menu.evaluate("menu => [menu.selectedIndex, menu.options.length]")
        menu.select_option(index=(chosen + 1) % options)
    elif others.count():
        others.first.click()
    else:
        control.click()


def move_every_control(jupyterlab: JupyterLab) -> int:
    """Move each control of each panel, each time waiting until the panel shows something else; how many."""
    panels = jupyterlab.page.locator(".labs-panel").all()
    controls = [(panel, control) for panel in panels for control in panel.locator(".labs-control").all()]
    for panel, control in controls:
        control.scroll_into_view_if_needed()
        before = panel.evaluate(SHOWN)
        move(control)
        jupyterlab.page.wait_for_function(
            CHANGED, arg=[panel.element_handle(), before], timeout=MOVE_TIMEOUT_S * 1000, polling=LOOK_EVERY_MS
        )
        jupyterlab.wait_until_idle()
    return len(controls)


def answer_every_prediction(jupyterlab: JupyterLab) -> int:
    """Move the slider of each question and commit to it, each time waiting for the answer; how many."""
    questions = jupyterlab.page.locator(".labs-prediction").all()
    for question in questions:
        answer = question.locator(".widget-html-content").last
        before = answer.inner_text()
        move(question.locator(".widget-slider"))
        question.locator("button").click()
        expect(answer).not_to_have_text(before, timeout=MOVE_TIMEOUT_S * 1000)
    return len(questions)


def look(jupyterlab: JupyterLab) -> None:
    assert len(jupyterlab.page.screenshot()) > 5000  # a blank page is smaller


def keep_pictures(jupyterlab: JupyterLab, moment: str) -> None:
    if "LABS_SCREENSHOTS" in os.environ:
        jupyterlab.screenshots(Path(os.environ["LABS_SCREENSHOTS"]) / moment)


def shows_a_control(cell: NotebookNode, tree: ast.Module) -> bool:
    """Whether the cell asks for a prediction or makes a panel to be looked at."""
    made = [name for name in calls(tree) if name == "predict" or name.endswith("_panel")]
    return bool(made) and CHECKED not in cell.metadata.get("tags", [])


def test_all_cells_run(jupyterlab):
    jupyterlab.open("00_start_here.ipynb")
    jupyterlab.run_all()
    assert answer_every_prediction(jupyterlab) == 1
    look(jupyterlab)
    keep_pictures(jupyterlab, "run")
    assert jupyterlab.problems() == []


@pytest.mark.parametrize(
    ("name", "panels", "predictions"),
    [
        ("01_static_memory_planning.ipynb", 2, 2),
        ("02_compilation.ipynb", 1, 2),
        ("03_gpu_memory.ipynb", 2, 2),
        ("04_data_loading.ipynb", 1, 2),
        ("05_batched_eval.ipynb", 1, 2),
        ("06_race_conditions.ipynb", 2, 2),
        ("07_serving.ipynb", 1, 2),
        ("08_text_pipeline.ipynb", 1, 2),
        ("09_inference_bench.ipynb", 1, 2),
    ],
)
def test_every_control_answers_to_a_hand(jupyterlab, name, panels, predictions):
    jupyterlab.open(name)
    jupyterlab.run(needed(read(NOTEBOOKS / name), shows_a_control))
    look(jupyterlab)
    keep_pictures(jupyterlab, "run")
    assert jupyterlab.problems() == []
    assert answer_every_prediction(jupyterlab) == predictions
    assert jupyterlab.page.locator(".labs-panel").count() == panels
    assert move_every_control(jupyterlab) > panels
    assert jupyterlab.problems() == []
    assert jupyterlab.page.locator(".labs-error").count() == 0
    keep_pictures(jupyterlab, "moved")


def test_a_callback_that_raises_is_seen(jupyterlab, root):
    """No cell shows the error of a callback: unless the kernel is heard, the panel would just stand still."""
    write(root / "broken.ipynb", notebook(code("panel", BROKEN_PANEL)))
    jupyterlab.open("broken.ipynb")
    jupyterlab.run_all()
    assert jupyterlab.problems() == []
    assert move_every_control(jupyterlab) == 1
    assert jupyterlab.problems() == ["kernel: ZeroDivisionError: integer division or modulo by zero"]
    assert jupyterlab.page.locator(".labs-error").count() == 1
