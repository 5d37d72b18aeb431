"""The load generator against small services whose behaviour is known exactly."""

import asyncio
import itertools
import json
import math
import random
import threading
import time
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from labs_lib import serving
from labs_lib.errors import LabError
from labs_lib.serving.load import NO_ANSWER, TIMEOUT, targets

FILES, LABELS = [b"zero", b"one", b"two"], [0, 1, 2]


@contextmanager
def service(answer):
    """A service on a free port; `answer(number, body)` gives (status, JSON bytes) or None to hang up."""
    numbers = itertools.count()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self):
            body = self.rfile.read(int(self.headers["Content-Length"]))
            answered = answer(next(numbers), body)
            if answered is None:
                self.close_connection = True
                return
            self.send_response(answered[0])
            self.send_header("Content-Length", str(len(answered[1])))
            self.end_headers()
            self.wfile.write(answered[1])

        def log_message(self, *_):
            pass

    class Server(ThreadingHTTPServer):
        request_queue_size = 128

    server = Server(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()


def label_of(body):
    return next(label for label, file in enumerate(FILES) if b"\r\n\r\n" + file + b"\r\n" in body)


def right(number, body):
    return 200, json.dumps({"label": label_of(body)}).encode()


def load(url, **settings):
    return serving.load_test(url, **{"rate": 100, "seconds": 0.3, "files": FILES, "answers": LABELS} | settings)


def test_every_request_is_sent_once_and_counted():
    with service(right) as url:
        result = load(url)
    assert (len(result.outcomes), result.right, result.wrong, result.statuses) == (30, 30, 0, {200: 30})
    assert all(outcome.intended <= outcome.sent <= outcome.done for outcome in result.outcomes)
    assert result.goodput() == pytest.approx(30 / result.seconds)
    assert result.goodput(deadline_ms=0) == 0


def test_an_answer_for_another_is_wrong():
    with service(lambda number, body: (200, json.dumps({"label": (label_of(body) + 1) % 3}).encode())) as url:
        result = load(url)
    assert (result.right, result.wrong) == (0, 30)
    assert math.isnan(result.p99.value)
    assert result.goodput() == 0


@pytest.mark.parametrize("body", [b"", b"[]", b"{}", b"null", b'{"label": null}', b"\xff"])
def test_an_answer_without_a_label_is_wrong(body):
    with service(lambda *_: (200, body)) as url:
        assert load(url).wrong == 30


def test_refusals_are_neither_right_nor_fast():
    """A refusal comes at once. It must not lower the latency."""
    with service(lambda number, body: (503, b"{}") if number % 2 else right(number, body)) as url:
        result = load(url)
    assert result.statuses == {200: result.right, 503: 30 - result.right}
    assert len(result.latencies_ms) == result.right


def test_what_hangs_up_and_what_is_too_slow():
    with service(lambda number, body: None if number >= 3 else right(number, body)) as url:
        assert load(url).statuses == {NO_ANSWER: 30}
    with service(lambda number, body: time.sleep(1) if number == 10 else right(number, body)) as url:
        assert load(url, timeout_s=0.5).statuses[TIMEOUT] == 1


@pytest.mark.timing
def test_an_open_loop_charges_a_stall_to_all_who_came_and_a_closed_one_to_one():
    """The service stops for 0.3 s once. Of 150 a second some 45 arrive meanwhile; of one client, one."""
    stall = threading.Lock()

    def answer(number, body):
        if number == 20:
            with stall:
                time.sleep(0.3)
        with stall:
            return right(number, body)

    with service(answer) as url:
        opened = load(url, rate=150, seconds=1)
    with service(answer) as url:
        closed = serving.closed_loop(url, clients=1, seconds=1, files=FILES, answers=LABELS)
    slow = [sum(latency > 100 for latency in result.latencies_ms) for result in (opened, closed)]
    assert slow[0] >= 15
    assert 1 <= slow[1] <= 3  # a busy machine may add its own
    assert closed.right == len(closed.outcomes)


def test_it_runs_where_a_loop_runs_already():
    async def cell():
        with service(right) as url:
            return load(url)

    assert asyncio.run(cell()).right == 30


def test_targets_have_labels_of_their_own():
    labels = [label for _, label in targets()]
    assert len(labels) == 15 == len(set(labels))
    model = serving.small_vit()
    assert serving.right_answers(model, [file for file, _ in targets()]) == labels


@pytest.mark.parametrize(
    ("url", "message"),
    [
        ("127.0.0.1:8000", "is no address of a service"),
        ("ftp://127.0.0.1", "is no address of a service"),
        ("http://127.0.0.1:99999", "is no address of a service"),
        (None, "is no address of a service"),
        ("http://127.0.0.1:9", "Nothing answers at http://127.0.0.1:9/classify"),
    ],
)
def test_a_wrong_address(url, message):
    with pytest.raises(LabError, match=message):
        load(url)


@pytest.mark.parametrize("value", [0, -1, math.nan, math.inf, "5", None])
@pytest.mark.parametrize("name", ["rate", "seconds", "timeout_s"])
def test_what_is_no_number_above_0(name, value):
    with pytest.raises(LabError, match=f"{name} is "):
        load("http://127.0.0.1:9", **{name: value})


def test_what_fits_together_badly():
    with pytest.raises(LabError, match="1 files and 2 answers"):
        load("http://127.0.0.1:9", files=FILES[:1], answers=[0, 1])
    with pytest.raises(LabError, match="0 files"):
        load("http://127.0.0.1:9", files=[], answers=[])
    with pytest.raises(LabError, match=r"clients is 1\.5"):
        serving.closed_loop("http://127.0.0.1:9", clients=1.5, seconds=1)


def test_the_interval_holds_the_true_percentile_as_often_as_it_says():
    draws = random.Random(0)
    held = 0
    for _ in range(400):
        interval = serving.percentile_interval(sorted(draws.random() for _ in range(400)), 95)
        held += interval.low <= 0.95 <= interval.high
    assert 0.93 <= held / 400 <= 0.99


def test_few_values_bound_no_p99():
    assert serving.percentile_interval(range(367), 99).high == math.inf
    assert serving.percentile_interval(range(368), 99).high == 367
    assert serving.percentile_interval([], 50).low == -math.inf


def test_goodput_is_never_more_than_what_was_offered():
    """The last answer can come before the time is up that the requests were spread over."""
    early = serving.Outcome(intended=0.1, sent=0.1, done=0.2, status=200, right=True)
    assert serving.LoadResult(rate=2, outcomes=(early, early)).goodput() == 2
