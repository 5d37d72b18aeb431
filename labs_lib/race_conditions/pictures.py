"""A run as a picture: a lane for each thread, time from top to bottom, each step with what it read or wrote."""

from __future__ import annotations

from labs_lib.errors import LabError
from labs_lib.figures import NAIVE, NEUTRAL, OPTIMISED, Picture, render, subplots
from labs_lib.race_conditions.explorer import Report, Run
from labs_lib.race_conditions.recorder import Step
from labs_lib.race_conditions.schedule import letter

MOST_ROWS = 30  # of one picture; longer turns are shortened in the middle
ROW, LANES, SOURCE = 0.26, 6.2, 3.6  # inches: height of a row, width of all lanes and of the source beside them
CHARACTERS = 14.5  # of the small monospace font, to an inch


def picture(found: Run | Report) -> Picture:
    """The run, or the shortest failing run of a report, in lanes; raises LabError where the report has none."""
    if isinstance(found, Report):
        if found.failure is None:
            raise LabError(
                "This report has no failing schedule to draw.", str(found), "Draw a run: picture(replay(case, 'A B'))."
            )
        found = found.failure
    turns = _turns(found)
    return _draw(found, turns, _says(found, turns))


Row = tuple[str, Step | None]  # its number within the turn, and the step; None stands for what is left out


def _turns(run: Run) -> list[tuple[int, list[Row], int]]:
    """(thread, rows, steps) of each turn; long turns lose their middle where the picture would be too long."""
    turns = []
    keep = len(run.steps) if len(run.steps) <= MOST_ROWS else max(3, MOST_ROWS // max(1, len(run.turns)))
    for turn in run.turns:
        rows: list[Row] = [(str(number), step) for number, step in enumerate(turn, start=1)]
        if len(rows) > keep:
            head, tail = keep // 2, keep - 1 - keep // 2
            rows = [*rows[:head], (f"{len(rows) - head - tail} more steps", None), *rows[len(rows) - tail :]]
        turns.append((turn[0].thread, rows, len(turn)))
    return turns


def _says(run: Run, turns: list[tuple[int, list[Row], int]]) -> str:
    story = ", ".join(f"{letter(thread)} {count}" for thread, _, count in turns)
    end = f"{run.problem[:1].upper()}{run.problem[1:]}" if run.problem else "All is well in the end"
    return f"Schedule {run.schedule} (steps of each turn: {story}). {end}."


def _draw(run: Run, turns: list[tuple[int, list[Row], int]], says: str) -> Picture:
    threads = 1 + max((thread for thread, _, _ in turns), default=0)
    rows = sum(len(rows) for _, rows, _ in turns)
    width = LANES / threads
    figure, axes = subplots(LANES + SOURCE, 0.8 + ROW * (rows + 2))
    axes.set_xlim(0, LANES + SOURCE)
    axes.set_ylim(rows + 1.6, -1.2)
    axes.axis("off")
    for thread in range(threads):
        axes.text((thread + 0.5) * width, -0.7, f"thread {letter(thread)}", ha="center", weight="bold")
        axes.plot([(thread + 0.5) * width] * 2, [-0.3, rows + 0.1], color=NEUTRAL, lw=0.8, alpha=0.5, zorder=0)
    axes.text(LANES + 0.1, -0.7, "line of code", weight="bold")
    y, before = 0, None
    for thread, lines, _ in turns:
        if y:
            axes.plot([0, LANES + SOURCE], [y - 0.05] * 2, color=NEUTRAL, lw=0.8, ls=":")
        for number, step in lines:
            _cell(axes, thread * width, y, width, number, step)
            line = None if step is None else (thread, step.place)
            if step is not None and line != before:
                source = _cut(step.source, SOURCE - 0.9)
                axes.text(LANES + 0.1, y + 0.45, source, va="center", family="monospace", fontsize=8)
                where = step.place.replace("notebook cell, ", "")
                axes.text(LANES + SOURCE, y + 0.45, where, va="center", ha="right", color=NEUTRAL, fontsize=7)
            before = line
            y += 1
    color = NAIVE["color"] if run.problem else OPTIMISED["color"]
    axes.text(0.05, rows + 0.9, run.problem or "all is well in the end", color=color, weight="bold", va="center")
    return render(figure, says)


def _cell(axes: object, left: float, y: int, width: float, number: str, step: Step | None) -> None:
    """One step in its lane. What is written is what others will see: filled."""
    from matplotlib.patches import FancyBboxPatch

    if step is None:
        axes.text(left + width / 2, y + 0.45, f"... {number} ...", ha="center", va="center", color=NEUTRAL, fontsize=8)
        return
    writes = step.kind == "write"
    box = FancyBboxPatch(
        (left + 0.08, y + 0.08), width - 0.16, 0.74, boxstyle="round,pad=0,rounding_size=0.05", lw=1,
        facecolor="#ffd9a8" if writes else "white", edgecolor=NEUTRAL,
    )  # fmt: skip
    axes.add_patch(box)
    axes.text(left + 0.13, y + 0.46, number, va="center", color=NEUTRAL, fontsize=7)
    text = _cut(_label(step), width - 0.5)
    axes.text(left + 0.36, y + 0.46, text, va="center", family="monospace", fontsize=8)


def _label(step: Step) -> str:
    if step.kind == "write":
        return f"{step.expression} = {step.value}" if step.value else f"write {step.expression}"
    if step.kind == "read" and step.value:
        return f"{step.expression} is {step.value}"
    return f"{step.kind} {step.expression}" if step.kind in ("enter", "leave") else step.expression


def _cut(text: str, inches: float) -> str:
    room = max(4, int(inches * CHARACTERS))
    text = " ".join(text.split())
    return text if len(text) <= room else text[: room - 3] + "..."
