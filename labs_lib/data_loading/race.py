"""Which of some settings beats the default? Paired rounds, and fresh ones for those that looked best.

Who looks best among many is partly lucky. So candidates are screened first (successive halving: Jamieson and
Talwalkar, "Non-stochastic best arm identification", 2016), and those left are measured again, from nothing, round by
round against the default. Only these rounds decide. The ratios of a round share its neighbours' noise; their median
has an interval from order statistics, as in `labs_lib.timing`, at 95 % for all finalists together (Bonferroni).
"""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass

from labs_lib.timing import Interval, median_interval

FINALISTS = 3
SCREENING = 0.45  # of the budget
FINAL_ROUNDS = (7, 40)  # at least and at most; 7 are the fewest that give an interval at 98.3 %
MARGIN = 1.02  # a gain that may be below 2 % is no reason to change anything


@dataclass(frozen=True)
class Standing:
    """One setting against the default: time of the default over its own."""

    setting: Hashable
    ratio: Interval
    rounds: int
    final: bool  # whether it came into the final rounds
    indistinguishable: bool = False  # from the best


def race(
    default: Hashable,
    others: Sequence[Hashable],
    measure: Callable[[Hashable], float],
    clock: Callable[[], float],
    budget: float,
    progress: Callable[[float], None] = lambda fraction: None,
    dropped: Callable[[Hashable], None] = lambda setting: None,
) -> tuple[Hashable, list[Standing]]:
    """The best setting, and where each stands, the default first, then by ratio.

    `others` come simplest first: of those that are better than the default, and that the final rounds can't tell from
    the fastest, the first is the best.

    `measure(setting)` gives seconds for one sample. Rounds go on until `budget` seconds of `clock` are used; the final
    ones are at least FINAL_ROUNDS[0], whatever they take, so that there is an interval at all.
    """
    begun = clock()

    def used() -> float:
        return (clock() - begun) / budget

    left, screened, epochs = list(others), {}, 0
    logs: dict[Hashable, list[float]] = {setting: [] for setting in left}
    while left and (len(left) > FINALISTS or not logs[left[0]]):
        for _ in range(2):
            for setting, log in _round(default, left, measure).items():
                logs[setting].append(log)
            epochs += len(left) + 1
            progress(min(0.95, used()))
            if used() > SCREENING:
                break
        left.sort(key=lambda setting: -sum(logs[setting]) / len(logs[setting]))
        keep = FINALISTS if used() > SCREENING else max(FINALISTS, len(left) // 2)
        for setting in left[keep:]:
            screened[setting] = logs[setting]
            dropped(setting)
        left = left[:keep]
    # As many finalists as the rest of the budget has room for.
    fitting = (1 - used()) / max(used() / max(epochs, 1) * FINAL_ROUNDS[0], 1e-12) - 1
    keep = min(len(left), max(1, int(fitting)))
    for setting in left[keep:]:
        screened[setting] = logs[setting]
        dropped(setting)
    left = left[:keep]

    finals: dict[Hashable, list[float]] = {setting: [] for setting in left}
    fewest, most = FINAL_ROUNDS
    number = 0
    while left and number < most and (number < fewest or used() * (1 + 1 / (number + 1)) < 1):
        for setting, log in _round(default, left, measure).items():
            finals[setting].append(log)
        number += 1
        progress(min(0.99, max(used(), number / most)))
    return _judge(default, others, finals, screened)


def _round(
    default: Hashable, settings: Sequence[Hashable], measure: Callable[[Hashable], float]
) -> dict[Hashable, float]:
    """log(time of the default / time of the setting) for each, measured in random order."""
    order = [default, *settings]
    random.shuffle(order)
    seconds = {setting: measure(setting) for setting in order}
    return {setting: math.log(seconds[default] / seconds[setting]) for setting in settings}


def _judge(
    default: Hashable, others: Sequence[Hashable], finals: dict[Hashable, list[float]],
    screened: dict[Hashable, list[float]],
) -> tuple[Hashable, list[Standing]]:  # fmt: skip
    confidence = 1 - 0.05 / max(1, len(finals))
    intervals = {setting: median_interval(logs, confidence) for setting, logs in finals.items()}
    better = [setting for setting, interval in intervals.items() if interval.low > math.log(MARGIN)]
    best = max(better, key=lambda setting: intervals[setting].median, default=default)
    as_good = [setting for setting in better if _same(best, setting, finals, confidence)]
    best = min([best, *as_good], key=[default, *others].index)
    standings = [Standing(default, Interval(1, 1, 1), 0, True, _same(best, default, finals, confidence))]
    for setting, logs in {**finals, **screened}.items():
        final = setting in finals
        found = intervals[setting] if final else median_interval(logs)
        ratio = Interval(*(math.exp(value) for value in (found.median, found.low, found.high)))
        same = final and _same(best, setting, finals, confidence)
        standings.append(Standing(setting, ratio, len(logs), final, same))
    return best, standings[:1] + sorted(standings[1:], key=lambda one: (not one.final, -one.ratio.median))


def _same(best: Hashable, other: Hashable, finals: dict[Hashable, list[float]], confidence: float) -> bool:
    """Whether the final rounds can't tell `other` from the best; both were measured in each of them."""
    if best == other:
        return False
    zeros = [0.0] * max(map(len, finals.values()), default=0)
    pairs = zip(finals.get(best, zeros), finals.get(other, zeros), strict=True)
    found = median_interval([one - another for one, another in pairs], confidence)
    return found.low <= 0 <= found.high
