"""The rules a committed notebook keeps. Each one guards against something that has broken a course before.

A rule is a function from a notebook to complaints, one line each; `complaints(path)` runs them all.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

from IPython.core.inputtransformer2 import TransformerManager
from nbformat import NotebookNode

from labs_lib.headless import SUMMARY_CELL
from tools.normal_form import PROGRESS_BAR, NotANotebook, normalise, read, text_of
from tools.repository import BOOTSTRAP_ID, badge, bootstrap

CHECKED = "nbval-check-output"
MAX_CELLS = 55
MAX_LINES = 18
LAB = re.compile(r"(?!00)\d\d_\w+\.ipynb")
SECTIONS = (
    "Predict",
    "Naive",
    "Look",
    "Optimised",
    "Compare",
    "Explore",
    "Where it loses",
    "Myths?",
    "Your turn",
    "Explain it",
    "Take it home",
    "Summary",
)

SLUG = re.compile(r"[a-z][a-z0-9]*(-[a-z0-9]+)*")
RANDOM_ID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){0,3}(-[0-9a-f]{12})?")  # made up by nbformat or JupyterLab
MACHINE_PATH = re.compile(
    r"(?<![\w.])/(home|root|work|tmp|mnt|Users|var/folders)/|[A-Za-z]:\\+Users|ipykernel_\d"
)
FORBIDDEN_CODE = {
    r"\bOutput\(": "the Output widget cannot be stored or compared",
    r"\binteract(ive|ive_output|_manual)?\b": "interact cannot be stored or compared; use a Panel",
    r"\bclear_output\b": "clear_output makes the stored output depend on timing",
    r"%m?l?prun\b": "%prun and %mprun open a pager and name files of this machine",
    r"^\s*[!%]\s*(pip|conda)\b": "a notebook installs nothing",
    r"\bicon\s*=": "icon= differs between ipywidgets 7 and 8",
    r"\btitles\s*=": "titles= differs between ipywidgets 7 and 8",
    r"#\s*(NBVAL_|PYTEST_VALIDATE_)": "nbval is steered by tags, not by comments",
}
UNSTABLE_TEXT = {
    r"0x[0-9a-fA-F]{6,}": "a memory address",
    r"\d\.\d{4,}": "a number with more than three decimals",
    r"\d(\.\d+)?e[+-]?\d+": "a float in exponent form",
    r"\d\s?(ns|µs|μs|us|ms|s|sec|seconds?)\b": "a time",
    r"\x1b\[": "terminal colours",
    r"\r": "a carriage return",
}
A_TIME = re.compile(
    r"(^|_)(times?|elapsed|duration|latency|seconds?|secs|ns|us|ms|s|perf_counter|monotonic)$"
)
NBVAL_TAGS = ("nbval", "raises-exception", "skip-execution")


def complaints(path: Path) -> list[str]:
    """What is wrong with the notebook at `path`, one line each; empty when all is well."""
    try:
        notebook = read(path)
    except NotANotebook as error:
        return [str(error)]
    found = [complaint for rule in RULES for complaint in rule(notebook)]
    found += title_and_bootstrap(notebook, path.name)
    if LAB.fullmatch(path.name):
        found += sections(notebook)
    if text_of(normalise(notebook)) != path.read_text(encoding="utf-8"):
        found.append("not in normal form: run python -m tools.notebooks on it")
    return found


def code_cells(notebook: NotebookNode) -> list[NotebookNode]:
    return [cell for cell in notebook.cells if cell.cell_type == "code"]


def printed(output: NotebookNode) -> str:
    """All the text of one output, whatever its mimetypes; pictures are left out."""
    if output.output_type == "stream":
        return output.text
    if output.output_type == "error":
        return "\n".join(output.traceback)
    texts = {kind: value for kind, value in output.data.items() if isinstance(value, str)}
    readable = "\n".join(value for kind, value in texts.items() if not kind.startswith("image/"))
    return re.sub(r"data:[\w/+;=-]+,[\w/+=]+", "", readable)  # a picture inside HTML


def size(notebook: NotebookNode) -> Iterator[str]:
    """A lab is short, and so is each of its cells."""
    if len(notebook.cells) > MAX_CELLS:
        yield f"{len(notebook.cells)} cells; at most {MAX_CELLS}"
    for cell in code_cells(notebook):
        lines = cell.source.count("\n") + 1
        if lines > MAX_LINES:
            yield f"cell {cell.id}: {lines} lines; at most {MAX_LINES}"
        if not cell.source.strip():
            yield f"cell {cell.id}: an empty code cell"


def ids(notebook: NotebookNode) -> Iterator[str]:
    """Readable, so that a diff, a failure and a review name a cell by what it does."""
    for cell in notebook.cells:
        if not SLUG.fullmatch(cell.id) or RANDOM_ID.fullmatch(cell.id):
            yield f"cell {cell.id}: the id is not a readable slug such as measure-batch"


def metadata(notebook: NotebookNode) -> Iterator[str]:
    """GitHub refuses to draw a notebook that carries widget state; Colab gives a GPU to one that asks for it."""
    if "widgets" in notebook.metadata:
        yield "the notebook carries metadata.widgets"
    if notebook.metadata.get("kernelspec", {}).get("name") != "python3":
        yield "the kernelspec is not python3"
    if (notebook.metadata.get("accelerator"), notebook.metadata.get("colab")) != ("GPU", {"gpuType": "T4"}):
        yield "Colab would not open it with a GPU: metadata needs accelerator and colab.gpuType"


def execution(notebook: NotebookNode) -> Iterator[str]:
    """Run top to bottom, without an error. nbval compares nothing in a cell whose execution count is null."""
    for count, cell in enumerate(code_cells(notebook), start=1):
        if cell.execution_count is None:
            yield f"cell {cell.id}: not executed (execution_count is null)"
        elif cell.execution_count != count:
            yield f"cell {cell.id}: execution_count is {cell.execution_count}, not {count}"
        for output in cell.outputs:
            if output.output_type == "error":
                yield f"cell {cell.id}: stores an error, {output.ename}: {output.evalue}"


def checked_cells(notebook: NotebookNode) -> Iterator[str]:
    """The cells that nbval compares exactly print counted facts, which are the same on every machine."""
    checked = [cell for cell in code_cells(notebook) if CHECKED in cell.metadata.get("tags", [])]
    if not checked:
        yield f"no code cell is tagged {CHECKED}"
    for cell in checked:
        if not cell.outputs:
            yield f"cell {cell.id}: tagged {CHECKED} but has no stored output"
        for output in cell.outputs:
            if output.output_type != "stream":
                yield f"cell {cell.id}: tagged {CHECKED} but does more than print ({output.output_type})"
                continue
            for pattern, what in UNSTABLE_TEXT.items():
                if match := re.search(pattern, output.text):
                    yield f"cell {cell.id}: tagged {CHECKED} but prints {what}: {match[0]!r}"
            if PROGRESS_BAR.search(output.text):
                yield f"cell {cell.id}: tagged {CHECKED} but prints a progress bar"


def tags(notebook: NotebookNode) -> Iterator[str]:
    """A misspelt tag checks nothing, and a skipped or expected-to-fail cell teaches nothing."""
    for cell in notebook.cells:
        for tag in cell.metadata.get("tags", []):
            if tag.startswith(NBVAL_TAGS) and (tag != CHECKED or cell.cell_type != "code"):
                yield f"cell {cell.id}: the tag {tag} is not allowed here"


def forbidden_code(notebook: NotebookNode) -> Iterator[str]:
    """What cannot be compared by nbval, or does not run on Colab's ipywidgets."""
    for cell in code_cells(notebook):
        for pattern, why in FORBIDDEN_CODE.items():
            if match := re.search(pattern, cell.source, re.MULTILINE):
                yield f"cell {cell.id}: {match[0].strip()!r}: {why}"


