"""What a load test measured: goodput, and percentiles with their intervals."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from labs_lib.percentiles import percentile, percentile_ends

LATE_MS = 10.0  # a sender that is later than this did not send at the rate it was asked for


@dataclass(frozen=True)
class Quantile:
    """A percentile of what was measured, and the ends of its 95 % interval."""

    value: float
    low: float
    high: float

    def __str__(self) -> str:
        low, high = ("?" if math.isinf(end) else f"{end:.1f}" for end in (self.low, self.high))
        return "unknown" if math.isnan(self.value) else f"{self.value:.1f} ms [{low}, {high}]"

    def as_dict(self) -> dict[str, float | None]:
        """For JSON, which has no infinity."""
        return {name: value if math.isfinite(value) else None for name, value in vars(self).items()}


@dataclass(frozen=True)
class Outcome:
    """One request: seconds since the start, its HTTP status or what came in its place, whether the label is right."""

    intended: float
    sent: float
    done: float
    status: int | str
    right: bool


@dataclass(frozen=True)
class LoadResult:
    """What became of every request. Latencies are those of right answers, in ms from the intended send time."""

    rate: float  # requests a second that were to be sent; in a closed loop those that were
    outcomes: tuple[Outcome, ...]

    @property
    def statuses(self) -> dict[int | str, int]:
        return dict(Counter(outcome.status for outcome in self.outcomes))

    @property
    def right(self) -> int:
        return sum(outcome.right for outcome in self.outcomes)

    @property
    def wrong(self) -> int:
        """Answered with 200, and not by the right label."""
        return sum(outcome.status == 200 and not outcome.right for outcome in self.outcomes)

    @property
    def latencies_ms(self) -> list[float]:
        """Of the right answers, sorted."""
        return sorted(1000 * (outcome.done - outcome.intended) for outcome in self.outcomes if outcome.right)

    @property
    def seconds(self) -> float:
        """From the start to the last answer, and no less than the requests were spread over."""
        return max(len(self.outcomes) / self.rate, *(outcome.done for outcome in self.outcomes))

    @property
    def p50(self) -> Quantile:
        return self.percentile(50)

    @property
    def p95(self) -> Quantile:
        return self.percentile(95)

    @property
    def p99(self) -> Quantile:
        return self.percentile(99)

    def percentile(self, percent: float) -> Quantile:
        """The latency in ms that `percent` of the right answers do not exceed, with its 95 % interval."""
        return percentile_interval(self.latencies_ms, percent)

    def goodput(self, deadline_ms: float = math.inf) -> float:
        """Right answers a second that came within the deadline."""
        return sum(latency <= deadline_ms for latency in self.latencies_ms) / self.seconds

    @property
    def sender_late_ms(self) -> float:
        """p99 of how much later than intended the requests left: what the sender itself could not keep up with."""
        return percentile(sorted(1000 * (outcome.sent - outcome.intended) for outcome in self.outcomes), 99)

    def as_dict(self) -> dict[str, object]:
        latency = {f"p{percent}_ms": self.percentile(percent).as_dict() for percent in (50, 95, 99)}
        return {
            "rate": self.rate,
            "requests": len(self.outcomes),
            "seconds": self.seconds,
            "statuses": {str(status): count for status, count in self.statuses.items()},
            "right": self.right,
            "wrong": self.wrong,
            "goodput": self.goodput(),
            **latency,
            "sender_late_ms": self.sender_late_ms,
        }

    def __str__(self) -> str:
        became = ", ".join(f"{count} x {status}" for status, count in sorted(self.statuses.items(), key=str))
        lines = [
            f"{self.rate:.3g} requests/s, {len(self.outcomes)} in all: {became}; "
            f"{self.right} right, {self.wrong} wrong",
            f"goodput {self.goodput():.1f} right answers/s",
            ", ".join(f"p{percent} {self.percentile(percent)}" for percent in (50, 95, 99)),
        ]
        if self.sender_late_ms > LATE_MS:
            late = f"The sender itself was late by {self.sender_late_ms:.0f} ms (p99)"
            lines.append(f"{late}: it shares its cores with the service.")
        return "\n".join(lines)


def percentile_interval(ordered: Sequence[float], percent: float) -> Quantile:
    """A percentile of sorted values, and the two of them that enclose the true one in 95 % of samples.

    See `labs_lib.percentiles`: 368 values are the fewest that bound a p99. The latencies of a full queue are not
    independent, and their interval is too narrow.

    >>> percentile_interval(range(1, 101), 50)
    Quantile(value=50, low=40, high=61)
    >>> percentile_interval(range(1, 101), 99)
    Quantile(value=99, low=97, high=inf)
    """
    return Quantile(percentile(ordered, percent), *percentile_ends(ordered, percent))
