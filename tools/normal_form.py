"""The one form in which notebooks are stored, so that a refreshed notebook gives a small, readable diff."""

from __future__ import annotations

import re
import warnings
from pathlib import Path

import nbformat
from nbformat import NotebookNode
from nbformat.reader import NotJSONError
from nbformat.warnings import DuplicateCellId

NOTEBOOKS = Path(__file__).resolve().parent.parent / "notebooks"

# No Python patch version, nobody's own kernel, and never `widgets`: GitHub refuses to draw such files.
# With accelerator and gpuType Colab opens the notebook on a machine with that GPU; nothing else reads them.
NOTEBOOK_METADATA = {
    "accelerator": "GPU",
    "colab": {"gpuType": "T4"},
    "kernelspec": {"display_name": "Python 3 (ipykernel)", "language": "python", "name": "python3"},
    "language_info": {"name": "python"},
}
KEPT_CELL_METADATA = ("tags", "jupyter", "editable", "deletable")
WIDGET_VIEW = "application/vnd.jupyter.widget-view+json"
PROGRESS_BAR = re.compile(r"\d+%\|.*\|.*(it/s|s/it|\?it)|^\d+it \[", re.MULTILINE)  # what tqdm prints


class NotANotebook(Exception):
    """The file is not a valid notebook."""


def read(path: Path) -> NotebookNode:
    """The notebook at `path`; raises NotANotebook, also for two cells with one id."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter(
                "error", DuplicateCellId
            )  # nbformat would quietly give one of them another id
            notebook = nbformat.v4.upgrade(nbformat.reads(path.read_text(encoding="utf-8"), as_version=4))
            nbformat.validate(notebook)
    except (nbformat.ValidationError, NotJSONError, DuplicateCellId) as error:
        raise NotANotebook(f"{path.name}: not a valid notebook: {str(error).splitlines()[0]}") from error
    return notebook


def text_of(notebook: NotebookNode) -> str:
    """The exact text of the notebook's file: the same notebook always gives the same bytes."""
    return nbformat.writes(notebook) + "\n"


def write(path: Path, notebook: NotebookNode) -> bool:
    """Write the notebook; False when the file already has exactly this text."""
    text = text_of(notebook)
    if path.exists() and path.read_bytes() == text.encode():
        return False
    path.write_text(text, encoding="utf-8", newline="\n")
    return True


def normalise(notebook: NotebookNode) -> NotebookNode:
    """Drop, in place, what changes by itself or means nothing to a reader; number the code cells 1..n.

    Kept are sources, tags, what was printed, and of each picture or panel everything but the live widget.
    """
    notebook.nbformat, notebook.nbformat_minor = 4, 5
    notebook.metadata = nbformat.from_dict(NOTEBOOK_METADATA)
    count = 0
    for cell in notebook.cells:
        kept = {key: cell.metadata.get(key) for key in KEPT_CELL_METADATA}
        cell.metadata = nbformat.from_dict(
            {k: value for k, value in kept.items() if value not in (None, [], {})}
        )
        cell.source = cell.source.rstrip()
        if cell.cell_type == "code":
            count += 1
            cell.execution_count = count  # nbval never compares a cell whose count is null
            cell.outputs = _joined([output for output in cell.outputs if _worth_keeping(output)])
            for output in cell.outputs:
                if output.output_type == "execute_result":
                    output.execution_count = count
    return notebook


def _worth_keeping(output: NotebookNode) -> bool:
    """Whether a reader of the file needs this output; takes the live widget out of a richer bundle."""
    if output.output_type == "stream":
        # Warnings and progress go to stderr. They differ from run to run.
        return output.name == "stdout"
    if output.output_type == "error":
        return True  # the format gate reports it; hiding it here would hide a failure
    if output.data.pop(WIDGET_VIEW, None) is not None and set(output.data) <= {"text/plain"}:
        return False  # a widget whose model is gone, and the repr of it
    return not PROGRESS_BAR.search(output.data.get("text/plain", ""))


def _joined(outputs: list[NotebookNode]) -> list[NotebookNode]:
    """Join neighbouring pieces of stdout: where a stream is cut depends on when the kernel flushed it."""
    joined: list[NotebookNode] = []
    for output in outputs:
        if output.output_type == "stream" and joined and joined[-1].output_type == "stream":
            joined[-1].text += output.text
        else:
            joined.append(output)
    return joined
