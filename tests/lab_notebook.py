"""Small notebooks for the tests of tools; one is a lab that keeps every rule, to be broken one by one."""

from __future__ import annotations

from nbformat import NotebookNode
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook, new_output

from tools.normal_form import normalise
from tools.repository import badge, bootstrap

NAME = "01_example.ipynb"
PIXEL = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAQAAAC1HAwCAAAAC0lEQVR42mNk+A8AAQUBAScY42YAAAAASUVORK5CYII="
QUESTION = (
    "<details>\n<summary>Why does it shrink?</summary>\n\nBecause dead buffers are reused.\n\n</details>"
)


def notebook(*cells: NotebookNode) -> NotebookNode:
    """A notebook of these cells, in normal form."""
    return normalise(new_notebook(cells=list(cells)))


def markdown(cell_id: str, source: str) -> NotebookNode:
    return new_markdown_cell(source, id=cell_id)


def code(cell_id: str, source: str, *outputs: NotebookNode, checked: bool = False) -> NotebookNode:
    metadata = {"tags": ["nbval-check-output"]} if checked else {}
    return new_code_cell(source, id=cell_id, outputs=list(outputs), metadata=metadata)


def prints(text: str, name: str = "stdout") -> NotebookNode:
    return new_output("stream", name=name, text=text)


def shows(**data: str) -> NotebookNode:
    """A display; the keys are mimetypes with `__` in place of the slash."""
    return new_output("display_data", data={kind.replace("__", "/"): value for kind, value in data.items()})


def lab_notebook(name: str = NAME) -> NotebookNode:
    """A lab in which `tools.notebook_format.complaints` finds nothing, when the file has that name."""
    title = f"{badge(name)}\n\n# A lab".strip()
    return notebook(
        markdown("title", title),
        code("bootstrap", bootstrap()),
        markdown("first-half", "## Predict\n\n## Naive\n\n## Look: the cause\n\n## Optimised\n\n## Compare"),
        code("count-bytes", "print(4, 'bytes')", prints("4 bytes\n"), checked=True),
        code("draw", "show(figure)", shows(text__plain="One bar of 4 bytes.", image__png=PIXEL)),
        markdown("second-half", "## Explore\n\n## Where it loses\n\n## Myths\n\n## Your turn"),
        markdown("explain", f"## Explain it\n\n{QUESTION}"),
        markdown("end", "## Take it home\n\n## Summary"),
        code("summary", "print('The pass needs 4 bytes.')", prints("The pass needs 4 bytes.\n")),
    )
