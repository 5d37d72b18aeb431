"""AdamW with states of one byte per value: what an 8-bit optimiser keeps, in a form that runs anywhere."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import torch

BLOCK = 256  # values that share a scale
SMALL = 4096  # tensors below this many values keep float32 states
CHUNK = 2**22  # values worked on at a time, a multiple of BLOCK


class AdamW8bit(torch.optim.Optimizer):
    """AdamW whose moments are stored as uint8 with one float32 scale for each block of 256 values.

    The layout, and so the bytes, are those of `bitsandbytes.optim.AdamW8bit` 0.50: 2 + 2 * 4/256 bytes a value,
    float32 moments for tensors below 4096 values (its two lookup tables of 1 KiB are left out). The codes are
    simpler than its dynamic ones: linear for the first moment, linear in the square root for the second.
    """

    def __init__(
        self,
        params: Iterable[torch.nn.Parameter],
        lr: float = 1e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 1e-2,
    ) -> None:
        super().__init__(params, {"lr": lr, "betas": betas, "eps": eps, "weight_decay": weight_decay})

    @torch.no_grad()
    def step(self, closure: None = None) -> None:
        for group in self.param_groups:
            for parameter in group["params"]:
                if parameter.grad is not None:
                    self._update(parameter, group)

    def _update(self, parameter: torch.nn.Parameter, group: dict) -> None:
        state = self.state[parameter]
        if not state:
            state.update(_empty_state(parameter))
        state["step"] += 1
        (low, high), decay = group["betas"], 1 - group["lr"] * group["weight_decay"]
        rate = group["lr"] / (1 - low ** state["step"])
        correction = 1 - high ** state["step"]
        for values, gradient, first, second in _chunks(parameter, state):
            mean = first.read().lerp_(gradient, 1 - low)
            square = second.read().square_().mul_(high).addcmul_(gradient, gradient, value=1 - high)
            first.write(mean)
            square.sqrt_()
            second.write(square)
            square.div_(correction**0.5).add_(group["eps"])
            values.mul_(decay).sub_(mean.div_(square).mul_(rate).to(values.dtype))


def _empty_state(parameter: torch.nn.Parameter) -> dict[str, object]:
    size = parameter.numel()
    new = parameter.new_zeros
    if size < SMALL:
        return {"step": 0, "first": new(size, dtype=torch.float32), "root": new(size, dtype=torch.float32)}
    blocks = -(-size // BLOCK)
    return {
        "step": 0,
        "first": new(size, dtype=torch.uint8).fill_(128),
        "root": new(size, dtype=torch.uint8),
        "first_scale": new(blocks, dtype=torch.float32),
        "root_scale": new(blocks, dtype=torch.float32),
    }


def _chunks(parameter: torch.nn.Parameter, state: dict) -> Iterator[tuple]:
    """(values, gradient, first moment, root of the second moment) of up to CHUNK values, so that little is unpacked."""
    values, gradient = parameter.view(-1), parameter.grad.reshape(-1)
    for start in range(0, values.numel(), CHUNK):
        part, blocks = slice(start, start + CHUNK), slice(start // BLOCK, (start + CHUNK) // BLOCK)
        moments = (
            _Moment(state[name][part], state[f"{name}_scale"][blocks], signed)
            if f"{name}_scale" in state
            else _Plain(state[name][part])
            for name, signed in (("first", True), ("root", False))
        )
        yield values[part], gradient[part].float(), *moments


class _Plain:
    def __init__(self, values: torch.Tensor) -> None:
        self.values = values

    def read(self) -> torch.Tensor:
        return self.values.clone()

    def write(self, values: torch.Tensor) -> None:
        self.values.copy_(values)


class _Moment:
    """uint8 codes: 128 + 127 * value/scale where it is signed, else 255 * value/scale.

    Codes without a sign are rounded up: they stand under a fraction, and none may become 0.
    """

    def __init__(self, codes: torch.Tensor, scales: torch.Tensor, signed: bool) -> None:
        self.codes, self.scales = codes, scales
        self.zero, self.steps, self.round = (128, 127, torch.round_) if signed else (0, 255, torch.ceil_)

    def read(self) -> torch.Tensor:
        blocks = _blocks(self.codes.float())
        return blocks.sub_(self.zero).div_(self.steps).mul_(self.scales[:, None]).view(-1)[: len(self.codes)]

    def write(self, values: torch.Tensor) -> None:
        blocks = _blocks(values)
        self.scales.copy_(blocks.abs().amax(1))
        codes = blocks.div(self.scales.clamp(min=1e-38)[:, None]).mul_(self.steps).add_(self.zero)
        self.codes.copy_(self.round(codes).view(-1)[: len(values)])


def _blocks(values: torch.Tensor) -> torch.Tensor:
    """The values in rows of BLOCK, the last one filled up with zeros."""
    return torch.nn.functional.pad(values, (0, -len(values) % BLOCK)).view(-1, BLOCK)
