"""The real service over real sockets: who is refused and how, who hangs up, who is too late, and how it ends."""

import contextlib
import io
import json
import os
import select
import socket
import subprocess
import sys
import time

import httpx
import pytest
from PIL import Image

import labs_lib.serving as serving
from labs_lib.serving.server import ONE_THREAD, ROOT, Server
from tools.faulty_requests import png, post

SOON = 30  # seconds; only a hang takes so long

GATED = """
import sys, time
from pathlib import Path
from labs_lib.serving import Limits
from tools.faulty_requests import Colours, serve

class Gated(Colours):
    def __call__(self, pixels):
        Path(sys.argv[1] + ".busy").touch()
        while not Path(sys.argv[1]).exists():
            time.sleep(0.01)
        return super().__call__(pixels)

serve(Gated(), max_batch=1, max_queue=2, **eval(sys.argv[2]))
"""


@contextlib.contextmanager
def gated(gate, settings="{}"):
    """A service whose model computes only once the file `gate` exists: one request at a time, two may wait."""
    command = [sys.executable, "-c", GATED, str(gate), settings]
    process = subprocess.Popen(
        command, stdin=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=ROOT, env={**os.environ, **ONE_THREAD}
    )
    server = Server(process)
    try:
        server.wait(120)
        yield server
    finally:
        gate.touch()
        server.stop()


class Client:
    """A raw connection: what was sent, and nothing else, is on the wire."""

    def __init__(self, server, payload, label=None):
        self.label, self.rest = label, b""
        self.socket = socket.create_connection(("127.0.0.1", port_of(server)), timeout=SOON)
        self.socket.sendall(payload)

    def answer(self):
        """(status, headers, body) of the next answer."""
        while b"\r\n\r\n" not in self.rest:
            self.more()
        head, _, self.rest = self.rest.partition(b"\r\n\r\n")
        first, *lines = head.decode().split("\r\n")
        headers = {name.lower(): value for name, value in (line.split(": ", 1) for line in lines)}
        length = int(headers["content-length"])
        while len(self.rest) < length:
            self.more()
        body, self.rest = self.rest[:length], self.rest[length:]
        return int(first.split()[1]), headers, json.loads(body)

    def more(self):
        data = self.socket.recv(1 << 16)
        assert data, "the connection ended without an answer"
        self.rest += data

    def hang_up(self):
        self.socket.close()


def port_of(server):
    return int(server.url.rpartition(":")[2])


def until(condition):
    end = time.monotonic() + SOON
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.01)


def logged(server, status):
    return [entry for entry in server.logs if entry.get("status") == status]


def refused_of(clients, count):
    """Waits until `count` of them have an answer; removes them, and gives their answers. The others are inside."""
    until(lambda: len(select.select([client.socket for client in clients], [], [], 0)[0]) == count)
    readable = select.select([client.socket for client in clients], [], [], 0)[0]
    refused = [client for client in clients if client.socket in readable]
    clients[:] = [client for client in clients if client not in refused]
    return [client.answer() for client in refused]


def test_full_then_one_hangs_up_then_it_is_stopped(tmp_path):
    gate = tmp_path / "gate"
    with gated(gate) as server:
        first = Client(server, post(png(1)), 1)
        until((tmp_path / "gate.busy").exists)
        waiting = [Client(server, post(png(label)), label) for label in (2, 3, 4, 5)]
        for status, headers, body in refused_of(waiting, 2):  # of four, two find room
            assert (status, headers["retry-after"]) == (503, "1")
            assert body == {"error": "The service is full; try again soon."}

        waiting.pop().hang_up()
        until(lambda: logged(server, 499))
        late = [Client(server, post(png(label)), label) for label in (8, 9)]
        assert refused_of(late, 1)[0][0] == 503  # the place of who has gone is taken by one of them

        server.process.stdin.close()  # stop: who is inside is answered, and nobody else is let in
        until(lambda: not is_open(port_of(server)))
        inside = [first, *waiting, *late]
        assert not select.select([client.socket for client in inside], [], [], 0)[0]
        gate.touch()
        assert [client.answer()[2] for client in inside] == [{"label": client.label} for client in inside]
    assert server.process.returncode == 0
    assert not server.other


