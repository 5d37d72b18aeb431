"""Which cells of a notebook must run before another one can: those that give the names which it reads."""

from __future__ import annotations

import ast
from collections.abc import Callable

from IPython.core.inputtransformer2 import TransformerManager
from nbformat import NotebookNode

DEFINITIONS = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)


def needed(notebook: NotebookNode, wanted: Callable[[NotebookNode, ast.Module], bool]) -> list[str]:
    """Ids of the code cells that are `wanted`, and of all that they need, from top to bottom.

    A cell is needed where it binds a name that is read below, by assignment, import or definition. A cell that only
    changes an object which another one made (`results.append(...)`) is not seen.

    >>> from nbformat.v4 import new_code_cell, new_notebook
    >>> sources = {"a": "import math", "b": "x = 2", "c": "y = math.pi", "d": "print(y)", "e": "print(x)"}
    >>> lab = new_notebook(cells=[new_code_cell(source, id=name) for name, source in sources.items()])
    >>> needed(lab, lambda cell, tree: cell.id == "d")
    ['a', 'c', 'd']
    """
    found: list[str] = []
    read: set[str] = set()  # by the cells below that are needed, and bound by none of them yet
    for cell in reversed([cell for cell in notebook.cells if cell.cell_type == "code"]):
        tree = ast.parse(TransformerManager().transform_cell(cell.source))  # %magic and !command become Python
        binds = _bound(tree)
        if wanted(cell, tree) or binds & read:
            found.append(cell.id)
            read = (read - binds) | (_names(tree, ast.Load) - _loop_variables(tree))
    return found[::-1]


def calls(tree: ast.AST) -> set[str]:
    """The names of all functions called, without what stands before the dot.

    >>> sorted(calls(ast.parse("lab.predict(int(x))")))
    ['int', 'predict']
    """
    functions = [node.func for node in ast.walk(tree) if isinstance(node, ast.Call)]
    return {function.attr if isinstance(function, ast.Attribute) else function.id for function in functions
            if isinstance(function, ast.Attribute | ast.Name)}  # fmt: skip


def _names(tree: ast.AST, context: type[ast.expr_context]) -> set[str]:
    return {node.id for node in ast.walk(tree) if isinstance(node, ast.Name) and isinstance(node.ctx, context)}


def _loop_variables(tree: ast.AST) -> set[str]:
    loops = [node.target for node in ast.walk(tree) if isinstance(node, ast.For | ast.comprehension)]
    return {name for target in loops for name in _names(target, ast.Store)}


def _bound(tree: ast.AST) -> set[str]:
    imports = [node for node in ast.walk(tree) if isinstance(node, ast.Import | ast.ImportFrom)]
    imported = {(alias.asname or alias.name).split(".")[0] for node in imports for alias in node.names}
    defined = {node.name for node in ast.walk(tree) if isinstance(node, DEFINITIONS)}
    return _names(tree, ast.Store) | imported | defined
