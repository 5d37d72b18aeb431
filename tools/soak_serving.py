"""Many requests with faults among them: does each get exactly one answer, is every 200 right, is memory flat?

    python -m tools.soak_serving [--requests 20000] [--clients 44] [--seed 0]

Of the requests 5 % are corrupt images, 5 % are larger than the service takes, 5 % hang up (half of them in the middle
of the body), and 1 % are images for which the model raises, together with whoever shares their batch. The clients
send without a pause. At 60 % the service is stopped while they go on, and a second one takes over.

It is the real service in a process of its own, but with a model that reads an image's label off its colour, so that
each request has an answer of its own and 20000 take minutes. It sleeps 4 ms a batch, so that batches form.

What must hold:
- Every request is answered once, as its kind demands: 200 with its own label, 413, 422, 500. One that is told 503 is
  sent again, sooner than the service says. Without an answer is only who finds the service stopped.
- The service's log counts as many answers of each kind as the clients got, and none that was begun and not given.
- The memory of the first service (resident set, sampled four times a second): its median over the last quarter of
  its requests is at most 8 MiB above the median over the second quarter.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import statistics
import subprocess
import sys
import time
from collections import Counter, deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from urllib.parse import urlsplit

import psutil

from labs_lib.cli import FINE, GATE_FAILED
from labs_lib.serving.server import ONE_THREAD, ROOT, Server
from tools.faulty_requests import DEMANDED, LEAVES, SHARES, Request, requests

STOP_AT = 0.6  # of the requests
GROWTH_MIB = 8.0
ANSWER_S = 60.0  # without an answer for so long, a request counts as lost
AGAIN_S = 0.05


@dataclass
class Service:
    """One running service, and what its clients were told."""

    server: Server
    received: Counter[int] = field(default_factory=Counter)
    left: int = 0  # clients that hung up
    stopping: bool = False
    memory: list[tuple[int, int]] = field(default_factory=list)  # answers so far, bytes of the resident set

    @classmethod
    def start(cls) -> Service:
        process = subprocess.Popen(
            [sys.executable, "-m", "tools.faulty_requests"],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
            cwd=ROOT,
            env={**os.environ, **ONE_THREAD},
        )
        server = Server(process)
        server.logs = deque()  # all of them, and not the last ones
        server.wait(120)
        return cls(server)

    async def watch_memory(self) -> None:
        process = psutil.Process(self.server.pid)
        while not self.stopping:
            self.memory.append((self.received.total(), process.memory_info().rss))
            await asyncio.sleep(0.25)

    def growth_mib(self) -> float:
        """From the second to the last quarter of its requests; nan where there are too few samples."""
        total = self.received.total()
        second = [size for count, size in self.memory if total / 4 <= count < total / 2]
        last = [size for count, size in self.memory if count >= 3 * total / 4]
        return (statistics.median(last) - statistics.median(second)) / 2**20 if second and last else float("nan")

    def faults(self) -> list[str]:
        """What its log says that the clients do not."""
        entries = [entry for entry in self.server.logs if entry["event"] == "request"]
        found = [f"a line of the log is not JSON: {line.strip()}" for line in self.server.other]
        found += [f"a request was begun and not answered: {entry}" for entry in entries if entry["status"] is None]
        # The bodies of those that hang up have an odd length, all others an even one; 413 and 503 come before the end.
        logged = Counter(e["status"] for e in entries if e["status"] in (413, 503) or e["bytes"] % 2 == 0)
        for status in DEMANDED.values():
            if logged[status] != self.received[status]:
                found.append(f"{logged[status]} answers {status} in the log, {self.received[status]} came")
        gone = len(entries) - self.received.total()
        if not 0 <= gone <= self.left:
            found.append(f"{gone} requests in the log beyond the answers, and {self.left} clients have hung up")
        return found


class Dropped(Exception):
    """The connection could not be opened, or ended before an answer."""


class Connection:
    """One that is kept alive from request to request, as long as the service lets it."""

    def __init__(self, service: Service) -> None:
        self.service, self.writer = service, None

    async def send(self, payload: bytes) -> None:
        try:
            if self.writer is None:
                address = urlsplit(self.service.server.url)
                self.reader, self.writer = await asyncio.open_connection(address.hostname, address.port)
            self.writer.write(payload)  # without drain: an answer may come before all is sent
        except OSError as error:
            raise Dropped(repr(error)) from None

    async def answer(self) -> tuple[int, dict]:
        try:
            head = (await self.reader.readuntil(b"\r\n\r\n")).decode().lower().split("\r\n")
            headers = dict(line.split(": ", 1) for line in head[1:] if line)
            body = await self.reader.readexactly(int(headers["content-length"]))
        except (OSError, asyncio.IncompleteReadError) as error:
            await self.close()
            raise Dropped(repr(error)) from None
        if headers.get("connection") == "close":
            await self.close()
        return int(head[0].split()[1]), json.loads(body)

    async def close(self) -> bytes:
        """What came that nobody had asked for."""
        if self.writer is None:
            return b""
        writer, self.writer = self.writer, None
        try:
            writer.write_eof()
            return await self.reader.read()
        except OSError:
            return b""
        finally:
            writer.close()


@dataclass
class Report:
    requests: int
    finished: Counter[str] = field(default_factory=Counter)  # by kind
    again: int = 0  # told 503, and sent again
    stopped: int = 0  # found the service stopped, and sent again
    faults: list[str] = field(default_factory=list)
    services: list[Service] = field(default_factory=list)
    seconds: float = 0.0

    def judge(self) -> None:
        if self.finished.total() != self.requests:
            self.faults.append(f"{self.finished.total()} of {self.requests} requests have come to an end")
        for service in self.services:
            self.faults += service.faults()
        if (growth := self.services[0].growth_mib()) > GROWTH_MIB:
            self.faults.append(f"memory grows by {growth:.1f} MiB, and {GROWTH_MIB:.0f} are allowed")

    def __str__(self) -> str:
        lines = [f"{self.requests} requests in {self.seconds:.0f} s, each with exactly one end:"]
        for kind in SHARES:
            lines.append(f"  {self.finished[kind]:>6} {kind}: {DEMANDED.get(kind, 'no answer awaited')}")
        lines.append(f"sent again: {self.again} after 503, {self.stopped} that found the service stopped")
        for number, service in enumerate(self.services, 1):
            sizes = [size / 2**20 for _, size in service.memory]
            batches = next(entry["batches"] for entry in service.server.logs if entry["event"] == "model")
            images = sum(int(size) * count for size, count in batches.items())
            lines.append(
                f"service {number}: answers {dict(sorted(service.received.items()))}, {service.left} hung up, "
                f"{images / sum(batches.values()):.1f} images a batch; resident {sizes[0]:.0f} MiB at first, "
                f"{max(sizes):.0f} at most, from the second to the last quarter {service.growth_mib():+.1f}"
            )
        return "\n".join([*lines, *(f"FAULT: {fault}" for fault in self.faults[:20]), self.verdict])

    @property
    def verdict(self) -> str:
        if self.faults:
            return f"{len(self.faults)} faults"
        return "none lost, every 200 right, memory flat"


async def soak(count: int, clients: int, seed: int = 0) -> Report:
    report, work, started = Report(count), requests(count, seed), time.monotonic()
    current = await asyncio.to_thread(Service.start)
    report.services.append(current)
    watching = [asyncio.create_task(current.watch_memory())]
    ready = asyncio.Event()
    ready.set()

    async def change() -> None:
        nonlocal current
        old = current
        ready.clear()
        old.stopping = True
        _, new = await asyncio.gather(asyncio.to_thread(old.server.stop), asyncio.to_thread(Service.start))
        report.services.append(new)
        watching.append(asyncio.create_task(new.watch_memory()))
        current = new
        ready.set()

    async def client(number: int) -> None:
        connection = Connection(current)
        for request in work:
            try:
                async with asyncio.timeout(ANSWER_S):
                    connection = await finish(request, connection)
            except TimeoutError:
                report.faults.append(f"request {request.number}, {request.kind}: no answer within {ANSWER_S:.0f} s")
        if rest := await connection.close():
            report.faults.append(f"client {number} got {len(rest)} bytes that nobody had asked for")

    async def finish(request: Request, connection: Connection) -> Connection:
        nonlocal changing
        while True:
            service = connection.service
            try:
                if request.kind == LEAVES:
                    await leave(request, service)
                    break
                await connection.send(request.payload)
                status, body = await connection.answer()
            except Dropped as why:
                if not service.stopping:
                    report.faults.append(f"request {request.number}, {request.kind}: lost, {why}")
                    return Connection(service)
                report.stopped += 1
                await ready.wait()
                connection = Connection(current)
                continue
            service.received[status] += 1
            if status == 503:
                report.again += 1
                await asyncio.sleep(AGAIN_S)
                continue
            if not request.demands(status, body):
                report.faults.append(f"request {request.number}, {request.kind}: answered {status} {body}")
            break
        report.finished[request.kind] += 1
        if report.finished.total() >= STOP_AT * count and changing is None:
            changing = asyncio.create_task(change())
        return connection

    changing = None
    await asyncio.gather(*map(client, range(clients)))
    await changing
    current.stopping = True
    await asyncio.to_thread(current.server.stop)
    await asyncio.gather(*watching)
    report.seconds = time.monotonic() - started
    report.judge()
    return report


async def leave(request: Request, service: Service) -> None:
    """Sends, waits a moment and hangs up."""
    connection = Connection(service)
    await connection.send(request.payload)
    await asyncio.sleep(0.002 * (request.number % 5))
    service.left += 1
    connection.writer.transport.abort()


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--requests", type=int, default=20_000)
    parser.add_argument("--clients", type=int, default=44)
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args(argv)
    report = asyncio.run(soak(args.requests, args.clients, args.seed))
    print(report)
    return GATE_FAILED if report.faults else FINE


if __name__ == "__main__":
    raise SystemExit(main())
