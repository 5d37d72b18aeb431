"""Run a notebook in a real browser and look at it.

    python -m tools.browser NOTEBOOK [--screenshots FOLDER]

Starts JupyterLab on a copy of the notebook, runs all cells in a headless Chromium, and saves pictures of the
page from top to bottom. Exit code 1 when a cell or the page shows an error, or a request fails.
"""

from __future__ import annotations

import argparse
import json
import os
import secrets
import shutil
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from playwright.sync_api import Browser, ConsoleMessage, Request, Response, sync_playwright

from tools.find_browser import find_browser
from tools.repository import BADGE

WIDTH, HEIGHT = 1300, 1600
START_TIMEOUT_S = 90
RUN_TIMEOUT_S = 300
LOOK_EVERY_MS = 300
EMPTY_PICTURE = '<svg xmlns="http://www.w3.org/2000/svg"/>'
SETTINGS = {
    # Both use the network.
    "apputils-extension/notification": {"fetchNews": "false", "checkForUpdates": False},
    # Cells out of sight stay in the page.
    "notebook-extension/tracker": {"windowingMode": "none"},
}
# What a callback raises when a hand moves its widget is shown in no cell: listen to the kernel itself.
LISTEN = """() => {
    window.labsKernelErrors = [];
    jupyterapp.shell.currentWidget.sessionContext.iopubMessage.connect((_, message) => {
        if (message.header.msg_type === 'error' && message.parent_header.msg_type !== 'execute_request')
            window.labsKernelErrors.push(message.content.ename + ': ' + message.content.evalue);
    });
}"""
KERNEL_IDLE = "() => jupyterapp.shell.currentWidget?.sessionContext?.session?.kernel?.status === 'idle'"
# Without the question whether to save: it works on copies.
CLOSE = """async () => {
    const notebook = jupyterapp.shell.currentWidget;
    await notebook.sessionContext.shutdown();
    notebook.dispose();
}"""
CODE_CELLS = "[...jupyterapp.shell.currentWidget.content.model.cells].filter(cell => cell.type === 'code')"
ERROR_OUTPUTS = f"""() => {CODE_CELLS}
    .flatMap(cell => [...Array(cell.outputs.length).keys()].map(i => [cell.id, cell.outputs.get(i).toJSON()]))
    .filter(([id, output]) => output.output_type === 'error')
    .map(([id, output]) => 'cell ' + id + ': ' + output.ename + ': ' + output.evalue)"""
# To run a cell, the page makes it the active one; the command ends when the cell has run, or failed.
RUN_CELLS = """async ids => {
    const notebook = jupyterapp.shell.currentWidget.content;
    for (const id of ids) {
        notebook.activeCellIndex = notebook.widgets.findIndex(cell => cell.model.id === id);
        await jupyterapp.commands.execute('notebook:run-cell');
    }
}"""
ALL_RUN = f"() => {CODE_CELLS}.every(cell => cell.executionCount !== null || !cell.sharedModel.source.trim())"


@contextmanager
def start_jupyterlab(root: Path) -> Iterator[str]:
    """JupyterLab over the folder `root`, without the user's own settings.

    Yields its address. Raises RuntimeError with JupyterLab's own words when it does not come up.
    """
    port, token = _free_port(), secrets.token_hex()
    with tempfile.TemporaryDirectory() as own:
        command = [sys.executable, "-m", "jupyterlab", "--no-browser", "--allow-root", "--ip=127.0.0.1"]
        command += [f"--port={port}", "--ServerApp.port_retries=0", f"--ServerApp.root_dir={root}"]
        command += ["--LabApp.expose_app_in_browser=True", "--LabApp.extension_manager=readonly"]
        environment = os.environ | _own_folders(Path(own)) | {"JUPYTER_TOKEN": token}
        log = Path(own, "log.txt")
        with log.open("w") as output:
            server = subprocess.Popen(command, env=environment, stdout=output, stderr=subprocess.STDOUT)
        try:
            if not _answers(f"http://127.0.0.1:{port}/api", server):
                raise RuntimeError(f"JupyterLab did not start:\n{log.read_text()}")
            yield f"http://127.0.0.1:{port}/lab?reset&token={token}"
        finally:
            server.terminate()
            server.wait(timeout=30)


