"""The service as a process: it answers, stops cleanly, and does not outlive who started it."""

import os
import signal
import socket
import subprocess
import sys
import time

import httpx
import pytest

import labs_lib.serving as serving
import labs_lib.serving.server as server
from labs_lib.errors import LabError


def is_open(port):
    with socket.socket() as client:
        return client.connect_ex(("127.0.0.1", port)) == 0


def closes(port, within=30):
    end = time.monotonic() + within
    while is_open(port) and time.monotonic() < end:
        time.sleep(0.1)
    return not is_open(port)


def test_it_answers_and_stops():
    photo = serving.photos(1)[0]
    with serving.serve("batch", max_batch=4) as running:
        answer = httpx.post(f"{running.url}/classify", files={"image": ("a.jpg", photo, "image/jpeg")}, timeout=60)
        assert answer.json() == {"label": serving.right_answers(serving.small_vit(), [photo])[0]}
        port = int(running.url.rpartition(":")[2])
    assert running.process.returncode == 0
    assert not is_open(port)
    assert [entry["event"] for entry in running.logs] == ["listening", "request", "stopped"]


def test_several_policies_answer_side_by_side():
    form = {"image": ("a.jpg", serving.photos(1)[0], "image/jpeg")}
    with serving.serve("once", "batch") as running:
        for policy in ("once", "batch"):
            assert httpx.get(f"{running.url}/{policy}/health").json()["policy"] == policy
            assert httpx.post(f"{running.url}/{policy}/classify", files=form, timeout=60).status_code == 200
        assert httpx.post(f"{running.url}/classify", files=form).status_code == 404
    assert running.process.returncode == 0
    assert running.logs[-1]["event"] == "stopped"


def test_what_keeps_it_from_starting_is_said():
    with pytest.raises(LabError, match="did not start") as error:
        serving.serve("batch", max_batch=0)
    assert "max_batch and max_queue are at least 1" in str(error.value)
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        with pytest.raises(LabError, match="can't listen on"):
            server.run(("once",), port=other.getsockname()[1])


@pytest.mark.skipif(os.name == "nt", reason="SIGKILL is POSIX's")
def test_it_does_not_outlive_a_killed_parent():
    program = (
        "import labs_lib.serving as serving, time; server = serving.serve('once'); "
        "print(server.url, flush=True); time.sleep(600)"
    )
    parent = subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, text=True)
    try:
        port = int(parent.stdout.readline().strip().rpartition(":")[2])
        assert is_open(port)
        parent.send_signal(signal.SIGKILL)
        parent.wait()
        assert closes(port)
    finally:
        parent.kill()
        parent.wait()
        parent.stdout.close()
