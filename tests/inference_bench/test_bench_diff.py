"""Two runs compared: on made-up rounds, where the truth is known."""

import json
import math
import random
from collections import Counter
from itertools import combinations

import pytest

from labs_lib.errors import LabError
from labs_lib.inference_bench.control import FAR, ROWS
from labs_lib.inference_bench.diff import compare_runs
from labs_lib.inference_bench.exports import export, read_run
from labs_lib.inference_bench.noise import _rank, drift, scaled, shift
from labs_lib.inference_bench.results import Result, Round, Run
from labs_lib.inference_bench.rows import Key, header
from tests.inference_bench.test_bench_journal import SETTINGS

INFO = {"note": "", "parameters": 10, "weight_bytes": 40, "input_shape": [3], "dtype": "float32"}
FACTS = dict.fromkeys(("build_seconds", "difference", "tolerance", "peak_bytes", "peak_by", "warm_up_calls"))
FLOPS = 2 * ROWS["cpu"] ** 3  # as the control's product


def result(draws, seconds=0.01, variant="eager", noise=0.03, machine=1.0, memory=1.0, status="ok", rounds=12):
    """Rounds of calls around `seconds`; the machine is `machine` times slower, in its copies `memory` times more."""
    made = []
    for _ in range(rounds if status == "ok" else 0):
        slower = machine * math.exp(draws.gauss(0, 0.1))  # a slow moment falls on the control too
        calls = [seconds * slower * math.exp(abs(draws.gauss(0, noise))) for _ in range(4)]
        calls[0] *= draws.choice([1, 1, 3])  # interrupted
        product = 0.001 * slower * math.exp(draws.gauss(0, noise / 3))
        near, far = (usual * slower * memory for usual in (0.0002, 0.002))
        made.append(Round(tuple(calls), tuple(calls), *((seconds, seconds) for seconds in (product, near, far))))
    key = Key("m", "cpu", variant, 1)
    return Result(key, status, "" if status == "ok" else "a reason", INFO, FACTS, FLOPS, tuple(made))


def run(*results, **changes):
    return Run(header(SETTINGS) | changes, results)


def verdict(a, b):
    (change,) = compare_runs(run(a), run(b)).changes
    return change.verdict


def test_the_same_code_is_never_called_slower_and_a_third_more_always():
    draws = random.Random(0)
    same = Counter(verdict(result(draws), result(draws)) for _ in range(60))
    slower = Counter(verdict(result(draws), result(draws, 0.013)) for _ in range(60))
    faster = Counter(verdict(result(draws, 0.013), result(draws)) for _ in range(60))
    assert (same, slower, faster) == ({"indistinguishable": 60}, {"slower": 60}, {"faster": 60})


def test_a_machine_that_became_slower_is_no_regression():
    draws = random.Random(1)
    found = Counter(verdict(result(draws), result(draws, machine=2.0)) for _ in range(50))
    hidden = Counter(verdict(result(draws, machine=2.0), result(draws, 0.013)) for _ in range(50))
    assert (found, hidden) == ({"indistinguishable": 50}, {"slower": 50})


def test_what_slower_memory_explains_is_not_called():
    """The model's bytes are those of the far copy, which takes as long again as its operations."""
    draws = random.Random(2)
    info = INFO | {"weight_bytes": FAR["cpu"]}
    a, b = (result(draws, seconds, memory=memory) for seconds, memory in ((0.01, 1.0), (0.015, 2.0)))
    a, b = (Result(each.key, "ok", "", info, FACTS, FLOPS, each.rounds) for each in (a, b))
    (change,) = compare_runs(run(a), run(b)).changes
    assert change.verdict == "indistinguishable"
    assert change.low < 1.05
    assert change.high > 1.45


