"""The two panels of lab 06: one schedule of two threads in lanes, and all places for two switches as a map."""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache

from labs_lib.errors import LabError
from labs_lib.figures import NAIVE, OPTIMISED, Picture, render, subplots
from labs_lib.panels import Choice, Panel
from labs_lib.race_conditions.counters import REMEDIES, Counter
from labs_lib.race_conditions.explorer import Case, Run
from labs_lib.race_conditions.pictures import picture

NAMES = ("plain", "lock around the act", "lock around both", "atomic")  # the others take more steps than fit
TO_ITS_END = "to its end"
BROKEN, HOLDS, IMPOSSIBLE = "too many", "right", "impossible"
LOOKS = {BROKEN: NAIVE, HOLDS: OPTIMISED, IMPOSSIBLE: {"color": "#dddddd", "hatch": ""}}


State = tuple[Counter, list[bool]]


def once(state: State) -> None:
    counter, told = state
    told.append(counter.take())


def twice(state: State) -> None:
    counter, told = state
    told.append(counter.take())
    told.append(counter.take())


def sale(make: Callable[[int], Counter], calls: int = 1) -> Case:
    """Two threads, each of which asks once or twice, and tickets for one of them."""

    def right(state: State) -> str | bool:
        given = sum(state[1])
        return given == calls or f"{given} tickets handed out, and the limit is {calls}"

    return Case(lambda: (make(calls), []), [once if calls == 1 else twice] * 2, right)


def placed(case: Case, first: int, second: int) -> Run | None:
    """A does so many steps, B so many, then A goes on, and B after it; None where one of them cannot do that."""
    try:
        return case.replay(f"A{first} B{second} A")
    except LabError:
        return None


def alone(case: Case) -> Run:
    """A from its start to its end, then B."""
    return case.replay("A B")


@lru_cache(maxsize=64)
def outcomes(remedy: str, calls: int) -> dict[tuple[int, int], str]:
    """What comes of each place for the two switches: BROKEN, HOLDS or IMPOSSIBLE, by (steps of A, steps of B)."""
    case = sale(REMEDIES[remedy], calls)
    rows = len(alone(case).turns[0])
    found = {}
    for first in range(1, rows):
        for second in range(1, rows + 1):
            run = placed(case, first, second)
            found[first, second] = IMPOSSIBLE if run is None else HOLDS if run.ok else BROKEN
    return found


def schedule_panel() -> Panel:
    """The remedy and the places of the two switches as controls; the replay of that schedule as lanes.

    Where a thread cannot do what is asked of it, the sentence says why, and the threads run as far as they get.
    """

    def draw(remedy: str, first: int, second: object) -> Picture:
        case = sale(REMEDIES[remedy])
        asked = f"A{first} B A" if second == TO_ITS_END else f"A{first} B{second} A"
        try:
            run, why = case.replay(asked), ""
        except LabError as error:
            run, why = case.replay(f"A{first} B" if first < len(alone(case).turns[0]) else "A B"), f" {error.what}"
        drawn = picture(run)
        return Picture(drawn.png, f"{drawn.says} Asked for: {asked}.{why}")

    return Panel(
        draw,
        remedy=Choice("counter", NAMES, "plain", widget="menu"),
        first=Choice("steps of A", tuple(range(1, 10)), 4),
        second=Choice("steps of B", (*range(1, 9), TO_ITS_END), TO_ITS_END),
    )


def map_panel() -> Panel:
    """The remedy and how often each thread asks as controls; all schedules "A some steps, B some steps" as a map."""

    def draw(remedy: str, calls: int) -> Picture:
        return map_picture(remedy, calls)

    return Panel(
        draw,
        remedy=Choice("counter", NAMES, "plain", widget="menu"),
        calls=Choice("calls of each thread", (1, 2), 1, widget="buttons"),
    )


def map_picture(remedy: str, calls: int) -> Picture:
    """A square for each place of the two switches, in the style of what comes of it."""
    found = outcomes(remedy, calls)
    labels = [f"{step.kind} {step.expression}" for step in alone(sale(REMEDIES[remedy], calls)).turns[0]]
    rows, columns = len(labels) - 1, len(labels)
    figure, axes = subplots(8, 1.4 + 0.24 * rows)
    for (first, second), outcome in found.items():
        look = LOOKS[outcome]
        axes.barh(first, 0.9, 0.9, second - 0.45, color=look["color"], hatch=look["hatch"], edgecolor="white", lw=0)
    size = 8 if rows < 16 else 6
    axes.set_yticks(range(1, rows + 1), [f"{label}  {n}" for n, label in enumerate(labels[:-1], 1)], fontsize=size)
    axes.set_xticks(range(1, columns + 1), range(1, columns + 1), fontsize=size)
    axes.set_ylim(rows + 0.6, 0.4)
    axes.set_xlim(0.4, columns + 0.6)
    axes.set_ylabel("last step of A before B")
    axes.set_xlabel("steps of B before A goes on (counted)")
    for outcome, look in LOOKS.items():
        axes.bar(0, 0, color=look["color"], hatch=look["hatch"], edgecolor="white", label=outcome)
    axes.legend(loc="upper left", bbox_to_anchor=(1.01, 1), frameon=False)
    count = {outcome: list(found.values()).count(outcome) for outcome in LOOKS}
    says = (
        f"{remedy}, {calls} call{'s' * (calls > 1)} of each thread: of {count[BROKEN] + count[HOLDS]} places for the "
        f"two switches, {count[BROKEN]} hand out too many tickets; {count[IMPOSSIBLE]} more are impossible: a thread "
        "waits or has ended (counted)."
    )
    return render(figure, says)
