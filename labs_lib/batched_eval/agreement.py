"""Do two evaluations say the same? Predictions compared one by one, and each one that differs explained."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from labs_lib.errors import LabError


@dataclass(frozen=True)
class Agreement:
    """Logits of two evaluations of the same samples, compared."""

    samples: int
    changed: tuple[int, ...]  # samples whose prediction differs
    near_ties: int  # of these: the two best logits were closer than the logits differ, so rounding decides
    largest: float  # difference of logits
    relative: float  # the same over the largest logit

    @property
    def explained(self) -> bool:
        """Whether rounding explains every prediction that differs."""
        return self.near_ties == len(self.changed)

    @property
    def share(self) -> float:
        """Of the predictions, the part that is the same."""
        return 1 - len(self.changed) / self.samples if self.samples else 1.0

    def __str__(self) -> str:
        bits = "bit for bit" if self.largest == 0 else f"logits within {self.relative:.1e} of the largest"
        if not self.changed:
            return f"all {self.samples:,} predictions are the same; {bits}"
        ties = f"{self.near_ties} of them near-ties that rounding decides" if self.near_ties else "none of them a tie"
        return f"{len(self.changed)} of {self.samples:,} predictions differ, {ties}; {bits}"


def agreement(expected: torch.Tensor, actual: torch.Tensor) -> Agreement:
    """Compares logits (n, classes). A prediction is the first largest logit.

    A change counts as a near-tie where the margin between the expected prediction and the new one is at most twice
    the largest difference in that row: each of the two logits may have moved by that much.

    >>> one = torch.tensor([[1.0, 1.0001], [3.0, 0.0]])
    >>> print(agreement(one, one + torch.tensor([[0.001, 0.0], [0.0, 0.0]])))
    1 of 2 predictions differ, 1 of them near-ties that rounding decides; logits within 3.3e-04 of the largest

    Raises LabError where the shapes differ.
    """
    if expected.shape != actual.shape or expected.dim() != 2:
        raise LabError(
            f"Logits of shape {tuple(expected.shape)} and {tuple(actual.shape)} can't be compared.",
            "Two evaluations of the same samples give the same shape (samples, classes).",
            "Is the last batch missing?",
        )
    a, b = expected.detach().cpu().double(), actual.detach().cpu().double()
    difference = (a - b).abs()
    moved = difference.amax(1) if len(a) else a.new_zeros(0)
    before, after = a.argmax(1), b.argmax(1)
    changed = (before != after).nonzero().flatten()
    margins = a[changed, before[changed]] - a[changed, after[changed]]
    largest = float(moved.max()) if len(a) else 0.0
    scale = float(a.abs().max()) if len(a) else 0.0
    return Agreement(
        samples=len(a),
        changed=tuple(changed.tolist()),
        near_ties=int((margins <= 2 * moved[changed]).sum()),
        largest=largest,
        relative=largest / scale if scale else largest,
    )
