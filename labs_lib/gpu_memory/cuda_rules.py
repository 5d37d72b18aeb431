"""Where PyTorch allocates differently on a CUDA device than on a CPU, and how a replay on the CPU follows it.

A step can be replayed on fake CPU tensors anywhere, while the backward pass of fake CUDA tensors needs a driver.
Most operators allocate the same on both. Inside `as_on_cuda()` those that don't behave as on CUDA:

- autocast casts by CUDA's lists (norms, softmax and losses in float32), not by the shorter ones of the CPU
- attention is one fused kernel (memory-efficient, or flash in 16 bits), whatever dropout and mask
- dropout saves a mask of one byte per element, RMSNorm its input and one number per row
- nn.MultiheadAttention takes no fast path, whose one large kernel would hide what it allocates

`on_cuda` turns an optimiser to `foreach`, the default there: all tensors in one pass, with temporaries for all.
What remains unseen is what kernels allocate inside themselves, above all cuDNN's workspaces for convolutions.
All this is taken from PyTorch's source and documentation, and waits for recordings on real devices.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager

import torch
from torch.library import Library, fallthrough_kernel
from torch.nn.functional import pad

aten = torch.ops.aten
HALVES = (torch.float16, torch.bfloat16)

# ATen/autocast_mode.h has four policies for CUDA. These three lists are named; all other operators that it
# registers for CUDA are cast to float32. What is cast to 16 bits here reaches a matrix product that is, too.
TO_HALF = {
    *("_convolution", "convolution", "cudnn_convolution", "cudnn_convolution_transpose", "_cudnn_rnn"),
    *("_thnn_fused_gru_cell", "_thnn_fused_lstm_cell", "gru_cell", "lstm_cell", "rnn_relu_cell", "rnn_tanh_cell"),
    *("addmv", "addr", "chain_matmul", "einsum", "linalg_multi_dot", "mv", "_scaled_dot_product_flash_attention"),
}
PROMOTED = {
    *("addcdiv", "addcmul", "atan2", "bilinear", "cross", "dot", "vdot"),
    *("index_put", "scatter_add", "tensordot"),
}
FLOAT32_RESULT = {"softmax", "log_softmax", "sum", "cumsum", "cumprod", "linalg_vector_norm", "linalg_matrix_norm"}


@contextmanager
def as_on_cuda() -> Iterator[None]:
    """Makes operators on fake CPU tensors allocate as on CUDA. Holds for the whole process, and can't be nested."""
    library = Library("aten", "IMPL")
    fast_path = torch.backends.mha.get_fastpath_enabled()
    with ExitStack() as exits:
        exits.callback(library._destroy)
        exits.callback(torch.backends.mha.set_fastpath_enabled, fast_path)
        torch.backends.mha.set_fastpath_enabled(False)
        with warnings.catch_warnings():
            # Older versions of PyTorch say once in a process that a kernel is overridden. It is meant.
            warnings.filterwarnings("ignore", "Warning only once for all operators", UserWarning)
            for name, kernel in autocast_kernels():
                library.impl(name, kernel, "AutocastCPU")
            for name, kernel in (
                ("scaled_dot_product_attention", attention),
                ("dropout", dropout),
                ("rms_norm", rms_norm),
            ):
                library.impl(name, kernel, "AutogradCPU")
        yield


def on_cuda(optimizer: torch.optim.Optimizer) -> torch.optim.Optimizer:
    """Chooses `foreach` where the caller left the choice to PyTorch."""
    for group in optimizer.param_groups:
        if group.get("foreach", 0) is None and not group.get("fused"):
            group["foreach"] = True
    return optimizer


# --- autocast ---------------------------------------------------------------------------------------------


def autocast_kernels() -> Iterator[tuple[str, Callable[..., object]]]:
    """The kernels that turn the CPU's autocast lists into CUDA's."""
    cuda, cpu = (
        set(torch._C._dispatch_get_registrations_for_dispatch_key(key)) for key in ("AutocastCUDA", "AutocastCPU")
    )
    for name in sorted(cpu - cuda):
        yield name.removeprefix("aten::"), fallthrough_kernel
    for name in sorted(cuda - cpu):
        operator, _, overload = name.removeprefix("aten::").partition(".")
        if name.startswith("aten::") and operator not in TO_HALF | PROMOTED:
            packet = getattr(aten, operator)
            policy = float32_result if operator in FLOAT32_RESULT else float32_inputs
            yield name.removeprefix("aten::"), policy(getattr(packet, overload or "default"))


