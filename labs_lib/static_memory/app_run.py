"""What the analyzer's page does, without the page: read the numbers, run a model on them, say and keep what came out.

The MLP goes through `analysis.analyze`, as `python -m labs_lib analyze` does; torch models go through
`app_torch.analyze_model`. So the page shows the numbers that the terminal shows.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from labs_lib.errors import LabError
from labs_lib.figures import NAIVE, NEUTRAL, OPTIMISED, Picture
from labs_lib.journal import record
from labs_lib.machine import fingerprint
from labs_lib.static_memory.analysis import Analysis, analyze, decoded, parse_values, tiled
from labs_lib.static_memory.graph import lifetimes
from labs_lib.static_memory.panels import mlp_graph
from labs_lib.static_memory.pictures import arena_picture, memory_picture
from labs_lib.static_memory.planning import Plan, plan
from labs_lib.units import size_text

if TYPE_CHECKING:
    import torch

    from labs_lib.static_memory.app_torch import TorchAnalysis

EVENT = "analysis"  # the journal's kind
LIMIT = 8_000_000  # bytes of a text or a file: Jupyter closes a connection on messages above 10 MiB
FEATURES, LAYERS = 1024, 3  # of the MLP, as in the terminal
CHANNELS, SIDE = 3, 224  # of an image


@dataclass(frozen=True)
class Model:
    """A model that the page offers: what it is, how many numbers fill one row, and batches that take seconds."""

    says: str
    values: int
    batches: tuple[int, ...]


IMAGE = CHANNELS * SIDE * SIDE
MLP = "MLP"
MODELS = {
    MLP: Model(f"{LAYERS} layers of {FEATURES} features, in NumPy", FEATURES, (1, 2, 4, 8, 16, 32, 64, 128, 256)),
    "resnet18": Model("convolutions with batch norm, images of 224 x 224", IMAGE, (1, 2, 4, 8)),
    "mobilenet_v3_small": Model("small convolutions for phones, images of 224 x 224", IMAGE, (1, 2, 4, 8, 16)),
    "squeezenet1_1": Model("concatenations, images of 224 x 224", IMAGE, (1, 2, 4, 8)),
    "vit_b_16": Model("a vision transformer, images of 224 x 224", IMAGE, (1, 2)),
}


@dataclass(frozen=True)
class Run:
    """One analysis: what was asked, what came out, and when."""

    model: str
    batch: int
    values: int  # numbers given; they are repeated until they fill the batch
    analysis: Analysis | TorchAnalysis
    plan: Plan
    event: dict[str, object]  # the journal's entry of this run

    @property
    def measured_by(self) -> str:
        """Where the peaks come from, with the kind of number."""
        return "measured, tracemalloc" if self.model == MLP else "counted, torch's storages"

    def as_dict(self) -> dict[str, object]:
        """All of it as plain values for JSON: the analysis as the terminal's `--json` gives it, and its origin."""
        return {
            "model": self.model,
            "values": self.values,
            "batch": self.batch,
            "time": self.event["time"],
            "machine": self.event["machine"],
            **self.analysis.as_dict(),
        }


def numbers(data: bytes | str, source: str = "the box") -> np.ndarray:
    """The numbers in a text or in the bytes of a CSV file, as a flat float64 array.

    >>> numbers("1.0, 0.5")
    array([1. , 0.5])

    Raises LabError for what `parse_values` refuses, for bytes that are no UTF-8, and above LIMIT.
    """
    if len(data) > LIMIT:
        raise LabError(
            f"There are {len(data):,} bytes in {source}.",
            f"This page takes {LIMIT:,}.",
            "Give a part of them: short inputs are repeated until they fill the batch.",
        )
    if isinstance(data, bytes):
        data = decoded(data, source)
    return parse_values(data, source)


