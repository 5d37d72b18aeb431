"""Photographs to classify: JPEG files as bytes, each a cut-out of a picture that scikit-learn carries."""

from __future__ import annotations

import io
from functools import cache

import numpy as np

from labs_lib.errors import LabError

SIDE = 128  # pixels of a photo's side
QUALITY = 90  # in libjpeg's scale to 100


@cache
def _originals() -> tuple[np.ndarray, ...]:
    """Two photographs, uint8 of shape (427, 640, 3)."""
    from sklearn.datasets import load_sample_images

    return tuple(load_sample_images().images)


def photos(n: int = 64, seed: int = 0, side: int = SIDE) -> list[bytes]:
    """`n` JPEG files of `side` x `side` pixels: cut at random from one of two photographs, flipped or not.

    >>> first, second = photos(2)
    >>> first[:2].hex(), first != second
    ('ffd8', True)

    Raises LabError where the size does not fit into the photographs.
    """
    from PIL import Image

    height, width = _originals()[0].shape[:2]
    if n < 1 or not 8 <= side <= height:
        raise LabError(
            f"{n} photos of {side} x {side} pixels can't be cut.",
            f"The photographs have {width} x {height}.",
            f"Ask for at least one, of 8 to {height}.",
        )
    rng = np.random.default_rng(seed)
    files = []
    for _ in range(n):
        original = _originals()[int(rng.integers(2))]
        top, left = int(rng.integers(height - side + 1)), int(rng.integers(width - side + 1))
        cut = original[top : top + side, left : left + side]
        if rng.integers(2):
            cut = cut[:, ::-1]
        file = io.BytesIO()
        Image.fromarray(np.ascontiguousarray(cut)).save(file, "JPEG", quality=QUALITY)
        files.append(file.getvalue())
    return files
