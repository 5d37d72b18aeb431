"""The timeline counts exactly, disturbs nothing, knows every kind of loader, and sees a planted wait."""

import random
import time
import warnings

import numpy as np
import pytest
import torch
from torch.utils.data import BatchSampler, DataLoader, Dataset, IterableDataset, SequentialSampler, get_worker_info

from labs_lib.data_loading import Photos, timeline, write_photos
from labs_lib.data_loading.watched import end_workers
from labs_lib.errors import LabError

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning", "ignore::DeprecationWarning")


class Numbers(Dataset):
    def __init__(self, count, delay_s=0.0):
        self.count, self.delay_s = count, delay_s

    def __len__(self):
        return self.count

    def __getitem__(self, index):
        time.sleep(self.delay_s)
        return {"x": torch.tensor([float(index)]), "n": index}


class WholeBatches(Numbers):
    def __getitems__(self, indices):
        return [{"x": torch.tensor([float(index)]), "n": -index} for index in indices]


class Stream(IterableDataset):
    start, stop = 0, 17

    def __iter__(self):
        return iter(torch.arange(self.start, self.stop))


def share(worker):
    """The example of PyTorch's own documentation: each worker's dataset gets its part."""
    info = get_worker_info()
    info.dataset.start, info.dataset.stop = 10 * worker, 10 * worker + 4


def reversed_list(items):
    return items[::-1]


@pytest.fixture(scope="module")
def folder():
    return write_photos(count=12, size=(48, 48))


@pytest.mark.parametrize("workers", [0, 2])
def test_counts(folder, workers):
    photos = Photos(folder, size=32)
    line = timeline(DataLoader(photos, batch_size=4, num_workers=workers))
    counts = line.counts
    assert counts["batches"] == 3
    assert counts["decodes"] == 12
    assert counts["bytes_read"] == sum(path.stat().st_size for path in folder.iterdir())
    assert counts["items"] == ({"worker 0": 8, "worker 1": 4} if workers else {"consumer": 12})
    assert counts["shared_bytes"] == (3 * 4 * (3 * 32 * 32 + 8) if workers else 0)
    assert (counts["pickled_bytes"] > 0) == bool(workers)
    assert 0 <= line.wait_share <= 1
    assert photos.counted["decodes"] == (0 if workers else 12)


def make(kind, workers=0):
    generator = torch.Generator().manual_seed(3)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return {
            "shuffled": lambda: DataLoader(
                Numbers(11), batch_size=3, shuffle=True, num_workers=workers, generator=generator
            ),
            "batch sampler": lambda: DataLoader(
                Numbers(11), batch_sampler=BatchSampler(SequentialSampler(range(11)), 4, True), num_workers=workers
            ),
            "no batches": lambda: DataLoader(Numbers(5), batch_size=None, num_workers=workers),
            "getitems": lambda: DataLoader(WholeBatches(7), batch_size=2, num_workers=workers),
            "iterable": lambda: DataLoader(Stream(), batch_size=4, num_workers=workers),
            "iterable, no batches": lambda: DataLoader(Stream(), batch_size=None, num_workers=workers),
            "own collate": lambda: DataLoader(
                Numbers(5), batch_size=2, collate_fn=reversed_list, num_workers=workers, drop_last=True
            ),
            "init": lambda: DataLoader(Stream(), batch_size=3, num_workers=2, worker_init_fn=share),
            "persistent, pinned": lambda: DataLoader(
                Numbers(9), batch_size=2, num_workers=2, persistent_workers=True, pin_memory=True, prefetch_factor=3
            ),
        }[kind]()


KINDS = ["shuffled", "batch sampler", "no batches", "getitems", "iterable", "iterable, no batches", "own collate"]


@pytest.mark.parametrize(
    ("kind", "workers"), [*((kind, n) for kind in KINDS for n in (0, 2)), ("init", 2), ("persistent, pinned", 2)]
)
def test_every_kind_delivers_the_same_batches(kind, workers):
    """And the loader is as fresh afterwards as before: its own next epoch is what it would have been."""
    torch.manual_seed(1)
    expected = list(make(kind, workers))
    torch.manual_seed(1)
    loader, seen = make(kind, workers), []
    line = timeline(loader, seen.append)
    assert str(seen) == str(expected)
    assert str(list(loader)) == str(expected)
    assert len(line.taken) == len(expected)
    assert line.counts["items"]
    assert sum(line.counts["items"].values()) > 0
    assert line.picture(3).png