def _free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return free.getsockname()[1]


def _own_folders(own: Path) -> dict[str, str]:
    """Variables that keep JupyterLab, its kernels and labs_lib in the folder `own`, with SETTINGS written."""
    for name, settings in SETTINGS.items():
        file = own / "settings" / "@jupyterlab" / f"{name}.jupyterlab-settings"
        file.parent.mkdir(parents=True)
        file.write_text(json.dumps(settings))
    folders = {
        "JUPYTER_CONFIG_DIR": "config",
        "JUPYTER_DATA_DIR": "data",
        "JUPYTER_RUNTIME_DIR": "runtime",
        "JUPYTERLAB_SETTINGS_DIR": "settings",
        "JUPYTERLAB_WORKSPACES_DIR": "workspaces",
        "IPYTHONDIR": "ipython",
        "LABS_JOURNAL": "journal.jsonl",
        "LABS_CACHE": "cache",
    }
    return {variable: str(own / name) for variable, name in folders.items()}


def _answers(url: str, server: subprocess.Popen) -> bool:
    """Whether the server answers at `url` before it ends or the time is up."""
    deadline = time.monotonic() + START_TIMEOUT_S
    while server.poll() is None and time.monotonic() < deadline:
        try:
            with urllib.request.urlopen(url, timeout=5):
                return True
        except (urllib.error.URLError, TimeoutError):
            time.sleep(0.2)
    return False


@contextmanager
def start_browser() -> Iterator[Browser]:
    """A headless Chromium or Chrome; raises RuntimeError where there is none."""
    executable = find_browser()
    if executable is None:
        raise RuntimeError("There is no Chromium or Chrome on this machine: install one.")
    with sync_playwright() as playwright:
        # So that it also starts as root, and in a container with little shared memory.
        options = ["--no-sandbox", "--disable-dev-shm-usage", "--disable-gpu"]
        browser = playwright.chromium.launch(executable_path=executable, args=options)
        yield browser
        browser.close()


