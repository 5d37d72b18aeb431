"""SRC.txt -> notebook: python build.py SRC OUT [OLD]; keeps outputs of OLD's cells with the same id and source."""
import re, sys, pathlib, nbformat
from nbformat.v4 import new_notebook, new_code_cell, new_markdown_cell
from tools.normal_form import normalise, read, write
from tools.repository import BOOTSTRAP_ID, bootstrap
src, out = sys.argv[1:3]
old = {}
if pathlib.Path(out).exists():
    old = {c.id: c for c in read(pathlib.Path(out)).cells}
cells = []
for part in re.split(r"^%% ", pathlib.Path(src).read_text(), flags=re.M)[1:]:
    head, _, body = part.partition("\n"); head = head.split(); body = body.strip("\n")
    if head[0] == "bootstrap": cell = new_code_cell(bootstrap(), id=BOOTSTRAP_ID)
    elif head[0] == "md": cell = new_markdown_cell(body, id=head[1])
    else:
        cell = new_code_cell(body, id=head[1])
        if "checked" in head: cell.metadata["tags"] = ["nbval-check-output"]
    if cell.cell_type == "code" and cell.id in old: cell.outputs = old[cell.id].outputs
    cells.append(cell)
write(pathlib.Path(out), normalise(new_notebook(cells=cells)))
print(len(cells), "cells")
