import json
import os
import threading

import numpy as np
import pytest

from labs_lib.errors import LabError
from labs_lib.static_memory import analysis
from labs_lib.static_memory.analysis import MAX_VALUES, analyze, parse_values, read_values, tiled


@pytest.fixture(scope="module")
def result():
    return analyze([1.0, 0.5], features=256, batch=64, budget_kib=100, budget_s=0.2, progress=False)


def test_the_answers_agree_within_a_tolerance_from_the_length_of_the_sums(result):
    assert result.comparison.same
    assert result.comparison.rtol == 256 * np.finfo(np.float32).eps


def test_memory_is_counted_with_and_without_set_up(result):
    value = 64 * 256 * 4
    assert result.lower_bound == result.arena == 2 * value
    assert 8 * value <= result.keeping < 9 * value  # 3 products, 3 sums, 2 maxima
    assert 2 * value <= result.naive < 3 * value
    assert result.arena <= result.with_setup < 3 * value
    assert result.without_setup < value  # NumPy's buffer for the broadcast bias, at most 8192 elements
    assert result.comparison.ledger[0].allocations == 8
    assert result.comparison.ledger[1].allocations == 0
    assert result.weights == 3 * (256 * 256 + 256) * 4


def test_the_budget_is_held_against_the_peak_with_set_up(result):
    assert not result.within_budget
    tight = analyze([1.0], features=8, batch=1, budget_kib=100, budget_s=0.05, progress=False)
    assert tight.without_setup < tight.with_setup < 100 * 1024
    assert tight.within_budget
    assert "within the budget of 100 KiB" in str(tight)
    assert "ABOVE the budget of 100 KiB" in str(result)


def test_text_and_json_say_what_each_number_is(result):
    text = str(result)
    assert "arena, with set-up" in text
    assert "arena, without set-up" in text
    assert (text.count("(counted)"), text.count("(measured)")) == (3, 4)
    data = json.loads(json.dumps(result.as_dict(), allow_nan=False))
    assert data["peak_bytes"]["arena_with_setup"] == result.with_setup
    assert data["comparison"]["ratio"] == result.comparison.ratio
    assert data["within_budget"] is False


def test_an_interval_without_an_end_is_none_in_json():
    once = analyze([1.0], features=512, batch=64, budget_s=1e-9, progress=False)
    assert json.loads(json.dumps(once.as_dict(), allow_nan=False))["comparison"]["high"] is None


def test_values_are_repeated_until_they_fill_the_batch():
    np.testing.assert_array_equal(tiled([1, 2, 3], 2, 4), [[1, 2, 3, 1], [2, 3, 1, 2]])
    np.testing.assert_array_equal(tiled(np.arange(8.0).reshape(2, 4), 2, 4), np.arange(8).reshape(2, 4))
    assert tiled([1], 2, 4).dtype == np.float32


@pytest.mark.parametrize(
    ("values", "options", "message"),
    [
        ([], {}, "There are 0 values"),
        (range(9), {}, r"There are 9 values\.\nThe input holds from 1 to 2 x 4 = 8"),
        ([1, np.nan], {}, "Value 2 is nan"),
        ([-np.inf], {}, "Value 1 is -inf"),
        ([1e39], {}, r"Value 1 is 1e\+39"),
        ([3e38], {}, "overflows float32"),
        ([1], {"batch": 0}, "batch of 0"),
        ([1], {"features": 0}, "0 features"),
        ([1], {"layers": -1}, "-1 layers"),
        ([1], {"features": 20_000}, "GiB"),
        ([1], {"batch": 10**9}, "GiB"),
    ],
)
def test_values_and_sizes_that_cannot_be_used(values, options, message):
    with pytest.raises(LabError, match=message):
        analyze(values, **{"features": 4, "batch": 2, "progress": False, **options})


@pytest.mark.parametrize(
    ("text", "values"),
    [
        ("1.0,0.5", [1, 0.5]),
        (" -1 , 2e3\n", [-1, 2000]),
        ("1,2\r\n3,4\r\n", [1, 2, 3, 4]),
        ("\n1\n\n2\n", [1, 2]),
    ],
)
def test_numbers_in_lines_of_equal_length(text, values):
    assert parse_values(text).tolist() == values


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "no values in --input"),
        (" \n\n", "no values in --input"),
        ("1,two", "Value 2 in line 1 of --input can't be used.\n'two' is not a number"),
        ("1,,2", "Value 2 in line 1 of .*\nIt is empty"),
        ("1,2,", "Value 3 in line 1 of .*\nIt is empty"),
        ("1\nnan", "Value 1 in line 2 of .*\n'nan' is not finite"),
        ("-inf", "'-inf' is not finite"),
        ("1e999", "'1e999' is not finite"),
        ("1_000", "'1_000' is not a number"),
        ("1 2", "'1 2' is not a number"),
        ("1,2\n3\n", "Line 2 of --input has 1 values, the first line has 2"),
        ("x" * 500, "'x{30}' is not a number"),
    ],
)
def test_text_that_is_no_numbers(text, message):
    with pytest.raises(LabError, match=message):
        parse_values(text, "--input")


def test_a_file_is_read_as_text(tmp_path):
    file = tmp_path / "data.csv"
    file.write_bytes(b"\xef\xbb\xbf1,2\n3,4\n")
    assert read_values(file).tolist() == [1, 2, 3, 4]


def test_files_that_cannot_be_read(tmp_path):
    garbage = tmp_path / "data.bin"
    garbage.write_bytes(b"1,\xff\xfe\x00")
    for path, message in (
        (tmp_path / "missing.csv", "missing.csv: No such file"),
        (tmp_path, "directory"),
        (garbage, "data.bin is no text file.\nByte 3"),
    ):
        with pytest.raises(LabError, match=message):
            read_values(path)


def test_ten_million_values_are_refused_before_they_become_objects(tmp_path, monkeypatch):
    monkeypatch.setattr(analysis, "_number", None)
    for data in (b"1," * 10**7, b"1\n" * 10**7):
        (tmp_path / "big.csv").write_bytes(data)
        with pytest.raises(LabError, match=f"The limit is {MAX_VALUES:,} values and 32 MB"):
            read_values(tmp_path / "big.csv")


def test_the_limit_itself_is_allowed_and_the_size_is_limited(tmp_path, monkeypatch):
    monkeypatch.setattr(analysis, "MAX_VALUES", 3)
    assert parse_values("1,2,3").tolist() == parse_values("1\n2\n3\n").tolist() == [1, 2, 3]
    with pytest.raises(LabError, match="too many"):
        parse_values("1\n2\n3\n4\n")
    monkeypatch.setattr(analysis, "MAX_BYTES", 8)
    (tmp_path / "long.csv").write_text("1.0000000")
    with pytest.raises(LabError, match=r"too many values in .*long.csv"):
        read_values(tmp_path / "long.csv")


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="there are no named pipes here")
def test_an_endless_pipe_is_cut_off(tmp_path, monkeypatch):
    monkeypatch.setattr(analysis, "MAX_BYTES", 1000)
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)

    def feed():
        with open(pipe, "wb", buffering=0) as file:
            try:
                while True:
                    file.write(b"1,")
            except BrokenPipeError:
                return

    writer = threading.Thread(target=feed)
    writer.start()
    with pytest.raises(LabError, match="too many"):
        read_values(pipe)
    writer.join(timeout=10)
    assert not writer.is_alive()
