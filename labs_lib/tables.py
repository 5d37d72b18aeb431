"""Tables: (label, text) rows as HTML for a notebook, columns of text for a terminal, and lines that fit below them."""

import html
import textwrap
from collections.abc import Iterable, Sequence


def html_table(rows: Iterable[tuple[str, str]]) -> str:
    """A two-column table, labels in bold, all text escaped.

    >>> html_table([("load", "0.1 < 1")])
    '<table><tr><th style="text-align:left">load</th><td style="text-align:left">0.1 &lt; 1</td></tr></table>'
    """
    left = 'style="text-align:left"'
    cells = (
        f"<tr><th {left}>{html.escape(label)}</th><td {left}>{html.escape(text)}</td></tr>" for label, text in rows
    )
    return f"<table>{''.join(cells)}</table>"


def aligned(table: Sequence[Sequence[str]]) -> list[str]:
    """Lines with the columns of a table below one another: the first to the left, the others to the right.

    >>> print("\\n".join(aligned([("batch", "time"), ("8", "12 ms")])))
    batch   time
    8      12 ms
    """
    widths = [max(map(len, column)) for column in zip(*table, strict=True)]
    return [
        "  ".join(
            cell.rjust(width) if place else cell.ljust(width)
            for place, (cell, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in table
    ]


def wrapped(text: str) -> str:
    """Sentences in lines that fit into a notebook, which would break a longer one in the midst of a word."""
    return textwrap.fill(text, width=110)
