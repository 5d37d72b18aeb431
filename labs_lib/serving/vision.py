"""The model that is served: a vision transformer with weights from a seed, and what it says of an image.

torchvision's VisionTransformer (Dosovitskiy et al., "An Image is Worth 16x16 Words", 2021), small enough for one
core. Nobody trained it: its labels mean nothing, but an image's label is always the same, so a right answer can be
told from a wrong one.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from labs_lib.serving.limits import SIZE, decode

if TYPE_CHECKING:
    import torch

LABELS = 1000
MEAN, STD = 0.45, 0.225  # of pixels from 0 to 1, about those of ImageNet


def small_vit(seed: int = 0) -> torch.nn.Module:
    """A ViT for images of 96 x 96 pixels, (n, 3, 96, 96) to (n, 1000): patches of 16, 6 layers, width 192.

    >>> sum(weight.numel() for weight in small_vit().parameters())
    3017512
    """
    import torch
    from torchvision.models import VisionTransformer

    model = VisionTransformer(
        image_size=SIZE, patch_size=16, num_layers=6, num_heads=3, hidden_dim=192, mlp_dim=768, num_classes=LABELS
    )
    rng = np.random.default_rng(seed)
    with torch.no_grad():
        for weight in model.parameters():
            if weight.dim() < 2:
                continue  # norms and biases stay as they are
            drawn = torch.from_numpy(rng.standard_normal(weight.shape, np.float32))
            # 1/sqrt(inputs) keeps the size of what passes through. Tokens small: then the image decides the label.
            weight.copy_(drawn * (0.02 if weight.shape[0] == 1 else weight[0].numel() ** -0.5))
    return model.eval()


def classify(model: torch.nn.Module, images: Sequence[np.ndarray]) -> list[int]:
    """The labels of `images`, each uint8 of shape (96, 96, 3), from one forward pass over all of them."""
    import torch

    with torch.inference_mode():
        pixels = torch.from_numpy(np.stack(images)).permute(0, 3, 1, 2)
        return model((pixels / 255 - MEAN) / STD).argmax(1).tolist()


def right_answers(model: torch.nn.Module, files: Sequence[bytes]) -> list[int]:
    """The label of each file, one by one: what a service must answer, however it batches."""
    return [classify(model, [decode(file)])[0] for file in files]
