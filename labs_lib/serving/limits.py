"""What the service accepts, checked before it costs much: one sentence for each thing that is wrong."""

from __future__ import annotations

import io
import warnings
from dataclasses import dataclass

import numpy as np

SIZE = 96  # pixels of a side, as the model takes them
TYPES = ("image/jpeg", "image/png")


@dataclass(frozen=True)
class Limits:
    """Bounds on one request and on all at once. Memory for bodies is at most body_bytes x in_flight."""

    body_bytes: int = 1 << 20
    pixels: int = 4_000_000  # a small file can hold a huge image: a decompression bomb
    body_s: float = 5.0  # to arrive in; a client that stalls would keep its place, and hold up the end of the service
    in_flight: int = 256  # requests that are read, decoded or waiting; fewer where a policy has fewer places


class Refused(Exception):
    """A request that can't be answered: its HTTP status, and one sentence for who sent it."""

    def __init__(self, status: int, sentence: str, retry_after: int | None = None) -> None:
        super().__init__(sentence)
        self.status, self.sentence, self.retry_after = status, sentence, retry_after


def decode(file: bytes, limits: Limits | None = None) -> np.ndarray:
    """The pixels of a JPEG or PNG file, scaled to uint8 of shape (96, 96, 3).

    >>> decode(b"no image")
    Traceback (most recent call last):
    labs_lib.serving.limits.Refused: The file is no JPEG or PNG image.

    Raises Refused with 413 for too many pixels, told by the header alone, and with 422 for what can't be decoded.
    """
    from PIL import Image

    limits = limits or Limits()
    try:
        with warnings.catch_warnings():  # Pillow warns of bombs; here they are refused
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)
            image = Image.open(io.BytesIO(file), formats=("JPEG", "PNG"))
    except Image.DecompressionBombError:
        raise Refused(413, f"The image has too many pixels; at most {limits.pixels:,} are taken.") from None
    except Exception:  # whatever a hostile header trips over
        raise Refused(422, "The file is no JPEG or PNG image.") from None
    width, height = image.size
    if width * height > limits.pixels:
        raise Refused(413, f"The image has {width} x {height} pixels; at most {limits.pixels:,} are taken.")
    try:
        return np.asarray(image.convert("RGB").resize((SIZE, SIZE), Image.Resampling.BILINEAR))
    except Exception:
        raise Refused(422, "The image is corrupt or cut short.") from None
