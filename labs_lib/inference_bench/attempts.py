"""What the checks of lab 09 give to a learner's function: a simulated device with its own clock, and models on it.

Time is virtual: whole nanoseconds that only planted work moves. So what takes longest is known exactly, however busy
the machine is.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from torch import nn

from labs_lib.exercises import NotYet

LAUNCH = 2_000  # ns until a queued operation is handed over
WIDTH, REPEATS = 16, 12
LARGEST, MOST = 80_000, 600_000  # ns: of the layers that are not slow, and of the one that is
KINDS = ("plain", "crowd", "own", "often", "first", "hiccup", "queue", "all")
MOST_READINGS = 2_000_000  # whoever reads the clock more often waits for it to move
NAMES = ("stem", "embed", "mix", "gate", "norm", "up", "down", "head", "pool", "fuse", "skip", "merge")
REASONS = (
    "a loop in Python over its rows",
    "weights so small that they are denormal",
    "a cast to float64 and back",
    "a copy to make contiguous what was so already",
    "a table that it computes anew in each call",
)


class Device:
    """A simulated device. With a queue, as a GPU has one, what is launched returns at once and is done later."""

    def __init__(self, queue: bool) -> None:
        self._queue, self._now, self._done, self._readings = queue, 0, 0, 0

    def clock(self) -> int:
        """The time in whole nanoseconds."""
        self._readings += 1
        if self._readings > MOST_READINGS:
            raise NotYet("the clock is read again and again. It only moves when something works or you synchronize.")
        return self._now

    def synchronize(self) -> None:
        """Waits until all that was launched is done."""
        self._now = max(self._now, self._done)

    def _launch(self, ns: int) -> None:
        self._now += LAUNCH
        self._done = max(self._now, self._done) + ns
        if not self._queue:
            self.synchronize()


class Layer(nn.Linear):
    """A linear layer whose calls take virtual time: `_usual` ns, and more in those calls that `_extra` names."""

    def __init__(self, device: Device, inputs: int, outputs: int, usual: int) -> None:
        super().__init__(inputs, outputs)
        self._device, self._usual, self._calls = device, usual, 0
        self._extra: Callable[[int], int] = lambda call: 0
        self._reads = False  # whether it reads a value out, and so waits for the device

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        self._device._launch(self._usual + self._extra(self._calls))
        self._calls += 1
        if self._reads:
            self._device.synchronize()
        return super().forward(x)


class Block(nn.Sequential):
    """Layers one after another, all of them `times` times, and work of its own before them."""

    def __init__(self, device: Device, layers: dict[str, nn.Module], times: int = 1) -> None:
        super().__init__(OrderedDict(layers))
        self._device, self._own, self._times = device, 0, times

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if self._own:
            self._device._launch(self._own)
        for _ in range(self._times):
            x = super().forward(x)
        return x


@dataclass(frozen=True)
class Planted:
    """A model in which one module takes most time of its own, and what might be taken for it."""

    model: Block
    x: torch.Tensor
    device: Device
    slow: str
    reason: str
    own: dict[str, int]  # ns of each module in a usual pass, without those inside it
    decoys: dict[str, str]  # the name of a module: why it is not the slow one


def planted(rng: np.random.Generator, kind: str) -> Planted:
    """A fresh model. `kind` is the trap in it, one of KINDS; "all" has each that goes with the others."""
    device = Device(queue=kind in ("queue", "all"))
    names = rng.permutation(NAMES).tolist()

    def layer(inputs: int = WIDTH, outputs: int = WIDTH, usual: int = 0) -> Layer:
        return Layer(device, inputs, outputs, usual or int(rng.integers(20_000, 40_000)))

    def block(count: int, usual: int = 0, times: int = 1) -> Block:
        return Block(device, {str(name): layer(usual=usual) for name in rng.permutation(NAMES)[:count]}, times)

    *plain, wide, first, second, crowd, often, last = names[:9]
    inner = {"expand": layer(WIDTH, 16 * WIDTH, LARGEST), "reduce": layer(16 * WIDTH, WIDTH, LARGEST)}
    parts: dict[str, nn.Module] = {name: layer() for name in plain}
    parts |= {wide: Block(device, inner), first: block(3), second: block(3), often: block(1, 5_000, REPEATS)}
    parts[crowd] = block(9, LARGEST if kind in ("crowd", "all") else 10_000)
    order = rng.permutation(list(parts)).tolist()
    model = Block(device, {name: parts[name] for name in order} | {last: layer()})
    model.eval()

    slow = _slow_down(rng, kind, model, plain, (first, second), often)
    decoys = {f"{wide}.{name}": "has the most weights and FLOPs" for name in inner}
    decoys[crowd] = "only holds many layers, each of them quick. What passes in a module inside is not its own time"
    layers = {name: module for name, module in model.named_modules() if isinstance(module, Layer)}
    if kind in ("hiccup", "all"):
        others = {name: each for name, each in layers.items() if name != slow}
        for turn, (name, each) in enumerate(others.items()):
            times = REPEATS if name.startswith(f"{often}.") else 1
            at, every = turn * times, len(others) * times
            each._extra = lambda call, at=at, every=every: 40 * MOST * (call % every == at)
            decoys[name] = "took long in one pass, when something else came in between: that is not usual"
    if kind in ("first", "all"):
        name = f"{wide}.expand"
        layers[name]._extra = lambda call: 50 * MOST if call == 0 else 0
        decoys[name] = "takes long in its first call only, in which it compiles"
    if device._queue:
        layers[last]._reads = True
        decoys[last] = (
            "reads a value out, so it waits for what others have launched. It does little itself: call "
            "device.synchronize() before you read the clock"
        )
    own = {name: module._own if isinstance(module, Block) else module._usual for name, module in model.named_modules()}
    own |= {name: ns * REPEATS for name, ns in own.items() if name.startswith(f"{often}.")}
    reason = REASONS[int(rng.integers(len(REASONS)))]
    return Planted(model, torch.randn(4, WIDTH), device, slow, reason, own, decoys)


def _slow_down(
    rng: np.random.Generator, kind: str, model: Block, plain: list[str], blocks: tuple[str, str], often: str
) -> str:
    """Makes one module slow, and returns its name."""
    ns = int(rng.integers(MOST * 4 // 5, MOST))
    kind = str(rng.choice(["nested", "own", "often"])) if kind == "all" else kind
    if kind == "own":
        name = str(rng.choice(blocks))
        model.get_submodule(name)._own = ns
        return name
    if kind == "often":
        among, ns = [f"{often}.{part}" for part in model.get_submodule(often)._modules], ns // REPEATS
    elif kind == "plain":
        among = plain
    else:
        among = [f"{name}.{part}" for name in blocks for part in model.get_submodule(name)._modules]
    name = str(rng.choice(among))
    model.get_submodule(name)._usual = ns
    return name
