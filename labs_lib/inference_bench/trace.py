"""torch's profiler on a forward pass: a trace for Perfetto, operators by time, and each layer's share.

The profiler sees operators, not modules. Each module is marked here by a region (record_function), and the time of an
operator goes to the innermost region around it. So the profiler's answer stands beside that of the hooks. It is
smaller by what passes in Python between a module and its operators, which hooks give to the module.

On a GPU an operator is launched by the CPU and works later; its time is then the GPU's, and hooks and profiler agree
only because the hooks wait.
"""

from __future__ import annotations

import os
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import torch
from torch.profiler import ProfilerActivity, record_function

from labs_lib.compiled_code import quiet_stderr
from labs_lib.errors import LabError
from labs_lib.inference_bench.modules import Call, calling, watching
from labs_lib.inference_bench.overhead import Overhead, interleave, seconds_of
from labs_lib.inference_bench.profile import Profile
from labs_lib.machine import pinned_threads
from labs_lib.units import time_text

REGION = "layer: "
CALLS = 5  # profiled after one that warms the profiler up
KEPT = 20  # operators, in the JSON


@dataclass(frozen=True)
class Operator:
    """All calls of one operator in one forward pass."""

    name: str
    calls: float
    cpu_s: float  # in itself, without the operators that it calls
    device_s: float  # on a GPU; 0 without


@dataclass(frozen=True)
class Trace:
    """What the profiler saw, for one forward pass: the mean over some calls."""

    operators: tuple[Operator, ...]  # slowest first
    layer_s: dict[str, float]  # seconds of the operators, by the layer that runs them; on a GPU the GPU's
    outside_s: float  # of operators that run in no module
    overhead: Overhead  # of a call under the profiler, regions included
    path: Path | None  # of the Chrome trace

    def beside(self, profile: Profile) -> list[tuple[str, float, float]]:
        """(layer, seconds by hooks, seconds by the profiler), in the order of the profile; last, all layers."""
        found = [(row.name, row.seconds, self.layer_s.get(row.name, 0.0)) for row in profile.rows]
        return [*found, ("all layers", sum(row[1] for row in found), sum(row[2] for row in found))]

    def beside_text(self, profile: Profile, top: int = 5) -> str:
        """The slowest layers and their sum, by hooks and by the profiler."""
        found = self.beside(profile)
        lines = [("layer", "by hooks", "by the profiler")]
        lines += [(name, time_text(hooks), time_text(seen)) for name, hooks, seen in [*found[:-1][:top], found[-1]]]
        width = max(len(line[0]) for line in lines)
        return "\n".join(f"{name:{width}}  {hooks:>10}  {seen:>15}" for name, hooks, seen in lines)

    def as_dict(self) -> dict[str, object]:
        return {
            "operators": [vars(operator) for operator in self.operators[:KEPT]],
            "layer_s": self.layer_s,
            "outside_s": self.outside_s,
            "overhead": self.overhead.as_dict(),
            "path": str(self.path) if self.path else None,
        }

    def __str__(self) -> str:
        top = ", ".join(
            f"{operator.name} {time_text(max(operator.cpu_s, operator.device_s))} in {operator.calls:.0f}"
            for operator in self.operators[:3]
        )
        where = f" The trace is {self.path}: open it at ui.perfetto.dev." if self.path else ""
        return f"Slowest operators, by torch's profiler (measured): {top}. {self.overhead}.{where}"


def trace(
    model: object,
    input: object,
    file: str | os.PathLike | None = None,
    *,
    threads: int = 1,
    budget_s: float | None = None,
) -> Trace:
    """Runs torch's profiler over some forward passes; writes a Chrome trace to `file`, for ui.perfetto.dev.

    See `layers` for model and input. A name that ends in .gz is compressed. `budget_s` is for measuring what the
    profiler costs: in turns one call with and one without. Raises LabError as `calling` does, and where the file can't
    be written.
    """
    path = _writable(file)
    with calling(model, input) as call, pinned_threads(threads), quiet_stderr():
        with _profiler(call) as profiler, _regions(call):
            for _ in range(CALLS):
                call.run()
            _wait(call)
        if path:
            profiler.export_chrome_trace(str(path))
        averages = profiler.key_averages()
        layer_s = _by_layer(profiler.events(), call.device == "cuda")

        def watched() -> float:
            with _profiler(call), _regions(call):
                return seconds_of(call.run)

        overhead = interleave("torch.profiler", lambda: seconds_of(call.run), watched, budget_s)
    operators = [
        Operator(event.key, event.count / CALLS, event.self_cpu_time_total / 1e6 / CALLS,
                 event.self_device_time_total / 1e6 / CALLS)
        for event in averages
        if not event.key.startswith((REGION, "[", "Profiler"))
    ]  # fmt: skip
    operators.sort(key=lambda operator: -max(operator.cpu_s, operator.device_s))
    return Trace(tuple(operators), layer_s, layer_s.pop("", 0.0), overhead, path)


def _profiler(call: Call) -> torch.profiler.profile:
    """Of the CPU, and of the GPU where the model is on one: asked for without one, it would warn."""
    activities = [ProfilerActivity.CPU]
    if call.device == "cuda":
        activities.append(ProfilerActivity.CUDA)
    return torch.profiler.profile(activities=activities, acc_events=True)


def _wait(call: Call) -> None:
    if call.device != "cpu":
        torch.accelerator.synchronize()


@contextmanager
def _regions(call: Call) -> Iterator[None]:
    """A region around each call of a module, named after it."""
    open_regions: list[record_function] = []

    def enter(name: str) -> None:
        open_regions.append(record_function(REGION + name))
        open_regions[-1].__enter__()

    def leave(name: str, output: object) -> None:
        open_regions.pop().__exit__(None, None, None)

    with watching(call.module, enter, leave):
        yield


def _by_layer(events: list, on_device: bool) -> dict[str, float]:
    """Seconds of one call that operators spent in themselves, by the innermost region around them; "" for none."""
    seconds: dict[str, float] = defaultdict(float)
    for event in events:
        if event.name.startswith((REGION, "[", "Profiler")):
            continue
        around = event.cpu_parent
        while around is not None and not around.name.startswith(REGION):
            around = around.cpu_parent
        own = event.self_device_time_total if on_device else event.self_cpu_time_total
        seconds[around.name.removeprefix(REGION) if around else ""] += own / 1e6 / CALLS
    return dict(seconds)


def _writable(file: str | os.PathLike | None) -> Path | None:
    """The path, after creating the file: better now than after the work. Raises LabError where it can't be written."""
    if file is None:
        return None
    path = Path(file).expanduser()
    try:
        path.open("a").close()
    except OSError as error:
        raise LabError(
            f"The trace {path} can't be written: {error.strerror}.", "", "Name a file in a folder that exists."
        ) from error
    return path
