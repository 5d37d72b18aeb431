"""Run a lab's notebook without a browser, in a fresh kernel of this Python; the file stays as it is."""

from __future__ import annotations

import logging
import os
import tempfile
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from labs_lib.errors import LabError

if TYPE_CHECKING:
    from nbformat import NotebookNode

SUMMARY_CELL = "summary"  # the id of the cell whose output stands for the run


@dataclass(frozen=True)
class Run:
    """What came of a notebook."""

    cells: int  # code cells that succeeded
    seconds: float
    summary: str  # what the cell SUMMARY_CELL printed and showed
    failed_cell: str | None = None
    error: str | None = None

    def as_dict(self) -> dict[str, object]:
        return asdict(self)


class CellFailed(Exception):
    """A cell raised, timed out or killed its kernel; `details` is the traceback, where there is one."""

    def __init__(self, cell_id: str, error: str, details: str = "") -> None:
        super().__init__(f"cell {cell_id}: {error}")
        self.cell_id, self.error, self.details = cell_id, error, details


def run_notebook(path: Path) -> Run:
    """Executes the code cells up to the first that fails, with a progress bar on stderr.

    Raises LabError where the file is missing or no notebook, or where nbclient or ipykernel is.
    """
    notebook = _read(path)
    done, summary, start = 0, "", time.monotonic()
    # What a run without a reader reveals has been revealed to nobody: the learner's predictions stay open.
    with tempfile.TemporaryDirectory() as folder:
        try:
            for cell in execute(notebook, path.parent, {"LABS_JOURNAL": os.path.join(folder, "journal.jsonl")}):
                done += 1
                if cell.id == SUMMARY_CELL:
                    summary = _text(cell)
        except CellFailed as failure:
            return Run(done, time.monotonic() - start, summary, failure.cell_id, failure.error)
    return Run(done, time.monotonic() - start, summary)


def execute(
    notebook: NotebookNode, folder: Path, environment: dict[str, str], timeout_s: int | None = None
) -> Iterator[NotebookNode]:
    """Runs the code cells in a fresh kernel of this Python, started in `folder`; yields each when it is done.

    `environment` is added to this process's. Outputs are stored in the cells. A progress bar is drawn on
    stderr where that is a terminal.

    Raises CellFailed for a cell that fails or takes longer than `timeout_s`, LabError where nbclient or
    ipykernel is missing.
    """
    try:
        import ipykernel  # noqa: F401 - only the kernel's process uses it; its lack is better told here
        from jupyter_client.kernelspec import KernelSpecManager
        from jupyter_client.manager import AsyncKernelManager
        from nbclient import NotebookClient
        from nbclient.exceptions import CellExecutionError, CellTimeoutError, DeadKernelError
    except ImportError as error:
        raise _missing(error) from error
    from tqdm import tqdm

    client = NotebookClient(
        notebook,
        # Without folders to look in, the one kernel left is that of this interpreter.
        km=AsyncKernelManager(kernel_spec_manager=KernelSpecManager(kernel_dirs=[])),
        timeout=timeout_s,
        resources={"metadata": {"path": str(folder)}},
        record_timing=False,
        store_widget_state=False,
        extra_arguments=["--log-level=CRITICAL"],  # the kernel's own log would end up on our stderr
    )
    # The kernel finds this package in a clone, too.
    package = str(Path(__file__).resolve().parent.parent)
    python_path = os.pathsep.join(filter(None, [package, os.environ.get("PYTHONPATH")]))
    environment = os.environ | {"PYTHONPATH": python_path} | environment
    code = [(index, cell) for index, cell in enumerate(notebook.cells) if cell.cell_type == "code"]
    with client.setup_kernel(env=environment, cleanup_kc=True):
        for index, cell in tqdm(code, unit="cell", leave=False, disable=None):
            try:
                client.execute_cell(cell, index)
            except CellExecutionError as error:
                raise CellFailed(cell.id, f"{error.ename}: {error.evalue}", error.traceback) from error
            except KeyboardInterrupt:
                # Told to end, the kernel lets its cell fail. Nobody waits for that, so asyncio would log a traceback.
                logging.getLogger("asyncio").setLevel(logging.CRITICAL)
                raise
            except (CellTimeoutError, DeadKernelError) as error:
                raise CellFailed(cell.id, str(error).splitlines()[0]) from error
            for output in cell.outputs:
                # A failing Button callback is only displayed: its cell counts as a success.
                if output.output_type == "error":
                    raise CellFailed(cell.id, f"{output.ename}: {output.evalue}", "\n".join(output.traceback))
            yield cell


def _read(path: Path) -> NotebookNode:
    try:
        import nbformat
    except ImportError as error:
        raise _missing(error) from error
    try:
        return nbformat.read(path, as_version=4)
    except OSError as error:
        do = "Run the labs from a clone of the course."
        raise LabError(f"Cannot read {path}.", f"{error.strerror}.", do) from error
    except ValueError as error:
        raise LabError(f"{path} is no notebook.", "It does not parse.", "Get the file anew.") from error


def _missing(error: ImportError) -> LabError:
    return LabError(f"{error.name} is not installed.", "It executes notebooks.", "Run: pip install nbclient ipykernel")


def _text(cell: NotebookNode) -> str:
    """What a cell printed and showed, as far as it is text."""
    parts = []
    for output in cell.outputs:
        if output.output_type == "stream":
            parts.append(output.text if output.name == "stdout" else "")
        elif output.output_type in ("display_data", "execute_result"):
            parts.append(output.data.get("text/markdown") or output.data.get("text/plain", ""))
    return "\n".join(part.strip() for part in parts if part.strip())
