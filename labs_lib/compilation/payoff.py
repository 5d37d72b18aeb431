"""When compiling pays: calls against total time, from a model of one call whose numbers were measured.

The model of one call of `depth` blocks (see `Block`) on `batch` rows of `width` features:

    eager    = depth * (a block's operators + elements * eager element + FLOPs * flop)
    compiled = a call + depth * (a block's kernels + elements * fused element + FLOPs * flop)

with elements = batch * width and FLOPs = 2 * batch * width**2. The matrix products cost the same on both sides:
the compiler calls the same library. An eager element has two prices: from arrays of 1 MiB on it costs more, since
each new array then costs page faults and does not stay in the cache.

Total time of n calls: n * eager, and first call + n * compiled.
"""

from __future__ import annotations

import json
import math
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from labs_lib import hardware
from labs_lib.catalogue import DATA
from labs_lib.compilation.watch import watch
from labs_lib.machine import pinned_threads, preset
from labs_lib.timing import time_pair
from labs_lib.toolchain import cold_cache, one_compile_thread

if TYPE_CHECKING:
    import torch

MODES = ("default", "reduce-overhead", "max-autotune-no-cudagraphs", "freezing")
RECORDED = DATA / "recordings" / "compile_costs.json"
TINY = (64, 1, 1)  # width, depth, batch: nearly all of the time is overhead
DEEP = (64, 2, 1)
LARGE = (256, 1, 2048)
MIDDLE = (256, 1, 512)  # timed eagerly only: arrays of half a MiB
LARGE_ARRAY = 2**20  # bytes
BUDGET_S = {"ci": 0.1, "lab": 0.25, "gpu": 0.25}  # for each pair of timings


@dataclass(frozen=True)
class Call:
    """Seconds of one call, by what takes them."""

    overhead: float
    pointwise: float
    products: float

    @property
    def total(self) -> float:
        return self.overhead + self.pointwise + self.products


@dataclass(frozen=True)
class Costs:
    """The model's numbers in seconds, and where they come from."""

    origin: str  # "measured here", or "recorded on DEVICE, DATE"
    operators: float  # of one block, eager, however small its data
    kernels: float  # of one block, compiled
    call: float  # of the compiled function itself: guards and the way in and out
    eager_element: float  # in arrays below LARGE_ARRAY
    eager_element_large: float
    fused_element: float
    flop: float
    first: float  # call of one block, in mode default
    first_more: float  # each further block
    modes: dict[str, tuple[float, float]]  # mode: (first call, one call), both as factors of mode default

    def eager(self, width: int, depth: int, batch: int) -> Call:
        """One eager call."""
        element = self.eager_element if 4 * batch * width < LARGE_ARRAY else self.eager_element_large
        return self._call(depth * self.operators, element, 1.0, width, depth, batch)

    def compiled(self, width: int, depth: int, batch: int, mode: str = "default") -> Call:
        """One call of the compiled function after the first."""
        overhead = self.call + depth * self.kernels
        return self._call(overhead, self.fused_element, self.modes[mode][1], width, depth, batch)

    def _call(self, overhead: float, element: float, factor: float, width: int, depth: int, batch: int) -> Call:
        elements, flops = batch * width, 2 * batch * width**2
        return Call(factor * overhead, factor * depth * elements * element, factor * depth * flops * self.flop)

    def first_call(self, depth: int, mode: str = "default") -> float:
        """Seconds until the first answer, nothing compiled before; the same for all sizes."""
        return self.modes[mode][0] * (self.first + (depth - 1) * self.first_more)

    def break_even(self, width: int, depth: int, batch: int, mode: str = "default") -> int | None:
        """The number of calls from which the total of the compiled function is the smaller one; None if never."""
        saved = self.eager(width, depth, batch).total - self.compiled(width, depth, batch, mode).total
        return max(1, math.ceil(self.first_call(depth, mode) / saved)) if saved > 0 else None


