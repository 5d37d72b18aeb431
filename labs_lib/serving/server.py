"""The service in a process of its own, which ends with the one that started it.

The child reads its standard input. When that ends, because its parent stopped it or was killed, it takes no more
requests, answers those it has, and leaves. So no port stays open behind a killed notebook kernel.
"""

from __future__ import annotations

import argparse
import json
import logging
import os
import signal
import socket
import subprocess
import sys
import threading
from collections import deque
from collections.abc import Callable, Sequence
from pathlib import Path

from labs_lib.errors import LabError
from labs_lib.serving.app import check_policy

ROOT = Path(__file__).resolve().parents[2]
ONE_THREAD = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1")
LOOPBACK = "127.0.0.1"
DRAIN_S = 10  # for answers under way, before they are cut off


class Server:
    """A running service: `url`, `pid`, `logs` (the last 10000 lines, parsed), `other` (those that are no
    JSON), and `stop()`. A context manager."""

    def __init__(self, process: subprocess.Popen) -> None:
        self.process, self.pid = process, process.pid
        self.logs: deque[dict] = deque(maxlen=10_000)
        self.other: deque[str] = deque(maxlen=20)  # such as a traceback
        self._listening = threading.Event()
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        for line in self.process.stderr:
            try:
                entry = json.loads(line)
            except ValueError:
                self.other.append(line)
                continue
            self.logs.append(entry)
            if entry["event"] == "listening":
                self.url = entry["url"]
                self._listening.set()
            elif entry["event"] == "failed":
                self.other.append(entry["why"])
        self._listening.set()  # it ended: nobody waits for it any more

    def wait(self, seconds: float) -> None:
        self._listening.wait(seconds)
        if not hasattr(self, "url"):
            self.process.kill()
            self._reader.join(5)
            why = self.other[-1].strip() if self.other else f"It did not listen within {seconds:.0f} s."
            raise LabError("The service did not start.", why)

    def stop(self) -> None:
        """Lets the service answer what it has, and waits for its end."""
        self.process.stdin.close()
        try:
            self.process.wait(DRAIN_S + 10)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        self._reader.join(5)

    def __enter__(self) -> Server:
        return self

    def __exit__(self, *exception: object) -> None:
        self.stop()


def serve(*policies: str, port: int = 0, start_s: float = 120, **batcher: object) -> Server:
    """Starts the service on the loopback interface and returns once it listens; port 0 takes a free one.

    policies: by default "batch". Of several, each answers below its own path, such as /once/classify.
    batcher: max_batch, max_wait_s, max_queue, timeout_s. The model computes with one thread, since the service
    shares its cores with whoever asks it.

    Raises LabError where it does not start.
    """
    policies = policies or ("batch",)
    for policy in policies:
        check_policy(policy)
    # Not -m, which warns, since the package imports this module. And what has been drained needs no more tidying:
    # the interpreter would take a second to dismantle PyTorch.
    program = "import os; from labs_lib.serving.server import main; os._exit(main())"
    command = [sys.executable, "-c", program, json.dumps(dict(policies=policies, port=port, **batcher))]
    path = os.pathsep.join([str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])])
    process = subprocess.Popen(
        command,
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, **ONE_THREAD, "PYTHONPATH": path},
        start_new_session=True,  # an interrupted cell interrupts the kernel's whole process group
    )
    server = Server(process)
    server.wait(start_s)
    return server


def run(
    policies: Sequence[str],
    host: str = LOOPBACK,
    port: int = 0,
    until: threading.Event | None = None,
    listening: Callable[[str], None] = lambda url: None,
    **batcher: object,
) -> bool:
    """Serves in this process until SIGINT or SIGTERM, or until the event is set. False if it could not start.

    `listening` is called with the address once requests are taken. Raises LabError for wrong settings or a port that
    can't be opened.
    """
    with _bound(host, port) as listener:  # before the slow imports: a port that is taken is said at once
        import torch
        import torchvision.models  # noqa: F401  takes seconds, which the first request would wait for
        import uvicorn

        from labs_lib.serving.app import build_app, log, side_by_side

        torch.set_num_threads(1)

        class Service(uvicorn.Server):
            async def startup(self, sockets: list[socket.socket] | None = None) -> None:
                await super().startup(sockets)
                if self.started:
                    url = f"http://{host}:{sockets[0].getsockname()[1]}"
                    log("listening", url=url, policies=policies)
                    listening(url)

        apps = {policy: build_app(policy, **batcher) for policy in policies}
        app = next(iter(apps.values())) if len(apps) == 1 else side_by_side(apps)
        logging.getLogger("python_multipart").setLevel(logging.CRITICAL)  # its warnings quote what was sent
        server = Service(uvicorn.Config(app, log_config=None, access_log=False, timeout_graceful_shutdown=DRAIN_S))
        if until is not None:
            threading.Thread(target=lambda: until.wait() and setattr(server, "should_exit", True), daemon=True).start()
        # uvicorn drains at these signals, then raises them once more: by then the service has ended as it should.
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, lambda *_: None)
        server.run(sockets=[listener])
        log("stopped")
        return server.started


def _bound(host: str, port: int) -> socket.socket:
    listener = socket.socket()
    if os.name == "posix":  # elsewhere it would let two services listen on one port
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((host, port))
    except OSError as error:
        listener.close()
        what = f"The service can't listen on {host}, port {port}."
        raise LabError(what, f"{error.strerror}.", "Take port 0 for a free one.") from None
    return listener


def main(argv: Sequence[str] | None = None) -> int:
    """The child of `serve`: settings as JSON; ends when standard input does."""
    parser = argparse.ArgumentParser()
    parser.add_argument("settings", type=json.loads)
    settings = parser.parse_args(argv).settings
    ended = threading.Event()

    def watch() -> None:
        sys.stdin.read()
        ended.set()

    threading.Thread(target=watch, daemon=True).start()
    try:
        return 0 if run(until=ended, **settings) else 1
    except LabError as error:
        print(json.dumps({"event": "failed", "why": " ".join(error.sentences)}), file=sys.stderr)
        return 1
