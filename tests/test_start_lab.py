"""tools/start_lab.py: the port, the command line, the browser, and the end of the server."""

import json
import socket
import subprocess
import sys

import pytest

from tools import start_lab


@pytest.fixture
def taken():
    """A port of 127.0.0.1 on which something listens."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        yield listener.getsockname()[1]


def test_taken_port_is_skipped(taken, monkeypatch):
    monkeypatch.setattr(start_lab, "FIRST_PORT", taken)
    assert taken < start_lab.choose_port(None) < taken + start_lab.PORTS_TRIED


def test_port_asked_for_but_taken_is_refused(taken):
    with pytest.raises(start_lab.StartError, match=f"Port {taken} is taken"):
        start_lab.choose_port(str(taken))


def test_all_ports_taken(monkeypatch):
    monkeypatch.setattr(start_lab, "is_free", lambda port: False)
    with pytest.raises(start_lab.StartError, match="all taken"):
        start_lab.choose_port(None)


@pytest.mark.parametrize("asked", ["80", "65536", "http", "-1", "8888.0"])
def test_port_that_is_none(asked):
    with pytest.raises(start_lab.StartError, match=f"PORT={asked} is not a port"):
        start_lab.choose_port(asked)


def test_server_is_local_and_its_token_is_not_in_the_process_list():
    line = start_lab.command(9999)
    assert "--ip=127.0.0.1" in line
    assert "--port=9999" in line
    assert not any("token" in part or "password" in part for part in line)
    assert start_lab.environment("abc")["JUPYTER_TOKEN"] == "abc"


def test_settings_ask_nothing_of_the_network(monkeypatch):
    """As JupyterLab itself reads them; the person's own configuration path stays in use."""
    monkeypatch.setenv("JUPYTER_CONFIG_PATH", "/their/own")
    env = start_lab.environment("abc")
    assert env["JUPYTER_CONFIG_PATH"].split(":")[1:] == ["/their/own"]
    code = (
        "from jupyter_server.services.config.manager import ConfigManager; import json;"
        "print(json.dumps(ConfigManager(config_dir_name='labconfig').get('default_setting_overrides')))"
    )
    seen = subprocess.run([sys.executable, "-c", code], env=env, capture_output=True, text=True, check=True)
    notification = json.loads(seen.stdout)["@jupyterlab/apputils-extension:notification"]
    assert notification == {"checkForUpdates": False, "fetchNews": "false"}


@pytest.mark.parametrize(
    ("platform", "variables", "expected"),
    [
        ("linux", {}, False),
        ("linux", {"DISPLAY": ":0"}, True),
        ("linux", {"WAYLAND_DISPLAY": "wayland-0"}, True),
        ("linux", {"DISPLAY": "localhost:10.0", "SSH_CONNECTION": "a b c d"}, False),
        ("darwin", {}, True),
    ],
)
def test_where_a_browser_is_opened(monkeypatch, platform, variables, expected):
    for name in ("DISPLAY", "WAYLAND_DISPLAY", "SSH_CONNECTION"):
        monkeypatch.delenv(name, raising=False)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(sys, "platform", platform)
    monkeypatch.setattr(start_lab.webbrowser, "get", lambda: object())
    assert start_lab.has_browser() is expected


def test_no_browser_installed(monkeypatch):
    def none():
        raise start_lab.webbrowser.Error

    monkeypatch.setenv("DISPLAY", ":0")
    monkeypatch.setattr(start_lab.webbrowser, "get", none)
    assert not start_lab.has_browser()


def test_server_that_ends_at_once_is_reported():
    server = subprocess.Popen([sys.executable, "-c", "raise SystemExit(3)"])
    with server, pytest.raises(start_lab.StartError, match="exit code 3"):
        start_lab.wait_until_serving(server, port=1)


def test_server_is_waited_for_and_stopped(taken):
    with subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"]) as server:
        start_lab.wait_until_serving(server, taken)
        start_lab.stop(server)
        assert server.returncode is not None