def test_generators_stay_where_they_are():
    def states():
        return torch.get_rng_state().tolist(), random.getstate(), np.random.get_state()[1].tolist()

    before = states()
    timeline(DataLoader(Numbers(8), batch_size=2, shuffle=True))
    assert states() == before


def test_early_end_and_errors():
    assert timeline(DataLoader(Numbers(50), batch_size=5), batches=3).counts["batches"] == 3
    with pytest.raises(LabError, match="no DataLoader"):
        timeline([1, 2, 3])
    with pytest.raises(LabError, match="no batch"):
        timeline(DataLoader(Numbers(3), batch_size=4, drop_last=True))


class Corrupt(Numbers):
    """Its item 7 can't be read."""

    def __getitem__(self, index):
        if index == 7:
            raise ValueError("not a JPEG file")
        return super().__getitem__(index)


class Ragged(Numbers):
    def __getitem__(self, index):
        return torch.zeros(2 + index // 5)


def refuses(batch):
    raise KeyError("label")


@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize(
    ("dataset", "step", "says"),
    [
        (Corrupt(12), len, r"Loading batch 3 .* ValueError: not a JPEG file\n.*__getitem__"),
        (Ragged(12), len, r"Loading batch 2 .* RuntimeError: stack expects"),
        (Numbers(12), refuses, r"The step on batch 0 .* KeyError: 'label'\nRaised in refuses"),
    ],
)
def test_what_fails_says_in_which_batch(dataset, step, says, workers):
    with pytest.raises(LabError, match=says) as caught:
        timeline(DataLoader(dataset, batch_size=2, num_workers=workers), step)
    assert caught.value.__cause__ is not None


@pytest.mark.parametrize(
    "wrong", [{"batches": 0}, {"batches": 1.5}, {"limit_s": float("nan")}, {"limit_s": 0}, {"step": 5}]
)
def test_what_is_no_limit_and_no_step(wrong):
    with pytest.raises(LabError, match=f"{next(iter(wrong))}="):
        timeline(DataLoader(Numbers(5)), **wrong)


def test_workers_end_with_the_timeline(monkeypatch):
    """An iterator left to the garbage collector complains in workers that are forked later."""
    ended = []
    monkeypatch.setitem(timeline.__globals__, "end_workers", ended.append)
    timeline(DataLoader(Numbers(12), batch_size=2, num_workers=1), batches=1)
    end_workers(ended[0])
    assert ended[0]._shutdown
    assert not ended[0]._workers[0].is_alive()


def wrong_timed(loader, waits):
    """The well-known timed loader: its clock runs while the consumer works."""
    for batch in loader:
        start = time.perf_counter()
        yield batch
        waits.append(time.perf_counter() - start)


@pytest.mark.timing
def test_the_wrong_clock_measures_the_step():
    """25 ms for a batch, 5 ms for a step: the timeline says so, the loader with the wrong clock says 5 ms."""
    loader = DataLoader(Numbers(40, delay_s=0.005), batch_size=5)
    waits: list[float] = []
    for _ in wrong_timed(loader, waits):
        time.sleep(0.005)
    line = timeline(loader, lambda batch: time.sleep(0.005))
    assert line.wait_s / len(line.taken) > 0.025
    assert line.wait_share > 0.6
    assert sorted(waits)[4] < 0.5 * line.wait_s / len(line.taken)
    asleep = sorted(taken.notes.fetch.asleep for taken in line.taken)[4]
    assert 0.024 < asleep < 0.05


@pytest.mark.timing
def test_workers_hide_the_storage():
    slow = timeline(DataLoader(Numbers(40, delay_s=0.01), batch_size=5))
    quick = timeline(DataLoader(Numbers(40, delay_s=0.01), batch_size=5, num_workers=4))
    assert slow.epoch_s / (quick.epoch_s - quick.started) > 1.2  # forking is left out: it may take longer than all
