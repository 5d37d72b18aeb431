"""diagnose names what was planted; its arithmetic is that of the epoch; the command prints it."""

import json

import pytest
import torch

from labs_lib.cli import main
from labs_lib.data_loading import BOTTLENECKS, PLANTED, diagnose, simulate
from labs_lib.data_loading.costs import Costs, fixed_share

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
    assert "Without it" in str(found)


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
        ("labs_lib.data_loading.planted:Pixels", "failed with TypeError"),
    ],
)
def test_command_refuses(capsys, name, says):
    assert main(["diagnose-loader", name]) == 2
    assert says in capsys.readouterr().err
