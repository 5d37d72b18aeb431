"""Shows the memory analyzer as a page: python -m tools.start_app  (make app does this after the set-up).

PORT=8890 make app asks for that port, PORT=0 for any free one; otherwise the first free one from 8866 on is taken.
"""

from __future__ import annotations

import os
import secrets
import signal
import socket
import subprocess
import sys
import time
import webbrowser

import psutil

from tools import start_lab
from tools.start_lab import PORTS_TRIED, ROOT, StartError, has_browser, interrupt, is_free, wait_until_serving

NOTEBOOK = "notebooks/analyzer.ipynb"
FIRST_PORT = 8866
IDLE_S = 3600  # after which the kernel of a page that was closed ends


def choose_port(asked: str | None) -> int:
    """The port asked for, any free one for "0", or the first free one from 8866 on. Raises StartError for none."""
    if asked == "0":
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            return free.getsockname()[1]
    if asked:
        return start_lab.choose_port(asked)
    last = FIRST_PORT + PORTS_TRIED - 1
    for port in range(FIRST_PORT, last + 1):
        if is_free(port):
            return port
    raise StartError(f"Ports {FIRST_PORT} to {last} are all taken. Let the system choose: PORT=0 make app")


def command(port: int, ip: str = "127.0.0.1", notebook: str = NOTEBOOK) -> list[str]:
    """The command line of a Voila that shows the notebook at this address."""
    return [
        sys.executable, "-m", "voila", notebook,
        f"--Voila.ip={ip}", f"--port={port}", "--Voila.port_retries=0", "--no-browser",
        "--Voila.auto_token=True",  # the one in JUPYTER_TOKEN
        "--template=labs", "--Voila.log_level=ERROR",
        f"--MappingKernelManager.cull_idle_timeout={IDLE_S}",
    ]  # fmt: skip


def environment(token: str) -> dict[str, str]:
    """The server's variables: its token, the folder of its template, and the course for its kernels."""
    def joined(name: str, first: str) -> str:
        return os.pathsep.join(filter(None, [first, os.environ.get(name)]))

    folders = {
        "JUPYTER_PATH": joined("JUPYTER_PATH", str(ROOT / "tools" / "jupyter")),
        "PYTHONPATH": joined("PYTHONPATH", str(ROOT)),
    }
    return os.environ | folders | {"JUPYTER_TOKEN": token}


def stop(server: subprocess.Popen) -> None:
    """End the server and its kernels, each of which runs in a session of its own; what doesn't listen is killed."""
    try:
        processes = psutil.Process(server.pid).children(recursive=True)
    except psutil.NoSuchProcess:
        processes = []
    server.terminate()
    try:
        server.wait(timeout=10)
    except subprocess.TimeoutExpired:
        server.kill()
        server.wait()
    _, alive = psutil.wait_procs(processes, timeout=3)
    for process in alive:
        process.kill()


def serve(port: int) -> int:
    """Run Voila until it ends or is interrupted; the exit code."""
    token = secrets.token_hex(16)
    address = f"http://127.0.0.1:{port}/?token={token}"
    parent = os.getppid()
    server = subprocess.Popen(command(port), cwd=ROOT, env=environment(token))
    try:
        wait_until_serving(server, port, "Voila")
        opened = has_browser() and webbrowser.open(address)
        print("\nThe analyzer is open in your browser:" if opened else "\nOpen this address in a browser:")
        print(f"    {address}\nCtrl-C stops it.", flush=True)
        while server.poll() is None and os.getppid() == parent:  # make killed: leave no server behind
            time.sleep(0.2)
        return server.returncode or 0
    except KeyboardInterrupt:
        print("\nStopping the analyzer.", flush=True)
        return 0
    finally:
        stop(server)


def main() -> int:
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, interrupt)
    try:
        return serve(choose_port(os.environ.get("PORT")))
    except StartError as error:
        print(error, file=sys.stderr)
        return 1


if __name__ == "__main__":
    sys.exit(main())
