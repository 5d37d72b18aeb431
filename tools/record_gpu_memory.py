"""Measures the peak memory of well-known models on this machine's GPU, beside what the course predicts for it.

    python -m tools.record_gpu_memory [--repeats N] [--output FILE.json]

Writes data/recordings/gpu_memory_DEVICE.json: device, driver, torch, date, and for each of 20 cases N raw samples of
torch.cuda.max_memory_allocated and the prediction. Takes some minutes, needs a GPU of 16 GB with nothing else on it.
"""

from __future__ import annotations

import argparse
import datetime
import gc
import re
import subprocess
import sys
from collections.abc import Callable, Iterable
from pathlib import Path

import torch

from labs_lib.gpu_memory.devices import DEVICES, Device
from labs_lib.gpu_memory.plans import apply
from labs_lib.gpu_memory.recordings import CASES, FOLDER, Case, Recorded, predicted, write_recordings
from labs_lib.units import size_text

WARM_UP = 2  # steps: the first makes the optimiser's state, the second is the first with all of it

Measure = Callable[[Case, int], list[int]]


def measure_on_cuda(case: Case, repeats: int) -> list[int]:
    """Peak bytes of `repeats` steps, by PyTorch's own counter of its allocator."""
    gc.collect()
    torch._C._cuda_clearCublasWorkspaces()  # those of the case before would count for this one
    torch.cuda.empty_cache()
    with torch.device("cuda"):
        step = apply(case.plan, case.make_step(case.batch))
    samples = []
    for _ in range(WARM_UP + repeats):
        torch.cuda.synchronize()
        torch.cuda.reset_peak_memory_stats()
        step.run()
        torch.cuda.synchronize()
        samples.append(torch.cuda.max_memory_allocated())
    return samples[WARM_UP:]


def record(
    measure: Measure, device: Device, about: dict[str, str], cases: Iterable[Case], repeats: int
) -> list[Recorded]:
    """Measures and predicts every case, and prints a line for each."""
    found = []
    for case in cases:
        one = Recorded(case=case, samples=tuple(measure(case, repeats)), predicted=predicted(case, device), **about)
        found.append(one)
        print(f"{case!s:48}{size_text(one.measured):>12}{size_text(one.predicted):>12}{one.error:>+8.1%}", flush=True)
    return found


def this_device() -> tuple[Device, dict[str, str]]:
    """The GPU of this machine, and what to write down about it."""
    name = torch.cuda.get_device_name()
    hopper = torch.cuda.get_device_capability()[0] == 9
    known = DEVICES["H100" if hopper else "A100-40"]  # its memory does not matter here, its workspaces do
    query = ["nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader"]
    driver = subprocess.run(query, capture_output=True, text=True, check=True).stdout.split()[0]
    date = datetime.datetime.now(datetime.UTC).date().isoformat()
    return known, {"device": name, "driver": driver, "torch": torch.__version__, "date": date}


def main(argv: list[str] | None = None) -> int:
    """Record all cases; returns the exit code."""
    parser = argparse.ArgumentParser(prog="python -m tools.record_gpu_memory", description=__doc__.splitlines()[0])
    parser.add_argument("--repeats", type=int, default=5, metavar="N", help="samples of each case (5)")
    parser.add_argument("--output", type=Path, metavar="FILE.json", help="data/recordings/gpu_memory_DEVICE.json")
    args = parser.parse_args(argv)
    if args.repeats < 1:
        parser.error("--repeats must be above 0")
    if not torch.cuda.is_available():
        print("record_gpu_memory: needs an NVIDIA GPU, its driver, and a PyTorch built for CUDA.", file=sys.stderr)
        return 2
    device, about = this_device()
    path = args.output or FOLDER / f"gpu_memory_{re.sub('[^a-z0-9]+', '_', about['device'].lower())}.json"
    write_recordings(path, record(measure_on_cuda, device, about, CASES, args.repeats))
    print(f"wrote {path}")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
