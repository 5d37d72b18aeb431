"""Models of well-known shapes with random weights, and one training or inference step of each.

Memory depends on shapes alone: nothing is downloaded. The transformers leave dropout out; their encoder puts its
norms before attention and MLP, where DistilBERT has them behind: the same tensors in another order.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial

import torch
from torch import nn
from torch.nn import functional as F

from labs_lib.gpu_memory.steps import Step


@dataclass(frozen=True)
class Shape:
    """The sizes of a transformer, and which of two families it belongs to."""

    layers: int
    width: int
    heads: int
    hidden: int  # width of the MLP inside
    vocabulary: int
    context: int  # tokens in a row
    causal: bool = True  # each token sees those before it; else it sees all, as in an encoder
    llama: bool = False  # RMSNorm, rotary positions, gated MLP, no biases, a head of its own


GPT2_SMALL = Shape(layers=12, width=768, heads=12, hidden=3072, vocabulary=50257, context=1024)
DISTILBERT = Shape(layers=6, width=768, heads=12, hidden=3072, vocabulary=30522, context=512, causal=False)
LLAMA_7B = Shape(layers=32, width=4096, heads=32, hidden=11008, vocabulary=32000, context=2048, llama=True)


class Transformer(nn.Module):
    """Tokens (batch, tokens) to logits (batch, tokens, vocabulary)."""

    def __init__(self, shape: Shape) -> None:
        super().__init__()
        self.embedding = nn.Embedding(shape.vocabulary, shape.width)
        self.positions = None if shape.llama else nn.Embedding(shape.context, shape.width)
        self.blocks = nn.ModuleList(Block(shape) for _ in range(shape.layers))
        self.norm = norm(shape)
        self.head = nn.Linear(shape.width, shape.vocabulary, bias=False)
        if not shape.llama:
            self.head.weight = self.embedding.weight

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        x = self.embedding(tokens)
        if self.positions is not None:
            x = x + self.positions.weight[: tokens.shape[1]]
        for block in self.blocks:
            x = block(x)
        return self.head(self.norm(x))


class Block(nn.Module):
    def __init__(self, shape: Shape) -> None:
        super().__init__()
        self.norm_1, self.norm_2 = norm(shape), norm(shape)
        self.attention = Attention(shape)
        self.mlp = GatedMLP(shape) if shape.llama else MLP(shape)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = x + self.attention(self.norm_1(x))
        return x + self.mlp(self.norm_2(x))


class Attention(nn.Module):
    def __init__(self, shape: Shape) -> None:
        super().__init__()
        self.heads, self.causal = shape.heads, shape.causal
        self.qkv = nn.Linear(shape.width, 3 * shape.width, bias=not shape.llama)
        self.out = nn.Linear(shape.width, shape.width, bias=not shape.llama)
        self.rotary = Rotary(shape) if shape.llama else None

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        batch, tokens, width = x.shape
        q, k, v = self.qkv(x).view(batch, tokens, 3, self.heads, -1).permute(2, 0, 3, 1, 4)
        if self.rotary:
            q, k = self.rotary(q), self.rotary(k)
        values = F.scaled_dot_product_attention(q, k, v, is_causal=self.causal)
        return self.out(values.transpose(1, 2).reshape(batch, tokens, width))


class Rotary(nn.Module):
    """Turns pairs of features by an angle that grows with the position."""

    def __init__(self, shape: Shape) -> None:
        super().__init__()
        size = shape.width // shape.heads
        frequencies = 10000.0 ** -(torch.arange(0, size, 2) / size)
        angles = torch.outer(torch.arange(shape.context), frequencies)
        self.register_buffer("cos", angles.cos().repeat(1, 2), persistent=False)
        self.register_buffer("sin", angles.sin().repeat(1, 2), persistent=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        tokens = x.shape[-2]
        cos, sin = self.cos[:tokens].to(x.dtype), self.sin[:tokens].to(x.dtype)
        first, second = x.chunk(2, dim=-1)
        return x * cos + torch.cat((-second, first), dim=-1) * sin


class MLP(nn.Module):
    def __init__(self, shape: Shape) -> None:
        super().__init__()
        self.up = nn.Linear(shape.width, shape.hidden)
        self.down = nn.Linear(shape.hidden, shape.width)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.down(F.gelu(self.up(x)))


class GatedMLP(nn.Module):
    def __init__(self, shape: Shape) -> None:
        super().__init__()
        self.gate = nn.Linear(shape.width, shape.hidden, bias=False)
        self.up = nn.Linear(shape.width, shape.hidden, bias=False)
        self.down = nn.Linear(shape.hidden, shape.width, bias=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.down(F.silu(self.gate(x)) * self.up(x))


def norm(shape: Shape) -> nn.Module:
    return nn.RMSNorm(shape.width) if shape.llama else nn.LayerNorm(shape.width)


def next_token_loss(logits: torch.Tensor, tokens: torch.Tensor) -> torch.Tensor:
    """Mean cross entropy of each token, given those before it."""
    return F.cross_entropy(logits[:, :-1].flatten(0, 1), tokens[:, 1:].flatten())


def every_token_loss(logits: torch.Tensor, tokens: torch.Tensor) -> torch.Tensor:
    return F.cross_entropy(logits.flatten(0, 1), tokens.flatten())


def transformer_step(shape: Shape, batch: int, training: bool = True) -> Step:
    """A step of `batch` full rows of tokens."""
    tokens = torch.zeros(batch, shape.context, dtype=torch.int64)
    loss = next_token_loss if shape.causal else every_token_loss
    return step_of(Transformer(shape), tokens, loss, tokens, training)


def gpt2_small(batch: int, training: bool = True) -> Step:
    return transformer_step(GPT2_SMALL, batch, training)


def encoder(batch: int, training: bool = True) -> Step:
    """An encoder of DistilBERT's size that learns to fill in words."""
    return transformer_step(DISTILBERT, batch, training)


def llama_7b(batch: int, training: bool = True) -> Step:
    return transformer_step(LLAMA_7B, batch, training)


def resnet50(batch: int, training: bool = True) -> Step:
    import torchvision

    return image_step(torchvision.models.resnet50(), batch, training)


def vit_b_16(batch: int, training: bool = True) -> Step:
    import torchvision

    return image_step(torchvision.models.vit_b_16(), batch, training)


def mlp(batch: int, training: bool = True, width: int = 4096, layers: int = 4) -> Step:
    stages = [stage for _ in range(layers) for stage in (nn.Linear(width, width), nn.ReLU())]
    inputs, targets = torch.zeros(batch, width), torch.zeros(batch, dtype=torch.int64)
    return step_of(nn.Sequential(*stages, nn.Linear(width, 10)), inputs, F.cross_entropy, targets, training)


def image_step(model: nn.Module, batch: int, training: bool) -> Step:
    images, classes = torch.zeros(batch, 3, 224, 224), torch.zeros(batch, dtype=torch.int64)
    return step_of(model, images, F.cross_entropy, classes, training)


def step_of(model: nn.Module, inputs: torch.Tensor, loss: object, targets: torch.Tensor, training: bool) -> Step:
    """A training step with AdamW, or an inference step of the model in eval mode."""
    if training:
        return Step(model, inputs, loss, (targets,), optimizer=partial(torch.optim.AdamW, lr=1e-4))
    return Step(model.eval(), inputs)


STEPS = {
    "ResNet-50": resnet50,
    "GPT-2 small": gpt2_small,
    "DistilBERT-size encoder": encoder,
    "ViT-B/16": vit_b_16,
    "MLP": mlp,
}
