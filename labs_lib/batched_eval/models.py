"""Three models in evaluation mode, small enough for a laptop. Weights come from NumPy: every machine starts equal."""

from __future__ import annotations

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F

from labs_lib.batched_eval.data import LONGEST, PADDING, VOCABULARY

WIDTH, HEADS, LAYERS, CLASSES = 64, 4, 2, 10  # of the text encoder


def digits_cnn(seed: int = 0) -> nn.Sequential:
    """Two convolutions with batch norms and a linear layer: images (n, 1, 8, 8) to logits (n, 10), 3,866 parameters.

    >>> model = digits_cnn()
    >>> sum(parameter.numel() for parameter in model.parameters()), model.training
    (3866, False)
    """
    model = nn.Sequential(
        nn.Conv2d(1, 8, 3, padding=1),
        nn.BatchNorm2d(8),
        nn.ReLU(),
        nn.Conv2d(8, 16, 3, padding=1),
        nn.BatchNorm2d(16),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Flatten(),
        nn.Linear(16 * 4 * 4, 10),
    )
    return drawn(model, seed)


def train(
    model: nn.Module, images: torch.Tensor, labels: torch.Tensor, epochs: int = 4, seed: int = 0, batch: int = 64
) -> nn.Module:
    """Trains the model in place with Adam (rate 0.01), and returns it in evaluation mode. Some seconds for digits."""
    optimizer = torch.optim.Adam(model.parameters(), 1e-2)
    generator = np.random.default_rng(seed)
    model.train()
    for _ in range(epochs):
        for rows in torch.from_numpy(generator.permutation(len(labels))).split(batch):
            optimizer.zero_grad()
            F.cross_entropy(model(images[rows]), labels[rows]).backward()
            optimizer.step()
    return model.eval()


def resnet18(seed: int = 0) -> nn.Module:
    """torchvision's ResNet-18 with random weights: images (n, 3, height, width) to logits (n, 1000)."""
    import torchvision

    return drawn(torchvision.models.resnet18(weights=None), seed)


def text_encoder(seed: int = 0) -> nn.Module:
    """A transformer encoder with random weights: token ids (n, length up to 128), int64, to logits (n, 10)."""
    return drawn(TextEncoder(), seed)


class TextEncoder(nn.Module):
    """Padding, the id 0, changes no answer: attention does not see it, and the mean leaves it out."""

    def __init__(self) -> None:
        super().__init__()
        self.tokens = nn.Embedding(VOCABULARY, WIDTH)
        self.positions = nn.Embedding(LONGEST, WIDTH)
        self.blocks = nn.ModuleList(Block() for _ in range(LAYERS))
        self.head = nn.Linear(WIDTH, CLASSES)

    def forward(self, ids: torch.Tensor) -> torch.Tensor:
        real = ids != PADDING
        x = self.tokens(ids) + self.positions.weight[: ids.shape[1]]
        for block in self.blocks:
            x = block(x, real[:, None, None, :])
        weights = real.unsqueeze(-1) / real.sum(1)[:, None, None]
        return self.head((x * weights).sum(1))


class Block(nn.Module):
    """Attention and an MLP, each behind a layer norm and around which the input is added."""

    def __init__(self) -> None:
        super().__init__()
        self.norm_1, self.norm_2 = nn.LayerNorm(WIDTH), nn.LayerNorm(WIDTH)
        self.qkv, self.out = nn.Linear(WIDTH, 3 * WIDTH), nn.Linear(WIDTH, WIDTH)
        self.up, self.down = nn.Linear(WIDTH, 4 * WIDTH), nn.Linear(4 * WIDTH, WIDTH)

    def forward(self, x: torch.Tensor, seen: torch.Tensor) -> torch.Tensor:
        n, length, _ = x.shape
        q, k, v = self.qkv(self.norm_1(x)).view(n, length, 3, HEADS, -1).permute(2, 0, 3, 1, 4)
        values = F.scaled_dot_product_attention(q, k, v, attn_mask=seen)
        x = x + self.out(values.transpose(1, 2).reshape(n, length, WIDTH))
        return x + self.down(F.gelu(self.up(self.norm_2(x))))


def drawn(model: nn.Module, seed: int) -> nn.Module:
    """The model in evaluation mode, its weights drawn by NumPy's generator: torch's differs between processors.

    Weights of two and more dimensions have the variance 2 / fan-in (He et al. 2015), those of an embedding 1; biases
    are 0, and norms start as the identity.
    """
    generator = np.random.default_rng(seed)
    with torch.no_grad():
        for module in model.modules():
            for name, parameter in module.named_parameters(recurse=False):
                if parameter.dim() >= 2:
                    fan_in = 2 if isinstance(module, nn.Embedding) else parameter[0].numel()
                    values = generator.standard_normal(parameter.shape, np.float32) * (2 / fan_in) ** 0.5
                    parameter.copy_(torch.from_numpy(values))
                elif name == "bias":
                    parameter.zero_()
    return model.eval()