def block_stack(width: int, depth: int) -> torch.nn.Module:
    """`depth` residual blocks: layer norm, a matrix product, GELU, the norm and the GELU written by hand.

    Input and output have the shape (batch, width), float32. The product does 2 * batch * width**2 FLOPs.
    """
    import torch
    from torch import nn

    class Block(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.scale = nn.Parameter(torch.ones(width))
            self.shift = nn.Parameter(torch.zeros(width))
            self.product = nn.Linear(width, width)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            centred = x - x.mean(-1, keepdim=True)
            normal = centred / torch.sqrt((centred**2).mean(-1, keepdim=True) + 1e-5) * self.scale + self.shift
            h = self.product(normal)
            return x + 0.5 * h * (1 + torch.tanh(math.sqrt(2 / math.pi) * (h + 0.044715 * h**3)))

    return nn.Sequential(*(Block() for _ in range(depth))).eval()


def measure_costs() -> Costs:
    """Measures the model's numbers on this machine, some 10 to 30 seconds; without a compiler, those recorded.

    One thread, and nothing compiled before. Under LABS_PRESET=ci only mode "default" is measured.
    """
    if hardware.compiler() is None:
        return recorded_costs()
    import torch
    from tqdm.auto import tqdm

    others = MODES[1:] if preset() != "ci" else ()
    runs = [(TINY, "default"), (DEEP, "default"), *((LARGE, mode) for mode in ("default", *others))]
    with pinned_threads(1), one_compile_thread(), watch(), torch.inference_mode():
        bar = tqdm(runs, desc="compiling", leave=False)
        tiny, deep, large, *rest = [_measure(*size, mode) for size, mode in bar]
        width, depth, rows = MIDDLE
        middle = _seconds(block_stack(width, depth), rows)
        products = [_seconds(torch.nn.Linear(width, width), count) for count in (rows, LARGE[2])]
    kernels = max(0.0, (deep[1] - tiny[1]) / (DEEP[1] - 1))
    call = max(0.0, tiny[1] - kernels)
    return Costs(
        origin="measured here",
        operators=tiny[0],
        kernels=kernels,
        call=call,
        eager_element=max(0.0, middle - tiny[0] - products[0]) / (rows * width),
        eager_element_large=max(0.0, large[0] - tiny[0] - products[1]) / (LARGE[2] * width),
        fused_element=max(0.0, large[1] - tiny[1] - products[1]) / (LARGE[2] * width),
        flop=products[1] / (2 * LARGE[2] * width**2),
        first=large[2],
        first_more=max(0.0, (deep[2] - tiny[2]) / (DEEP[1] - 1)),
        modes={"default": (1.0, 1.0)}
        | {mode: (other[2] / large[2], other[1] / large[1]) for mode, other in zip(others, rest, strict=True)},
    )


def recorded_costs(path: Path = RECORDED) -> Costs:
    """The costs recorded on another machine, for one without a compiler and for tests."""
    record = json.loads(path.read_text())
    costs = record["costs"]
    modes = {mode: tuple(factors) for mode, factors in costs.pop("modes").items()}
    return Costs(origin=f"recorded on {record['device']}, {record['date']}", modes=modes, **costs)


def record(costs: Costs, device: str, date: str, torch_version: str) -> str:
    """The text of a recording of measured costs."""
    numbers = {name: value for name, value in asdict(costs).items() if name != "origin"}
    document = {"device": device, "date": date, "torch": torch_version, "unit": "seconds", "costs": numbers}
    return json.dumps(document, indent=1) + "\n"


def _measure(width: int, depth: int, batch: int, mode: str) -> tuple[float, float, float]:
    """(eager call, compiled call, first compiled call) in seconds."""
    import torch

    model, x = block_stack(width, depth), torch.ones(batch, width)
    options = {"options": {"freezing": True}} if mode == "freezing" else {"mode": mode}
    compiled = torch.compile(model, **options)
    with cold_cache():
        start = time.perf_counter()
        compiled(x)
        first = time.perf_counter() - start
        timing = time_pair(lambda: model(x), lambda: compiled(x), budget_s=BUDGET_S[preset()])
    return timing.naive_seconds, timing.optimised_seconds, first


def _seconds(model: torch.nn.Module, rows: int) -> float:
    """One eager call on `rows` rows."""
    import torch

    width = next(model.parameters()).shape[-1]
    x = torch.ones(rows, width)
    return time_pair(lambda: model(x), lambda: model(x), budget_s=BUDGET_S[preset()]).naive_seconds