class JupyterLab:
    """JupyterLab in a page of the browser, with one notebook open in it at a time."""

    def __init__(self, browser: Browser, address: str) -> None:
        self.page = page = browser.new_page(viewport={"width": WIDTH, "height": HEIGHT})
        self._problems: list[str] = []
        page.on("pageerror", lambda error: self._problems.append(f"page error: {error}"))
        page.on("console", self._console)
        page.on("request", self._request)
        page.on("requestfailed", lambda request: self._problems.append(f"failed request: {request.url}"))
        page.on("response", self._response)
        page.route(BADGE, lambda route: route.fulfill(content_type="image/svg+xml", body=EMPTY_PICTURE))
        page.goto(address, wait_until="domcontentloaded")
        page.wait_for_function("() => window.jupyterapp", timeout=START_TIMEOUT_S * 1000)
        page.evaluate("async () => { await jupyterapp.restored; }")
        self.notebook: str | None = None  # the name of the one that is open

    def open(self, name: str) -> None:
        """Close the notebook that is open, open this one, and wait until its kernel is ready."""
        if self.notebook is not None:
            self.page.evaluate(CLOSE)
            self._problems.clear()
        self.page.evaluate("async path => { await jupyterapp.commands.execute('docmanager:open', {path}); }", name)
        self.notebook = name
        self.page.wait_for_selector(".jp-Notebook .jp-Cell", timeout=START_TIMEOUT_S * 1000)
        # The status bar says "idle" before there is a session: ask the session itself.
        self.wait_until_idle(START_TIMEOUT_S)
        self.page.evaluate(LISTEN)

    def _console(self, message: ConsoleMessage) -> None:
        if message.type == "error":
            self._problems.append(f"console: {message.text}")

    def _request(self, request: Request) -> None:
        """A notebook needs no network; only the Colab badge comes from elsewhere, and is answered here."""
        host = urllib.parse.urlsplit(request.url).hostname
        if host not in (None, "127.0.0.1") and request.url != BADGE:
            self._problems.append(f"request to the network: {request.url}")

    def _response(self, response: Response) -> None:
        if response.status >= 400:
            self._problems.append(f"request answered {response.status}: {response.url}")

    def run_all(self) -> None:
        """Run all cells; returns when the last one is done, or the first one has failed."""
        self.page.evaluate("() => jupyterapp.commands.execute('notebook:clear-all-cell-outputs')")
        self.page.evaluate("() => { jupyterapp.commands.execute('notebook:run-all-cells'); }")
        ended = f"() => ({ALL_RUN})() || ({ERROR_OUTPUTS})().length > 0"
        # Looking at all outputs takes a part of the machine that the notebook needs: not at each frame.
        self.page.wait_for_function(ended, timeout=RUN_TIMEOUT_S * 1000, polling=LOOK_EVERY_MS)
        self.settle()

    def run(self, ids: list[str]) -> None:
        """Run these cells one after the other; the others keep the outputs that are stored in the notebook."""
        self.page.evaluate(RUN_CELLS, ids)
        self.settle()

    def wait_until_idle(self, timeout_s: float = RUN_TIMEOUT_S) -> None:
        """Wait until the kernel has nothing left to do."""
        self.page.wait_for_function(KERNEL_IDLE, timeout=timeout_s * 1000)

    def settle(self) -> None:
        """Wait until the kernel is idle and the page's height no longer changes."""
        self.wait_until_idle()
        height = "() => document.querySelector('.jp-WindowedPanel-outer').scrollHeight"
        before = None
        while before != (before := self.page.evaluate(height)):
            self.page.wait_for_timeout(500)

    def problems(self) -> list[str]:
        """Errors in outputs, in widget callbacks and of the page, in words; empty when all is well."""
        raised = self.page.evaluate("() => labsKernelErrors")
        return self.page.evaluate(ERROR_OUTPUTS) + [f"kernel: {error}" for error in raised] + self._problems

    def screenshots(self, folder: Path) -> list[Path]:
        """The notebook from top to bottom, one picture per screen: NAME-01.png, NAME-02.png, ..."""
        folder.mkdir(parents=True, exist_ok=True)
        self.page.evaluate("() => jupyterapp.shell.collapseLeft()")
        self.settle()
        notebook = self.page.locator(".jp-WindowedPanel-outer")
        height, screen = notebook.evaluate("element => [element.scrollHeight, element.clientHeight]")
        paths = []
        for number, top in enumerate(range(0, height, screen), start=1):
            notebook.evaluate("(element, top) => { element.scrollTop = top; }", top)
            self.page.wait_for_timeout(200)
            paths.append(folder / f"{Path(self.notebook).stem}-{number:02}.png")
            notebook.screenshot(path=paths[-1])
        return paths


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m tools.browser", description=__doc__.splitlines()[0])
    parser.add_argument("notebook", type=Path)
    parser.add_argument("--screenshots", type=Path, metavar="FOLDER", help="save pictures of the page here")
    options = parser.parse_args(arguments)
    if not options.notebook.is_file():
        parser.error(f"no such notebook: {options.notebook}")
    with tempfile.TemporaryDirectory() as root:
        shutil.copy(options.notebook, root)
        with start_jupyterlab(Path(root)) as address, start_browser() as browser:
            jupyterlab = JupyterLab(browser, address)
            jupyterlab.open(options.notebook.name)
            jupyterlab.run_all()
            if options.screenshots:
                print(*jupyterlab.screenshots(options.screenshots), sep="\n")
            problems = jupyterlab.problems()
    for problem in problems:
        print(f"{options.notebook}: {problem}", file=sys.stderr)
    return int(bool(problems))


if __name__ == "__main__":
    sys.exit(main())
