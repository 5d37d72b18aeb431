"""One event of a pipeline: who did what from when to when. The measured and the modelled timeline share it."""

from __future__ import annotations

from typing import NamedTuple

CONSUMER = "consumer"


class Event(NamedTuple):
    """`who` is "consumer" or "worker 0", "worker 1", ...; `start` and `stop` are seconds, or ticks of a model."""

    who: str
    what: str
    start: float
    stop: float
    batch: int
