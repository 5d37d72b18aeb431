"""The encoded corpus as a torch Dataset."""

from __future__ import annotations

import numpy as np
import torch


class TextDataset(torch.utils.data.Dataset):
    """Rows of one index array. They stay as narrow as they are, and become int64 a row or a batch at a time.

    >>> TextDataset(np.array([[2, 3], [4, 0]], np.uint8))[1]
    tensor([4, 0])
    """

    def __init__(self, indices: np.ndarray) -> None:
        self.indices = torch.from_numpy(np.require(indices, requirements="W"))

    def __len__(self) -> int:
        return len(self.indices)

    def __getitem__(self, i: int) -> torch.Tensor:
        return self.indices[i].long()

    def __getitems__(self, batch: list[int]) -> list[torch.Tensor]:
        """The rows of a batch, by one indexing: what a DataLoader asks for. Its own collate puts them together."""
        return list(self.indices[batch].long())
