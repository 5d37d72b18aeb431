"""What a step needs on a GPU, whether that fits, and what would make it fit: to read, to print, as JSON."""

from __future__ import annotations

import html
from dataclasses import dataclass

from labs_lib.gpu_memory.devices import Device
from labs_lib.gpu_memory.plans import Plan
from labs_lib.gpu_memory.replays import Replay
from labs_lib.units import size_text

FRAGMENTATION = 0.05  # of the peak: what the allocator holds and can't use

YES, TIGHT, NO = "yes", "tight", "no"
SAME_RESULT = ("accumulation", "checkpointing")  # up to rounding; all other changes train something else


@dataclass(frozen=True)
class Bill:
    """What a step needs on a device. Only `peak` and `rounding` are counted; the rest is modelled."""

    peak: int
    rounding: int
    workspaces: int
    context: int
    fragmentation: int

    @property
    def certain(self) -> int:
        """Bytes without the margin for fragmentation."""
        return self.peak + self.rounding + self.workspaces + self.context

    @property
    def total(self) -> int:
        return self.certain + self.fragmentation

    def verdict(self, usable: int) -> str:
        return NO if self.certain > usable else TIGHT if self.total > usable else YES


@dataclass(frozen=True)
class Remedy:
    """One way to need less, replayed."""

    name: str
    plan: Plan
    bill: Bill
    saving: int  # bytes of the counted peak
    flops_ratio: float  # counted: FLOPs per sample over those of the plain step
    fits: str  # YES, TIGHT or NO
    caveat: str

    @property
    def same_result(self) -> bool:
        return all(part in SAME_RESULT for part in self.name.split(" + "))

    @property
    def rank(self) -> tuple:
        """Those that fit first; then those with the same result; then by FLOPs; then by bytes."""
        return [YES, TIGHT, NO].index(self.fits), not self.same_result, round(self.flops_ratio, 3), self.bill.peak


@dataclass(frozen=True, repr=False)
class Verdict:
    """The answer of `will_it_fit`."""

    device: Device
    plain: Replay
    bill: Bill
    remedies: tuple[Remedy, ...]  # where it does not fit: see `Remedy.rank`

    @property
    def fits(self) -> str:
        """"yes"; "tight", where only the margin for fragmentation does not fit; or "no"."""
        return self.bill.verdict(self.device.usable)

    @property
    def headroom(self) -> int:
        """Usable bytes less all that is counted and modelled; negative where it does not fit."""
        return self.device.usable - self.bill.total

    @property
    def composition(self) -> dict[str, int]:
        """Bytes at the peak by kind."""
        return self.plain.trace.at(self.plain.trace.peak_at)

    def as_dict(self) -> dict[str, object]:
        bill = self.bill
        return {
            "device": self.device.name,
            "datasheet": self.device.datasheet,
            "usable_bytes": self.device.usable,
            "batch": self.plain.plan.batch,
            "training": self.plain.trains,
            "fits": self.fits,
            "headroom_bytes": self.headroom,
            "counted": {
                "peak_bytes": bill.peak,
                "rounding_bytes": bill.rounding,
                "composition_bytes": self.composition,
                "flops": self.plain.flops,
            },
            "modelled": {
                "workspaces_bytes": bill.workspaces,
                "context_bytes": bill.context,
                "fragmentation_bytes": bill.fragmentation,
            },
            "remedies": [
                {
                    "name": remedy.name,
                    "plan": str(remedy.plan),
                    "fits": remedy.fits,
                    "peak_bytes": remedy.bill.peak,
                    "saving_bytes": remedy.saving,
                    "same_result": remedy.same_result,
                    "flops_ratio": remedy.flops_ratio,
                    "caveat": remedy.caveat,
                }
                for remedy in self.remedies
            ],
        }

    def rows(self) -> list[tuple[str, str, str]]:
        """(kind of number, what, value), ready to print."""
        bill = self.bill
        return [
            ("counted", "peak of the step", size_text(bill.peak)),
            *(("counted", f"  {kind}", size_text(size)) for kind, size in self.composition.items()),
            ("counted", "rounded up to 512 bytes a block", size_text(bill.rounding)),
            ("modelled", "cuBLAS workspaces", size_text(bill.workspaces)),
            ("modelled", "CUDA context and kernels", size_text(bill.context)),
            ("modelled", f"fragmentation, {FRAGMENTATION:.0%} of the peak", size_text(bill.fragmentation)),
            ("modelled", f"usable of {self.device.name}", size_text(self.device.usable)),
            ("modelled", "headroom: usable less all of these", size_text(self.headroom)),
        ]

    def remedy_rows(self) -> list[tuple[str, ...]]:
        return [
            (
                *(remedy.fits, remedy.name, str(remedy.plan)),
                *(size_text(remedy.bill.peak), size_text(remedy.saving), f"{remedy.flops_ratio:.2f}x"),
                remedy.caveat,
            )
            for remedy in self.remedies
        ]

    @property
    def sentence(self) -> str:
        answer = {YES: "It fits", TIGHT: "It may fit, tightly", NO: "It does not fit"}[self.fits]
        kind = "training" if self.plain.trains else "inference"
        return f"{answer}: one {kind} step with {self.plain.plan} on {self.device.name} ({self.device.datasheet})."

    def __str__(self) -> str:
        lines = [self.sentence, ""]
        lines += [f"{kind:10}{what:36}{value:>14}" for kind, what, value in self.rows()]
        lines += ["", NOT_COUNTED]
        if self.remedies:
            lines += ["", "What would need less, each replayed (counted; FLOPs per sample against the plain step):"]
            lines += [_line(HEAD), *(_line(row) for row in self.remedy_rows())]
            lines += [] if any(remedy.fits != NO for remedy in self.remedies) else ["Nothing of this makes it fit."]
        return "\n".join(lines)

    __repr__ = __str__

    def _repr_html_(self) -> str:
        bill = "".join(
            f"<tr><td><i>{kind}</i></td><td>{html.escape(what)}</td><td>{value}</td></tr>"
            for kind, what, value in self.rows()
        )
        head = "".join(f"<th>{title}</th>" for title in HEAD)
        body = "".join(
            "<tr>" + "".join(f"<td>{html.escape(cell)}</td>" for cell in row) + "</tr>" for row in self.remedy_rows()
        )
        remedies = f"<table><tr>{head}</tr>{body}</table>" if body else ""
        return f"<p><b>{html.escape(self.sentence)}</b></p><table>{bill}</table><p>{NOT_COUNTED}</p>{remedies}"


HEAD = ("fits", "change", "plan", "peak", "saves", "FLOPs", "mind")
NOT_COUNTED = "Not in these numbers: cuDNN's workspaces for convolutions, other programs on the GPU, a display."


def _line(row: tuple[str, ...]) -> str:
    fits, name, plan, peak, saves, flops, caveat = row
    return f"{fits:6}{name:36}{plan:58}{peak:>12}{saves:>12}{flops:>7}  {caveat}"
