"""The rows of a run as results, one for each configuration, and as the table of a terminal."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, fields

from labs_lib.inference_bench.noise import drift
from labs_lib.inference_bench.rows import OK, Key, key_of
from labs_lib.percentiles import percentile, percentile_ends
from labs_lib.tables import aligned, wrapped
from labs_lib.timing import Interval, median_interval
from labs_lib.units import size_text, time_text

PERCENTS = (50, 90, 95, 99)
INCOMPLETE = "incomplete"  # rounds are missing, because the run was interrupted
FACTS = ("build_seconds", "difference", "tolerance", "peak_bytes", "peak_by", "warm_up_calls")


@dataclass(frozen=True)
class Quantile:
    """A percentile of what was measured, and the ends of its 95 % interval."""

    value: float
    low: float
    high: float


@dataclass(frozen=True)
class Round:
    """One round of one configuration: seconds of each call, and of the control's kernels before and after.

    `busy` are the seconds of the calls without those in which another process had the core, see `calls.timed`.
    """

    calls: tuple[float, ...]
    busy: tuple[float, ...]
    product: tuple[float, float]
    near: tuple[float, float]
    far: tuple[float, float]


@dataclass(frozen=True)
class Result:
    """One configuration: what it is, what was counted, and what was measured."""

    key: Key
    status: str
    reason: str
    info: Mapping[str, object]  # of the model, see `models.Info`; empty where there is no such model
    facts: Mapping[str, object]  # FACTS
    flops: int | None  # of one call
    rounds: tuple[Round, ...]

    @property
    def calls(self) -> list[float]:
        """Seconds of all timed calls, sorted."""
        return sorted(seconds for one in self.rounds for seconds in one.calls)

    def latency(self, percent: float) -> Quantile:
        """Seconds that `percent` of the calls do not exceed. Calls of one round are alike: the interval is narrow."""
        calls = self.calls
        return Quantile(percentile(calls, percent), *percentile_ends(calls, percent))

    @property
    def throughput(self) -> Interval:
        """Samples a second: the median over the rounds."""
        return median_interval([self.key.batch * len(one.calls) / sum(one.calls) for one in self.rounds])

    def as_dict(self) -> dict[str, object]:
        """The fields of COLUMNS. None where there is nothing to say."""
        row = {**vars(self.key), "status": self.status, "reason": self.reason}
        row |= {name: self.info.get(name) for name in ("note", "parameters", "weight_bytes", "input_shape", "dtype")}
        row |= {"flops": self.flops, **{name: self.facts.get(name) for name in FACTS}}
        row |= {"timed_rounds": len(self.rounds), "timed_calls": len(self.calls)}
        if self.rounds:
            found = {f"p{percent}_seconds": self.latency(percent) for percent in PERCENTS}
            speed = self.throughput
            found["samples_per_second"] = Quantile(speed.median, speed.low, speed.high)
            for name, quantile in found.items():
                row |= {name: quantile.value, f"{name}_low": quantile.low, f"{name}_high": quantile.high}
            row["drift"] = drift(self)
            if self.flops:
                row["flops_per_second"] = self.flops / found["p50_seconds"].value
        return {name: _plain(row.get(name)) for name in COLUMNS}


_ENDS = ("", "_low", "_high")
COLUMNS = (
    *("model", "device", "variant", "batch", "status", "reason"),
    *("note", "parameters", "weight_bytes", "input_shape", "dtype"),
    *("flops", *FACTS, "timed_rounds", "timed_calls"),
    *(f"p{percent}_seconds{end}" for percent in PERCENTS for end in _ENDS),
    *(f"samples_per_second{end}" for end in _ENDS),
    *("flops_per_second", "drift"),
)


@dataclass(frozen=True, repr=False)
class Run:
    """All results of a run, in the order of its settings."""

    header: Mapping[str, object]
    results: tuple[Result, ...]

    @property
    def measured(self) -> list[Result]:
        return [result for result in self.results if result.rounds and result.status in (OK, INCOMPLETE)]

    def as_dict(self) -> dict[str, object]:
        """Everything, for JSON."""
        kept = {name: value for name, value in self.header.items() if name != "kind"}
        results = [
            {**result.as_dict(), "rounds": [vars(one) for one in result.rounds]} for result in self.results
        ]
        return {**kept, "results": results}

    def rows(self) -> list[tuple[str, ...]]:
        """Configuration, batch, p50, p99, throughput, peak, difference of the answer, what else there is to say."""
        return [
            (
                f"{result.key.model} {result.key.variant}",
                str(result.key.batch),
                result.key.device,
                *(_latency(result.latency(percent)) for percent in (50, 99)),
                _speed(result.throughput),
                size_text(peak) if (peak := result.facts.get("peak_bytes")) is not None else "",
                f"{off:.1e}" if (off := result.facts.get("difference")) and result.key.variant != "eager" else "",
                result.status if result.status != OK else "",
            )
            for result in self.measured
        ]

    def notes(self) -> list[str]:
        """What the columns are, the models, and what was not measured, with the reason."""
        settings, machine = self.header["settings"], self.header["machine"]
        gpu = f", {machine['gpu']}" if machine["gpu"] else ""
        where = f"{machine['cpu']}{gpu}, {settings['threads']} thread(s), {self.header['date']}"
        notes = [f"Measured on {where}. In brackets 95 % intervals, ? where too few calls bound them. {MEANING}"]
        models = {str(result.key.model): result.info for result in self.results if result.info}
        notes += [f"{name}: {info['note']}." for name, info in models.items() if info["note"]]
        return notes + self.reasons()

    def reasons(self) -> list[str]:
        """What was not measured and why, a line for each model, variant and reason."""
        found: dict[tuple[str, str], list[int]] = defaultdict(list)
        for result in self.results:
            if result.status != OK:
                who = f"{result.key.model} {result.key.variant}" if result.info else result.key.model
                found[who, f"{result.status}: {result.reason}".rstrip(": ")].append(result.key.batch)
        return [
            f"{who} (batch {', '.join(map(str, sorted(set(batches))))}): {why.rstrip('.')}."
            for (who, why), batches in found.items()
        ]

    def __str__(self) -> str:
        return "\n".join([*aligned([HEAD, *self.rows()]), *map(wrapped, self.notes())])

    __repr__ = __str__


HEAD = ("configuration", "batch", "device", "p50", "p99", "samples/s", "peak memory", "off by", "")
MEANING = (
    "Peak memory is above what was there before; on a CPU it is counted. The answer is off by its largest difference "
    "from eager's, as a part of the largest value; nothing stands there where the two are equal."
)


def run_of(header: Mapping[str, object], rows: Iterable[dict]) -> Run:
    """The results that the rows of a journal amount to."""
    setups: dict[Key, dict] = {}
    rounds: dict[Key, dict[int, dict]] = defaultdict(dict)
    for row in rows:
        if row["kind"] == "setup":
            setups.setdefault(key_of(row), row)
        else:
            rounds[key_of(row)].setdefault(row["round"], row)
    wanted = header["settings"]["rounds"]
    eager = {key: row for key, row in setups.items() if key.variant == "eager"}
    work = {(key.model, key.device, key.batch): row.get("flops") for key, row in eager.items()}
    results = []
    for key, row in setups.items():
        own = [rounds[key][number] for number in sorted(rounds[key])]
        broken = next((each for each in own if each["status"] != OK), None)
        status = (broken or row)["status"]
        if status == OK and len(own) < wanted:
            status = INCOMPLETE
        results.append(
            Result(
                key=key,
                status=status,
                reason=(broken or row).get("reason", ""),
                info=row.get("info") or {},
                facts={name: row.get(name) for name in FACTS},
                flops=work.get((key.model, key.device, key.batch)),  # the variants compute the same
                rounds=tuple(
                    Round(**{one.name: tuple(each[one.name]) for one in fields(Round)})
                    for each in own
                    if each["status"] == OK
                ),
            )
        )
    return Run(header, tuple(results))


def _plain(value: object) -> object:
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _latency(found: Quantile) -> str:
    low, high = (time_text(end) if math.isfinite(end) else "?" for end in (found.low, found.high))
    return f"{time_text(found.value)} [{low}, {high}]"


def _speed(found: Interval) -> str:
    low, high = (f"{end:,.4g}" if math.isfinite(end) else "?" for end in (found.low, found.high))
    return f"{found.median:,.4g} [{low}, {high}]"
