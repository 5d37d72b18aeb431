"""The analyzer's earlier runs: what the journal holds of them, as a table."""

from __future__ import annotations

import html
import math
from collections.abc import Callable, Collection

from labs_lib.journal import journal
from labs_lib.machine import fingerprint
from labs_lib.static_memory.app_run import EVENT
from labs_lib.units import size_text

SHOWN = 10
HEAD = (
    "run", "when (UTC)", "model", "batch", "numbers", "same answer", "naive peak", "planned, with set-up", "time ratio"
)  # fmt: skip


def rows(session: Collection[str]) -> list[tuple[str, ...]]:
    """The runs in the journal, the newest first, as texts under HEAD.

    `session` holds the ids of the runs made since the page was opened. A field that is missing or makes no
    sense, as in a journal of another version, is shown as "?".

    >>> rows(session=())
    []
    """
    here = fingerprint()
    return [_row(event, event["id"] in session, event.get("machine") == here) for event in journal().of(EVENT)[::-1]]


def table(session: Collection[str]) -> str:
    """The newest SHOWN runs as an HTML table, with the number of all."""
    found = rows(session)
    if not found:
        return "<p>No run yet. Each one is entered in your journal, on this machine.</p>"
    head = "".join(f"<th>{name}</th>" for name in HEAD)
    body = "".join(
        "<tr>" + "".join(f"<td>{html.escape(text)}</td>" for text in row) + "</tr>"
        for row in found[:SHOWN]
    )
    more = f"<p>The newest {SHOWN} of {len(found)} runs in your journal.</p>" if len(found) > SHOWN else ""
    return f'<div style="overflow-x:auto"><table><tr>{head}</tr>{body}</table></div>{more}'


def _row(event: dict[str, object], now: bool, here: bool) -> tuple[str, ...]:
    def field(show: Callable[..., str], *names: str) -> str:
        try:
            return show(*(event[name] for name in names))
        except (KeyError, TypeError, ValueError, OverflowError):
            return "?"

    return (
        "this session" if now else "earlier" if here else "another machine",
        field(lambda time: time[:16].replace("T", " "), "time"),
        field(lambda name: str(name)[:40], "model"),
        field(lambda count: f"{count:,d}", "batch"),
        field(lambda count: f"{count:,d}", "values"),
        field(lambda same: {True: "yes", False: "NO"}[same], "same"),
        field(size_text, "naive_bytes"),
        field(size_text, "planned_bytes"),
        field(_ratio, "ratio", "low", "high", "floor"),
    )


def _ratio(*numbers: float | str) -> str:
    """The ratio with interval and floor; the journal keeps infinity as a text that `float` reads."""
    ratio, low, high, floor = map(float, numbers)
    if not math.isfinite(high):
        return f"{ratio:.2f}x, too few rounds for an interval"
    return f"{ratio:.2f}x ({low:.2f} to {high:.2f}), floor {floor:.2f}"
