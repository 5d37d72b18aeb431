"""The eight bottlenecks, and what to try against each, as far as it fits the loader at hand."""

from __future__ import annotations

from torch.utils.data import DataLoader, IterableDataset

from labs_lib.data_loading.timeline import Timeline

STORAGE, DECODE, COLLATE, TRANSFER = "storage wait", "decode", "collate", "transfer"
OVERHEAD, START, SMALL, CONSUMER = "Python overhead", "worker start-up", "batch too small", "consumer"

# Each bottleneck with the parts of `Costs` that would vanish without it.
BOTTLENECKS = {
    STORAGE: ("storage",),
    DECODE: ("decode",),
    COLLATE: ("collate",),
    TRANSFER: ("pickle", "receive"),
    OVERHEAD: ("overhead",),
    START: ("start",),
    SMALL: ("step_fixed",),
    CONSUMER: ("step_growing",),
}
ADVICE = {
    STORAGE: "More workers than cores: they sleep most of the time.",
    DECODE: "As many workers as cores; or decode once and keep the pixels in a memory-mapped file; or smaller images.",
    COLLATE: "Join tensors with torch.stack, and let no pixel become a Python number. Then let workers do it.",
    TRANSFER: "Send tensors, which go by shared memory, and small types: uint8 now, float in the step. Or no workers.",
    START: "persistent_workers=True where there are more epochs; no workers where the set is small.",
    SMALL: "A larger batch if training allows it, else fuse or compile the step.",
    CONSUMER: "Make the step faster.",
}
ITERABLE = "This dataset is iterable: workers repeat every sample unless it shares them out (exercise 4.4)."
SMALL_WAIT = 0.1  # of the time: a consumer that waits no longer has no complaint against its loader


def advice_on(cause: str, loader: DataLoader, line: Timeline, batches: int) -> str:
    """What to try. `batches` is how many an epoch has."""
    stream, innocent = isinstance(loader.dataset, IterableDataset), line.wait_share < SMALL_WAIT
    advice = [ADVICE[cause]] if cause in ADVICE else []
    if cause == STORAGE:
        advice += _many_at_once(loader, stream)
    elif cause == OVERHEAD:
        advice = ["No workers."] * bool(line.workers) + [_fewer_calls(loader, stream)]
    elif cause == SMALL and batches == 1:
        advice = ["Fuse or compile the step: one batch holds all there is already."]
    if cause == SMALL and innocent:
        advice.append("The loader is not at fault.")
    if cause == CONSUMER and innocent:
        advice.append("Loading is quick enough: more workers and prefetching would change nothing.")
    elif cause == CONSUMER and not line.workers:
        advice.append("Workers would load while it runs.")
    return " ".join(advice + [ITERABLE] * stream)


def _many_at_once(loader: DataLoader, stream: bool) -> list[str]:
    if stream:
        return ["Or read many samples at once."]
    single = loader.batch_sampler is not None and not hasattr(loader.dataset, "__getitems__")
    return ["Or fetch many items at once in __getitems__."] * single


def _fewer_calls(loader: DataLoader, stream: bool) -> str:
    if loader.batch_sampler is None:  # batch_size=None
        return "Put more into each item: Python is called once for each, however small it is."
    if stream:
        return "Yield whole batches, under batch_size=None."
    return "Index whole batches: __getitems__, or batch_size=None with a sampler of batches."
