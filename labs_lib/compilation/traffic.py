"""Bytes that a model reads and writes: operator by operator in eager mode, and the least there could be.

An eager operator reads its inputs from memory and writes its result back, whatever its neighbours do. A fused
kernel keeps what it made between them. Counted are tensors' bytes, once for each operator that touches them;
views move nothing. What a cache saves on the way is not subtracted: the same holds for the counts before and
after fusion.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch


@dataclass(frozen=True)
class Traffic:
    operators: int  # that compute: views are left out
    bytes: int  # read and written, by all of them


def eager_traffic(fn: Callable[..., object], *inputs: object) -> Traffic:
    """Operators and bytes of one call of `fn(*inputs)` without autograd.

    >>> import torch
    >>> x = torch.ones(1024)
    >>> eager_traffic(lambda x: torch.relu(x + x), x)
    Traffic(operators=2, bytes=16384)
    """
    import torch

    from labs_lib.dispatch import Watch

    counts = [0, 0]

    class Counting(Watch):
        def after(self, operator, operands, results):
            if not _is_view(operator):
                counts[0] += 1
                counts[1] += bytes_of(operands) + bytes_of(results)

    with torch.no_grad(), Counting():
        fn(*inputs)
    return Traffic(*counts)


def bytes_of(tensors: Iterable[torch.Tensor]) -> int:
    """Bytes of the tensors, each counted once, an expanded one as the memory it stands for."""
    distinct = {
        (tensor.untyped_storage()._cdata, tensor.storage_offset(), tuple(tensor.shape), tensor.stride()): tensor
        for tensor in tensors
    }
    return sum(min(tensor.nbytes, tensor.untyped_storage().nbytes()) for tensor in distinct.values())


def _is_view(operator: torch._ops.OpOverload) -> bool:
    """Whether the result is the input's memory under another shape, by the operator's schema."""
    returns = [value.alias_info for value in operator._schema.returns]
    return any(alias is not None and not alias.is_write for alias in returns)
