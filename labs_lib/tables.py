"""Tables of a notebook: (label, text) rows as HTML."""

import html
from collections.abc import Iterable


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
