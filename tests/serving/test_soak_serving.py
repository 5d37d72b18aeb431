"""The soak with faults, for some seconds; and that what it looks for is found where it is planted."""

import asyncio
from collections import Counter
from types import SimpleNamespace

import pytest

from tools.faulty_requests import CORRUPT, GOOD, RAISES, SHARES, Request, requests
from tools.soak_serving import GROWTH_MIB, Report, Service, soak


def test_some_hundred_requests_with_faults_and_a_stop_in_the_middle():
    report = asyncio.run(soak(300, clients=44, seed=3))
    assert report.faults == []
    assert report.finished == Counter(request.kind for request in requests(300, seed=3))
    assert set(report.finished) == set(SHARES)
    assert len(report.services) == 2
    assert all(service.received[200] for service in report.services)


def entry(status, size=180):
    return {"event": "request", "status": status, "bytes": size}


def service(logs, received, left=0, other=(), memory=()):
    return Service(SimpleNamespace(logs=logs, other=other), Counter(received), left, memory=list(memory))


@pytest.mark.parametrize(
    ("logs", "received", "left", "says"),
    [
        ([entry(200), entry(200)], {200: 1}, 0, "2 answers 200 in the log, 1 came"),
        ([entry(200)], {200: 2}, 0, "1 answers 200 in the log, 2 came"),
        ([entry(None)], {}, 1, "begun and not answered"),
        ([entry(499, 181), entry(499, 181)], {}, 1, "2 requests in the log beyond the answers, and 1 clients"),
        ([entry(413, 0)], {422: 1}, 0, "answers 413 in the log, 0 came"),
    ],
)
def test_a_log_that_differs_from_the_answers_is_a_fault(logs, received, left, says):
    assert any(says in fault for fault in service(logs, received, left).faults())


def test_a_traceback_in_the_log_is_a_fault():
    assert "not JSON" in service([], {}, other=["Traceback (most recent call last):\n"]).faults()[0]


def test_a_log_that_agrees_is_none():
    logs = [entry(200), entry(422), entry(413, 70_001), entry(503, 0), entry(200, 181), entry(499, 181)]
    assert service(logs, {200: 1, 422: 1, 413: 1, 503: 1}, left=2).faults() == []


@pytest.mark.parametrize(("kib_each", "faults"), [(0, 0), (1, 1)])
def test_memory_that_grows_is_a_fault(kib_each, faults):
    memory = [(count, (300 << 20) + (kib_each << 10) * count) for count in range(0, 20_000, 100)]
    report = Report(0, services=[service([], {}, memory=memory)])
    report.services[0].received[503] = 20_000
    assert report.services[0].growth_mib() == pytest.approx(kib_each * 9.77, abs=0.2)
    assert sum("memory grows" in fault for fault in _judged(report)) == faults
    assert GROWTH_MIB < 9.77


def _judged(report):
    report.judge()
    return report.faults


def test_a_request_that_has_not_ended_is_a_fault():
    assert "1 of 2 requests" in _judged(Report(2, Counter({GOOD: 1}), services=[service([], {})]))[0]


@pytest.mark.parametrize(
    ("kind", "status", "body", "fits"),
    [
        (GOOD, 200, {"label": 5}, True),
        (GOOD, 200, {"label": 6}, False),
        (GOOD, 500, {"error": "The model failed with ValueError."}, False),
        (RAISES, 500, {"error": "The model failed with ValueError."}, True),
        (RAISES, 500, {"error": "The model failed: secret."}, False),
        (RAISES, 200, {"label": 5}, False),
        (CORRUPT, 422, {"error": "It is corrupt. It is cut short."}, False),
        (CORRUPT, 422, {"error": "The image is corrupt or cut short."}, True),
    ],
)
def test_an_answer_is_judged_by_the_kind_of_its_request(kind, status, body, fits):
    assert Request(0, kind, b"", 5).demands(status, body) == fits
