"""The notebooks in a real JupyterLab in a real browser: run all cells, then move every control by hand.

Set LABS_SCREENSHOTS to a folder to keep pictures of what was seen.
"""

import os
import shutil
from pathlib import Path

import pytest
from playwright.sync_api import Locator, expect

from tests.lab_notebook import code, notebook
from tools.browser import NotebookPage, start_browser, start_jupyterlab
from tools.normal_form import NOTEBOOKS, write

pytestmark = pytest.mark.browser

MOVE_TIMEOUT_S = 60
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


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    """A folder with copies of the notebooks, so that the tree stays as it is."""
    root = tmp_path_factory.mktemp("root")
    for path in NOTEBOOKS.glob("*.ipynb"):
        shutil.copy(path, root)
    write(root / "broken.ipynb", notebook(code("panel", BROKEN_PANEL)))
    return root


@pytest.fixture(scope="module")
def open_notebook(browser_path, root):
    """A function from a notebook's name to its page; one JupyterLab and one browser for all tests."""
    with start_jupyterlab(root) as address_of, start_browser() as browser:
        yield lambda name: NotebookPage(browser, address_of(name))


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


def move_every_control(opened: NotebookPage) -> int:
    """Move each control of each panel, each time waiting until the panel shows something else; how many."""
    panels = opened.page.locator(".labs-panel").all()
    controls = [(panel, control) for panel in panels for control in panel.locator(".labs-control").all()]
    for panel, control in controls:
        control.scroll_into_view_if_needed()
        before = panel.evaluate(SHOWN)
        move(control)
        opened.page.wait_for_function(
            CHANGED, arg=[panel.element_handle(), before], timeout=MOVE_TIMEOUT_S * 1000
        )
        opened.settle()
    return len(controls)


def answer_every_prediction(opened: NotebookPage) -> int:
    """Move the slider of each question and commit to it, each time waiting for the answer; how many."""
    questions = opened.page.locator(".labs-prediction").all()
    for question in questions:
        answer = question.locator(".widget-html-content").last
        before = answer.inner_text()
        move(question.locator(".widget-slider"))
        question.locator("button").click()
        expect(answer).not_to_have_text(before, timeout=MOVE_TIMEOUT_S * 1000)
    return len(questions)


def look(opened: NotebookPage) -> None:
    assert len(opened.page.screenshot()) > 5000  # a blank page is smaller


def keep_pictures(opened: NotebookPage, moment: str) -> None:
    if "LABS_SCREENSHOTS" in os.environ:
        opened.screenshots(Path(os.environ["LABS_SCREENSHOTS"]) / moment)


@pytest.mark.parametrize(
    ("name", "panels", "predictions"),
    [
        ("00_start_here.ipynb", 0, 0),
        ("01_static_memory_planning.ipynb", 1, 1),
        ("02_compilation.ipynb", 1, 2),
        ("03_gpu_memory.ipynb", 1, 2),
        ("04_data_loading.ipynb", 1, 2),
        ("05_batched_eval.ipynb", 1, 2),
        ("06_race_conditions.ipynb", 2, 2),
        ("07_serving.ipynb", 1, 2),
        ("08_text_pipeline.ipynb", 1, 2),
        ("09_inference_bench.ipynb", 1, 2),
    ],
)
def test_run_all_cells_and_move_every_control(open_notebook, name, panels, predictions):
    """At least so many panels and predictions are there, and each of them answers to a hand."""
    opened = open_notebook(name)
    opened.run_all()
    look(opened)
    keep_pictures(opened, "run")
    assert opened.problems() == []
    assert answer_every_prediction(opened) >= predictions
    assert move_every_control(opened) >= panels
    assert opened.problems() == []
    assert opened.page.locator(".labs-error").count() == 0
    keep_pictures(opened, "moved")


def test_a_callback_that_raises_is_seen(open_notebook):
    """No cell shows the error of a callback: unless the kernel is heard, the panel would just stand still."""
    opened = open_notebook("broken.ipynb")
    opened.run_all()
    assert opened.problems() == []
    assert move_every_control(opened) == 1
    assert opened.problems() == ["kernel: ZeroDivisionError: integer division or modulo by zero"]
    assert opened.page.locator(".labs-error").count() == 1
