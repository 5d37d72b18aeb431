"""The benchmark's arithmetic. The runs themselves take minutes: `python -m tools.bench_serving --quick`."""

from labs_lib.serving import LoadResult, Outcome
from tools import bench_serving


def result(latencies_ms, seconds=10.0):
    outcomes = [Outcome(0.0, 0.0, latency / 1000, 200, True) for latency in latencies_ms]
    return LoadResult(1.0, (*outcomes, Outcome(0.0, 0.0, seconds, "timed out", False)))


def test_a_ratio_is_the_median_over_rounds_and_counts_what_is_in_time():
    ours, others = [result([10, 20, 30, 40])] * 6, [result([10, 20, 300, 400])] * 6
    assert bench_serving.ratio(ours, others) == "1.00 [1.00, 1.00]"
    assert bench_serving.ratio(ours, others, 250) == "2.00 [2.00, 2.00]"
    assert bench_serving.ratio(ours[:5], others[:5]) == "1.00 [-inf, inf]"


def test_each_runs_once_a_round():
    ran = []

    def run(name):
        ran.append(name)
        return result([1])

    found = bench_serving.rounds({"a": lambda: run("a"), "b": lambda: run("b")}, 5)
    assert {name: len(results) for name, results in found.items()} == {"a": 5, "b": 5}
    assert all(set(ran[i : i + 2]) == {"a", "b"} for i in range(0, 10, 2))
