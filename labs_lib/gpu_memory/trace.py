"""What a traced step held: blocks of memory with their lifetimes, and questions to ask of them."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np

from labs_lib.errors import LabError

PARAMETERS, GRADIENTS, OPTIMISER_STATE = "parameters", "gradients", "optimiser state"
ACTIVATIONS, TEMPORARIES, INPUTS = "activations", "temporaries", "inputs"
KINDS = (PARAMETERS, INPUTS, OPTIMISER_STATE, GRADIENTS, ACTIVATIONS, TEMPORARIES)  # from lasting to fleeting

FORWARD, BACKWARD, RECOMPUTATION, OPTIMISER = "forward", "backward", "recomputation", "optimiser"


@dataclass(frozen=True)
class Block:
    """One torch storage. It is alive at the operators born <= index < died, to the end where `died` is None."""

    size: int  # bytes of the whole storage, not rounded
    kind: str  # one of KINDS: what the block is in the end, from its birth on
    module: str  # qualified name of the innermost module that was run, or whose backward was; "" outside any
    operator: str  # such as "aten.addmm"; "" for what existed before the step
    line: str  # "file.py:12  source", first frame outside torch; "" for what existed before the step
    born: int
    died: int | None
    device: str = "cpu"


@dataclass(frozen=True)
class Operator:
    """One call into ATen. The operators of a trace count from 1; index 0 is the moment before the first."""

    name: str
    phase: str  # FORWARD, BACKWARD, RECOMPUTATION (of a checkpoint, in the backward pass) or OPTIMISER
    module: str


@dataclass(frozen=True)
class Trace:
    """Every block that was alive during one call of a step. All bytes are counted, none are measured."""

    blocks: tuple[Block, ...]  # in the order of their births
    operators: tuple[Operator, ...]
    flops: int  # a multiply-add counts 2; recomputation counts again

    def timeline(self) -> dict[str, np.ndarray]:
        """Live bytes of each kind at every index: int64 arrays of shape (operators + 1,)."""
        return {kind: live.copy() for kind, live in self._timeline.items()}

    @property
    def peak(self) -> int:
        """The most bytes alive at one operator."""
        return int(self._live[self.peak_at])

    @property
    def peak_at(self) -> int:
        """The index of the first operator at which the peak is reached."""
        return int(self._live.argmax())

    @property
    def live_at_start(self) -> int:
        return int(self._live[0])

    @property
    def live_at_end(self) -> int:
        """Bytes alive after the step has returned and its result has been dropped."""
        return sum(block.size for block in self.blocks if block.died is None)

    def at(self, index: int) -> dict[str, int]:
        """Live bytes of each kind at one index; kinds without bytes are left out."""
        self._valid(index)
        return {kind: int(live[index]) for kind, live in self._timeline.items() if live[index]}

    def alive(self, index: int) -> list[Block]:
        self._valid(index)
        return [block for block in self.blocks if block.born <= index and (block.died is None or index < block.died)]

    def owners(self, by: str = "module", at: int | None = None) -> list[tuple[str, int, str]]:
        """Who holds the memory at one index (the peak): (name, bytes, kind), the largest first.

        `by` is "module", "line" or "operator". A name stands once for each kind that it holds.
        """
        if by not in ("module", "line", "operator"):
            raise LabError(f"by={by!r} is no owner.", "Memory belongs to a module, a line or an operator.", "Use one.")
        held: Counter[tuple[str, str]] = Counter()
        for block in self.alive(self.peak_at if at is None else at):
            held[getattr(block, by), block.kind] += block.size
        return [(name, size, kind) for (name, kind), size in sorted(held.items(), key=lambda item: (-item[1], item[0]))]

    def on(self, device: str) -> Trace:
        """The same trace with the blocks of one type of device alone, such as "cuda"."""
        return replace(self, blocks=tuple(block for block in self.blocks if block.device.startswith(device)))

    @cached_property
    def _timeline(self) -> dict[str, np.ndarray]:
        length = len(self.operators) + 1
        changes = {kind: np.zeros(length + 1, np.int64) for kind in KINDS}
        for block in self.blocks:
            changes[block.kind][block.born] += block.size
            if block.died is not None:
                changes[block.kind][min(block.died, length)] -= block.size
        return {kind: change.cumsum()[:length] for kind, change in changes.items()}

    @cached_property
    def _live(self) -> np.ndarray:
        return sum(self._timeline.values())

    def _valid(self, index: int) -> None:
        if not 0 <= index <= len(self.operators):
            raise LabError(
                f"There is no operator {index}.",
                f"The trace has {len(self.operators)} operators; 0 is the moment before the first.",
                f"Ask for an index from 0 to {len(self.operators)}.",
            )
