"""Peaks measured on real GPUs, kept with their provenance, and the prediction for each.

What is predicted is `torch.cuda.max_memory_allocated` in the middle of a training: the peak of a replay, each block
rounded up to 512 bytes, and the workspaces of cuBLAS, which PyTorch takes from the same allocator (8.125 MiB for each
thread that multiplies matrices; 32 MiB on Hopper). Assumed beside the rules of `cuda_rules`: the allocator cuts every
block to size (it leaves up to 1 MiB uncut in large segments), kernels take no memory of their own (cuDNN's
convolutions do), attention is not split. `tools/record_gpu_memory.py` makes the files, on a machine with CUDA.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from statistics import median

from labs_lib.catalogue import DATA
from labs_lib.errors import LabError
from labs_lib.gpu_memory.devices import Device
from labs_lib.gpu_memory.fit import bill
from labs_lib.gpu_memory.models import STEPS
from labs_lib.gpu_memory.plans import Plan
from labs_lib.gpu_memory.replays import MakeStep, replay

FOLDER = DATA / "recordings"
BATCHES = {"ResNet-50": 32, "GPT-2 small": 4, "DistilBERT-size encoder": 8, "ViT-B/16": 32, "MLP": 256}  # fit a T4


@dataclass(frozen=True)
class Case:
    """One model in one mode."""

    model: str  # a name in STEPS
    training: bool
    half: bool  # bfloat16: by autocast in training, of the weights in inference
    batch: int

    @property
    def make_step(self) -> MakeStep:
        return partial(STEPS[self.model], training=self.training)

    @property
    def plan(self) -> Plan:
        return Plan(self.batch, half=self.half)

    def __str__(self) -> str:
        mode = "training" if self.training else "inference"
        return f"{self.model}, {mode}, {'bfloat16' if self.half else 'float32'}"


CASES = tuple(
    Case(model, training, half, batch)
    for model, batch in BATCHES.items()
    for training in (True, False)
    for half in (False, True)
)


@dataclass(frozen=True)
class Recorded:
    """One case as it was measured on one device."""

    case: Case
    device: str
    driver: str
    torch: str
    date: str  # YYYY-MM-DD
    samples: tuple[int, ...]  # torch.cuda.max_memory_allocated, in bytes
    predicted: int

    @property
    def measured(self) -> float:
        return median(self.samples)

    @property
    def error(self) -> float:
        """By how much of the measured bytes the prediction is too high (above 0) or too low."""
        return self.predicted / self.measured - 1

    @property
    def says(self) -> str:
        return f"recorded on {self.device} on {self.date}, torch {self.torch}, driver {self.driver}"


def predicted(case: Case, device: Device) -> int:
    """Bytes that `torch.cuda.max_memory_allocated` should report."""
    costs = bill(replay(case.make_step, case.plan), device)
    return costs.peak + costs.rounding + costs.workspaces


def recordings(folder: Path = FOLDER) -> list[Recorded]:
    """All recorded cases of all devices; an empty list where none has been recorded.

    Raises LabError for a file that is no recording.
    """
    return [recorded for path in sorted(folder.glob("gpu_memory_*.json")) for recorded in _read(path)]


def write_recordings(path: Path, recorded: list[Recorded]) -> None:
    """Writes the cases of one device as one file."""
    first = recorded[0]
    data = {
        **{name: getattr(first, name) for name in ("device", "driver", "torch", "date")},
        "quantity": "torch.cuda.max_memory_allocated, bytes, one sample per step",
        "cases": [
            {
                "model": one.case.model,
                "training": one.case.training,
                "half": one.case.half,
                "batch": one.case.batch,
                "samples": one.samples,
                "predicted": one.predicted,
            }
            for one in recorded
        ],
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(data, indent=1) + "\n", encoding="utf-8")


def _read(path: Path) -> Iterator[Recorded]:
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
        about = [str(data[name]) for name in ("device", "driver", "torch", "date")]
        for row in data["cases"]:
            case = Case(row["model"], row["training"], row["half"], row["batch"])
            yield Recorded(case, *about, tuple(row["samples"]), row["predicted"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise LabError(
            f"{path.name} is no recording: {type(error).__name__}: {error}.",
            "",
            "Delete it, or record anew: python -m tools.record_gpu_memory",
        ) from error
