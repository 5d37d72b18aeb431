"""The analyzer as a reader meets it: the page that `make app` shows, and its notebook in JupyterLab.

Voila answers 200 whatever its cells do, so the page itself is looked at; a planted broken notebook shows that
this looking turns red. Set LABS_SCREENSHOTS to a folder to keep pictures of what was seen.
"""

import json
import os
import re
import signal
import subprocess
import sys
from contextlib import contextmanager
from pathlib import Path

import psutil
import pytest
from playwright.sync_api import expect

from tests.lab_notebook import code, markdown, notebook
from tools import start_app
from tools.normal_form import write

pytestmark = pytest.mark.browser

WAIT_S = 60
# What Voila shows of a cell that failed, and what the kernel wrote to stderr.
FAILED = "[data-mime-type='application/vnd.jupyter.stderr'], [data-mime-type='application/vnd.jupyter.error']"
TOO_LONG = "bytes; this page takes 8,000,000. Nothing was changed."
BROKEN = notebook(
    markdown("title", "# The memory analyzer"),
    code("page", "from labs_lib.static_memory.app import NoSuchName"),
)


class Page:
    """One page of Voila, with all that went wrong in it."""

    def __init__(self, browser, address):
        self.page = browser.new_page(viewport={"width": 1200, "height": 2600})
        self._seen = []
        self.page.on("pageerror", lambda error: self._seen.append(f"page error: {error}"))
        self.page.on("requestfailed", lambda request: self._seen.append(f"failed request: {request.url}"))
        self.page.on("request", self._request)
        self.status = self.page.goto(address, wait_until="domcontentloaded").status
        # Voila's own sign that all outputs are there: it takes its loading screen away.
        self.page.wait_for_selector("#rendered_cells", state="visible", timeout=WAIT_S * 1000)
        self.page.wait_for_selector(f".labs-analyze, {FAILED}", timeout=WAIT_S * 1000)
        self.page.wait_for_timeout(500)

    def _request(self, request):
        if not re.match(r"(http|ws)://127\.0\.0\.1:|data:|blob:", request.url):
            self._seen.append(f"request to the network: {request.url}")

    def problems(self):
        return self.page.locator(FAILED).all_inner_texts() + self._seen

    def message(self):
        return self.page.locator(".labs-message")

    def analyze(self, text=None):
        """Write into the box, press the button, and wait until it may be pressed again; what the page says then."""
        if text is not None:
            self.page.locator(".labs-numbers textarea").fill(text)
        content = self.message().locator(".widget-html-content")
        content.evaluate("content => { content.textContent = 'not pressed yet'; }")
        self.page.locator("button.labs-analyze").click()
        expect(content).not_to_have_text("not pressed yet", timeout=WAIT_S * 1000)
        expect(self.page.locator(".labs-busy")).to_have_count(0, timeout=WAIT_S * 1000)
        return content.inner_text()

    def shown(self):
        """The last result and the history, as they stand in the page."""
        pictures = self.page.locator(".labs-result img").evaluate_all("all => all.map(each => each.src)")
        return pictures, self.page.locator(".labs-result").inner_text(), self.page.locator(".labs-history").inner_text()

    def keep_picture(self, name):
        if "LABS_SCREENSHOTS" in os.environ:
            folder = Path(os.environ["LABS_SCREENSHOTS"])
            folder.mkdir(parents=True, exist_ok=True)
            self.page.screenshot(path=folder / f"analyzer-{name}.png")


@contextmanager
def make_app(folder, port="0"):
    """What `make app` runs after the set-up, on a notebook of our own where one is given: its process and address."""
    own = {name: str(folder / name.lower()) for name in ("JUPYTER_CONFIG_DIR", "JUPYTER_DATA_DIR", "IPYTHONDIR")}
    env = os.environ | own | {"PORT": port, "LABS_JOURNAL": str(folder / "journal.jsonl"), "LABS_PRESET": "ci"}
    for name in ("DISPLAY", "WAYLAND_DISPLAY"):
        env.pop(name, None)  # no browser but ours
    command = [sys.executable, "-m", "tools.start_app"]
    app = subprocess.Popen(command, cwd=start_app.ROOT, env=env, stdout=subprocess.PIPE, text=True)
    try:
        said = []
        for line in app.stdout:
            said.append(line)
            if "Ctrl-C" in line:
                break
        address = re.search(r"http://127\.0\.0\.1:\d+/\?token=\w+", "".join(said))
        assert address, said
        yield app, address[0]
    finally:
        if app.poll() is None:
            app.send_signal(signal.SIGINT)
        app.wait(timeout=30)
        app.stdout.close()


@contextmanager
def voila(folder, path):
    """Voila as `make app` starts it, showing another notebook; yields its address."""
    port = start_app.choose_port("0")
    env = start_app.environment("0123") | {"LABS_JOURNAL": str(folder / "journal.jsonl"), "LABS_PRESET": "ci"}
    server = subprocess.Popen(start_app.command(port, notebook=str(path)), env=env, cwd=folder)
    try:
        start_app.wait_until_serving(server, port)
        yield f"http://127.0.0.1:{port}/?token=0123"
    finally:
        start_app.stop(server)


