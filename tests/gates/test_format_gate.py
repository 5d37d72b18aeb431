"""Each rule of the notebook format turns red on a notebook that breaks it."""

import json

import nbformat
import pytest

from tests.lab_notebook import NAME, PIXEL, code, lab_notebook, markdown, prints, shows
from tools import notebook_format
from tools.normal_form import WIDGET_VIEW, text_of
from tools.notebook_format import MAX_CELLS, MAX_LINES
from tools.repository import bootstrap


def cell(notebook, cell_id):
    return next(cell for cell in notebook.cells if cell.id == cell_id)


def complaints(folder, notebook, name=NAME):
    path = folder / name
    path.write_text(text_of(notebook), encoding="utf-8")
    return notebook_format.complaints(path)


def test_a_lab_that_keeps_the_rules_has_no_complaint(tmp_path):
    assert complaints(tmp_path, lab_notebook()) == []


def unexecuted(notebook):
    cell(notebook, "count-bytes").execution_count = None


def out_of_order(notebook):
    cell(notebook, "draw").execution_count = 17


def missing_tag(notebook):
    cell(notebook, "count-bytes").metadata.tags = []


def misspelt_tag(notebook):
    cell(notebook, "count-bytes").metadata.tags = ["nbval_check_output"]


def skipped_cell(notebook):
    cell(notebook, "draw").metadata.tags = ["nbval-skip"]


def failure_expected(notebook):
    cell(notebook, "draw").metadata.tags = ["raises-exception"]


def skipped_by_comment(notebook):
    cell(notebook, "draw").source = "# NBVAL_SKIP\nshow(figure)"


def no_stored_output(notebook):
    cell(notebook, "count-bytes").outputs = []


def bare_repr(notebook):
    result = nbformat.v4.new_output("execute_result", data={"text/plain": "4"}, execution_count=2)
    cell(notebook, "count-bytes").outputs = [result]


def picture_in_a_checked_cell(notebook):
    cell(notebook, "count-bytes").outputs = cell(notebook, "draw").outputs


def prints_instead(text):
    def mutate(notebook):
        cell(notebook, "count-bytes").outputs = [prints(text)]

    return mutate


def source_instead(source):
    def mutate(notebook):
        cell(notebook, "draw").source = source

    return mutate


def says_instead(**data):
    def mutate(notebook):
        cell(notebook, "draw").outputs = [shows(**data)]

    return mutate


def stored_error(notebook):
    error = nbformat.v4.new_output("error", ename="ValueError", evalue="wrong", traceback=["wrong"])
    cell(notebook, "draw").outputs = [error]


def widget_state(notebook):
    notebook.metadata["widgets"] = {"application/vnd.jupyter.widget-state+json": {"state": {}}}


def live_widget(notebook):
    cell(notebook, "draw").outputs[0].data[WIDGET_VIEW] = {"model_id": "1"}


def stored_warning(notebook):
    cell(notebook, "draw").outputs.append(prints("careful\n", name="stderr"))


def collapsed_cell(notebook):
    cell(notebook, "draw").metadata["collapsed"] = True


def other_kernel(notebook):
    notebook.metadata.kernelspec.name = "my-own-kernel"


def no_gpu(notebook):
    del notebook.metadata["accelerator"]


def random_id(notebook):
    cell(notebook, "draw").id = "b1946ac9"


def unreadable_id(notebook):
    cell(notebook, "draw").id = "Draw_2"


def altered_bootstrap(notebook):
    cell(notebook, "bootstrap").source = bootstrap("somebody/else")


def no_bootstrap(notebook):
    notebook.cells.remove(cell(notebook, "bootstrap"))


def no_title(notebook):
    del notebook.cells[0]


def badge_of_another_address(notebook):
    notebook.cells[0].source = f"[![Open in Colab](x)](y)\n\n{notebook.cells[0].source}"


def too_many_cells(notebook):
    notebook.cells += [markdown(f"more-{i}", "More.") for i in range(MAX_CELLS)]


def missing_section(notebook):
    cell(notebook, "end").source = "## Take it home"