def run(
    values: np.ndarray,
    model: str = MLP,
    batch: int = 1,
    budget_s: float | None = None,
    stage: Callable[[str], None] = lambda says: None,
) -> Run:
    """Runs `model` naively and as planned on `values`, repeated to fill the batch, and enters it in the journal.

    `stage` is called with what is done next. Raises LabError for an unknown model, for a batch that the page does
    not offer, and for what `analyze` or `analyze_model` refuses.
    """
    if model not in MODELS:
        raise LabError(f"There is no model {model!r}.", f"There are {', '.join(MODELS)}.", "Choose one.")
    if batch not in MODELS[model].batches:
        offered = ", ".join(map(str, MODELS[model].batches))
        raise LabError(
            f"A batch of {batch} is not offered for {model}.",
            "One pass would take too long.",
            f"Choose from {offered}.",
        )
    if model == MLP:
        stage("Running naive and planned in turn, some seconds.")
        analysis = analyze(values, FEATURES, batch, LAYERS, budget_s=budget_s, progress=False)
        best = plan(lifetimes(mlp_graph(LAYERS, FEATURES, batch), "in_place").buffers)
    else:
        images = tiled(values, batch, IMAGE)
        stage(f"Loading torch and making {model} with random weights.")
        from labs_lib.static_memory.app_torch import analyze_model

        network, x = _network(model), _tensor(images)
        stage("Planning its memory, then running naive and planned in turn: up to a minute.")
        analysis = analyze_model(network, x, budget_s)
        best = analysis.plan
    return Run(model, batch, values.size, analysis, best, _recorded(model, batch, values.size, analysis))


def export_link(done: Run) -> str:
    """An HTML link that saves the run as a JSON file; the data stands in the link itself."""
    data = json.dumps(done.as_dict(), indent=2, allow_nan=False).encode()
    address = f"data:application/json;base64,{base64.b64encode(data).decode()}"
    name = f"analysis_{done.model}_{done.batch}.json"
    return f'<a class="labs-export" download="{name}" href="{address}">Save this run as JSON</a>'


def memory(done: Run) -> Picture:
    """The peaks, naive in one colour and planned in the other, with the arena and its lower bound."""
    found = done.analysis
    rows = [
        ("naive, every value kept", found.keeping, NAIVE),
        ("naive, dead values freed", found.naive, NAIVE),
        ("planned, with set-up", found.with_setup, OPTIMISED),
        ("planned, without set-up", found.without_setup, OPTIMISED),
        ("the arena itself", found.arena, {"color": NEUTRAL}),
        ("lower bound of any plan", found.lower_bound, {"color": NEUTRAL}),
    ]
    return memory_picture(
        rows,
        f"Peak memory above weights and input ({done.measured_by}): naive {size_text(found.naive)}, planned "
        f"{size_text(found.with_setup)} with set-up and {size_text(found.without_setup)} without. Arena and lower "
        f"bound are counted: {size_text(found.arena)} and {size_text(found.lower_bound)}.",
    )


def arena(done: Run) -> Picture:
    """The packed arena, time from left to right and addresses upwards."""
    best = done.plan
    return arena_picture(best.buffers, best.offsets, range(len(best.buffers)), f"{done.model}, batch {done.batch}")


def remark(done: Run) -> str:
    """One sentence on how the planned run was made, for readers of its numbers."""
    if done.model == MLP:
        return f"Each value is a sum of {FEATURES} products, so {FEATURES} float32 epsilons of difference are allowed."
    straight, copied = done.analysis.operators
    return (
        f"{straight} operators write straight into the arena; for {copied} torch has no such kernel, so their result "
        "is made elsewhere and copied in, which costs time and, for that moment, memory."
    )


def _recorded(model: str, batch: int, values: int, found: Analysis | TorchAnalysis) -> dict[str, object]:
    """Enters one run in the journal, with what a row of the history needs."""
    compared = found.comparison
    return record(
        EVENT,
        model=model,
        batch=batch,
        values=values,
        same=compared.same,
        naive_bytes=found.naive,
        planned_bytes=found.with_setup,
        **{name: getattr(compared, name) for name in ("ratio", "low", "high", "floor", "verdict")},
        machine=fingerprint(),
    )


def _network(name: str) -> torch.nn.Module:
    """The model with random weights, the same each time."""
    import torch
    import torchvision

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        network = getattr(torchvision.models, name)(weights=None).eval()
        for module in network.modules():
            if isinstance(module, torch.nn.Linear) and not module.weight.any():
                torch.nn.init.normal_(module.weight, std=0.02)  # else all outputs are 0, and any two are equal
    return network


def _tensor(rows: np.ndarray) -> torch.Tensor:
    import torch

    return torch.from_numpy(rows.reshape(-1, CHANNELS, SIDE, SIDE))
