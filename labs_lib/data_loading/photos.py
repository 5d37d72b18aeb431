"""Datasets of the lab: JPEG photographs on disk, the same already decoded, and rows so small that Python shows.

They live in a module because worker processes import them: a class of a notebook cell is unknown to a worker
that was started with "spawn" or "forkserver" (macOS, Windows, and Linux from Python 3.14 on).
"""

from __future__ import annotations

import atexit
import io
import os
import shutil
import tempfile
import time
from functools import cache, partial
from pathlib import Path

import numpy as np
import torch
from torch.utils.data import Dataset

from labs_lib.errors import LabError

PHOTOGRAPH = (427, 640)  # height and width of scikit-learn's two
QUALITY = 90  # of the JPEG files, in libjpeg's scale to 100


@cache
def _originals() -> tuple[np.ndarray, ...]:
    """The two photographs that scikit-learn carries, uint8 of shape (*PHOTOGRAPH, 3)."""
    from sklearn.datasets import load_sample_images

    return tuple(load_sample_images().images)


def write_photos(
    folder: str | Path | None = None, count: int = 64, size: tuple[int, int] = (160, 160), seed: int = 0
) -> Path:
    """Writes `count` JPEG files of `size` (height, width) and returns their folder.

    Each is a random cut-out of one of two photographs (scikit-learn's `load_sample_images`), flipped or not; the
    digit behind the hyphen of a file's name is its label. Without `folder` they lie in a temporary one, which is
    removed when Python ends.

    >>> sorted(path.name for path in write_photos(count=2, size=(32, 32)).iterdir())
    ['0000-1.jpg', '0001-0.jpg']

    Raises LabError where the size doesn't fit into the photographs.
    """
    from PIL import Image

    height, width = size
    tall, wide = PHOTOGRAPH
    if count < 1 or not (1 <= height <= tall and 1 <= width <= wide):
        raise LabError(
            f"count={count} photos of {height} x {width} can't be cut.",
            f"The photographs have {tall} x {wide} pixels.",
            "Ask for at least one, and none larger.",
        )
    folder = _temporary_folder() if folder is None else Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(seed)
    for number in range(count):
        label = int(rng.integers(2))
        top, left = int(rng.integers(tall - height + 1)), int(rng.integers(wide - width + 1))
        image = _originals()[label][top : top + height, left : left + width]
        if rng.integers(2):
            image = image[:, ::-1]
        Image.fromarray(np.ascontiguousarray(image)).save(folder / f"{number:04}-{label}.jpg", quality=QUALITY)
    return folder


def _temporary_folder() -> Path:
    folder = tempfile.mkdtemp(prefix="labs-photos-")
    atexit.register(partial(_remove, folder, os.getpid()))
    return Path(folder)


def _remove(folder: str, owner: int) -> None:
    if os.getpid() == owner:  # a forked child inherits this call, but the files aren't its own
        shutil.rmtree(folder, ignore_errors=True)


