"""The panel of lab 05: how much of what a batch computes is padding."""

from __future__ import annotations

import numpy as np

from labs_lib.batched_eval.data import sentences
from labs_lib.batched_eval.padding import bucketed, count_padding, in_order
from labs_lib.figures import NAIVE, OPTIMISED, Picture, render, subplots
from labs_lib.panels import Choice, Panel

ORDERS = {"as they come": lambda lengths, size: in_order(len(lengths), size), "sorted by length": bucketed}


def padding_panel(count: int = 128) -> Panel:
    """Batch size, order and spread of the lengths as controls; sentences and padding as the picture, counted."""

    def draw(batch: int, order: str, spread: float) -> Picture:
        lengths = np.array([len(sentence) for sentence in sentences(count, spread=spread)])
        return padding_picture(lengths, ORDERS[order](lengths, batch), order)

    return Panel(
        draw,
        batch=Choice("batch size", (1, 4, 8, 16, 32, 64), 16),
        order=Choice("order", tuple(ORDERS), "as they come", widget="buttons"),
        spread=Choice("spread of lengths", (0.0, 0.2, 0.4, 0.6, 0.8, 1.0), 0.8),
    )


def padding_picture(lengths: np.ndarray, batches: list[np.ndarray], order: str) -> Picture:
    """Each sentence as a column of tokens, batch after batch, and above it the padding up to the longest."""
    found = count_padding(lengths, batches)
    rows = np.concatenate(batches)
    longest = np.concatenate([np.full(len(batch), lengths[batch].max()) for batch in batches])
    figure, axes = subplots(8, 3)
    places = np.arange(len(rows))
    axes.bar(places, lengths[rows], width=1, color=OPTIMISED["color"], label="tokens")
    axes.bar(places, longest - lengths[rows], bottom=lengths[rows], width=1, color=NAIVE["color"], alpha=0.45,
             hatch=NAIVE["hatch"], edgecolor="white", lw=0, label="padding")  # fmt: skip
    axes.set_xlim(-0.5, len(rows) - 0.5)
    axes.set_ylim(0, 1.25 * longest.max())
    axes.set_xlabel(f"{len(rows)} sentences, {order}")
    axes.set_ylabel("tokens (counted)")
    axes.legend(loc="upper right", ncols=2, frameon=False)
    return render(figure, f"{len(rows)} sentences, {order}: {found}")
