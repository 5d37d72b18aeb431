"""Requests with faults among them, each with an answer of its own, and the service that gives it.

    python -m tools.faulty_requests            the service; it ends when its standard input does

It is the real service with a model that reads an image's label off its colour. Faults live here, and not in the
product: the model raises for one colour in a hundred, and the requests are corrupt, too large or cut off.
"""

from __future__ import annotations

import io
import json
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image

from labs_lib.serving.limits import Limits
from labs_lib.serving.server import run
from labs_lib.serving.vision import MEAN, STD

if TYPE_CHECKING:
    import torch

GOOD, CORRUPT, LARGE, LEAVES, RAISES = "good", "corrupt", "too large", "hangs up", "model raises"
SHARES = {GOOD: 0.84, CORRUPT: 0.05, LARGE: 0.05, LEAVES: 0.05, RAISES: 0.01}
DEMANDED = {GOOD: 200, CORRUPT: 422, LARGE: 413, RAISES: 500}
COLOURS = 16**3
SETTINGS = {"max_batch": 16, "max_queue": 24, "timeout_s": 60.0}
BATCH_S = 0.004


def raises(colour: int) -> bool:
    return colour % 101 == 7


class Colours:
    """In place of the ViT: an image's label is its colour, of 16 levels in each channel. Some make it raise."""

    def __init__(self) -> None:
        self.batches: Counter[int] = Counter()

    def __call__(self, pixels: torch.Tensor) -> torch.Tensor:
        self.batches[len(pixels)] += 1
        time.sleep(BATCH_S)  # so that batches form
        levels = ((pixels[:, :, 0, 0] * STD + MEAN) * 15).round().long()
        labels = levels[:, 0] * 256 + levels[:, 1] * 16 + levels[:, 2]
        if any(map(raises, labels.tolist())):
            raise ValueError("secret")  # its text must not reach anyone
        return (labels[:, None] == labels.new_tensor(range(COLOURS))).long()


def serve(model: Colours, **settings: object) -> None:
    """Until standard input ends, as the service of the labs does it. Its last line tells the sizes of the batches."""
    ended = threading.Event()
    threading.Thread(target=lambda: (sys.stdin.read(), ended.set()), daemon=True).start()
    run(("batch",), until=ended, make_model=lambda: model, **settings)
    print(json.dumps({"event": "model", "batches": model.batches}), file=sys.stderr)


@dataclass(frozen=True)
class Request:
    number: int
    kind: str
    payload: bytes
    label: int | None = None

    def demands(self, status: int, body: dict) -> bool:
        if status != DEMANDED[self.kind]:
            return False
        if self.kind == GOOD:
            return body == {"label": self.label}
        sentence = body.get("error", "") if set(body) == {"error"} else ""
        return sentence.endswith(".") and sentence.count(". ") == 0 and "secret" not in sentence


def requests(count: int, seed: int) -> Iterator[Request]:
    rng = np.random.default_rng(seed)
    for number in range(count):
        kind = str(rng.choice(list(SHARES), p=list(SHARES.values())))
        colour = int(rng.integers(COLOURS))
        while raises(colour) != (kind == RAISES):
            colour = int(rng.integers(COLOURS))
        file = png(colour)
        if kind == CORRUPT:
            file = (file[: len(file) // 2], bytes(file[:20]) + rng.bytes(200), b"", b"secret")[number % 4]
        elif kind == LARGE:
            file += bytes(Limits().body_bytes + int(rng.integers(1000)))
        payload = post(file, odd=kind == LEAVES, chunked=kind == LARGE and number % 2 == 0)
        if kind == LEAVES and rng.integers(2):
            payload = payload[:-40]
        yield Request(number, kind, payload, colour)


def png(colour: int) -> bytes:
    file = io.BytesIO()
    Image.new("RGB", (8, 8), tuple(17 * (colour >> shift & 15) for shift in (8, 4, 0))).save(file, "PNG")
    return file.getvalue()


def post(file: bytes, odd: bool = False, chunked: bool = False) -> bytes:
    """A whole HTTP request with the file as a form. The length of its body is even, or odd where that is asked for."""
    before = b'--edge\r\nContent-Disposition: form-data; name="image"; filename="secret%s.png"\r\n'
    before += b"Content-Type: image/png\r\n\r\n"
    after = b"\r\n--edge--\r\n"
    pad = b"x" * ((len(before) - 2 + len(file) + len(after) + odd) % 2)
    body = before % pad + file + after
    length = b"Transfer-Encoding: chunked" if chunked else b"Content-Length: %d" % len(body)
    head = b"POST /classify HTTP/1.1\r\nHost: soak\r\nContent-Type: multipart/form-data; boundary=edge\r\n"
    return head + length + b"\r\n\r\n" + (b"%x\r\n%s\r\n0\r\n\r\n" % (len(body), body) if chunked else body)


if __name__ == "__main__":
    serve(Colours(), **SETTINGS)
