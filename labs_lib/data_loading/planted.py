"""Loaders with one planted bottleneck each: what `diagnose` is tested on, and what an exercise lets you tune.

Everything is in a module, so that worker processes can import it. Each factory returns (loader, step).
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path

import numpy as np
import torch
from torch.utils.data import DataLoader, Dataset, IterableDataset, TensorDataset

from labs_lib.data_loading.photos import Photos, Rows, write_photos

Case = tuple[DataLoader, Callable[[object], object]]


@cache
def _photos(count: int = 96, size: int = 160) -> Path:
    return write_photos(count=count, size=(size, size))


class Pixels(Dataset):
    """Images that are in memory already: uint8 of shape (3, size, size), and a label."""

    def __init__(self, count: int, size: int) -> None:
        rng = np.random.default_rng(0)
        self.images = torch.from_numpy(rng.integers(0, 256, (count, 3, size, size), dtype=np.uint8))

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: int) -> tuple[torch.Tensor, int]:
        return self.images[index], index % 2


class Arrays(Dataset):
    """The same image over and over as a NumPy array of float32, of shape (3, size, size)."""

    def __init__(self, count: int, size: int) -> None:
        self.count, self.image = count, np.zeros((3, size, size), np.float32)

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, index: int) -> np.ndarray:
        return self.image.copy()


class RemoteStream(IterableDataset):
    """A stream of tensors, each of which takes `delay_s` to arrive (modelled)."""

    def __init__(self, count: int, delay_s: float) -> None:
        self.count, self.delay_s = count, delay_s

    def __iter__(self) -> Iterator[torch.Tensor]:
        for number in range(self.count):
            time.sleep(self.delay_s)
            yield torch.full((64,), float(number))


def pixel_lists(items: list[tuple[torch.Tensor, int]]) -> tuple[torch.Tensor, torch.Tensor]:
    """A collate function that makes a Python number of every pixel."""
    images = torch.tensor([image.tolist() for image, _ in items], dtype=torch.uint8)
    return images, torch.tensor([label for _, label in items])


def as_list(items: list[np.ndarray]) -> list[np.ndarray]:
    """A collate function that leaves NumPy arrays: they are pickled, where tensors would go by shared memory."""
    return items


class Convolution:
    """A step that works as long as its batch is large: a forward and a backward pass of two convolutions."""

    def __init__(self, channels: int, stride: int = 2) -> None:
        torch.manual_seed(0)
        self.model = torch.nn.Sequential(
            torch.nn.Conv2d(3, channels, 5, stride), torch.nn.ReLU(), torch.nn.Conv2d(channels, 16, 3, 2)
        )

    def __call__(self, batch: tuple[torch.Tensor, torch.Tensor]) -> None:
        self.model(batch[0].float().div_(255)).square().mean().backward()
        self.model.zero_grad()


class ManySmallOperators:
    """A step of many operators on little data: calling them costs more than what they compute."""

    def __init__(self, features: int, layers: int = 60) -> None:
        torch.manual_seed(0)
        self.weights = [torch.randn(features, features) / features for _ in range(layers)]

    def __call__(self, batch: list[torch.Tensor]) -> torch.Tensor:
        hidden = batch[0]
        for weight in self.weights:
            hidden = torch.relu(hidden @ weight) + 1
        return hidden.sum()


def sum_step(batch: list[torch.Tensor]) -> torch.Tensor:
    """A step that costs next to nothing."""
    return batch[0].sum()


def nothing(batch: object) -> None:
    """A step that does nothing."""


def remote_photos() -> Case:
    """Photos behind a storage that takes 20 ms for each (modelled), two workers."""
    photos = Photos(_photos(), storage_delay_s=0.02)
    return DataLoader(photos, batch_size=8, num_workers=2, persistent_workers=True), sum_step


def remote_without_workers() -> Case:
    """The same storage, read by the consumer itself."""
    return DataLoader(Photos(_photos(48), storage_delay_s=0.01), batch_size=8), sum_step


def remote_stream() -> Case:
    """An iterable dataset whose samples take 4 ms each to arrive (modelled)."""
    return DataLoader(RemoteStream(160, 0.004), batch_size=8), sum_step


def large_photos() -> Case:
    """Photos of 400 x 400 pixels, decoded and augmented by the consumer itself."""
    return DataLoader(Photos(_photos(64, 400), size=96), batch_size=8), sum_step


def large_photos_two_workers() -> Case:
    """The same by two workers."""
    return DataLoader(Photos(_photos(96, 400), size=96), batch_size=8, num_workers=2, persistent_workers=True), sum_step


def slow_collate() -> Case:
    """Images in memory, and a collate function that makes a Python number of every pixel."""
    return DataLoader(Pixels(160, 96), batch_size=16, collate_fn=pixel_lists), sum_step


def pickled_arrays() -> Case:
    """NumPy arrays of float32 that a worker has to push through a pipe."""
    arrays = Arrays(480, 224)
    return DataLoader(arrays, batch_size=16, num_workers=1, persistent_workers=True, collate_fn=as_list), nothing


def tiny_rows() -> Case:
    """Rows of 8 numbers, each of them one call of __getitem__."""
    return DataLoader(Rows(20_000, 8), batch_size=500), sum_step


def small_set() -> Case:
    """Eight batches, for which two workers are started anew in each epoch."""
    return DataLoader(Pixels(64, 32), batch_size=8, num_workers=2), sum_step


def small_batches() -> Case:
    """Batches of two rows for a step of many small operators."""
    torch.manual_seed(0)
    rows = TensorDataset(torch.randn(600, 32))
    return DataLoader(rows, batch_size=2), ManySmallOperators(32)


def slow_consumer() -> Case:
    """Small photos by one worker for a step of large convolutions."""
    return DataLoader(Photos(_photos(64)), batch_size=8, num_workers=1, persistent_workers=True), Convolution(48, 1)


def slow_consumer_alone() -> Case:
    """Images in memory, no workers, and the same step."""
    return DataLoader(Pixels(64, 96), batch_size=8), Convolution(48, 1)


# The bottleneck that each has, in the words of labs_lib.data_loading.diagnose.BOTTLENECKS.
PLANTED: dict[Callable[[], Case], str] = {
    remote_photos: "storage wait",
    remote_without_workers: "storage wait",
    remote_stream: "storage wait",
    large_photos: "decode",
    large_photos_two_workers: "decode",
    slow_collate: "collate",
    pickled_arrays: "transfer",
    tiny_rows: "Python overhead",
    small_set: "worker start-up",
    small_batches: "batch too small",
    slow_consumer: "consumer",
    slow_consumer_alone: "consumer",
}