def test_the_page_bears_what_people_do_and_stops_cleanly(browser, tmp_path):
    with make_app(tmp_path) as (app, address):
        page = Page(browser, address)
        assert page.status == 200
        assert page.problems() == []
        assert page.page.locator(".jp-CodeCell .jp-InputArea").count() == 0  # a page without code
        assert "same answer: yes" in page.page.locator("body").inner_text()

        assert page.analyze("1, 2, 3, 4") == "Done."
        page.keep_picture("valid")
        pictures, result, history = before = page.shown()
        assert len(pictures) == len(set(pictures)) == 3
        assert "Is the answer the same? Yes." in result
        assert history.count("this session") == 2  # with the one that opened the page
        with page.page.expect_download() as download:
            page.page.locator("a.labs-export").click()
        assert download.value.suggested_filename == "analysis_MLP_32.json"
        saved = json.loads(Path(download.value.path()).read_text())
        assert (saved["values"], saved["arena_bytes"]) == (4, 2 * 32 * 1024 * 4)

        for name, text, says in (
            ("empty", "", "There are no values in the box."),
            ("text", "hello", "'hello' is not a number."),
            ("nan", "1, nan", "'nan' is not finite."),
            ("ragged", "1,2\n3", "Line 2 of the box has 1 values"),
            ("huge", "1," * 1_000_001, "There are too many values in the box."),
        ):
            assert says in page.analyze(text), name
            page.keep_picture(name)
            assert page.shown() == before, name

        numbers = page.page.locator(".labs-numbers textarea")
        numbers.fill("5, 6")
        paste(page, "1," * 10_000_000)
        expect(page.message()).to_contain_text(f"The box would hold 20,000,004 {TOO_LONG}")
        page.keep_picture("paste")
        paste(page, "\n" * 4_000_000)  # each newline takes two bytes on the way
        expect(page.message()).to_contain_text(f"The box would hold 8,000,006 {TOO_LONG}")
        assert numbers.input_value() == "5, 6"

        for data, says in (
            (b"1,\xff", "data.csv is no text file. Byte 3 is not UTF-8."),
            (b"1," * 5_000_000, f"data.csv holds 10,000,000 {TOO_LONG}"),
            (b"1,2\r\n3,4\r\n5,6\r\n", "data.csv: numbers read, 6 of them."),
        ):
            upload(page, data)
            expect(page.message()).to_contain_text(says, timeout=WAIT_S * 1000)
        page.page.locator(".labs-model select").select_option("mobilenet_v3_small")
        page.page.locator(".labs-batch select").select_option("1")
        assert page.analyze() == "Done."
        page.keep_picture("torch")
        result = page.shown()[1]
        assert "mobilenet_v3_small, batch 1" in result
        assert "counted, torch's storages" in result
        assert numbers.input_value() == "5, 6"
        assert page.problems() == []

        processes = psutil.Process(app.pid).children(recursive=True)
        assert len(processes) >= 2  # the server, and the kernel of the page
        app.send_signal(signal.SIGINT)
        assert app.wait(timeout=30) == 0
        assert "Stopping the analyzer." in app.stdout.read()
        assert [each for each in processes if each.is_running()] == []


def paste(page, text):
    """Ctrl-V of a text of any length into the box, as the browser tells it to the page."""
    page.page.locator(".labs-numbers textarea").evaluate(
        """(box, text) => {
            const data = new DataTransfer();
            data.setData('text/plain', text);
            const event = new ClipboardEvent('paste', {clipboardData: data, bubbles: true, cancelable: true});
            if (box.dispatchEvent(event)) box.value = text;
        }""",
        text,
    )


def upload(page, data):
    with page.page.expect_file_chooser() as chooser:
        page.page.locator("button.labs-upload").click()
    chooser.value.set_files({"name": "data.csv", "mimeType": "text/csv", "buffer": data})


def test_a_page_whose_cell_failed_is_red_although_voila_answers_200(browser, tmp_path):
    path = tmp_path / "broken.ipynb"
    write(path, BROKEN)
    with voila(tmp_path, path) as address:
        page = Page(browser, address)
        assert page.status == 200
        (problem,) = page.problems()
        assert "error" in problem.lower()


def test_the_notebook_works_in_jupyterlab(jupyterlab):
    jupyterlab.open("analyzer.ipynb")
    jupyterlab.run_all()
    page = jupyterlab.page
    message = page.locator(".labs-message")
    page.locator(".labs-numbers textarea").fill("1, two")
    page.locator("button.labs-analyze").click()
    expect(message).to_contain_text("'two' is not a number", timeout=WAIT_S * 1000)
    page.locator(".labs-numbers textarea").fill("1, 2")
    page.locator("button.labs-analyze").click()
    expect(message).to_have_text("Done.", timeout=WAIT_S * 1000)
    assert page.evaluate("() => window.labsGuard") is True
    assert jupyterlab.problems() == []