def is_open(port, host="127.0.0.1"):
    with socket.socket() as client:
        return client.connect_ex((host, port)) == 0


def test_too_late_and_stalled(tmp_path):
    gate = tmp_path / "gate"
    with gated(gate, "dict(timeout_s=0.3, limits=Limits(body_s=0.3))") as server:
        computing, waiting = Client(server, post(png(1))), Client(server, post(png(2)))
        for client in (computing, waiting):
            status, _, body = client.answer()
            assert (status, body) == (504, {"error": "The answer took too long."})

        stalled = Client(server, post(png(3))[:-50])
        status, headers, body = stalled.answer()
        assert (status, headers["connection"]) == (408, "close")
        assert body == {"error": "The body has not come within 0.3 s."}

        gate.touch()
        assert Client(server, post(png(6))).answer()[2] == {"label": 6}
        failed = Client(server, post(png(7)))
        status, _, body = failed.answer()
        assert (status, body) == (500, {"error": "The model failed with ValueError."})
    assert not server.other


SECRET = b"secret-3f9a"


def large_png():
    file = io.BytesIO()
    Image.new("1", (3000, 3000)).save(file, "PNG")
    return file.getvalue() + SECRET


def form(file, kind="image/png", field="image"):
    return {"files": {field: (f"{SECRET.decode()}.png", file, kind)}}


KIND = {"content-type": "multipart/form-data; boundary=edge"}
REFUSED = [
    (form(SECRET + bytes(1 << 20)), 413),
    (form(large_png()), 413),
    (form(SECRET), 422),
    (form(png(1)[:-20] + SECRET), 422),
    (form(serving.photos(1)[0][:3000], "image/jpeg"), 422),
    (form(b""), 422),
    (form(png(1), field=SECRET.decode()), 422),
    (form(png(1), kind=f"text/{SECRET.decode()}"), 415),
    ({"data": {"image": SECRET.decode()}}, 415),
    ({"content": SECRET, "headers": {"content-type": "image/png"}}, 415),
    ({"content": SECRET, "headers": KIND}, 400),
    ({"content": b"--edge\r\n" + SECRET, "headers": KIND}, 422),
    ({"content": b"--edge--\r\n", "headers": KIND}, 422),
    ({"content": b""}, 415),
]


@pytest.fixture(scope="module")
def server():
    with serving.serve("batch") as server:
        yield server
    assert not server.other  # no traceback and no warning, whatever it was sent
    assert SECRET.decode() not in json.dumps(list(server.logs))


@pytest.mark.parametrize(("options", "status"), REFUSED)
def test_what_is_refused_is_told_why_in_one_sentence(server, options, status):
    answer = httpx.post(f"{server.url}/classify", timeout=SOON, **options)
    assert answer.status_code == status
    assert set(answer.json()) == {"error"}
    sentence = answer.json()["error"]
    assert sentence.endswith(".")
    assert sentence.count(". ") == 0
    assert SECRET.decode() not in sentence


def test_a_large_body_does_not_cost_the_next_request_its_answer(server):
    client = Client(server, post(bytes(2 << 20)) + post(bytes(2 << 20), chunked=True) + post(png(1)))
    assert [client.answer()[0] for _ in range(3)] == [413, 413, 200]


def test_who_hangs_up_in_the_middle_of_the_body_leaves_one_line(server):
    before = len(logged(server, 499))
    Client(server, post(png(1))[:-30]).hang_up()
    until(lambda: len(logged(server, 499)) > before)


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere 127.0.0.2 is not this machine")
def test_it_listens_on_the_loopback_interface_alone(server):
    assert is_open(port_of(server))
    assert not is_open(port_of(server), "127.0.0.2")  # it would be, were it to listen on all
