"""Models with one planted reason each why compiling them goes wrong, or does not pay."""

import math
from pathlib import Path

import numpy as np
import torch
from torch import nn

HERE = Path(__file__).name


class NormGelu(nn.Module):
    """Layer norm and GELU by hand: all of it can be fused."""

    def __init__(self, width):
        super().__init__()
        self.scale, self.shift = nn.Parameter(torch.ones(width)), nn.Parameter(torch.zeros(width))

    def forward(self, x):
        centred = x - x.mean(-1, keepdim=True)
        x = centred / torch.sqrt((centred**2).mean(-1, keepdim=True) + 1e-5) * self.scale + self.shift
        return 0.5 * x * (1 + torch.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x**3)))


class Reads(nn.Module):
    def forward(self, x):
        limit = x.abs().max().item()
        return torch.tanh(x) * limit


class Branches(nn.Module):
    def forward(self, x):
        if x.sum() > 0:
            return torch.tanh(x)
        return torch.sin(x)


class Prints(nn.Module):
    def forward(self, x):
        x = torch.tanh(x)
        print("", end="")
        return torch.sin(x)


class Selects(nn.Module):
    def forward(self, x):
        return torch.tanh(x[x > 0]).sum() + x


class BreaksInALoop(nn.Module):
    def forward(self, x):
        for _ in range(3):
            x = torch.sin(x)
            if x.sum() > 0:
                x = x + 1
        return x


class Counts(nn.Module):
    def __init__(self):
        super().__init__()
        self.step = 0

    def forward(self, x):
        self.step += 1
        return torch.tanh(x) * self.step


def small():
    return nn.Sequential(nn.Linear(16, 16), nn.ReLU(), nn.Linear(16, 16)).eval()


def products():
    return nn.Sequential(nn.Linear(512, 512), nn.Linear(512, 512)).eval()


def rows(count, width=64):
    """Shape (count, width), float32, normal numbers from a seed; their sum is above 0."""
    values = np.random.default_rng(0).standard_normal((count, width), dtype=np.float32)
    return torch.from_numpy(values + 0.1)