def missing_summary(notebook):
    cell(notebook, "summary").id = "what-we-saw"


def sections_out_of_order(notebook):
    cell(notebook, "first-half").source = "## Predict\n\n## Look\n\n## Naive\n\n## Optimised\n\n## Compare"


def open_answers(notebook):
    cell(notebook, "explain").source = "## Explain it\n\nWhy does it shrink? Because dead buffers are reused."


def unclosed_details(notebook):
    cell(notebook, "explain").source = "## Explain it\n\n<details>\n<summary>Why?</summary>\n\nBecause."


def details_without_summary(notebook):
    cell(notebook, "explain").source = "## Explain it\n\n<details>\n\nBecause.\n\n</details>"


BROKEN = [
    (unexecuted, "cell count-bytes: not executed"),
    (out_of_order, "cell draw: execution_count is 17, not 3"),
    (missing_tag, "no code cell is tagged nbval-check-output"),
    (misspelt_tag, "cell count-bytes: the tag nbval_check_output is not allowed here"),
    (skipped_cell, "cell draw: the tag nbval-skip is not allowed here"),
    (failure_expected, "cell draw: the tag raises-exception is not allowed here"),
    (skipped_by_comment, "cell draw: '# NBVAL_': nbval is steered by tags"),
    (no_stored_output, "cell count-bytes: tagged nbval-check-output but has no stored output"),
    (bare_repr, "cell count-bytes: tagged nbval-check-output but does more than print (execute_result)"),
    (
        picture_in_a_checked_cell,
        "cell count-bytes: tagged nbval-check-output but does more than print (display",
    ),
    (prints_instead("<Plan at 0x7f3a12b4c5d0>\n"), "prints a memory address: '0x7f3a12b4c5d0'"),
    (prints_instead("saved 1.90625 of it\n"), "prints a number with more than three decimals: '1.9062"),
    (prints_instead("error 3.1e-07\n"), "prints a float in exponent form: '3.1e-07'"),
    (prints_instead("done in 12 ms\n"), "prints a time: '2 ms'"),
    (prints_instead("\x1b[31m4\x1b[0m\n"), "prints terminal colours"),
    (prints_instead(" 50%|#####     | 1/2 [00:00<00:00, 9.51it/s]\n"), "prints a progress bar"),
    (prints_instead("/home/ann/plan.csv\n"), "cell count-bytes: the path of a machine: '/home/'"),
    (stored_error, "cell draw: stores an error, ValueError: wrong"),
    (widget_state, "the notebook carries metadata.widgets"),
    (live_widget, "not in normal form"),
    (stored_warning, "not in normal form"),
    (collapsed_cell, "not in normal form"),
    (other_kernel, "the kernelspec is not python3"),
    (no_gpu, "Colab would not open it with a GPU"),
    (random_id, "cell b1946ac9: the id is not a readable slug"),
    (unreadable_id, "cell Draw_2: the id is not a readable slug"),
    (altered_bootstrap, "the first code cell is not the bootstrap cell"),
    (no_bootstrap, "the first code cell is not the bootstrap cell"),
    (no_title, "the first cell is not a title"),
    (badge_of_another_address, "the first cell is not a title"),
    (too_many_cells, f"{MAX_CELLS + 9} cells; at most {MAX_CELLS}"),
    (missing_section, "no section '## Summary'"),
    (missing_summary, "no code cell has the id summary"),
    (sections_out_of_order, "the section '## Look' comes too early"),
    (open_answers, "the answers of '## Explain it' do not stand in <details> blocks"),
    (unclosed_details, "cell explain: a <details> block is not closed"),
    (details_without_summary, "cell explain: a <details> block is not closed or has no <summary>"),
    (source_instead("x = 1\n" * MAX_LINES + "x"), f"cell draw: {MAX_LINES + 1} lines; at most {MAX_LINES}"),
    (source_instead(""), "cell draw: an empty code cell"),
    (source_instead("def f(:"), "cell draw: invalid syntax"),
    (source_instead("out = widgets.Output()"), "cell draw: 'Output('"),
    (source_instead("@interact(n=3)\ndef draw(n): ..."), "cell draw: 'interact'"),
    (source_instead("clear_output()"), "cell draw: 'clear_output'"),
    (source_instead("%mprun -f forward forward()"), "cell draw: '%mprun'"),
    (source_instead("!pip install torch"), "cell draw: '!pip'"),
    (source_instead("  %pip install torch"), "cell draw: '%pip'"),
    (source_instead("widgets.Button(icon='play')"), "cell draw: 'icon='"),
    (source_instead("widgets.Tab(boxes, titles=('a',))"), "cell draw: 'titles='"),
    (source_instead("open(r'C:\\Users\\ann\\plan.csv')"), "cell draw: the path of a machine: 'C:\\\\Users'"),
    (source_instead("assert plan.seconds < 2"), "cell draw: asserts a time: assert plan.seconds < 2"),
    (source_instead("assert 0.5 > stop - time() * 2"), "cell draw: asserts a time"),
    (says_instead(image__png=PIXEL), "cell draw: a picture without a sentence"),
    (
        says_instead(image__png=PIXEL, text__plain="<Figure size 640x480 with 1 Axes>"),
        "a picture without a sent",
    ),
    (
        says_instead(image__png=PIXEL, text__plain="Figure(640x480) with 1 Axes"),
        "a picture without a sentence",
    ),
]


