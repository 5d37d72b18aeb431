import json
import math
from collections import Counter

import numpy as np
import pytest
import torch

from labs_lib import compare as compare_function
from labs_lib.compare import Comparison
from labs_lib.equality import Difference
from labs_lib.errors import LabError
from labs_lib.ledger import Ledger
from labs_lib.timing import Timing

X = np.ones((32, 1024), np.float32)


def quick(naive, optimised, *inputs, **options):
    return compare_function(naive, optimised, *inputs, budget_s=0.05, progress=False, **options)


def test_the_same_answer_within_rounding():
    result = quick(lambda x: x.sum(0), lambda x: x.sum(0) * (1 + 1e-7), X)
    assert result.same
    assert result.rtol == 32 * np.finfo(np.float32).eps


def test_another_answer_is_said_first():
    result = quick(lambda x: x, lambda x: x * 1.01, X)
    assert not result.same
    assert str(result).startswith("THE ANSWER DIFFERS")


def test_a_tolerance_of_your_own():
    assert quick(lambda x: x, lambda x: x * 1.01, X, rtol=0.02).same


def test_the_answer_checked_is_the_one_that_was_timed():
    """A function that answers right only once, before the timing, is found out."""
    calls = iter(range(10_000_000))
    assert not quick(lambda x: x + 1, lambda x: x + (1 if next(calls) == 0 else 2), X).same


def test_whoever_answers_in_fewer_bits_is_allowed_no_more():
    """Else the tolerance would be the cheat's own: 32 epsilons of bfloat16 are 25 %."""
    x = torch.linspace(0, 1, 1000)
    assert not quick(lambda x: x, lambda x: x.bfloat16(), x).same
    assert quick(lambda x: x.bfloat16(), lambda x: x, x).rtol == 0.25
    assert quick(lambda x: x.tolist(), lambda x: x * (1 + 2e-7), x).same  # Python's floats of float32 inputs
    assert quick(lambda x: len(x), lambda x: len(x), x).rtol == 0


def remembers(x, answers={}):  # noqa: B006
    return answers.setdefault(id(x), x + 1)


def drawing(shape=(32, 1024)):
    """A function that writes new values into the same array, as a loader with a buffer does."""
    rng, x = np.random.default_rng(0), np.empty(shape)

    def draw():
        rng.random(out=x)
        return (x,)

    return draw


def test_fresh_inputs_find_a_remembered_answer():
    assert quick(lambda x: x + 1, remembers, X).same
    assert not quick(lambda x: x + 1, remembers, fresh=drawing()).same


def test_fresh_inputs_are_new_in_each_sample_so_that_no_memory_of_contents_helps():
    seen = Counter()

    def optimised(x):
        seen[x.tobytes()] += 1
        return np.sort(x, axis=None)

    result = quick(lambda x: np.sort(x, axis=None), optimised, fresh=drawing())
    assert result.same
    assert len(seen) >= result.timing.rounds
    assert sorted(seen.values())[-2:] <= [1, 2]  # once in its round; the last inputs once more, and those of the ledger


def test_with_fresh_inputs_the_answer_of_each_round_is_compared():
    """A function that is right in most rounds, the last among them, is found out."""
    calls = iter(range(10_000_000))
    assert not quick(lambda x: x + 1, lambda x: x + (2 if next(calls) == 3 else 1), fresh=drawing()).same


def test_fresh_inputs_may_not_be_changed_either():
    with pytest.raises(LabError, match="changes its inputs"):
        quick(lambda x: x + 1, lambda x: np.add(x, 1, out=x), fresh=drawing())


def test_inputs_and_a_function_that_makes_them_are_too_much():
    with pytest.raises(LabError, match="a function that makes them"):
        quick(len, len, "", fresh=lambda: ("",))


def test_fresh_makes_a_tuple():
    with pytest.raises(LabError, match="an object of type ndarray"):
        quick(np.sum, np.sum, fresh=lambda: X)


def test_more_cores_than_threads_are_told():
    """CPU seconds beyond those that passed can only come from more threads, however busy the machine is."""
    crowded = invented(cores=(1.0, 1.9))
    assert str(crowded).endswith("Naive kept 1.0 and optimised 1.9 cores busy, where 1 thread was asked for.")
    assert ("measured", "cores busy", "1.0", "1.9") in crowded.table()
    assert "busy" not in str(invented(cores=(0.7, 1.1)))
    assert not any("cores busy" in row for row in invented(cores=(0.7, 1.1)).table())


def test_changing_the_inputs_is_refused():
    with pytest.raises(LabError, match="changes its inputs"):
        quick(lambda x: x + 1, lambda x: np.add(x, 1, out=x), X.copy())


@pytest.mark.parametrize("options", [{"budget_s": 0}, {"budget_s": -1}, {"threads": 0}])
def test_bad_options(options):
    with pytest.raises(LabError, match="can't be used"):
        compare_function(len, len, "", progress=False, **options)


def test_both_ledgers_are_there():
    naive, optimised = quick(lambda x: x + x, lambda x: np.add(x, x, out=BUFFER), X).ledger
    assert (naive.bytes_allocated, optimised.bytes_allocated) == (X.nbytes, 0)


BUFFER = np.empty_like(X)


def invented(low=1.1, high=1.3, floor=1.02, relative=0.0, rounds=20, cores=(1.0, 1.0)):
    ledgers = Ledger(3, 3072, 2048, 0, 0), Ledger(0, 0, 0, 0, 0)
    timing = Timing(1.2, low, high, floor, rounds, 1.2e-3, 1e-3, (None, None), cores=cores)
    return Comparison(timing, ledgers, Difference(relative, 1e-7), 1e-6, 1)


def test_the_sentence_holds_answer_ratio_interval_and_floor():
    assert str(invented()) == (
        "The answer is the same (largest difference 0.0e+00 of the largest value, allowed 1.0e-06); the optimised "
        "version is faster (1.20x, 95 % interval 1.10 to 1.30; this machine cannot tell A from A within 2.0 %)."
    )
    assert "indistinguishable" in str(invented(floor=1.15))
    assert "too few for an interval" in str(invented(0, math.inf, math.inf, rounds=3))


def test_the_table_labels_each_number():
    kinds = {kind for kind, *_ in invented().table()}
    assert kinds == {"counted", "measured"}
    assert ("counted", "bytes allocated", "3,072", "0") in invented().table()
    assert ("measured", "time per call (1 thread)", "1.2 ms", "1 ms") in invented().table()


@pytest.mark.parametrize(("low", "high", "floor"), [(1.1, 1.3, 1.02), (0, math.inf, math.inf), (1.19, 1.21, 5)])
def test_the_picture_can_always_be_drawn(low, high, floor):
    picture = invented(low, high, floor).picture()
    assert picture.png.startswith(b"\x89PNG")
    assert picture.says == str(invented(low, high, floor))


def test_as_dict_is_json():
    assert json.loads(json.dumps(invented().as_dict()))["verdict"] == "faster"
