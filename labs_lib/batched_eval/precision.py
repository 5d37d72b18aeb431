"""Does this machine compute in bfloat16, or does it only convert to float32 and back, which costs time?"""

from __future__ import annotations

import torch

from labs_lib import hardware

UNITS = {
    "AMX BF16": ("amx_bf16",),
    "AVX-512 BF16": ("avx512_bf16",),
    "Arm BF16": ("bf16", "feat_bf16"),
}


def no_bfloat16(device: str = "cpu") -> str:
    """Why bfloat16 gains nothing on "cpu" or "cuda" here, in a few words; empty where there are units for it."""
    if device == "cuda":
        fast = torch.cuda.is_available() and torch.cuda.is_bf16_supported(including_emulation=False)
        return "" if fast else "no GPU here computes in bfloat16"
    try:
        found = hardware.instruction_sets(UNITS)
    except OSError as error:
        return f"cannot tell what this processor has: {error}"
    return "" if found else f"this processor has none of {', '.join(UNITS)}"
