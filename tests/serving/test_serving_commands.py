"""`serve` and `load-test` from a terminal."""

import json
import os
import signal
import subprocess
import sys

import pytest

from labs_lib.cli import BAD_INPUT, FINE, GATE_FAILED, main
from tests.serving.test_load import service as http_service


@pytest.fixture
def service():
    command = [sys.executable, "-m", "labs_lib", "serve", "--policy", "batch", "--port", "0"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
    yield process, process.stdout.readline().strip()
    process.kill()
    process.wait()
    process.stdout.close()


def test_serve_and_load_test(service, capsys):
    process, url = service
    assert url.startswith("http://127.0.0.1:")
    assert main(["load-test", url, "--rate", "20", "--seconds", "1", "--json"]) == FINE
    found = json.loads(capsys.readouterr().out)
    assert (found["requests"], found["right"], found["wrong"], found["statuses"]) == (20, 20, 0, {"200": 20})
    assert found["p99_ms"]["high"] is None
    assert main(["load-test", url, "--rate", "20", "--seconds", "1"]) == FINE
    assert "20 x 200; 20 right, 0 wrong" in capsys.readouterr().out
    if os.name == "posix":
        process.send_signal(signal.SIGTERM)
        assert process.wait(30) == 0
        assert process.stdout.read() == ""


def test_a_service_that_answers_nothing_fails_the_gate(capsys):
    with http_service(lambda *_: (200, b'{"label": null}')) as url:
        assert main(["load-test", url, "--rate", "20", "--seconds", "0.5"]) == GATE_FAILED
    assert "0 right, 10 wrong" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["serve", "--policy", "magic"], "There is no policy 'magic'."),
        (["serve", "--port", "70000"], "'70000' is no port"),
        (["serve", "--port", "-1"], "'-1' is no port"),
        (["serve", "--max-batch", "0"], "'0' is no whole number above 0"),
        (["serve", "--host", "no.such.host.invalid"], "can't listen on no.such.host.invalid"),
        (["load-test", "127.0.0.1:8000"], "is no address of a service"),
        (["load-test", "http://127.0.0.1:9"], "Nothing answers at http://127.0.0.1:9"),
        (["load-test", "http://127.0.0.1:9", "--rate", "0"], "'0' is no number above 0"),
        (["load-test", "http://127.0.0.1:9", "--rate", "nan"], "'nan' is no number above 0"),
        (["load-test", "http://127.0.0.1:9", "--rate", "0.1", "--seconds", "1"], "nothing arrives"),
        (["load-test"], "URL"),
    ],
)
def test_mistakes_are_one_line(arguments, says, capsys):
    assert main(arguments) == BAD_INPUT
    (line,) = capsys.readouterr().err.splitlines()
    assert says in line
