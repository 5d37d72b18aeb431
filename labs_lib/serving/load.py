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
from collections.abc import Callable, Coroutine, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from numbers import Real
from urllib.parse import urlsplit

import httpx

from labs_lib.errors import LabError
from labs_lib.machine import pinned_threads
from labs_lib.serving.photos import photos
from labs_lib.serving.results import LoadResult, Outcome
from labs_lib.serving.simulate import US, poisson_arrivals
from labs_lib.serving.vision import right_answers, small_vit

WARM_UP = 3  # requests before the first that counts: connections, and what a service does at its first call
TIMEOUT, NO_ANSWER = "timed out", "no answer"


@cache
def targets(count: int = 15) -> tuple[tuple[bytes, int], ...]:
    """(JPEG file, right label) with labels that all differ, so that an answer meant for another shows as wrong."""
    model, files = small_vit(), photos(max(64, 5 * count))
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
    if clients != int(clients):
        raise LabError(f"clients is {clients!r}.", "", "Give a whole number.")

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


def _under_load(
    url: str,
    files: Sequence[bytes] | None,
    answers: Sequence[int] | None,
    timeout_s: float,
    send_all: Callable[[_Sender], Coroutine[object, object, list[Outcome]]],
) -> list[Outcome]:
    address = _address(url)
    pairs = targets() if files is None else _pairs(files, answers)

    async def run() -> list[Outcome]:
        sender = _Sender(address, pairs, timeout_s)
        try:
            await sender.warm_up()
            return await send_all(sender)
        finally:
            await sender.close()

    return _in_a_loop_of_its_own(run())


def _pairs(files: Sequence[bytes], answers: Sequence[int] | None) -> list[tuple[bytes, int]]:
    if answers is None:
        answers = right_answers(small_vit(), files)
    if not files or len(files) != len(answers):
        raise LabError(f"{len(files)} files and {len(answers)} answers.", "", "Give an answer for each file.")
    return list(zip(files, answers, strict=True))


def _in_a_loop_of_its_own(coroutine: Coroutine) -> list[Outcome]:
    """asyncio.run in a thread, since a notebook's own thread has a running loop. An interrupt ends it."""
    loop = asyncio.new_event_loop()
    task = loop.create_task(coroutine)
    try:
        with ThreadPoolExecutor(1, "load") as thread:
            try:
                return thread.submit(loop.run_until_complete, task).result()
            except KeyboardInterrupt:
                loop.call_soon_threadsafe(task.cancel)
                raise
    finally:
        loop.close()


def _address(url: str) -> str:
    try:
        parts = urlsplit(url) if isinstance(url, str) else None
        port_fits = parts is None or parts.port != 0  # above 65535 it raises
    except ValueError:
        port_fits = False
    if not port_fits or parts is None or parts.scheme not in ("http", "https") or not parts.hostname:
        raise LabError(f"{url!r} is no address of a service.", "", "Write it as http://127.0.0.1:8000.")
    return url if parts.path.strip("/") else f"{url.rstrip('/')}/classify"


def _positive(name: str, value: float) -> None:
    if not isinstance(value, Real) or not 0 < value < math.inf:
        raise LabError(f"{name} is {value!r}.", "", "Give a number above 0.")
