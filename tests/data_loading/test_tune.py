"""The race on planted times: it never recommends what is slower. Then real, small searches."""

import random
import warnings

import pytest
from torch.utils.data import DataLoader

from labs_lib.data_loading import Photos, Rows, Setting, tune, write_photos
from labs_lib.data_loading.planted import RemoteStream, remote_without_workers, slow_collate, small_set, tiny_rows
from labs_lib.data_loading.race import MARGIN, race
from labs_lib.data_loading.settings import Epochs, candidates
from labs_lib.errors import LabError
from labs_lib.timing import median_interval


class Planted:
    """Settings with known times, measured with noise on a clock of their own; `noise` is a standard deviation."""

    def __init__(self, times, noise, seed, burst=0.0):
        self.times, self.noise, self.burst, self.now = times, noise, burst, 0.0
        self.rng, self.seed = random.Random(seed), seed

    def measure(self, setting):
        seconds = self.times[setting] * self.rng.lognormvariate(0, self.noise)
        if self.rng.random() < self.burst:
            seconds *= 5  # a neighbour
        self.now += seconds
        return seconds

    def race(self, budget=30.0):
        random.seed(self.seed)  # the order within each round is drawn too: the same race in every run
        names = list(self.times)
        return race(names[0], names[1:], self.measure, lambda: self.now, budget)


@pytest.mark.parametrize("noise", [0.02, 0.2, 0.6])
def test_never_slower_than_the_default(noise):
    """Nothing is better than the default; of 300 searches hardly one may think so, and none that it is slower."""
    wrong = 0
    for seed in range(300):
        slower = {f"setting {n}": 0.1 * factor for n, factor in enumerate((1.0, 1.0, 1.0, 1.02, 1.2, 1.5, 3, 0.995))}
        best, _ = Planted({"default": 0.1, **slower}, noise, seed, burst=0.1).race()
        wrong += best != "default"
        assert best not in [name for name, seconds in slower.items() if seconds > 0.11]
    assert wrong <= 12


def test_a_winner_is_found():
    missed = 0
    for seed in range(50):
        times = {"default": 0.1, "a": 0.1, "b": 0.03, "c": 0.2, "d": 0.031, "e": 0.3, "f": 0.09}
        best, standings = Planted(times, 0.1, seed).race()
        assert best in ("b", "d")
        other = next(one for one in standings if one.setting == {"b": "d", "d": "b"}[best])
        assert other.indistinguishable or other.ratio.median < standings[1].ratio.median
        assert standings[0].setting == "default"
        assert not standings[0].indistinguishable
        found = next(one for one in standings if one.setting == best)
        assert found.ratio.low > 2 * MARGIN
        missed += not found.ratio.low <= times["default"] / times[best] <= found.ratio.high
    assert missed <= 5  # an interval of 95 %


def test_a_tiny_budget_still_gives_an_interval():
    planted = Planted({"default": 1.0, "a": 0.3, "b": 0.5, "c": 2.0}, 0.05, 0)
    best, standings = planted.race(budget=0.1)
    assert best == "a"
    assert standings[1].rounds >= 7
    assert standings[1].ratio.low > 2


def test_nothing_to_compare_with():
    best, standings = Planted({"default": 1.0}, 0.1, 0).race()
    assert best == "default"
    assert len(standings) == 1


def test_candidates():
    found = candidates((32, 64), predecodable=True, gpu=False)
    assert found[0] == Setting()
    assert len(set(found)) == len(found)
    assert any(setting.predecoded for setting in found)
    assert not any(setting.pinned for setting in found)
    assert any(setting.pinned for setting in candidates((32,), False, gpu=True))
    for setting in found:
        assert ("prefetch_factor" in setting.arguments()) == (setting.workers > 0)


@pytest.mark.timing
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_pixels_beat_jpeg_files():
    photos = Photos(write_photos(count=64, size=(300, 300)), size=64)
    found = tune(photos, budget_s=3, batches=(8,))
    assert found.best.predecoded
    assert found.changes
    assert found.standing.ratio.low > MARGIN
    assert str(found.best) in str(found)
    assert "predecoded" in found._repr_html_()
    assert found.picture().png
    assert found.as_dict()["best"]["predecoded"]


@pytest.mark.timing
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_tiny_rows_want_no_workers():
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)  # more workers than cores are tried on purpose: no warning is left
        found = tune(Rows(1500, 8), budget_s=3, batches=(100,))
    assert found.best == found.default
    assert not found.changes
    assert "Stay with" in str(found)


def test_what_cannot_be_tuned():
    with pytest.raises(LabError, match="iterable"):
        tune(RemoteStream(5, 0.0))
    with pytest.raises(LabError, match=r"Give loader\.dataset"):
        tune(DataLoader(Rows(5, 2)))
    with pytest.raises(LabError, match=r"The step on batch 0 .* TypeError"):
        tune(Rows(50, 2), lambda: None)


@pytest.mark.parametrize(
    ("dataset", "arguments", "says"),
    [
        *((Rows(5, 2), {"budget_s": budget}, "budget_s=") for budget in (0, float("nan"), float("inf"), "x", None)),
        *((Rows(5, 2), {"batches": batches}, "batches=") for batches in (8, (), (0,), (2.5,))),
        (Rows(5, 2), {"step": 5}, "step=5 is no function"),
        (None, {}, "NoneType is no dataset"),
        (set(), {}, "set is no dataset"),
        ((), {}, "The dataset is empty"),
    ],
)
def test_the_culprit_is_named(dataset, arguments, says):
    with pytest.raises(LabError, match=says):
        tune(dataset, **arguments)


def test_of_equals_the_simplest_is_taken():
    """The simplest of those that can't be told from the fastest; by chance one of three equals may seem slower."""
    times = {"default": 0.1, "simple": 0.02, "middling": 0.02, "intricate": 0.02, "slower": 0.04}
    found = [Planted(times, 0.05, seed).race()[0] for seed in range(30)]
    assert found.count("simple") >= 26
    assert not {"default", "slower"} & set(found)


def test_candidates_come_simplest_first():
    found = candidates((8,), predecodable=True, gpu=False)
    assert [setting.predecoded for setting in found] == sorted(setting.predecoded for setting in found)
    workers = [setting.workers for setting in found[1:] if not setting.predecoded]
    assert workers == sorted(workers)


@pytest.mark.filterwarnings("ignore::UserWarning", "ignore::DeprecationWarning")
def test_workers_out_of_the_race_are_ended():
    epochs = Epochs({False: Rows(64, 2)}, len, 64)
    setting = Setting(workers=1, batch=8, persistent=True)
    epochs.measure(setting)
    iterator = epochs.warm[setting]._iterator
    epochs.close()
    assert iterator._shutdown
    assert not epochs.warm


@pytest.mark.timing
@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::UserWarning")
@pytest.mark.parametrize(
    "factory", [remote_without_workers, tiny_rows, slow_collate, small_set], ids=lambda made: made.__name__
)
def test_what_is_recommended_is_not_slower(factory):
    """Measured once more by itself, from new workers on."""
    loader, step = factory()
    found = tune(loader.dataset, step, 4, batches=(loader.batch_size,), collate_fn=loader.collate_fn, predecode=False)
    epochs = Epochs({False: loader.dataset}, step, len(loader.dataset) // 4, loader.collate_fn)
    ratios = [epochs.measure(found.default) / epochs.measure(found.best) for _ in range(7)]
    assert median_interval(ratios).high >= 1