def absolute_times(notebook: NotebookNode) -> Iterator[str]:
    """No notebook asserts a time: another machine, or this one on a bad day, is slower."""
    for cell in code_cells(notebook):
        try:
            tree = ast.parse(TransformerManager().transform_cell(cell.source))
        except SyntaxError as error:
            yield f"cell {cell.id}: {error.msg}"
            continue
        for statement in ast.walk(tree):
            if isinstance(statement, ast.Assert) and any(map(_against_a_time, ast.walk(statement.test))):
                yield f"cell {cell.id}: asserts a time: {ast.unparse(statement)}"


def _against_a_time(node: ast.AST) -> bool:
    """Whether the node compares something named like a time with a plain number."""
    if not isinstance(node, ast.Compare):
        return False
    sides = [node.left, *node.comparators]
    names = [getattr(part, "id", getattr(part, "attr", "")) for side in sides for part in ast.walk(side)]
    number = any(isinstance(side, ast.Constant) and isinstance(side.value, int | float) for side in sides)
    return number and any(map(A_TIME.search, names))


def machine_paths(notebook: NotebookNode) -> Iterator[str]:
    """No path of the machine the notebook was executed on, in source or output."""
    for cell in notebook.cells:
        texts = [cell.source, *(printed(output) for output in cell.get("outputs", []))]
        for match in filter(None, map(MACHINE_PATH.search, texts)):
            yield f"cell {cell.id}: the path of a machine: {match[0]!r}"


