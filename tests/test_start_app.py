"""tools/start_app.py: the port, the command line, and the end of the server with its kernels."""

import signal
import socket
import subprocess
import sys
import time

import psutil
import pytest

from tools import start_app, start_lab


@pytest.fixture
def taken():
    """A port of 127.0.0.1 on which something listens."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        yield listener.getsockname()[1]


def test_port_0_is_any_free_one():
    port = start_app.choose_port("0")
    assert port >= 1024
    assert start_lab.is_free(port)


def test_taken_port_is_skipped(taken, monkeypatch):
    monkeypatch.setattr(start_app, "FIRST_PORT", taken)
    assert taken < start_app.choose_port(None) < taken + start_app.PORTS_TRIED


@pytest.mark.parametrize("asked", ["80", "65536", "http", "-1"])
def test_port_that_is_none(asked):
    with pytest.raises(start_app.StartError, match=f"PORT={asked} is not a port"):
        start_app.choose_port(asked)


def test_ports_that_are_taken(taken, monkeypatch, capsys):
    with pytest.raises(start_app.StartError, match=f"Port {taken} is taken"):
        start_app.choose_port(str(taken))
    monkeypatch.setenv("PORT", str(taken))
    monkeypatch.setattr(signal, "signal", lambda number, handler: None)
    assert start_app.main() == 1
    assert capsys.readouterr().err.startswith(f"Port {taken} is taken")
    monkeypatch.setattr(start_app, "is_free", lambda port: False)
    with pytest.raises(start_app.StartError, match="all taken"):
        start_app.choose_port(None)


def test_server_is_local_and_its_token_is_not_in_the_process_list():
    line = start_app.command(9999)
    assert "--Voila.ip=127.0.0.1" in line
    assert "--port=9999" in line
    assert (start_app.ROOT / line[3]).is_file()
    assert not any("abc" in part for part in line)
    assert start_app.environment("abc")["JUPYTER_TOKEN"] == "abc"


def test_kernels_find_the_course_and_the_person_s_own_folders_stay_in_use(monkeypatch):
    monkeypatch.setenv("PYTHONPATH", "/their/own")
    monkeypatch.delenv("JUPYTER_PATH", raising=False)
    env = start_app.environment("abc")
    assert env["PYTHONPATH"].split(":") == [str(start_app.ROOT), "/their/own"]
    assert env["JUPYTER_PATH"] == str(start_app.ROOT / "tools" / "jupyter")


def test_server_that_ends_at_once_is_reported():
    with (
        subprocess.Popen([sys.executable, "-c", "raise SystemExit(3)"]) as server,
        pytest.raises(start_app.StartError, match="exit code 3"),
    ):
        start_app.wait_until_serving(server, port=1, name="Voila")


def test_a_kernel_that_does_not_listen_is_ended_too(taken):
    """It runs in a session of its own, ignores SIGTERM, and would outlive its server."""
    deaf = "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); print(1, flush=True); time.sleep(99)"
    parent = (
        "import subprocess, sys, time\n"
        f"child = subprocess.Popen([sys.executable, '-c', {deaf!r}], stdout=subprocess.PIPE, start_new_session=True)\n"
        "child.stdout.readline(); print(child.pid, flush=True); time.sleep(99)"
    )
    with subprocess.Popen([sys.executable, "-c", parent], stdout=subprocess.PIPE, text=True) as server:
        kernel = psutil.Process(int(server.stdout.readline()))
        start_app.wait_until_serving(server, taken, "Voila")
        start_app.stop(server)
        deadline = time.monotonic() + 10
        while kernel.is_running() and kernel.status() != psutil.STATUS_ZOMBIE and time.monotonic() < deadline:
            time.sleep(0.05)
        assert not kernel.is_running() or kernel.status() == psutil.STATUS_ZOMBIE
    start_app.stop(server)  # twice does no harm