@pytest.mark.parametrize(("mutate", "complaint"), BROKEN, ids=[complaint for _, complaint in BROKEN])
def test_a_broken_notebook_is_named(tmp_path, mutate, complaint):
    notebook = lab_notebook()
    mutate(notebook)
    assert complaint in "\n".join(complaints(tmp_path, notebook))


@pytest.mark.parametrize(
    "source",
    [
        "assert comparison.ratio > 1.5 and comparison.seconds < comparison.rounds",
        "assert plan.height == 1039360",
        "assert timeline[0] == 3",
        "%timeit forward(x)",
        "outputs = forward(x)  # the interaction of both",
    ],
)
def test_ratios_counts_and_plain_words_are_allowed(tmp_path, source):
    notebook = lab_notebook()
    cell(notebook, "draw").source = source
    assert complaints(tmp_path, notebook) == []


def test_two_cells_with_one_id(tmp_path):
    notebook = lab_notebook()
    notebook.cells.append(code("draw", "1"))
    # Not through nbformat, which would rename the second cell when it writes.
    path = tmp_path / NAME
    path.write_text(json.dumps(notebook), encoding="utf-8")
    assert "Non-unique cell id 'draw'" in notebook_format.complaints(path)[0]


def test_an_old_notebook_without_ids(tmp_path):
    notebook = lab_notebook()
    notebook.nbformat_minor = 4
    for each in notebook.cells:
        del each["id"]
    found = "\n".join(complaints(tmp_path, notebook))
    assert "the id is not a readable slug" in found
    assert "not in normal form" in found


def test_a_file_that_is_no_notebook(tmp_path):
    path = tmp_path / NAME
    path.write_text("{}", encoding="utf-8")
    assert "not a valid notebook" in notebook_format.complaints(path)[0]
    path.write_text("<<<<<<< HEAD", encoding="utf-8")
    assert "not a valid notebook" in notebook_format.complaints(path)[0]


def test_only_labs_need_the_sections_of_a_lab(tmp_path):
    for name in ("00_start_here.ipynb", "analyzer.ipynb", "12_example.ipynb"):
        notebook = lab_notebook(name)
        cell(notebook, "first-half").source = "## Welcome"
        found = complaints(tmp_path, notebook, name)
        assert ("no section '## Predict'" in found) == (name == "12_example.ipynb")


def test_the_bytes_of_a_picture_are_not_searched_for_paths(tmp_path):
    notebook = lab_notebook()
    picture = shows(
        text__plain="One bar of 4 bytes.", text__html='<img src="data:image/png;base64,+/tmp/+/home/A=">'
    )
    cell(notebook, "draw").outputs = [picture]
    assert complaints(tmp_path, notebook) == []
