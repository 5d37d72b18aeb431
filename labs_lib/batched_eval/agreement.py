"""Do two evaluations say the same? Predictions compared one by one, and each one that differs explained."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from labs_lib.errors import LabError

ROUNDING = 32 * torch.finfo(torch.float32).eps  # of the largest logit: what sums in another order differ by


@dataclass(frozen=True)
class Agreement:
    """Logits of two evaluations of the same samples, compared."""

    samples: int
    changed: tuple[int, ...]  # samples whose prediction differs
    near_ties: int  # of these: the logits differ by no more than rounding does, so the two best were as close as that
    largest: float  # difference of logits
    relative: float  # the same over the largest logit

    @property
    def explained(self) -> bool:
        """Whether rounding explains every prediction that differs."""
        return self.near_ties == len(self.changed)

    @property
    def share(self) -> float:
        """Of the predictions, the part that is the same."""
        return (self.samples - len(self.changed)) / self.samples if self.samples else 1.0

    def __str__(self) -> str:
        bits = "bit for bit" if self.largest == 0 else f"logits within {self.relative:.1e} of the largest"
        if not self.changed:
            return f"all {self.samples:,} predictions are the same; {bits}"
        ties = f"{self.near_ties} of them near-ties that rounding decides" if self.near_ties else "none of them a tie"
        return f"{len(self.changed)} of {self.samples:,} predictions differ, {ties}; {bits}"


def agreement(expected: torch.Tensor, actual: torch.Tensor) -> Agreement:
    """Compares logits (n, classes). A prediction is the first largest logit.

    A prediction changes only where the margin between the old and the new one is at most twice what the logits of
    that row moved. So a change counts as a near-tie where they moved by no more than rounding: 32 machine epsilons
    of float32, times the largest logit of all.

    >>> one = torch.tensor([[1.0, 1 + 2**-20], [3.0, 0.0]])
    >>> print(agreement(one, one + torch.tensor([[2**-19, 0.0], [0.0, 0.0]])))
    1 of 2 predictions differ, 1 of them near-ties that rounding decides; logits within 6.4e-07 of the largest
    >>> agreement(one, one.flip(1)).explained
    False

    A sample whose logits in `actual` have a NaN counts as changed, and no rounding explains it.

    Raises LabError where the shapes differ, where there are no classes to choose from, and for NaN in `expected`.
    """
    for logits in (expected, actual):
        if not isinstance(logits, torch.Tensor):
            raise LabError(f"Logits are a tensor (samples, classes), and this is a {type(logits).__name__}.")
    if expected.shape == actual.shape and (expected.dim() == 1 or (expected.dim() == 2 and expected.shape[1] < 2)):
        raise LabError(
            f"From shape {tuple(expected.shape)} no prediction can be told.",
            "A prediction is the largest of two logits or more.",
            "Give logits (samples, classes), not predictions; for one logit z give torch.stack([-z, z], 1).",
        )
    if expected.shape != actual.shape or expected.dim() != 2:
        raise LabError(
            f"Logits of shape {tuple(expected.shape)} and {tuple(actual.shape)} can't be compared.",
            "Two evaluations of the same samples give the same shape (samples, classes).",
            "Look for a last batch that is left out.",
        )
    a, b = expected.detach().cpu().double(), actual.detach().cpu().double()
    if a.isnan().any():
        raise LabError(
            f"{int(a.isnan().any(1).sum())} of {len(a)} samples have NaN among the logits to compare with.",
            "Nothing can agree with them.",
            "Look at inputs and weights first.",
        )
    difference = torch.where(a == b, 0.0, (a - b).abs())  # also where both are infinite
    moved = difference.amax(1) if len(a) else a.new_zeros(0)
    before, after = a.argmax(1), b.argmax(1)
    changed = ((before != after) | b.isnan().any(1)).nonzero().flatten()
    largest = float(moved.max()) if len(a) else 0.0
    scale = float(a[a.isfinite()].abs().max()) if a.isfinite().any() else 0.0
    return Agreement(
        samples=len(a),
        changed=tuple(changed.tolist()),
        near_ties=int((moved[changed] <= ROUNDING * scale).sum()),
        largest=largest,
        relative=largest / scale if scale else largest,
    )