def test_more_work_is_not_taken_for_a_slower_machine():
    """B counts 1.3 times the operations: both are held against the work of A."""
    draws = random.Random(3)
    a, b = result(draws), result(draws, 0.013)
    b = Result(b.key, "ok", "", INFO, FACTS, FLOPS * 13 // 10, b.rounds)
    assert verdict(a, b) == "slower"


def test_less_than_ten_per_cent_is_not_called():
    draws = random.Random(4)
    a, b = (result(draws, seconds, noise=0.0001) for seconds in (0.01, 0.0108))
    (change,) = compare_runs(run(a), run(b)).changes
    assert change.verdict == "indistinguishable"
    assert change.ratio == pytest.approx(1.08, abs=0.01)
    assert change.least == 1.1


def test_a_run_that_drifted_calls_only_more_than_its_drift():
    draws = random.Random(5)
    early, late, after = (result(draws, seconds, rounds=n) for seconds, n in ((0.01, 6), (0.014, 6), (0.0156, 12)))
    a = Result(early.key, "ok", "", INFO, FACTS, FLOPS, early.rounds + late.rounds)
    assert drift(a) == pytest.approx(1.4, abs=0.05)
    assert drift(after) < 1.05
    (change,) = compare_runs(run(a), run(after)).changes
    assert change.least == drift(a)
    assert change.verdict == "indistinguishable"


def test_rounds_that_scatter_are_no_drift():
    """A slow round here and there widens the interval; it does not raise the factor that is called."""
    a, b = (made_of(rounds_of([seconds * n for n in (1, 1.5) * 10])) for seconds in (0.01, 0.02))
    (change,) = compare_runs(run(a), run(b)).changes
    assert (change.least, change.verdict) == (1.1, "slower")


def rounds_of(busy, product=0.001):
    """Rounds with one call of so many seconds each; the control needs always the same, or a list of seconds."""
    products = product if isinstance(product, list) else [product] * len(busy)
    return tuple(
        Round((each,), (each,), (one, one), (one / 5, one / 5), (2 * one, 2 * one))
        for each, one in zip(busy, products, strict=True)
    )


def made_of(rounds):
    return Result(Key("m", "cpu", "eager", 1), "ok", "", INFO, FACTS, FLOPS, rounds)


def test_a_replicate_is_the_fastest_of_rounds_from_all_over_the_run():
    busy = [2.0] * 30
    for place, seconds in ((0, 1.0), (13, 1.1), (29, 1.2)):  # replicates 0, 3 and 9
        busy[place] = seconds
    product = [0.002] * 30
    product[20] = 0.001  # replicate 0: another of its rounds than that of the fastest call
    one = made_of(rounds_of(busy, product))
    found = [math.exp(value) for value in scaled(one.rounds, one)[0]]
    assert found == pytest.approx([1000, 1000, 1000, 550, 1000, 1000, 1000, 1000, 1000, 600])
    assert len(scaled(one.rounds[:4], one)[0]) == 4  # no more replicates than rounds


def disturbed(draws, seconds, neighbours, rounds=100):
    """The time of the code, which a call in six reaches; the others take up to `neighbours` times as long."""
    return made_of(
        rounds_of([seconds * math.exp(draws.choice([0] + [draws.uniform(0, math.log(neighbours))] * 5)
                                      + abs(draws.gauss(0, 0.01))) for _ in range(rounds)])
    )  # fmt: skip


def test_neighbours_that_last_as_long_as_a_run_are_no_slow_down_and_hide_none():
    """The usual call of one run takes 1.6 times that of the other: it is the neighbours', and the fastest is not."""
    draws = random.Random(13)
    calm, loud = 1.1, 2.5
    same = Counter(verdict(disturbed(draws, 0.01, calm), disturbed(draws, 0.01, loud)) for _ in range(40))
    slower = Counter(verdict(disturbed(draws, 0.01, loud), disturbed(draws, 0.013, calm)) for _ in range(40))
    assert (same["slower"], slower["slower"]) == (0, 40)


def test_the_fastest_of_more_rounds_is_no_slow_down():
    """A has five times as many: only as many as B has are compared."""
    draws = random.Random(14)
    pairs = [[[0.01 * math.exp(draws.uniform(0, 1)) for _ in range(n)] for n in (100, 20)] for _ in range(40)]
    changes = [compare_runs(run(made_of(rounds_of(a))), run(made_of(rounds_of(b)))).changes[0] for a, b in pairs]
    assert math.exp(sum(math.log(change.ratio) for change in changes) / 40) == pytest.approx(1, abs=0.05)


def test_the_drift_is_between_the_fastest_of_the_halves():
    busy = [1.5, 1.0, 1.7, 1.2, 1.9, 1.3]
    assert drift(made_of(rounds_of(busy))) == pytest.approx(1.2)
    assert drift(made_of(rounds_of(busy[::-1]))) == pytest.approx(1.2)
    assert drift(made_of(rounds_of([1.0, 1.2], [0.001, 0.0012]))) == pytest.approx(1.0)  # the machine's own
    assert drift(made_of(rounds_of(busy[:1]))) is None


def test_the_more_is_compared_the_more_it_takes():
    draws = random.Random(6)
    many = [(result(draws, variant=f"v{n}"), result(draws, variant=f"v{n}")) for n in range(60)]
    alone = compare_runs(run(many[0][0]), run(many[0][1])).changes[0]
    diff = compare_runs(run(*(a for a, _ in many)), run(*(b for _, b in many)))
    together = diff.changes[0]
    assert together.low < alone.low < alone.ratio < alone.high < together.high
    assert not diff.regressed
    assert "60 indistinguishable" in str(diff)


def test_two_rounds_are_too_few():
    draws = random.Random(7)
    a, b = (result(draws, seconds, rounds=2) for seconds in (0.01, 0.1))
    (change,) = compare_runs(run(a), run(b)).changes
    assert (change.verdict, change.low, change.high) == ("indistinguishable", None, None)
    json.dumps(change.as_dict(), allow_nan=False)
    (one,) = compare_runs(run(result(draws, rounds=1)), run(b)).changes
    assert one.least is None
    assert "too few rounds" in str(compare_runs(run(result(draws, rounds=1)), run(b)))


def test_what_is_not_measured_in_both():
    draws = random.Random(8)
    names = ("wrong", "broken", "large", "mended", "neither", "dropped", "absent")
    status = {
        "wrong": ("ok", "wrong answer"),
        "broken": ("ok", "failed"),
        "large": ("ok", "does not fit"),
        "mended": ("failed", "ok"),
        "neither": ("failed", "failed"),
        "absent": ("ok", "unavailable"),
        "dropped": ("ok", None),
        "new": (None, "ok"),
    }
    a, b = (
        run(*(result(draws, variant=name, status=both[side]) for name, both in status.items() if both[side]))
        for side in (0, 1)
    )
    diff = compare_runs(a, b)
    found = {change.key.variant: (change.verdict, change.reason) for change in diff.changes}
    assert found == {
        "wrong": ("wrong answer", "a reason"),
        "broken": ("fails now", "failed: a reason"),
        "large": ("fails now", "does not fit: a reason"),
        "mended": ("only in one", "A failed: a reason"),
        "neither": ("only in one", "A failed: a reason; B failed: a reason"),
        "absent": ("only in one", "B unavailable: a reason"),
        "dropped": ("only in one", "not in B"),
        "new": ("only in one", "not in A"),
    }
    assert diff.regressed
    assert {*names, "new"} == set(found)
    kept = [each for each in b.results if each.key.variant in ("mended", "neither", "absent", "new")]
    assert not compare_runs(a, run(*kept)).regressed


def test_another_model_under_the_same_name_is_not_compared():
    draws = random.Random(9)
    a, b = result(draws), result(draws, 0.02)
    b = Result(b.key, "ok", "", INFO | {"parameters": 11}, FACTS, FLOPS, b.rounds)
    (change,) = compare_runs(run(a), run(b)).changes
    assert (change.verdict, change.reason) == ("another model", "parameters: 10 in A, 11 in B")


def test_runs_that_cannot_be_compared():
    draws = random.Random(10)
    a = run(result(draws))
    with pytest.raises(LabError, match="no configuration in common"):
        compare_runs(a, run(result(draws, variant="bf16")))
    threads = run(result(draws), settings=a.header["settings"] | {"threads": 4})
    with pytest.raises(LabError, match=r"A ran with 1 thread\(s\) and B with 4"):
        compare_runs(a, threads)
    other = compare_runs(a, run(result(draws), machine={"fingerprint": "x"}, versions={}))
    assert [note.split(" than")[0] for note in other.notes] == [
        "B was measured on another machine",
        "B was measured with other versions of packages",
    ]


def test_a_run_comes_back_from_its_file_as_it_was(tmp_path):
    draws = random.Random(11)
    before = run(result(draws), result(draws, variant="bf16", status="failed"))
    export(before, tmp_path)
    after = read_run(tmp_path / "bench.json")
    assert after.as_dict() == before.as_dict()
    assert str(after) == str(before)
    assert [scaled(one.rounds, one) for one in after.measured] == [scaled(one.rounds, one) for one in before.measured]


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "Can't read"),
        ("[1]", "is no run"),
        ("{}", "is no run"),
        ('{"schema": 2}', "has the schema 2"),
        ('{"schema": 1}', "is no run"),
        ('{"schema": 1, "results": [{}]}', "is no run"),
        ('{"schema": 1, "results": 3}', "is no run"),
        ("\x00\xff", "Can't read"),
    ],
)
def test_files_that_are_no_run(text, says, tmp_path):
    path = tmp_path / "bench.json"
    path.write_text(text, encoding="latin-1")
    with pytest.raises(LabError, match=says):
        read_run(path)


