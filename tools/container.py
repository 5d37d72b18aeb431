"""What a container of this course runs: python -m tools.container lab|app|health  (the Dockerfile names it).

Unlike `make lab` and `make app` the server listens on all addresses, since Docker forwards the port to it from
outside the container; publish that port on 127.0.0.1. JUPYTER_TOKEN may be given; else a new one is made.
"""

from __future__ import annotations

import http.client
import os
import secrets
import sys

from tools import start_app, start_lab

PORT = 8888
ALL = "0.0.0.0"


def command(what: str) -> list[str]:
    """The command line of the server for "lab" or "app", on all addresses of the container."""
    if what == "app":
        return start_app.command(PORT, ip=ALL)
    return [f"--ip={ALL}" if part.startswith("--ip=") else part for part in start_lab.command(PORT)]


def environment(what: str, token: str) -> dict[str, str]:
    """The server's variables."""
    return (start_app if what == "app" else start_lab).environment(token)


def healthy() -> bool:
    """Whether a server answers. JupyterLab knows /api without a token; of the page that address starts no kernel."""
    connection = http.client.HTTPConnection("127.0.0.1", PORT, timeout=5)
    try:
        connection.request("GET", "/api")
        return connection.getresponse().status < 500
    except OSError:
        return False
    finally:
        connection.close()


def main(arguments: list[str]) -> int:
    """Becomes the server, so that it gets the container's signals itself; returns only for "health" and mistakes."""
    if arguments == ["health"]:
        return int(not healthy())
    if arguments not in (["lab"], ["app"]):
        print(f"Give lab or app, not {' '.join(arguments) or 'nothing'!r}.", file=sys.stderr)
        return 2
    (what,) = arguments
    token = os.environ.get("JUPYTER_TOKEN") or secrets.token_hex(16)
    path = f"lab/tree/{start_lab.START}" if what == "lab" else ""
    print(f"Open this address in a browser:\n    http://127.0.0.1:{PORT}/{path}?token={token}", flush=True)
    os.chdir(start_app.ROOT)
    line = command(what)
    os.execve(line[0], line, environment(what, token))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
