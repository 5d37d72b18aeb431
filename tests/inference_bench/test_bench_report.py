"""The report: one file that needs nothing else, whose text is escaped and whose pictures can be read aloud."""

import json
import random
from dataclasses import replace
from html.parser import HTMLParser

import pytest

from labs_lib.errors import LabError
from labs_lib.inference_bench import report as report_module
from labs_lib.inference_bench.exports import csv_text
from labs_lib.inference_bench.pictures import latency_picture, speed_picture
from labs_lib.inference_bench.report import findings, product_share, write_report
from labs_lib.inference_bench.results import Run, run_of
from labs_lib.inference_bench.rows import header
from tests.inference_bench.test_bench_diff import SETTINGS, result

EVIL = '<script>alert("x")</script>&'


class Page(HTMLParser):
    """Collects tags with their attributes, and the text."""

    def __init__(self, text):
        super().__init__()
        self.tags, self.text = [], ""
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        self.tags.append((tag, dict(attributes)))

    def handle_data(self, data):
        self.text += data


def small_run(model="m", batches=(1, 4)):
    draws = random.Random(0)
    results = []
    for batch in batches:
        for variant, seconds in (("eager", 0.01), ("inference_mode", 0.008), ("int8", 0.002)):
            one = result(draws, seconds * batch, variant)
            facts = {**one.facts, "peak_bytes": None if variant == "int8" else 1024 * batch * int(seconds * 1000)}
            results.append(replace(one, key=replace(one.key, model=model, batch=batch), facts=facts))
    failed = result(draws, variant="bf16", status="failed")
    results.append(replace(failed, key=replace(failed.key, model=model), reason=EVIL))
    return Run(header(SETTINGS), tuple(results))


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.setattr(report_module, "read_run", lambda folder: small_run(EVIL))
    return tmp_path


def test_the_file_needs_nothing_else_and_escapes_what_it_shows(folder):
    written = write_report(folder)
    text = written.path.read_text(encoding="utf-8")
    page = Page(text)
    names = {tag for tag, _ in page.tags}
    assert not names & {"script", "link", "iframe", "a"}
    sources = [attributes["src"] for tag, attributes in page.tags if tag == "img"]
    assert len(sources) == 2
    assert all(source.startswith("data:image/png;base64,") for source in sources)
    assert "http" not in text
    assert "url(" not in text
    assert page.text.count(EVIL) >= 8
    for tag, attributes in page.tags:
        assert tag != "img" or attributes["alt"].endswith("(measured).")
    for sentence in written.sentences:
        assert sentence in page.text


def test_it_says_what_was_not_measured_and_where(folder):
    page = Page(write_report(folder).path.read_text(encoding="utf-8"))
    assert f"{EVIL} bf16 (batch 1): failed: {EVIL}." in page.text
    machine = header(SETTINGS)["machine"]
    assert machine["cpu"] in page.text
    assert "12" in page.text
    assert "1.00x" not in page.text


def test_a_profile_is_added_where_there_is_one(folder):
    layer = {"name": EVIL, "kind": "Linear", "seconds": 0.002, "least_s": [0.001, 0.0015], "limit": "memory"}
    assert "Profile" not in write_report(folder).path.read_text()
    profile = folder / "profile.json"
    profile.write_text(json.dumps({"whole_s": 0.01, "layers": [layer] * 20}))
    page = Page(write_report(folder).path.read_text())
    assert "Profile: the 12 slowest layers" in page.text
    assert "20.0%" in page.text
    assert "1 ms to 1.5 ms" in page.text
    for broken in ("", "[]", "{}", '{"whole_s": 0, "layers": [{}]}', '{"whole_s": 1, "layers": 3}'):
        profile.write_text(broken)
        with pytest.raises(LabError, match="is no profile"):
            write_report(folder)


def test_folders_without_a_run(tmp_path):
    with pytest.raises(LabError, match="There is no folder"):
        write_report(tmp_path / "absent")
    with pytest.raises(LabError, match="There is no run"):
        write_report(tmp_path)
    head = json.dumps(header(SETTINGS))
    row = {"kind": "setup", "model": "m", "device": "cpu", "variant": "eager", "batch": 1, "status": "failed"}
    (tmp_path / "rows.jsonl").write_text(head + "\n" + json.dumps(row | {"reason": "no luck"}) + "\n")
    with pytest.raises(LabError) as caught:
        write_report(tmp_path)
    assert "no luck" in str(caught.value)


def test_sentences_name_the_best_and_what_it_is_compared_with():
    run = small_run()
    says = speed_picture(run, "m").says
    assert "with int8 at batch" in says
    assert "times eager's" in says
    assert "overlap" not in says
    assert "at batch 1 int8 answers soonest" in latency_picture(run, "m").says
    assert "too few to bound it" in latency_picture(run, "m").says
    close = Run(run.header, run.results[:2])  # 10 and 8 ms, and a machine that scatters by 10 %
    assert "though their intervals overlap" in speed_picture(close, "m").says
    alone = Run(run.header, run.results[:1])
    assert speed_picture(alone, "m").says.endswith("with eager at batch 1 (measured).")
    with pytest.raises(LabError, match="Nothing was measured of x on cpu"):
        speed_picture(run, "x")


def test_findings_compare_float32_with_the_product_and_gradients_with_none():
    run = small_run()
    eager, _, int8 = run.results[:3]
    assert product_share(eager) == pytest.approx(0.1, rel=0.2)  # a product's work in 10 ms, of 1 ms
    assert product_share(int8) is None
    assert product_share(replace(eager, flops=0)) is None
    said = " ".join(findings(run.measured))
    assert "inference_mode at batch 1" in said
    assert "the peak is 40.0 KiB where gradients are recorded, 32.0 KiB in inference_mode" in said
    assert "The fastest calls of the first and of the second half of the rounds differ by a factor of" in said


def test_an_interrupted_run_is_reported_as_incomplete():
    rows = []
    for variant, rounds in (("eager", 3), ("bf16", 1)):
        key = {"model": "m", "device": "cpu", "variant": variant, "batch": 1, "status": "ok"}
        rows.append({"kind": "setup", **key, "flops": 8 if variant == "eager" else None, "info": {"note": ""}})
        timing = {name: [0.1, 0.1] for name in ("calls", "busy", "product", "near", "far")}
        rows += [{"kind": "round", **key, "round": number, **timing} for number in range(rounds)]
    run = run_of(header(SETTINGS), rows)
    assert [(one.status, one.flops, len(one.rounds)) for one in run.results] == [("ok", 8, 3), ("incomplete", 8, 1)]
    assert "m bf16 (batch 1): incomplete." in run.notes()


def test_the_table_of_columns_is_the_whole_schema():
    run = small_run()
    lines = csv_text(run).splitlines()
    assert len(lines) == 1 + len(run.results)
    fields = run.as_dict()["results"][0]
    assert set(fields) == {*lines[0].split(","), "rounds"}
    assert fields["p99_seconds_high"] is None  # too few calls
    assert fields["p50_seconds_low"] <= fields["p50_seconds"] <= fields["p50_seconds_high"]
    assert fields["samples_per_second_low"] < fields["samples_per_second"] < fields["samples_per_second_high"]
    assert fields["timed_calls"] == 4 * fields["timed_rounds"] == 48
    json.dumps(run.as_dict(), allow_nan=False)
