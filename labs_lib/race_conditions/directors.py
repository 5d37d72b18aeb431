"""Who goes on? The two directors of a stage: one searches all schedules, the other follows one in words."""

from __future__ import annotations

from dataclasses import dataclass

from labs_lib.errors import LabError
from labs_lib.race_conditions.schedule import Schedule, letter
from labs_lib.race_conditions.stage import Stage


@dataclass(frozen=True)
class Prefix:
    """The first choices of a schedule, and what all places passed on the way hash to."""

    choices: tuple[int, ...]
    way: int


class Search:
    """Follows a prefix, then lets each thread run on, and notes what else could have been chosen."""

    def __init__(self, prefix: Prefix) -> None:
        self.prefix, self.choices, self.way = prefix, [], 0
        self.open: list[tuple[int, int, int, int]] = []  # choices before, option, its cost, way

    def choose(self, options: list[int], costs: list[int], place: tuple[object, ...]) -> int:
        self.way = hash((self.way, place, *options))
        if len(options) == 1:
            return options[0]
        made = len(self.choices)
        if made < len(self.prefix.choices):
            chosen = self.prefix.choices[made]
            last = made == len(self.prefix.choices) - 1
            if chosen not in options or (last and self.way != self.prefix.way):
                raise not_determined()
        else:
            chosen = options[0]
            self.open += [(made, *choice, self.way) for choice in zip(options[1:], costs[1:], strict=True)]
        self.choices.append(chosen)
        return chosen

    def alternatives(self) -> list[tuple[Prefix, int]]:
        """(prefix, what it costs beyond this run)."""
        return [(Prefix((*self.choices[:made], option), way), cost) for made, option, cost, way in self.open]


class Script:
    """Follows a schedule in words."""

    def __init__(self, schedule: Schedule, stage: Stage) -> None:
        for segment in schedule.segments:
            if segment.thread >= len(stage.functions):
                raise LabError(
                    f"There is no thread {letter(segment.thread)}.",
                    f"There are {len(stage.functions)}, from A to {letter(len(stage.functions) - 1)}.",
                    "Use these letters.",
                )
        self.segments, self.stage, self.turn = schedule.segments, stage, -1

    def choose(self, options: list[int], costs: list[int], place: tuple[object, ...]) -> int:
        if self.turn >= 0:
            number, done, _ = self.stage.outcome.turns[-1]
            wanted = self.segments[self.turn].steps if self.turn < len(self.segments) else None
            if isinstance(place[0], int) and (wanted is None or done < wanted):
                return number
            if wanted is not None and done < wanted:
                raise LabError(
                    f"Thread {letter(number)} {place[0]}s after {done} steps, and the schedule gives it {wanted}.",
                    "",
                    f"Give it at most {done} steps, or leave the number out: then it runs as far as it gets."
                )
        self.turn += 1
        if self.turn >= len(self.segments):
            return options[0]
        wanted = self.segments[self.turn].thread
        if wanted not in options:
            state = "has ended" if self.stage.actors[wanted].done else "waits for a lock"
            raise LabError(
                f"The schedule goes on with {letter(wanted)}, which {state}.",
                f"Those that can go on are {', '.join(letter(option) for option in sorted(options))}.",
                "Choose one of them.",
            )
        return wanted

    def check_end(self) -> None:
        """LabError where turns are left over though all threads have ended."""
        left = self.segments[self.turn + 1 :]
        if left and self.stage.outcome.kind == "ended":
            raise LabError(
                f"The schedule goes on with {left[0]}, but all threads have ended.", "", "Leave the rest out."
            )


def not_determined() -> LabError:
    """What to say where the same choices did not lead to the same run."""
    return LabError(
        "The same schedule led to something else the second time.",
        "The functions do not depend on the state alone: random numbers, the order of a set, or a global that setup() "
        "does not reset.",
        "Make all that they use in setup(), with fixed seeds.",
    )
