"""What torch's dispatcher shows: every operator that runs, below autograd, and the storages behind its tensors.

Tensors share storages, and bytes belong to storages. On every device, and on fake tensors that hold no data,
a storage is known by its number `_cdata`, and its death is told by a weak reference to it.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator
from math import prod

import torch
import torch._dynamo  # a mode imports it at its first operator: here, so that NumPy's arrays in it don't count
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import flop_registry

NO_WORK = ("prim", "profiler")  # a fake tensor's device is asked for; a profiled region begins or ends
# Older versions of torch have the formula of attention, and of its gradient, for CUDA's operator only.
for part in ("", "_backward"):
    cuda, cpu = (getattr(torch.ops.aten, f"_scaled_dot_product_flash_attention{of}{part}") for of in ("", "_for_cpu"))
    flop_registry.setdefault(cpu, flop_registry[cuda])


class Watch(TorchDispatchMode):
    """Counts operators and their FLOPs, and calls `before` and `after` with the operator and its tensors.

    A multiply-add counts 2 FLOPs, and only operators with a formula in torch.utils.flop_counter count.
    """

    def __init__(self) -> None:
        super().__init__()
        self.operators = 0
        self.flops = 0

    def before(self, operator: torch._ops.OpOverload, operands: list[torch.Tensor]) -> None:
        """An operator is about to run on these tensors."""

    def after(self, operator: torch._ops.OpOverload, operands: list[torch.Tensor], results: list[torch.Tensor]) -> None:
        """It has run. `operands` may have been changed in place, and may be among the results."""

    def __torch_dispatch__(self, operator, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        if operator.namespace in NO_WORK:
            return operator(*args, **kwargs)
        with self:  # under inference_mode composite operators arrive whole: count their parts
            output = operator.decompose(*args, **kwargs)
        if output is not NotImplemented:
            return output
        operands = list(tensors((args, kwargs)))
        self.before(operator, operands)
        output = operator(*args, **kwargs)
        self.operators += 1
        formula = flop_registry.get(operator._overloadpacket)
        if formula:
            self.flops += formula(*args, **kwargs, out_val=output)
        self.after(operator, operands, list(tensors(output)))
        return output


def tensors(tree: object) -> Iterator[torch.Tensor]:
    """The tensors in nested tuples, lists and dicts."""
    return (leaf for leaf in tree_leaves(tree) if isinstance(leaf, torch.Tensor))


class Touched:
    """The bytes of each storage that reading or writing some tensors touches: a view is not the whole of its storage.

    >>> x = torch.ones(100, 64)
    >>> rows = Touched()
    >>> rows.add([x[:1], x[:1].expand(5, -1)])  # expanding adds no byte, and reading twice no storage
    >>> rows.bytes
    512
    """

    def __init__(self) -> None:
        self.views: dict[torch.UntypedStorage, dict[tuple, int]] = defaultdict(dict)

    def add(self, some: Iterable[torch.Tensor]) -> None:
        for tensor in some:
            if tensor.is_nested:  # rows of different lengths: it has no shape, and is always taken whole
                self.views[tensor.untyped_storage()][()] = tensor.numel() * tensor.element_size()
                continue
            view = (tensor.storage_offset(), *tensor.shape, *tensor.stride())
            steps = [size for size, stride in zip(tensor.shape, tensor.stride(), strict=True) if stride]
            self.views[tensor.untyped_storage()][view] = prod(steps) * tensor.element_size()

    @property
    def by_storage(self) -> dict[torch.UntypedStorage, int]:
        """Views may overlap: at most the storage."""
        return {storage: min(storage.nbytes(), sum(views.values())) for storage, views in self.views.items()}

    @property
    def bytes(self) -> int:
        return sum(self.by_storage.values())