def pictures(notebook: NotebookNode) -> Iterator[str]:
    """Each picture says in a sentence what it shows, for those who cannot see it and for nbval."""
    for cell in code_cells(notebook):
        for output in cell.outputs:
            kinds = output.get("data", {})
            if any(kind.startswith("image/") for kind in kinds):
                sentence = kinds.get("text/plain", "").strip()
                if len(sentence.split()) < 3 or re.match(r"<|Figure\(", sentence):
                    yield f"cell {cell.id}: a picture without a sentence (text/plain is {sentence[:40]!r})"


def details(notebook: NotebookNode) -> Iterator[str]:
    """A <details> block opens and closes in one cell and says on its first line what it hides."""
    for cell in notebook.cells:
        if cell.cell_type == "markdown":
            opened, closed = (len(re.findall(tag, cell.source)) for tag in ("<details>", "</details>"))
            if not opened == closed == len(re.findall(r"<details>\s*<summary>.+?</summary>", cell.source)):
                yield f"cell {cell.id}: a <details> block is not closed or has no <summary>"


RULES = (
    size,
    ids,
    metadata,
    execution,
    checked_cells,
    tags,
    forbidden_code,
    absolute_times,
    machine_paths,
    pictures,
    details,
)


def title_and_bootstrap(notebook: NotebookNode, name: str) -> Iterator[str]:
    """The first cell is the title, below the Colab badge; the first code cell is always the same."""
    first = notebook.cells[0] if notebook.cells else None
    above = f"{badge(name)}\n\n" if badge(name) else ""
    if first is None or first.cell_type != "markdown" or not first.source.startswith(f"{above}# "):
        yield "the first cell is not a title ('# ...') below the Colab badge of tools.repository"
    code = code_cells(notebook)
    if not code or code[0].id != BOOTSTRAP_ID or code[0].source != bootstrap():
        yield f"the first code cell is not the bootstrap cell of tools.repository, with the id {BOOTSTRAP_ID}"


def sections(notebook: NotebookNode) -> Iterator[str]:
    """The sections of a lab in their order, others between them allowed; `## Look: what moved` is a Look."""
    text = "\n".join(cell.source for cell in notebook.cells if cell.cell_type == "markdown")
    headings = re.findall(r"^## (.+)$", text, re.MULTILINE)
    position = 0
    for section in SECTIONS:
        name = re.compile(rf"{section}(:.*)?\s*")
        place = next((i for i, heading in enumerate(headings) if name.fullmatch(heading)), None)
        if place is None:
            yield f"no section '## {section.rstrip('?')}'"
        elif place < position:
            yield f"the section '## {section.rstrip('?')}' comes too early"
        else:
            position = place
    if not any(cell.id == SUMMARY_CELL for cell in code_cells(notebook)):
        yield f"no code cell has the id {SUMMARY_CELL}, whose output `python -m labs_lib run` shows"
    explained = re.search(r"^## Explain it.*?(?=^## |\Z)", text, re.MULTILINE | re.DOTALL)
    if explained and "<details>" not in explained[0]:
        yield "the answers of '## Explain it' do not stand in <details> blocks"
