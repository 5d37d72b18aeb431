"""Will it fit? A step's memory against that of a GPU, and what would make it fit, each way tried by a replay."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator
from dataclasses import replace
from itertools import combinations

from labs_lib.errors import LabError
from labs_lib.gpu_memory.devices import MIB, Device, find_device
from labs_lib.gpu_memory.plans import OPTIMIZERS, Plan
from labs_lib.gpu_memory.replays import MakeStep, Replay, replay
from labs_lib.gpu_memory.verdicts import FRAGMENTATION, NO, YES, Bill, Remedy, Verdict

CONTEXT = 500 * MIB  # CUDA context and loaded kernels; out-of-memory reports show 100 to 500 MiB of it
WORKSPACE = 8 * MIB + 128 * 1024  # cuBLAS, for each thread that uses it; PyTorch's default before Hopper
HOPPER_WORKSPACE = 32 * MIB
PAIRS_TRIED, PAIRS_WANTED = 8, 3

CAVEATS = {
    "accumulation": "batch norm sees micro-batches; divide a mean loss by their number",
    "checkpointing": "blocks are computed twice; batch norm updates its running statistics twice",
    "bfloat16": "8 bits of precision",
    "smaller batch": "noisier gradients, more steps for the same data",
    "SGD with momentum": "other learning rate; transformers often train worse",
    "plain SGD": "other learning rate; transformers often train worse",
    "8-bit AdamW": "states of 8 bits, a scale for 256 values; bytes as in bitsandbytes",
    "freezing": "only the last block learns",
}
INFERENCE_CAVEATS = {"bfloat16": "8 bits of precision", "smaller batch": "more calls for the same data"}
NO_BFLOAT16 = {
    True: "; a T4 has none: float16 with a GradScaler takes the same bytes",  # in training
    False: "; a T4 has none: float16 takes the same bytes",
}


def will_it_fit(make_step: MakeStep, device: str | Device = "T4", batch: int = 32, progress: bool = True) -> Verdict:
    """Replays `make_step(batch)` on fake tensors, and says whether it fits into a GPU, and what would make it fit.

    No GPU and no memory is needed. `device` is a name in `DEVICES`, or a `Device`. It fits ("yes") if

        peak + rounding + workspaces + context + 5 % of the peak <= usable

    and is "tight" if only the 5 % for fragmentation are too much. Peak and rounding are counted, by the rules of
    `labs_lib.gpu_memory.cuda_rules`; workspaces, context and fragmentation are modelled. Where it does not fit, or
    tightly, changes are replayed one by one; where none of them makes it fit, pairs of them.

    >>> from labs_lib.gpu_memory.models import mlp
    >>> verdict = will_it_fit(mlp, "T4", batch=64)
    >>> verdict.fits, verdict.remedies
    ('yes', ())

    Raises LabError for an unknown device, and where the step can't be replayed.
    """
    gpu = device if isinstance(device, Device) else find_device(device)
    plain = replay(make_step, batch)
    search = _Search(make_step, gpu, plain)
    found = [] if search.verdict(plain) == YES else _progress(search.remedies(), progress)
    return Verdict(gpu, plain, bill(plain, gpu), tuple(sorted(found, key=lambda remedy: remedy.rank)))


def bill(run: Replay, gpu: Device) -> Bill:
    """What a replayed step costs on a device."""
    workspace = HOPPER_WORKSPACE if gpu.name.startswith("H") else WORKSPACE
    threads = 2 if run.trains else 1  # the backward pass has a thread of its own, with a workspace of its own
    return Bill(run.peak, run.rounding, threads * workspace, CONTEXT, int(FRAGMENTATION * run.peak))


class _Search:
    """Tries changes to one step on one device."""

    def __init__(self, make_step: MakeStep, gpu: Device, plain: Replay) -> None:
        self.make_step, self.gpu, self.plain = make_step, gpu, plain
        self.runs: dict[Plan, Replay] = {}

    def verdict(self, run: Replay) -> str:
        return bill(run, self.gpu).verdict(self.gpu.usable)

    def remedies(self) -> Iterator[Remedy]:
        single = []
        for name, plan in self.changes():
            remedy = self.tried(name, plan)
            if remedy is not None:
                single.append(remedy)
                yield remedy
        if self.verdict(self.plain) == NO and all(remedy.fits == NO for remedy in single):
            yield from self.pairs(single)

    def changes(self) -> Iterator[tuple[str, Plan]]:
        batch = self.plain.plan.batch
        yield "bfloat16", Plan(batch, half=True)
        if self.plain.trains:
            yield "checkpointing", Plan(batch, checkpoint=True)
            for name in OPTIMIZERS:
                yield name, Plan(batch, optimizer=name)
            yield "freezing", Plan(batch, freeze=True)
            if batch > 1:
                counts = [count for count in range(2, batch + 1) if batch % count == 0]
                yield "accumulation", self.first([Plan(batch, micro_batches=count) for count in counts])
        if batch > 1:
            yield "smaller batch", self.first([Plan(size) for size in smaller(batch)])

    def first(self, plans: list[Plan]) -> Plan:
        """The first of the plans that fits, where each needs less than the one before; the last if none does."""
        low, high = 0, len(plans) - 1
        while low < high:
            middle = (low + high) // 2
            if self.verdict(self.run(plans[middle])) != NO:
                high = middle
            else:
                low = middle + 1
        return plans[low]

    def run(self, plan: Plan) -> Replay:
        if plan not in self.runs:
            self.runs[plan] = replay(self.make_step, plan)
        return self.runs[plan]

    def tried(self, name: str, plan: Plan) -> Remedy | None:
        """None where the model does not allow the change, or it saves nothing."""
        try:
            run = self.run(plan)
        except LabError:
            return None
        saving = self.plain.peak - run.peak
        if saving <= 0:
            return None
        ratio = run.flops / plan.batch / (self.plain.flops / self.plain.plan.batch) if self.plain.flops else 1.0
        caveats = CAVEATS if self.plain.trains else INFERENCE_CAVEATS
        caveat = "; ".join(caveats[part] for part in name.split(" + "))
        caveat += NO_BFLOAT16[self.plain.trains] if plan.half and self.gpu.name == "T4" else ""
        return Remedy(name, plan, bill(run, self.gpu), saving, ratio, self.verdict(run), caveat)

    def pairs(self, single: list[Remedy]) -> Iterator[Remedy]:
        """Pairs of changes, those first whose savings sum up to most, until enough of them fit."""
        both = [
            (one.saving + other.saving, f"{one.name} + {other.name}", _joined(one.plan, other.plan))
            for one, other in combinations(single, 2)
            if not (one.plan.optimizer and other.plan.optimizer) and one.plan.batch == other.plan.batch
        ]
        fitting = 0
        for _, name, plan in sorted(both, key=lambda pair: -pair[0])[:PAIRS_TRIED]:
            remedy = self.tried(name, plan)
            if remedy is not None:
                yield remedy
                fitting += remedy.fits != NO
            if fitting == PAIRS_WANTED:
                return


def smaller(batch: int) -> list[int]:
    """Batches below a batch: powers of two and one and a half times these, the largest first.

    >>> smaller(20)
    [16, 12, 8, 6, 4, 3, 2, 1]
    """
    sizes = {size for power in range(batch.bit_length()) for size in (2**power, 3 * 2**power // 2)}
    return sorted((size for size in sizes if 0 < size < batch), reverse=True)


def _joined(one: Plan, other: Plan) -> Plan:
    return replace(
        one,
        micro_batches=max(one.micro_batches, other.micro_batches),
        checkpoint=one.checkpoint or other.checkpoint,
        half=one.half or other.half,
        optimizer=one.optimizer or other.optimizer,
        freeze=one.freeze or other.freeze,
    )


def _progress(remedies: Iterator[Remedy], wanted: bool) -> Iterable[Remedy]:
    from tqdm.auto import tqdm

    seen = sys.stderr.isatty() or "ipykernel" in sys.modules  # else it would fill a log
    return tqdm(remedies, desc="replaying", unit=" changes", leave=False, disable=not (wanted and seen))
