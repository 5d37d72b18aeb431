"""The limits of the machine and their file; the least time of a layer under limits that are given."""

import json
import os
from collections import Counter

import pytest
import torch

from labs_lib import roofline, roofline_file
from labs_lib.errors import LabError
from labs_lib.inference_bench.layers import Layer, count_layers
from labs_lib.inference_bench.least import least, least_of_model, limits_for
from labs_lib.inference_bench.profile import TimedLayer
from labs_lib.roofline import Rate, Roof, roof
from labs_lib.timing import Interval


@pytest.fixture(scope="module")
def here():
    return roofline.measure(1, "cpu", 0.01)


@pytest.fixture
def measured(monkeypatch, limits):
    """How often the machine was measured; it gives the limits of the tests."""
    times = []
    monkeypatch.setattr(roofline, "measure", lambda *args: times.append(args) or limits)
    return times


def test_this_machine_is_measured(here):
    assert "float32" in here.peaks
    assert list(here.bandwidths) == roofline.WORKING_SETS["cpu"]
    assert all(0 < rate.low <= rate.best for rate in [*here.peaks.values(), *here.bandwidths.values()])
    assert 0 < here.call_s < 1
    assert "float32 products" in str(here)
    assert "1 thread (measured" in str(here)


def test_int8_without_units_has_no_roof(monkeypatch):
    monkeypatch.setitem(roofline.PRODUCTS, "int8", lambda a, b: [torch.mm(a.float(), b.float()) for _ in range(4)])
    monkeypatch.setitem(roofline.WORKING_SETS, "cpu", [2**18])
    found = roofline.measure(1, "cpu", 0.01)
    assert "int8" not in found.peaks
    assert any("int8" in note for note in found.notes)


def test_a_product_that_this_build_lacks_is_left_out_and_said(monkeypatch):
    def fail(a, b):
        raise NotImplementedError("no kernel")

    monkeypatch.setitem(roofline.PRODUCTS, "bfloat16", fail)
    monkeypatch.setitem(roofline.WORKING_SETS, "cpu", [2**18])
    found = roofline.measure(1, "cpu", 0.01)
    assert "bfloat16" not in found.peaks
    assert "bfloat16 products: no kernel" in found.notes


def test_a_busy_machine_is_said(monkeypatch):
    turns = iter(range(10**9))
    monkeypatch.setattr(roofline, "_seconds", lambda run, calls=1: 0.01 if next(turns) % 3 else 0.1)
    monkeypatch.setitem(roofline.WORKING_SETS, "cpu", [2**18])
    assert any("bands are wide" in note for note in roofline.measure(1, "cpu", 0.0).notes)
    monkeypatch.setattr(roofline, "_seconds", lambda run, calls=1: 0.01)
    assert not any("bands are wide" in note for note in roofline.measure(1, "cpu", 0.0).notes)


def test_measured_once_and_then_read(measured, own_cache):
    first, second = roof(), roof()
    assert len(measured) == 1
    assert first == second
    assert second.notes == ()
    (file,) = own_cache.iterdir()
    assert json.loads(file.read_text())["threads"] == 1
    roof(fresh=True)
    assert len(measured) == 2


def test_another_preset_or_number_of_threads_is_another_file(measured, own_cache, monkeypatch):
    monkeypatch.setattr(roofline, "usable_cores", lambda: 2)
    roof()
    roof(2)
    monkeypatch.setenv("LABS_PRESET", "lab")
    roof()
    assert len(measured) == len(list(own_cache.iterdir())) == 3
    assert [args[2] for args in measured] == [2.0, 2.0, 9.0]


@pytest.mark.parametrize(
    "content",
    ["", "{", "[]", "null", '{"peaks": 3}', "\x00\xff", "[" * 10**5, '{"peaks": {}, "bandwidths": {}}', "x" * 2**21],
)
def test_a_damaged_file_is_measured_anew_and_said(measured, own_cache, content):
    good = roof()
    (file,) = own_cache.iterdir()
    file.write_text(content)
    found = roof()
    assert len(measured) == 2
    assert "measured anew" in found.notes[0]
    assert found.peaks == good.peaks
    assert roof().notes == ()
    assert len(measured) == 2


@pytest.mark.parametrize(
    "change",
    [
        {"peaks": {"float32": [2, 1]}},
        {"peaks": {"float32": [-1, 1]}},
        {"bandwidths": {"many": [1, 2]}},
        {"bandwidths": {}},
        {"threads": 7},
        {"call_s": "fast"},
        {"notes": None},
    ],
)
def test_a_file_with_impossible_numbers_is_measured_anew(measured, own_cache, change):
    roof()
    (file,) = own_cache.iterdir()
    file.write_text(json.dumps(json.loads(file.read_text()) | change))
    assert "no measurement of a machine" in roof().notes[0]
    assert len(measured) == 2


def test_a_folder_that_cannot_be_written_is_said(measured, tmp_path, monkeypatch):
    (tmp_path / "a file").write_text("")
    monkeypatch.setenv("LABS_CACHE", str(tmp_path / "a file" / "below"))
    found = roof()
    assert len(measured) == 1
    assert "can't be written" in found.notes[-1]


def test_the_file_is_whole_or_as_it_was(own_cache, monkeypatch):
    path = own_cache / "roof.json"
    assert roofline_file.write(path, {"a": 1}) == ""

    def fail(*args):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "replace", fail)
    assert "No space left" in roofline_file.write(path, {"a": 2})
    assert roofline_file.read(path) == ({"a": 1}, "")