def float32_inputs(operator: torch._ops.OpOverload) -> Callable[..., object]:
    def kernel(*args: object, **kwargs: object) -> object:
        with _without_autocast():
            return operator(*map(_widened, args), **{name: _widened(value) for name, value in kwargs.items()})

    return kernel


def float32_result(operator: torch._ops.OpOverload) -> Callable[..., object]:
    """Asks for a float32 result, where the caller asks for no dtype; it is the operator's affair to convert."""
    names = [argument.name for argument in operator._schema.arguments]

    def kernel(first: torch.Tensor, *args: object, **kwargs: object) -> object:
        given = dict(zip(names[1:], args, strict=False)) | kwargs
        if first.dtype in HALVES and given.get("dtype") is None:
            given["dtype"] = torch.float32
        with _without_autocast():
            return operator(first, **given)

    return kernel


def _widened(value: object) -> object:
    return value.float() if isinstance(value, torch.Tensor) and value.dtype in HALVES else value


def _without_autocast() -> object:
    return torch._C._ExcludeDispatchKeyGuard(torch._C.DispatchKeySet(torch._C.DispatchKey.AutocastCPU))


# --- kernels that save less -------------------------------------------------------------------------------


def attention(query, key, value, attn_mask=None, dropout_p=0.0, is_causal=False, *, scale=None, enable_gqa=False):
    tensors = (query, key, value)
    if query.dim() != 4 or query.dtype == torch.float64 or value.shape[-1] != query.shape[-1]:
        return aten.scaled_dot_product_attention.default.decompose(
            query, key, value, attn_mask, dropout_p, is_causal, scale=scale, enable_gqa=enable_gqa
        )
    if query.dtype in HALVES and attn_mask is None:
        return aten._scaled_dot_product_flash_attention(query, key, value, dropout_p, is_causal, scale=scale)[0]
    if enable_gqa:
        groups = query.shape[1] // key.shape[1]
        key, value = key.repeat_interleave(groups, 1), value.repeat_interleave(groups, 1)
    if attn_mask is not None:
        attn_mask = _bias(attn_mask, query, key)
    wanted = torch.is_grad_enabled() and any(tensor.requires_grad for tensor in tensors)
    return aten._scaled_dot_product_efficient_attention(
        query, key, value, attn_mask, wanted, dropout_p, is_causal, scale=scale
    )[0]


def _bias(mask: torch.Tensor, query: torch.Tensor, key: torch.Tensor) -> torch.Tensor:
    """What is added to the scores, in the query's dtype, each row aligned to 8 elements."""
    if mask.dtype == torch.bool:
        mask = torch.zeros_like(mask, dtype=query.dtype).masked_fill_(mask.logical_not(), -torch.inf)
    rest = -mask.shape[-1] % 8
    if rest:
        mask = pad(mask, (0, rest))[..., : mask.shape[-1]]
    return mask.expand(*query.shape[:-1], key.shape[-2])


def dropout(input, p, train):
    if not train or p == 0:
        return input
    return aten.native_dropout(input, p, train)[0] if p < 1 else input * 0


class _RMSNorm(torch.autograd.Function):
    """The fused kernel's memory: it saves its input, its weight and one number per row."""

    @staticmethod
    def forward(context, x, weight, rows):
        scale = torch.empty(rows, dtype=torch.float32, device=x.device)
        context.save_for_backward(x, scale, *([] if weight is None else [weight]))
        return torch.empty_like(x)

    @staticmethod
    def backward(context, gradient):
        x, _, *weights = context.saved_tensors
        wanted = context.needs_input_grad
        return (
            torch.empty_like(x) if wanted[0] else None,
            torch.empty_like(weights[0]) if wanted[1] else None,
            None,
        )


def rms_norm(input, normalized_shape, weight=None, eps=None):
    return _RMSNorm.apply(input, weight, input.shape[: input.dim() - len(normalized_shape)])
