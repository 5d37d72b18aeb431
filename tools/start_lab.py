"""Starts JupyterLab on this repository: python -m tools.start_lab  (make lab does this after the set-up).

PORT=8890 make lab asks for that port; otherwise the first free one from 8888 on is taken.
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
from pathlib import Path

from labs_lib.machine import doctor

ROOT = Path(__file__).resolve().parent.parent
START = "notebooks/00_start_here.ipynb"
FIRST_PORT = 8888
PORTS_TRIED = 50
START_TIMEOUT_S = 120.0


class StartError(Exception):
    """Why JupyterLab can't be started and what to do, in one line."""


def is_free(port: int) -> bool:
    """Whether a server could listen on this port of 127.0.0.1 now."""
    with socket.socket() as probe:
        # As the server itself does: a port whose last server has just closed is free.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True


def choose_port(asked: str | None) -> int:
    """The port asked for, or the first free one from 8888 on. Raises StartError if there is none."""
    if asked:
        if not asked.isdecimal() or not 1024 <= int(asked) <= 65535:
            raise StartError(f"PORT={asked} is not a port. Give a number from 1024 to 65535.")
        if not is_free(int(asked)):
            raise StartError(f"Port {asked} is taken. Leave out PORT to get a free one, or give another.")
        return int(asked)
    last = FIRST_PORT + PORTS_TRIED - 1
    for port in range(FIRST_PORT, last + 1):
        if is_free(port):
            return port
    raise StartError(f"Ports {FIRST_PORT} to {last} are all taken. Name a free one: PORT=9000 make lab")


def command(port: int) -> list[str]:
    """The command line of a JupyterLab that serves this repository on 127.0.0.1."""
    return [
        sys.executable, "-m", "jupyterlab",
        "--ip=127.0.0.1", f"--port={port}", "--ServerApp.port_retries=0", "--no-browser",
        f"--ServerApp.root_dir={ROOT}", f"--LabApp.default_url=/lab/tree/{START}",
        "--allow-root",  # in a container one is root, and it listens on 127.0.0.1 with a token
        "--Application.log_level=ERROR",
        "--ServerApp.answer_yes=True",  # Ctrl-C stops it without a question
        "--LabApp.extension_manager=readonly",
    ]  # fmt: skip


def environment(token: str) -> dict[str, str]:
    """The server's variables: its token, and settings that keep questions about news and updates away."""
    paths = [str(ROOT / "tools" / "jupyter"), os.environ.get("JUPYTER_CONFIG_PATH", "")]
    config_path = os.pathsep.join(path for path in paths if path)
    return os.environ | {"JUPYTER_TOKEN": token, "JUPYTER_CONFIG_PATH": config_path}


def has_browser() -> bool:
    """Whether a browser with a window can be opened here. In a terminal, lynx and the like are no help."""
    on_screen = sys.platform == "darwin" or "DISPLAY" in os.environ or "WAYLAND_DISPLAY" in os.environ
    if not on_screen or "SSH_CONNECTION" in os.environ:
        return False
    try:
        webbrowser.get()
    except webbrowser.Error:
        return False
    return True


def wait_until_serving(server: subprocess.Popen, port: int, name: str = "JupyterLab") -> None:
    """Return when the port answers. Raises StartError if the server, called `name`, ends first or takes too long."""
    deadline = time.monotonic() + START_TIMEOUT_S
    while time.monotonic() < deadline:
        if server.poll() is not None:
            raise StartError(f"{name} ended with exit code {server.returncode}; its own words are above.")
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                return
        time.sleep(0.05)
    raise StartError(f"{name} did not answer within {START_TIMEOUT_S:.0f} s. Try again.")


def stop(server: subprocess.Popen) -> None:
    """End the server and its kernels; a server that doesn't listen is killed."""
    server.terminate()
    try:
        server.wait(timeout=10)
    except subprocess.TimeoutExpired:
        server.kill()
        server.wait()


def serve(port: int) -> int:
    """Run JupyterLab until it ends or is interrupted; the exit code."""
    token = secrets.token_hex(16)
    address = f"http://127.0.0.1:{port}/lab/tree/{START}?token={token}"
    parent = os.getppid()
    server = subprocess.Popen(command(port), cwd=ROOT, env=environment(token))
    try:
        print(doctor(), flush=True)  # while the server starts
        wait_until_serving(server, port)
        opened = has_browser() and webbrowser.open(address)
        print("\nThe course is open in your browser:" if opened else "\nOpen this address in a browser:")
        print(f"    {address}\nCtrl-C stops it.", flush=True)
        while server.poll() is None and os.getppid() == parent:  # make killed: leave no server behind
            time.sleep(0.2)
        return server.returncode or 0
    except KeyboardInterrupt:
        print("\nStopping JupyterLab.", flush=True)
        return 0
    finally:
        stop(server)


def interrupt(signum: int, frame: object) -> None:
    raise KeyboardInterrupt


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
