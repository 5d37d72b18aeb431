"""diagnose names what was planted; its arithmetic is that of the epoch; the command prints it."""

import itertools
import json
import re
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch.utils.data import DataLoader, IterableDataset, TensorDataset

from labs_lib import arguments
from labs_lib.cli import main
from labs_lib.data_loading import BOTTLENECKS, PLANTED, diagnose, simulate
from labs_lib.data_loading.advice import CONSUMER, OVERHEAD, SMALL, STORAGE, advice_on
from labs_lib.data_loading.costs import Costs, fixed_share
from labs_lib.data_loading.planted import RemoteStream, nothing
from labs_lib.data_loading.timeline import timeline
from labs_lib.errors import LabError

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning", "ignore::DeprecationWarning")


@pytest.mark.timing
@pytest.mark.parametrize("factory", PLANTED, ids=lambda factory: factory.__name__)
def test_planted(factory):
    """Once each; diagnose_repeatedly.py repeats this ten times beside a busy process."""
    torch.set_num_threads(1)
    found = diagnose(*factory())
    assert found.bottleneck == PLANTED[factory], str(found)
    assert list(found.savings.values()) == sorted(found.savings.values(), reverse=True)
    assert found.bottleneck in found._repr_html_()
    assert "an epoch would take" in str(found)


def test_every_bottleneck_is_planted():
    assert set(PLANTED.values()) == set(BOTTLENECKS)
    assert len(PLANTED) >= 8


def test_the_epoch_is_that_of_the_virtual_clock():
    """Costs.epoch leaves out how the pipeline fills and empties: at most one batch and one step."""
    for workers in (0, 1, 3):
        for making, step in ((12, 2), (3, 9), (6, 6)):
            costs = Costs(making, 0, 0, 0, 0, 0, 0, step, 0, workers, 40)
            exact = simulate(batches=40, wait=making, step=step, workers=workers, cores=None).epoch
            assert abs(costs.epoch - exact) <= (making + step) * (workers > 0)


def test_without_a_cause():
    costs = Costs(
        storage=4, decode=2, collate=0, overhead=0, pickle=0, receive=0, step_fixed=0, step_growing=1, start=10,
        workers=2, batches=10,
    )  # fmt: skip
    assert costs.epoch == 10 + 10 * 3
    assert costs.without("storage") == 10 + 10 * 1
    assert costs.without("step_growing") == costs.epoch
    assert costs.without("start") == 30


def test_a_step_that_refuses_a_doubled_batch_is_all_consumer():
    def step(batch):
        if len(batch) != 4:
            raise ValueError("4 only")

    assert fixed_share(step, torch.zeros(4)) == 0.0


README = Path(__file__).resolve().parents[2] / "README.md"
REPEATS = "workers repeat every sample unless it shares them out (exercise 4.4)"


class Numbers(IterableDataset):
    """Samples as each worker gets them: all of them, endlessly where there is no count."""

    def __init__(self, count=None):
        self.count = count

    def __iter__(self):
        return map(torch.tensor, itertools.count() if self.count is None else range(self.count))


class Shared(Numbers):
    def __iter__(self):
        info = torch.utils.data.get_worker_info()
        return itertools.islice(super().__iter__(), info.id, None, info.num_workers)


def test_an_iterable_dataset_may_repeat_itself():
    repeated = diagnose(DataLoader(Numbers(24), batch_size=4, num_workers=2), nothing)
    assert "each sample comes 2 times" in str(repeated)
    assert REPEATS in repeated.advice
    assert "each sample comes" not in str(diagnose(DataLoader(Shared(24), batch_size=4, num_workers=2), nothing))
    alone = diagnose(DataLoader(RemoteStream(24, 0.004), batch_size=4), nothing)
    assert REPEATS in alone.advice
    assert "__getitems__" not in alone.advice


def test_an_endless_stream_has_no_epoch(monkeypatch):
    monkeypatch.setitem(diagnose.__globals__, "LIMIT_S", 0.1)
    found = str(diagnose(DataLoader(RemoteStream(10**9, 0.004), batch_size=4), nothing))
    assert re.search(r"the [0-9]+ batches seen would take", found)
    assert "an epoch would" not in found


def _lines(loader):
    """A timeline of it in which the consumer waits for next to nothing, and one in which it waits for most."""
    line = timeline(loader, batches=1)
    taken = line.taken[0]
    quick, slow = ([replace(taken, asked=0.0, received=wait, done=1.0)] for wait in (0.01, 0.6))
    return replace(line, started=0.0, epoch_s=1.0, taken=quick), replace(line, started=0.0, epoch_s=1.0, taken=slow)


def test_advice_fits_the_loader():
    rows = TensorDataset(torch.zeros(8, 2))
    loader, items = DataLoader(rows, batch_size=2), DataLoader(rows, batch_size=None)
    quick, slow = _lines(loader)
    assert "not at fault" in advice_on(SMALL, loader, quick, 4)
    assert "not at fault" not in advice_on(SMALL, loader, slow, 4)
    assert "quick enough" in advice_on(CONSUMER, loader, quick, 4)
    assert "quick enough" not in advice_on(CONSUMER, loader, slow, 4)
    assert "larger batch" in advice_on(SMALL, loader, quick, 4)
    assert "larger batch" not in advice_on(SMALL, loader, quick, 1)
    assert "batch_size=None" in advice_on(OVERHEAD, loader, quick, 4)
    assert "batch_size=None" not in advice_on(OVERHEAD, items, quick, 4)
    assert "__getitems__" not in advice_on(STORAGE, items, quick, 4)


def test_the_examples_of_the_readme_exist():
    named = re.findall(r"labs_lib(?:\.\w+)+:\w+", README.read_text(encoding="utf-8"))
    assert named
    for name in named:
        assert arguments.named(name, "MODULE:NAME") is not None


def test_what_is_no_step_is_refused_before_the_loader_starts():
    with pytest.raises(LabError, match="step=5 is no function"):
        diagnose(DataLoader(RemoteStream(10**9, 1.0)), 5)


def raises_something_else():
    raise OSError("no such disk")


@pytest.mark.timing
def test_command(capsys):
    assert main(["diagnose-loader", "labs_lib.data_loading.planted:tiny_rows", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["bottleneck"] == "Python overhead"
    assert len(found["evidence"]) >= 3


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("labs_lib.data_loading.planted:PLANTED", "is no function"),
        ("labs_lib.data_loading.planted:_photos", "not (loader, step)"),
        ("labs_lib.data_loading.planted:Pixels", "Name a function without arguments"),
        (f"{__name__}:raises_something_else", "failed with OSError: no such disk. Call it in Python"),
    ],
)
def test_command_refuses(capsys, name, says):
    assert main(["diagnose-loader", name]) == 2
    assert says in capsys.readouterr().err