def test_folders_that_are_no_run(tmp_path):
    for path in (tmp_path, tmp_path / "absent", tmp_path / "absent.json"):
        with pytest.raises(LabError, match="There is no run"):
            read_run(path)
    (tmp_path / "rows.jsonl").write_text("")
    with pytest.raises(LabError, match="is no run"):
        read_run(tmp_path)


@pytest.mark.parametrize(("few", "many"), [(1, 1), (2, 5), (4, 4), (5, 6)])
def test_the_ranks_are_those_of_all_orders(few, many):
    """Mann's and Whitney's distribution, by trying every order."""
    wrong = Counter(
        sum(place - before for before, place in enumerate(chosen)) for chosen in combinations(range(few + many), few)
    )
    for confidence in (0.5, 0.8, 0.95, 0.99):
        k = _rank(few, many, confidence)
        tail = [2 * sum(wrong[i] for i in range(n)) / sum(wrong.values()) for n in (k, k + 1)]
        assert tail[0] <= 1 - confidence < tail[1]


def test_the_shift_is_covered_as_often_as_it_says():
    draws = random.Random(12)
    hits = 0
    for _ in range(300):
        a, b = ([draws.expovariate(1) for _ in range(12)] for _ in range(2))
        found = shift(a, [value + 0.5 for value in b], 0.9)
        hits += found.low <= 0.5 <= found.high
    assert 0.87 * 300 <= hits <= 0.95 * 300
