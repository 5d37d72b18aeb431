"""The model that is served: a vision transformer with weights from a seed, and what it says of an image.

torchvision's VisionTransformer (Dosovitskiy et al., "An Image is Worth 16x16 Words", 2021), small enough for one
core. Nobody trained it: its labels mean nothing, but an image's label is always the same, so a right answer can be
told from a wrong one.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from labs_lib.errors import LabError
from labs_lib.machine import pinned_threads
from labs_lib.serving.limits import SIZE, decode
from labs_lib.serving.photos import photos
from labs_lib.timing import median_interval

if TYPE_CHECKING:
    import torch

LABELS = 1000
ROUNDS = 15  # of measure_service
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


def measure_service(model: torch.nn.Module, sizes: Sequence[int] = (1, 2, 4, 8, 16)) -> dict[int, float]:
    """Seconds that `classify` takes for a batch of each size, with one thread: what `simulate` needs.

    The median of 15 rounds; each goes through all sizes, so that a busy moment falls on all of them.

    Raises LabError where a size is no whole number above 0.
    """
    if not sizes or not all(isinstance(size, int) and size > 0 for size in sizes):
        raise LabError(f"These are no batch sizes: {sizes!r}.", "", "Give whole numbers above 0, such as (1, 4, 16).")
    images = [decode(file) for file in photos(max(sizes))]
    seconds: dict[int, list[float]] = {size: [] for size in sizes}
    with pinned_threads(1):
        for turn in range(ROUNDS + 1):
            for size, taken in seconds.items():
                start = time.perf_counter()
                classify(model, images[:size])
                if turn:  # the first is for caches and allocations
                    taken.append(time.perf_counter() - start)
    return {size: median_interval(taken).median for size, taken in seconds.items()}
