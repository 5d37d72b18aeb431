"""The two panels of lab 03: what a training step of a transformer holds, and an allocator at work."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache

from labs_lib.figures import Picture
from labs_lib.gpu_memory.caching_allocator import CachingAllocator, OutOfMemory, Request
from labs_lib.gpu_memory.devices import DEVICES, find_device
from labs_lib.gpu_memory.models import Shape, transformer_step
from labs_lib.gpu_memory.pictures import composition_picture, segments_picture
from labs_lib.gpu_memory.plans import Plan
from labs_lib.gpu_memory.replays import Replay, replay
from labs_lib.gpu_memory.segments import MIB
from labs_lib.gpu_memory.steps import Step
from labs_lib.panels import Choice, Panel
from labs_lib.units import size_text

TOKENS, VOCABULARY = 512, 8192
ADAMW = "AdamW"
OPTIMISERS = (ADAMW, "SGD with momentum", "plain SGD")  # an 8-bit one takes longer to replay than a hand waits
SEGMENT_CAPACITY = 60 * MIB
FIXED, EXPANDABLE = "fixed", "expandable"

# Three times a temporary, a result that is kept, a temporary; the temporaries go; something large is wanted.
SCATTERED = (
    *(
        Request("allocate", f"{name} {i}", size * MIB)
        for i in (1, 2, 3)
        for name, size in (("temp", 8), ("kept", 4), ("more", 8))
    ),
    *(Request("free", f"{name} {i}") for i in (1, 2, 3) for name in ("temp", "more")),
    Request("empty_cache"),
    Request("allocate", "large", 16 * MIB),
)


@lru_cache(maxsize=64)
def counted(depth: int, width: int, plan: Plan) -> Replay:
    """A training step of a transformer encoder, replayed on fake tensors; kept, as a panel asks again and again."""
    shape = Shape(depth, width, max(1, width // 64), 4 * width, VOCABULARY, TOKENS, causal=False)

    def make_step(batch: int) -> Step:
        return transformer_step(shape, batch)

    return replay(make_step, plan)


def composition_panel() -> Panel:
    """Size, batch and ways to save as controls; bytes at the peak, without and with them, as bars."""

    def draw(
        depth: int, width: int, batch: int, precision: str, optimiser: str, checkpointing: str, device: str
    ) -> Picture:
        plan = Plan(
            batch,
            checkpoint=checkpointing == "on",
            half=precision == "bfloat16",
            optimizer="" if optimiser == ADAMW else optimiser,
        )
        gpu = find_device(device)
        plain, chosen = (counted(depth, width, some) for some in (Plan(batch), plan))
        rows = [("plain step", plain), ("your choice", chosen)]
        says = (
            f"Depth {depth}, width {width}, {plan!s}, on {device}: {size_text(chosen.peak)} at the peak, plain "
            f"{size_text(plain.peak)} ({chosen.peak / plain.peak - 1:+.0%}), "
            f"{chosen.flops / plain.flops:.2f} times the FLOPs (counted)."
        )
        parts = [(label, run.trace.at(run.trace.peak_at)) for label, run in rows]
        return composition_picture(parts, says, gpu.usable, f"usable of {device}: {size_text(gpu.usable)} (modelled)")

    return Panel(
        draw,
        depth=Choice("depth", (2, 3, 4), 2),
        width=Choice("width", (256, 512, 768, 1024), 512),
        batch=Choice("batch", (1, 4, 16, 64, 128), 64),
        precision=Choice("precision", ("float32", "bfloat16"), "float32", widget="buttons"),
        optimiser=Choice("optimiser", OPTIMISERS, ADAMW, widget="menu"),
        checkpointing=Choice("checkpointing", ("off", "on"), "off", widget="buttons"),
        device=Choice("device", tuple(DEVICES), "T4", widget="menu"),
    )


def allocator_panel(requests: Sequence[Request] = SCATTERED, capacity: int = SEGMENT_CAPACITY) -> Panel:
    """The number of requests served, and the kind of segments, as controls; the segments as the picture."""

    def draw(served: int, segments: str) -> Picture:
        gpu = CachingAllocator(capacity, expandable=segments == EXPANDABLE)
        title = f"{segments} segments, before the first request"
        for number, request in enumerate(requests[:served], start=1):
            title = f"{segments} segments, {number}: {request}"
            try:
                gpu.do(request)
            except OutOfMemory:
                title += ": out of memory"
        return segments_picture(gpu, title)

    return Panel(
        draw,
        served=Choice("requests served", tuple(range(len(requests) + 1)), len(requests)),
        segments=Choice("segments", (FIXED, EXPANDABLE), FIXED, widget="buttons"),
    )
