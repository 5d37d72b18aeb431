"""Load on a service, and what came back: latencies from the intended send time, every answer checked.

`load_test` is an open loop: requests leave at the times of a Poisson process, whether or not earlier ones have been
answered, as independent users send them. A latency counts from the time the request was to leave, so that a service
that stalls is charged for all who would have come meanwhile. `closed_loop` is its twin that waits for an answer
before it sends again. A stall then silences the sender, and the worst latencies are never measured: coordinated
omission (Tene, "How NOT to Measure Latency", 2013).
"""

from __future__ import annotations

import asyncio
import math
import time
from collections import Counter
from collections.abc import Coroutine, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cache
from urllib.parse import urlsplit

import httpx
import numpy as np

from labs_lib.errors import LabError
from labs_lib.machine import pinned_threads
from labs_lib.serving.photos import photos
from labs_lib.serving.simulate import US, percentile, poisson_arrivals
from labs_lib.serving.vision import right_answers, small_vit

WARM_UP = 3  # requests before the first that counts: connections, and what a service does at its first call
TIMEOUT, NO_ANSWER = "timed out", "no answer"
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
        """From the start to the last answer."""
        return max(outcome.done for outcome in self.outcomes)

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
            f"{self.rate:.0f} requests/s asked for, {len(self.outcomes)} in all: {became}; "
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

    How many of n values lie below the true percentile is binomial (Conover, "Practical Nonparametric Statistics",
    section 3.2). Where no value is large enough the upper end is infinite: 368 values are the fewest that bound a
    p99. The values are taken as independent. Those of a full queue are not, and their interval is too narrow.

    >>> percentile_interval(range(1, 101), 50)
    Quantile(value=50, low=40, high=61)
    >>> percentile_interval(range(1, 101), 99)
    Quantile(value=99, low=97, high=inf)
    """
    n = len(ordered)
    if n == 0:
        return Quantile(math.nan, -math.inf, math.inf)
    k = np.arange(n + 1)
    log_factorial = np.concatenate([[0.0], np.cumsum(np.log(k[1:]))])
    p = percent / 100
    log_ways = log_factorial[n] - log_factorial - log_factorial[::-1]
    fewer = np.cumsum(np.exp(log_ways + k * math.log(p) + (n - k) * math.log1p(-p)))  # P(at most k lie below)
    low, high = int(np.sum(fewer <= 0.025)), int(np.sum(fewer < 0.975)) + 1
    return Quantile(
        percentile(ordered, percent),
        ordered[low - 1] if low else -math.inf,
        ordered[high - 1] if high <= n else math.inf,
    )


@cache
def targets(count: int = 15) -> tuple[tuple[bytes, int], ...]:
    """(JPEG file, right label) with labels that all differ, so that an answer meant for another shows as wrong."""
    model, files = small_vit(), photos(max(64, 8 * count))
    with pinned_threads(1):
        labels = right_answers(model, files)
    distinct = {label: file for file, label in zip(reversed(files), reversed(labels), strict=True)}
    return tuple((file, label) for label, file in distinct.items())[:count]


def load_test(
    url: str,
    rate: float,
    seconds: float,
    seed: int = 0,
    files: Sequence[bytes] | None = None,
    answers: Sequence[int] | None = None,
    timeout_s: float = 10.0,
) -> LoadResult:
    """Sends `rate` x `seconds` images at Poisson times to a service's /classify, and checks each answer.

    files, answers: JPEG files and their right labels, taken in turn; by default photos whose labels differ.
    timeout_s: an answer that takes longer counts as none.

    The sender is one event loop in a thread of this process, on the cores that the service uses too.

    Raises LabError where nothing answers at `url`, or the rate sends nothing.
    """
    for name, value in (("rate", rate), ("seconds", seconds), ("timeout_s", timeout_s)):
        _positive(name, value)
    arrivals = [arrival / US for arrival in poisson_arrivals(rate, seconds, seed)]

    async def send_all(sender: _Sender) -> list[Outcome]:
        async with asyncio.TaskGroup() as group:
            tasks = []
            for number, intended in enumerate(arrivals):
                await asyncio.sleep(intended - sender.now())
                tasks.append(group.create_task(sender.send(number, intended)))
        return [task.result() for task in tasks]

    return LoadResult(rate, tuple(_under_load(url, files, answers, timeout_s, send_all)))


def closed_loop(
    url: str,
    clients: int = 8,
    seconds: float = 5.0,
    files: Sequence[bytes] | None = None,
    answers: Sequence[int] | None = None,
    timeout_s: float = 10.0,
) -> LoadResult:
    """`clients` that each send, wait for the answer, and send again: latencies count from the actual send.

    Raises LabError where nothing answers at `url`.
    """
    for name, value in (("clients", clients), ("seconds", seconds), ("timeout_s", timeout_s)):
        _positive(name, value)

    async def send_all(sender: _Sender) -> list[Outcome]:
        async def client(number: int) -> list[Outcome]:
            outcomes = []
            while (now := sender.now()) < seconds:
                outcomes.append(await sender.send(number + clients * len(outcomes), now))
            return outcomes

        return [outcome for outcomes in await asyncio.gather(*map(client, range(clients))) for outcome in outcomes]

    outcomes = _under_load(url, files, answers, timeout_s, send_all)
    return LoadResult(len(outcomes) / max(outcome.done for outcome in outcomes), tuple(outcomes))


class _Sender:
    """Sends requests and notes what comes back; its clock starts with the first that counts."""

    def __init__(self, url: str, pairs: Sequence[tuple[bytes, int]], timeout_s: float) -> None:
        self.url, self.timeout_s = url, timeout_s
        self.right = [label for _, label in pairs]
        # Each form is made once: a sender that encodes under load would be late.
        forms = [httpx.Request("POST", url, files={"image": ("photo.jpg", file, "image/jpeg")}) for file, _ in pairs]
        self.forms = [(form.read(), form.headers["Content-Type"]) for form in forms]
        self.idle: list[httpx.AsyncClient] = []
        self.clients: list[httpx.AsyncClient] = []

    async def post(self, number: int) -> httpx.Response:
        """Over a connection of its own: a pool for all would be searched at each request, and be slow when full."""
        body, kind = self.forms[number % len(self.forms)]
        if not self.idle:
            one = httpx.AsyncHTTPTransport(verify=False, limits=httpx.Limits(max_connections=1))
            self.idle.append(httpx.AsyncClient(transport=one, timeout=self.timeout_s, trust_env=False))
            self.clients += self.idle
        client = self.idle.pop()
        try:
            return await client.post(self.url, content=body, headers={"Content-Type": kind})
        finally:
            self.idle.append(client)

    async def close(self) -> None:
        for client in self.clients:
            await client.aclose()

    async def warm_up(self) -> None:
        for number in range(WARM_UP):
            try:
                await self.post(number)
            except httpx.ConnectError as error:
                what, do = f"Nothing answers at {self.url}.", "Start the service, or check the address and the port."
                raise LabError(what, f"{error}.", do) from None
            except httpx.HTTPError:
                pass  # a service that is slow or breaks off is what a load test is for
        self.started = time.perf_counter()

    def now(self) -> float:
        return time.perf_counter() - self.started

    async def send(self, number: int, intended: float) -> Outcome:
        sent, right = self.now(), False
        try:
            response = await self.post(number)
            status = response.status_code
            right = status == 200 and _label(response) == self.right[number % len(self.right)]
        except httpx.TimeoutException:
            status = TIMEOUT
        except httpx.HTTPError:
            status = NO_ANSWER
        return Outcome(intended, sent, self.now(), status, right)


def _label(response: httpx.Response) -> object:
    try:
        return response.json()["label"]
    except (ValueError, TypeError, KeyError):
        return None


def _under_load(url, files, answers, timeout_s, send_all) -> list[Outcome]:
    pairs = targets() if files is None else list(zip(files, answers or right_answers(small_vit(), files), strict=True))
    address = _address(url)

    async def run() -> list[Outcome]:
        sender = _Sender(address, pairs, timeout_s)
        try:
            await sender.warm_up()
            return await send_all(sender)
        finally:
            await sender.close()

    return _in_a_loop_of_its_own(run())


def _in_a_loop_of_its_own(coroutine: Coroutine) -> list[Outcome]:
    """asyncio.run in a thread, since a notebook's own thread has a running loop. An interrupt ends it."""
    loop = asyncio.new_event_loop()
    task = loop.create_task(coroutine)
    with ThreadPoolExecutor(1, "load") as thread:
        try:
            return thread.submit(loop.run_until_complete, task).result()
        except KeyboardInterrupt:
            loop.call_soon_threadsafe(task.cancel)
            raise


def _address(url: str) -> str:
    parts = urlsplit(url) if isinstance(url, str) else None
    if parts is None or parts.scheme not in ("http", "https") or not parts.hostname:
        raise LabError(f"{url!r} is no address of a service.", "", "Write it as http://127.0.0.1:8000.")
    return url if parts.path.strip("/") else f"{url.rstrip('/')}/classify"


def _positive(name: str, value: float) -> None:
    if not isinstance(value, int | float) or not 0 < value < math.inf:
        raise LabError(f"{name} is {value!r}.", "", "Give a number above 0.")