class Photos(Dataset):
    """The JPEG files of a folder as (image, label): uint8 of shape (3, size, size), and 0 or 1.

    An item goes through `read`, `decode` and `augment`. `counted` says how many decodes and bytes read this
    process has seen. `storage_delay_s` is slept in each read: a modelled storage, far away or slow to seek.

    >>> photos = Photos(write_photos(count=3, size=(40, 40)), size=32)
    >>> image, label = photos[0]
    >>> image.shape, image.dtype, label, photos.counted["decodes"]
    (torch.Size([3, 32, 32]), torch.uint8, 1, 1)
    """

    def __init__(self, folder: str | Path, storage_delay_s: float = 0.0, augment: bool = True, size: int = 96) -> None:
        self.paths = sorted(str(path) for path in Path(folder).glob("*.jpg"))
        if not self.paths:
            raise LabError(f"No JPEG files in {folder}.", "", "Make some with write_photos().")
        self.storage_delay_s, self.random, self.size = storage_delay_s, augment, size
        self.counted = {"decodes": 0, "bytes_read": 0}

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, index: int) -> tuple[torch.Tensor, int]:
        return self.augment(self.decode(self.read(index))), self.label(index)

    def label(self, index: int) -> int:
        return int(Path(self.paths[index]).stem.rpartition("-")[2])

    def read(self, index: int) -> bytes:
        """The bytes of file `index`, after the modelled delay of the storage."""
        if self.storage_delay_s:
            time.sleep(self.storage_delay_s)
        data = Path(self.paths[index]).read_bytes()
        self.counted["bytes_read"] += len(data)
        return data

    def decode(self, data: bytes) -> np.ndarray:
        """The pixels of a JPEG file: uint8 of shape (height, width, 3)."""
        from PIL import Image

        self.counted["decodes"] += 1
        return np.asarray(Image.open(io.BytesIO(data)).convert("RGB"))

    def augment(self, image: np.ndarray) -> torch.Tensor:
        """A cut-out, mirrored and brightened at random; without augmentation the middle. (3, size, size), uint8.

        Chance comes from torch's generator, which a DataLoader seeds anew in each worker and epoch.
        """
        spare = [max(0, extent - self.size) for extent in image.shape[:2]]
        if not self.random:
            top, left = (extent // 2 for extent in spare)
            return _channels_first(image[top : top + self.size, left : left + self.size])
        top, left = (int(torch.randint(extent + 1, ())) for extent in spare)
        image = image[top : top + self.size, left : left + self.size]
        if torch.rand(()) < 0.5:
            image = image[:, ::-1]
        bright = np.float32(0.8 + 0.4 * float(torch.rand(())))
        return _channels_first(np.clip(image * bright, 0, 255).astype(np.uint8))

    def predecoded(self, path: str | Path | None = None) -> Decoded:
        """The same photographs decoded once into a file of pixels; augmentation stays as it is, at each access.

        Raises LabError where the photographs differ in size, so that they don't fit into one array.
        """
        target = _temporary_folder() / "pixels.npy" if path is None else Path(path)
        first = self.decode(self.read(0))
        pixels = np.lib.format.open_memmap(target, "w+", np.uint8, (len(self), *first.shape))
        for index in range(len(self)):
            image = self.decode(self.read(index))
            if image.shape != first.shape:
                raise LabError(
                    f"Photo {index} has the shape {image.shape}, photo 0 {first.shape}.",
                    "One array holds images of one size only.",
                    "Cut or scale them to one size first.",
                )
            pixels[index] = image
        pixels.flush()
        return Decoded(target, [self.label(index) for index in range(len(self))], self.random, self.size)


def _channels_first(image: np.ndarray) -> torch.Tensor:
    return torch.from_numpy(np.ascontiguousarray(image.transpose(2, 0, 1)))


class Decoded(Photos):
    """Photographs decoded before: pixels in a memory-mapped .npy file (count, height, width, 3), uint8.

    Nothing is decoded here; the operating system reads the pages of the file that are touched.
    """

    def __init__(self, path: str | Path, labels: list[int], augment: bool, size: int) -> None:
        self.path, self.labels, self.random, self.size = str(path), labels, augment, size
        self.counted = {"decodes": 0, "bytes_read": 0}
        self.pixels: np.ndarray | None = None  # each process maps the file itself, when it first needs it

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, index: int) -> tuple[torch.Tensor, int]:
        if self.pixels is None:
            self.pixels = np.load(self.path, mmap_mode="r")
        image = self.pixels[index]
        self.counted["bytes_read"] += image.nbytes
        return self.augment(image), self.labels[index]

    def __getstate__(self) -> dict[str, object]:
        return {**self.__dict__, "pixels": None}


class Rows(Dataset):
    """`n` rows of `features` numbers each, float32, and a label: items that cost little but the call.

    >>> len(Rows(5, 3)), Rows(5, 3)[0][0].shape
    (5, torch.Size([3]))
    """

    def __init__(self, n: int, features: int, seed: int = 0) -> None:
        rng = np.random.default_rng(seed)
        self.rows = torch.from_numpy(rng.standard_normal((n, features), dtype=np.float32))
        self.labels = torch.from_numpy(rng.integers(2, size=n))

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, index: int) -> tuple[torch.Tensor, torch.Tensor]:
        return self.rows[index], self.labels[index]