def test_the_cache_folder_follows_the_system(monkeypatch, tmp_path):
    monkeypatch.delenv("LABS_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setattr("sys.platform", "linux")
    assert roofline_file.folder() == tmp_path / "labs_lib"
    monkeypatch.setenv("XDG_CACHE_HOME", "relative")
    assert roofline_file.folder().is_absolute()


@pytest.mark.parametrize("threads", [0, -1, 10**6, 1.5, "2", True])
def test_threads_that_are_not_there(threads):
    with pytest.raises(LabError, match="threads can't be measured"):
        roof(threads)


@pytest.mark.parametrize("device", ["tpu", "", "cuda:0"])
def test_devices_that_are_not_there(device):
    with pytest.raises(LabError, match="no device"):
        roof(1, device)


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_no_gpu():
    with pytest.raises(LabError, match="not available here"):
        roof(1, "cuda")


def test_bandwidth_between_measured_sizes(limits):
    assert limits.bandwidth(1) == limits.bandwidth(2**18) == limits.nearest_cache == Rate(80e9, 100e9)
    assert limits.bandwidth(2**40) == limits.memory == Rate(8e9, 10e9)
    middle = limits.bandwidth(2**23)
    assert middle.best == pytest.approx(100e9 * 10**-0.5)
    assert middle.low == pytest.approx(80e9 * 10**-0.5)


def test_json_and_back(limits):
    assert roofline._from_dict(json.loads(json.dumps(limits.as_dict())), "cpu", 1) == limits


def a_layer(**counts):
    return Layer("a", "A", calls=1, operators=counts.pop("operators", 1), **counts)


def test_computing_is_the_limit(limits):
    found = least(a_layer(flops=10**9, flops_by_dtype=Counter(float32=10**9), other_bytes=1000), 0, limits)
    assert (found.limit, found.computing, found.low) == ("computing", 1e-3, 1e-3)
    assert found.high == pytest.approx(1e-3 / 0.8)


def test_each_dtype_has_its_peak(limits):
    both = Counter(float32=10**9, bfloat16=10**9)
    assert least(a_layer(flops=2 * 10**9, flops_by_dtype=both), 0, limits).computing == pytest.approx(1.5e-3)
    found = least(a_layer(flops=10**9, flops_by_dtype=Counter(float64=10**9), uncounted={"lstm"}), 0, limits)
    assert (found.computing, found.missing) == (0, ("float64", "lstm"))


def test_weights_come_from_where_all_weights_fit(limits):
    layer = a_layer(weight_bytes=10**6, other_bytes=10**5)
    in_cache, in_memory = (least(layer, weights, limits) for weights in (10**5, 10**9))
    assert in_cache.memory == pytest.approx(1.1e6 / 100e9)
    assert in_memory.memory == pytest.approx(1e6 / 10e9 + 1e5 / 100e9)
    assert in_memory.limit == "memory"


def test_calls_are_the_limit_of_small_work(limits):
    found = least(a_layer(operators=5, other_bytes=1000), 0, limits)
    assert (found.limit, found.calling) == ("calls", pytest.approx(5e-6))


def test_a_layer_far_below_its_roof_is_unexplained(limits):
    layer = a_layer(flops=10**9, flops_by_dtype=Counter(float32=10**9))

    def timed(seconds):
        return TimedLayer(layer, seconds, Interval(seconds, seconds, seconds), least(layer, 0, limits))

    assert timed(2e-3).limit == "computing"
    assert timed(2e-3).reached == pytest.approx((0.5, 0.625))
    assert timed(0.1).limit == "unexplained"


def test_the_least_time_of_a_model_is_the_sum(limits):
    model = torch.nn.Sequential(torch.nn.Linear(512, 512), torch.nn.ReLU())
    counts = count_layers(model, torch.ones(64, 512))
    low, high = least_of_model(counts, limits)
    weights = 4 * (512 * 512 + 512)
    assert counts.weights == weights
    linear = max(2 * 64 * 512 * 512 / 1e12, weights / limits.bandwidth(weights).best + 4 * 2 * 64 * 512 / 100e9)
    assert low == pytest.approx(linear + 4 * 2 * 64 * 512 / 100e9)
    assert low < high <= low / 0.8 * 1.0001


def test_limits_of_another_device_or_number_of_threads(limits):
    assert limits_for("cpu", limits, None) is limits_for("cpu", limits, 1) is limits
    for device, threads in (("cuda", None), ("cpu", 2)):
        with pytest.raises(LabError, match="limits are of cpu with 1 threads"):
            limits_for(device, limits, threads)


def test_without_limits_those_of_this_machine(measured):
    assert limits_for("cpu", None, None).peaks == limits_for("cpu", None, 1).peaks
    assert measured == [(1, "cpu", 2.0)]


@pytest.mark.timing
def test_a_large_product_comes_near_its_roof(here):
    """A ratio with ample room: 0.9 and more was seen."""
    a = torch.ones(1024, 1024)
    with torch.inference_mode():
        seconds = roofline.fastest(lambda: torch.mm(a, a))
    assert 0.45 < 2 * 1024**3 / here.peaks["float32"].best / seconds < 2.2


def test_limits_is_a_roof_of_two_numbers():
    found = Roof("cpu", 1, {"float32": Rate(1, 2)}, {1: Rate(1, 1)}, 1e-6, "")
    assert found.peak("float32") == Rate(1, 2)
    assert found.peak("int8") is None
    assert found.bandwidth(100) == found.memory == found.nearest_cache
