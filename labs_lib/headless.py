"""Run a lab's notebook without a browser, in a fresh kernel of this Python; the file stays as it is."""

from __future__ import annotations

import os
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
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


def run_notebook(path: Path) -> Run:
    """Executes the code cells up to the first that fails, with a progress bar on stderr.

    Raises LabError where the file is missing or no notebook, or where nbclient or ipykernel is.
    """
    try:
        import ipykernel  # noqa: F401 - only the kernel's process uses it; its lack is better told here
        import nbformat
        from jupyter_client.kernelspec import KernelSpecManager
        from jupyter_client.manager import AsyncKernelManager
        from nbclient import NotebookClient
        from nbclient.exceptions import CellExecutionError, DeadKernelError
    except ImportError as error:
        do = "Run: pip install nbclient ipykernel"
        raise LabError(f"{error.name} is not installed.", "It executes notebooks.", do) from error
    from tqdm import tqdm

    try:
        notebook = nbformat.read(path, as_version=4)
    except OSError as error:
        do = "Run the labs from a clone of the course."
        raise LabError(f"Cannot read {path}.", f"{error.strerror}.", do) from error
    except ValueError as error:
        raise LabError(f"{path} is no notebook.", "It does not parse.", "Get the file anew.") from error

    client = NotebookClient(
        notebook,
        # Without folders to look in, the one kernel left is that of this interpreter.
        km=AsyncKernelManager(kernel_spec_manager=KernelSpecManager(kernel_dirs=[])),
        timeout=None,
        resources={"metadata": {"path": str(path.parent)}},
        extra_arguments=["--log-level=CRITICAL"],  # the kernel's own log would end up on our stderr
    )
    code = [(index, cell) for index, cell in enumerate(notebook.cells) if cell.cell_type == "code"]
    summary, start = "", time.monotonic()
    with _environment() as environment, client.setup_kernel(env=environment, cleanup_kc=True):
        for done, (index, cell) in enumerate(tqdm(code, unit="cell", leave=False, disable=None)):
            try:
                client.execute_cell(cell, index)
                failure = _displayed_error(cell)
            except CellExecutionError as error:
                failure = f"{error.ename}: {error.evalue}"
            except DeadKernelError as error:
                failure = str(error)
            if failure:
                return Run(done, time.monotonic() - start, summary, cell.id, failure)
            if cell.id == SUMMARY_CELL:
                summary = _text(cell)
    return Run(len(code), time.monotonic() - start, summary)


@contextmanager
def _environment() -> Iterator[dict[str, str]]:
    """The kernel's environment: this package, also from a clone, and a journal of its own.

    What a run without a reader reveals has been revealed to nobody: the learner's predictions stay open.
    """
    package = str(Path(__file__).resolve().parent.parent)
    path = os.pathsep.join(filter(None, [package, os.environ.get("PYTHONPATH")]))
    with tempfile.TemporaryDirectory() as folder:
        yield os.environ | {"PYTHONPATH": path, "LABS_JOURNAL": os.path.join(folder, "journal.jsonl")}


def _displayed_error(cell: NotebookNode) -> str | None:
    """An error that is only displayed, as that of a button's callback is: the cell itself succeeds."""
    for output in cell.outputs:
        if output.output_type == "error":
            return f"{output.ename}: {output.evalue}"
    return None


def _text(cell: NotebookNode) -> str:
    """What a cell printed and showed, as far as it is text."""
    parts = []
    for output in cell.outputs:
        if output.output_type == "stream":
            parts.append(output.text if output.name == "stdout" else "")
        elif output.output_type in ("display_data", "execute_result"):
            parts.append(output.data.get("text/markdown") or output.data.get("text/plain", ""))
    return "\n".join(part.strip() for part in parts if part.strip())
