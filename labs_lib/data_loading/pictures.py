"""The pictures of lab 04: who does what when, and which settings are faster."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from labs_lib.data_loading.events import CONSUMER, Event
from labs_lib.figures import NAIVE, NEUTRAL, OPTIMISED, Picture, render, subplots

if TYPE_CHECKING:
    from labs_lib.data_loading.tune import Tuning

# One look for each kind of event; measured and modelled timelines share them. Waiting is light, working is strong.
LOOKS = {
    "start": ("start", "#d9d9dc", ""),
    "storage": ("storage wait", "#f8d8a8", ".."),
    "wait": ("storage wait", "#f8d8a8", ".."),
    "decode": ("decode and augment", "#f89c20", ""),
    "cpu": ("decode and collate", "#f89c20", ""),
    "queue": ("waits for a core", "#c9c2d6", "xx"),
    "collate": ("collate", "#7a21dd", ""),
    "send": ("send", "#964a8b", "xx"),
    "idle": ("waits for a batch", "#fbd5d8", NAIVE["hatch"]),
    "compute": ("compute", OPTIMISED["color"], ""),
}
LABEL_SHARE = 0.025  # of the width: what is narrower gets no number


def timeline_picture(events: Sequence[Event], says: str, until: float | None = None, unit: str = "s") -> Picture:
    """Lanes of workers and consumer over time: a Gantt chart. `unit` "s" shows milliseconds, else as they are.

    Numbers in the boxes are those of the batches, from 0.
    """
    scale, name = (1e3, "ms") if unit == "s" else (1, unit)
    end = (max(event.stop for event in events) if until is None else until) * scale
    lanes = sorted({event.who for event in events} - {CONSUMER}, key=lambda who: int(who.split()[1]))
    lanes.append(CONSUMER)
    figure, axes = subplots(9, 1.7 + 0.42 * len(lanes))
    for event in events:
        _, color, hatch = LOOKS[event.what]
        left, width = event.start * scale, (min(event.stop * scale, end) - event.start * scale)
        lane = lanes.index(event.who)
        axes.barh(lane, width, left=left, height=0.72, color=color, hatch=hatch, edgecolor="white", lw=0.5)
        if event.what in ("decode", "cpu", "compute", "storage", "wait") and width > LABEL_SHARE * end:
            axes.text(left + width / 2, lane, str(event.batch), ha="center", va="center", fontsize=8)
    axes.set_yticks(range(len(lanes)), lanes)
    axes.set_ylim(len(lanes) - 0.4, -0.6)
    axes.set_xlim(0, end)
    axes.set_xlabel(f"{name} since the epoch began (numbers: the batch)")
    _legend(axes, [what for what in LOOKS if any(event.what == what for event in events)])
    return render(figure, says)


def _legend(axes: object, kinds: list[str]) -> None:
    from matplotlib.patches import Patch

    looks = {LOOKS[what][0]: LOOKS[what] for what in kinds}
    patches = [
        Patch(facecolor=color, hatch=hatch, edgecolor="white" if color != "#fbd5d8" else NEUTRAL, label=label)
        for label, color, hatch in looks.values()
    ]
    axes.legend(handles=patches, frameon=False, ncols=4, loc="lower left", bbox_to_anchor=(0, 1),
                fontsize=9, borderaxespad=0.1)  # fmt: skip


def tuning_picture(tuning: Tuning) -> Picture:
    """How many times as fast as the default each setting is, with the interval of those in the final rounds."""
    rows = tuning.standings
    figure, axes = subplots(9, 1.0 + 0.32 * len(rows))
    widest = max(min(one.ratio.high, 3 * one.ratio.median) if one.final else one.ratio.median for one in rows)
    for row, one in enumerate(rows):
        ratio = one.ratio
        color = OPTIMISED["color"] if one.setting == tuning.best else NEUTRAL
        axes.plot(ratio.median, row, "o" if one.final else "x", color=color, ms=7)
        end = ratio.median
        if one.final and one.setting != tuning.default:
            end = min(ratio.high, widest)
            axes.plot([ratio.low, end], [row, row], color=color, lw=4, alpha=0.5, solid_capstyle="butt")
        remark = ", best" if one.setting == tuning.best else ", as good" if one.indistinguishable else ""
        axes.annotate(f"{ratio.median:.2f}x{remark}", (end, row), (8, 0), textcoords="offset points", va="center",
                      fontsize=9, annotation_clip=False)  # fmt: skip
    axes.axvline(1, color=NEUTRAL, lw=1)
    axes.set_yticks(range(len(rows)), [str(one.setting) for one in rows])
    axes.set_ylim(len(rows) - 0.4, -0.6)
    axes.set_xlim(0, 1.25 * widest)
    axes.set_xlabel("times as fast as the default (measured; crosses: screened out)")
    return render(figure, str(tuning))
