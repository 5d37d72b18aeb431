import random

import pytest
from hypothesis import given

from labs_lib.errors import LabError
from labs_lib.static_memory.lifetimes import Buffer, live_bytes, lower_bound, read_csv, sections, verify, write_csv
from labs_lib.static_memory.planners import greedy_by_size, height, keep_all
from tests.static_memory.instances import buffers

TWO = [Buffer("a", 0, 3, 10), Buffer("b", 2, 5, 20)]


def by_steps(some):
    """The bytes alive at each step, counted one step after the other."""
    return [sum(b.size for b in some if b.lower <= step < b.upper) for step in range(20)]


@given(buffers())
def test_the_bound_is_the_fullest_step(some):
    assert lower_bound(some) == max(by_steps(some))
    profile, alive, expected = dict(live_bytes(some)), 0, by_steps(some)
    for step in range(20):
        alive = profile.get(step, alive)
        assert alive == expected[step]


@given(buffers())
def test_sections_keep_who_meets_whom_and_the_bound(some):
    first, last = sections(some)
    assert all(start < end for start, end in zip(first, last, strict=True))
    for i, a in enumerate(some):
        for j, b in enumerate(some):
            meet = a.lower < b.upper and b.lower < a.upper
            assert meet == (first[i] < last[j] and first[j] < last[i])


@pytest.mark.parametrize(("lower", "upper", "size"), [(3, 3, 1), (4, 3, 1), (0, 1, -1)])
def test_impossible_buffers(lower, upper, size):
    with pytest.raises(LabError, match="Buffer a"):
        Buffer("a", lower, upper, size)


@given(buffers())
def test_verify_accepts_valid_plans(some):
    for planner in (keep_all, greedy_by_size):
        offsets = planner(some)
        verify(some, offsets, capacity=height(some, offsets))


@given(buffers(most=6))
def test_verify_agrees_with_looking_at_every_byte_and_step(some):
    rng = random.Random(str(some))
    offsets = [rng.randrange(12) for _ in some]
    seen, clash = set(), False
    for buffer, offset in zip(some, offsets, strict=True):
        cells = {(t, a) for t in range(buffer.lower, buffer.upper) for a in range(offset, offset + buffer.size)}
        clash |= bool(cells & seen)
        seen |= cells
    if clash:
        with pytest.raises(LabError, match="overlap"):
            verify(some, offsets)
    else:
        verify(some, offsets)


@pytest.mark.parametrize(
    ("offsets", "options", "message"),
    [
        ([0, 9], {}, "overlap"),
        ([0, 0], {}, "overlap"),
        ([-1, 20], {}, "starts below"),
        ([0, 10], {"alignment": 4}, "not aligned"),
        ([0, 10], {"capacity": 29}, "29"),
        ([0], {}, "offset"),
        ([0, 10, 40], {}, "offset"),
        ([0, 10.5], {}, "whole number"),
        ([0, None], {}, "whole number"),
    ],
)
def test_verify_refuses(offsets, options, message):
    with pytest.raises(LabError, match=message):
        verify(TWO, offsets, **options)


def test_verify_lets_buffers_touch_in_time_and_in_address():
    verify([*TWO, Buffer("c", 3, 9, 10)], [0, 10, 0], capacity=30)


@given(buffers())
def test_csv_round_trip(some):
    import tempfile
    from pathlib import Path

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "plan.csv")
        write_csv(path, some, keep_all(some))
        if some:
            assert read_csv(path) == some
        assert path.read_text().splitlines()[0] == "id,lower,upper,size,offset"


def test_columns_in_any_order_and_more_of_them(tmp_path):
    path = tmp_path / "a.csv"
    path.write_text("size,note,upper,id,lower\n10,x,3,a,0\n20,y,5,b,2\n")
    assert read_csv(path) == TWO


@pytest.mark.parametrize(
    ("text", "line", "reason"),
    [
        ("", "line 1", "header"),
        ("id,lower,upper\na,0,1\n", "line 1", "size"),
        ("id,lower,upper,size\na,0,1,-4\n", "line 2", "negative"),
        ("id,lower,upper,size\na,0,1,4\nb,5,5,4\n", "line 3", "not above"),
        ("id,lower,upper,size\na,0,1,4\na,0,1,4\n", "line 3", "twice|again|before|already"),
        ("id,lower,upper,size\na,0,1,many\n", "line 2", "many"),
        ("id,lower,upper,size\na,0,1,nan\n", "line 2", "nan"),
        ("id,lower,upper,size\na,0,1,1.5\n", "line 2", "1.5"),
        ("id,lower,upper,size\na,0,1\n", "line 2", "size"),
    ],
)
def test_bad_files_are_told_by_line_and_reason(tmp_path, text, line, reason):
    path = tmp_path / "bad.csv"
    path.write_text(text)
    with pytest.raises(LabError, match=reason) as error:
        read_csv(path)
    assert line in str(error.value)
    assert "bad.csv" in str(error.value)


def test_files_that_cannot_be_read(tmp_path):
    for path in (tmp_path / "missing.csv", tmp_path):
        with pytest.raises(LabError):
            read_csv(path)
    binary = tmp_path / "binary.csv"
    binary.write_bytes(b"\xff\xfe\x00id,lower")
    with pytest.raises(LabError):
        read_csv(binary)


def test_too_many_rows_are_refused(tmp_path, monkeypatch):
    monkeypatch.setitem(read_csv.__globals__, "MAX_BUFFERS", 10)
    path = tmp_path / "long.csv"
    path.write_text("id,lower,upper,size\n" + "".join(f"{i},0,1,1\n" for i in range(11)))
    with pytest.raises(LabError, match="10"):
        read_csv(path)
