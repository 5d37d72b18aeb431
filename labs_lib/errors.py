"""The one error class for what a learner can cause."""


class LabError(Exception):
    """What happened, why, and what to do next: one sentence each, shown as at most three lines.

    >>> print(LabError("The plan is 4 bytes too high.", "Capacity is 96.", "Raise --capacity to 100."))
    The plan is 4 bytes too high.
    Capacity is 96.
    Raise --capacity to 100.
    """

    def __init__(self, what: str, why: str = "", do: str = "") -> None:
        super().__init__(what, why, do)
        self.what, self.why, self.do = what, why, do

    @property
    def sentences(self) -> list[str]:
        return [sentence for sentence in (self.what, self.why, self.do) if sentence]

    def __str__(self) -> str:
        return "\n".join(self.sentences)

    def _render_traceback_(self) -> list[str]:
        """IPython's hook: in a notebook the three lines stand alone, without a traceback."""
        return [f"LabError: {self.sentences[0]}", *self.sentences[1:]]
