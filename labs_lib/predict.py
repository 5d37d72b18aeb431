"""Predict before you run: a number committed to in advance, scored by its ratio to the truth.

Guesses of sizes and speeds are wrong by factors, so the score is |log(guess / truth)|: half and double are
equally wrong. Only the first commitment counts, and only if the truth had not been shown before it.
"""

from __future__ import annotations

import html
import math
from dataclasses import dataclass
from numbers import Integral
from typing import TYPE_CHECKING

from labs_lib.errors import LabError
from labs_lib.journal import journal, record

if TYPE_CHECKING:
    from labs_lib.figures import Picture


def predict(
    question: str, unit: str, *, key: str, low: float, high: float, value: float | None = None
) -> Prediction:
    """Asks for a number between `low` and `high`; it is remembered under `key`, over sessions too.

    In a notebook the prediction shows a slider and a button, and nothing is recorded before the button is
    pressed. With `value` it is committed at once. `reveal` tells the truth and never waits for a guess.

    >>> peak = predict("Peak memory of the naive pass?", "KiB", key="doc", low=10, high=10_000, value=300)
    >>> peak.reveal(417)
    You predicted 300 KiB; it is 417 KiB: off by a factor of 1.39.

    Raises LabError unless 0 < low < high, or for a value that is not positive: neither has a ratio.
    """
    if not 0 < low < high < math.inf:
        raise LabError(
            f"A prediction cannot range from {low} to {high}.",
            "Guesses are scored by their ratio to the truth.",
            "Give 0 < low < high.",
        )
    prediction = Prediction(question, unit, key, low, high)
    if value is not None:
        prediction.commit(value)
    return prediction


@dataclass(frozen=True)
class _Standing:
    """What the journal says of one prediction."""

    guess: float | None  # the one that counts; else the first one committed too late
    late: bool  # that guess came after the truth had been shown
    revealed: bool


class Prediction:
    """A question with its range; what was answered stands in the journal."""

    def __init__(self, question: str, unit: str, key: str, low: float, high: float) -> None:
        self.question, self.unit, self.key, self.low, self.high = question, unit, key, low, high
        self._view: _View | None = None

    @property
    def guess(self) -> float | None:
        """The committed number, None before that."""
        return self._standing().guess

    def commit(self, value: float) -> None:
        """Commits to a number, as the button does. A second one changes nothing: the first one counts.

        After the reveal it can still be done, and is not counted. Raises LabError for a value that is not
        positive or not finite.
        """
        if not 0 < value < math.inf:
            raise LabError(
                f"{value} cannot be predicted.",
                "Guesses are scored by their ratio to the truth.",
                "Commit to a positive number.",
            )
        if self.guess is None:
            record("prediction", key=self.key, question=self.question, unit=self.unit, value=value)
        if self._view:
            self._view.update()

    def reveal(self, truth: float) -> None:
        """Prints the truth beside the guess, in one line; the first time, the journal keeps both."""
        standing = self._standing()
        score = _score(standing.guess, truth)
        if not standing.revealed:
            record("truth", key=self.key, unit=self.unit, truth=truth, guess=standing.guess, score=score)
        known = f"it is {self._with_unit(truth)}"
        if standing.guess is None:
            print(f"No prediction recorded; {known}.")
        else:
            late = " after the answer was shown" if standing.late else ""
            verdict = "no ratio can score that" if score is None else f"off by a factor of {_factor(score)}"
            end = ", not counted." if standing.late else "."
            print(f"You predicted {self._with_unit(standing.guess)}{late}; {known}: {verdict}{end}")
        if self._view:
            self._view.update()

    @property
    def says(self) -> str:
        """One sentence on where the prediction stands, for readers without the slider."""
        standing = self._standing()
        if standing.guess is not None:
            late = ", after the answer was shown, so it is not counted" if standing.late else ""
            return f"You predicted {self._with_unit(standing.guess)}{late}."
        between = f"between {quantity(self.low)} and {self._with_unit(self.high)}"
        if standing.revealed:
            return f"Commit to a number {between}. The answer was shown before: it will not be counted."
        return f"Commit to a number {between}."

    def __str__(self) -> str:
        return f"{self.question} {self.says}"

    __repr__ = __str__

    def _repr_mimebundle_(self, include: object = None, exclude: object = None) -> dict[str, object]:
        """The slider and the button, and for readers without a kernel the sentence."""
        if self._view is None:
            self._view = _View(self)
        model = {"version_major": 2, "version_minor": 0, "model_id": self._view.box.model_id}
        return {"application/vnd.jupyter.widget-view+json": model, "text/plain": str(self)}

    def _standing(self) -> _Standing:
        """Read from the journal each time: the same question may stand in two notebooks."""
        guess, late, revealed = None, False, False
        for event in journal():
            if (event.get("key"), event.get("unit")) != (self.key, self.unit):
                continue
            if event["kind"] == "truth":
                revealed = True
            elif event["kind"] == "prediction" and guess is None:
                guess, late = event["value"], revealed
        return _Standing(guess, late, revealed)

    def _with_unit(self, value: float) -> str:
        return f"{quantity(value)} {self.unit}".rstrip()


def _score(guess: float | None, truth: float) -> float | None:
    """|log(guess / truth)|; None without a guess, and where zero, a sign or NaN leaves no ratio."""
    if guess is None or not 0 < truth < math.inf:
        return None
    return abs(math.log(guess) - math.log(truth))


def _factor(score: float) -> str:
    factor = math.exp(score)
    return f"{factor:.2f}" if factor < 100 else quantity(factor)


class _View:
    """Question, slider, button and sentence, in the API that ipywidgets 7.7.1 and 8 share."""

    def __init__(self, prediction: Prediction) -> None:
        import ipywidgets as widgets

        self.prediction = prediction
        low, high = math.log10(prediction.low), math.log10(prediction.high)
        self.slider = widgets.FloatLogSlider(
            value=10 ** ((low + high) / 2),
            min=low,
            max=high,
            step=(high - low) / 200,
            readout_format=",.3r",
            description=prediction.unit,
            continuous_update=False,
            layout=widgets.Layout(width="430px"),
        )
        self.button = widgets.Button(description="Commit", button_style="primary")
        # As many digits as the slider shows, so that what is kept is what was seen.
        self.button.on_click(lambda _: prediction.commit(float(f"{self.slider.value:.3g}")))
        self.text = widgets.HTML()
        question = widgets.HTML(f"<b>{html.escape(prediction.question)}</b>")
        self.box = widgets.VBox([question, widgets.HBox([self.slider, self.button]), self.text])
        self.box.add_class("labs-prediction")
        self.update()

    def update(self) -> None:
        """Says where the prediction stands, and closes the slider once there is a guess."""
        guess = self.prediction.guess
        if guess is not None:
            self.slider.value = guess  # outside its range it stops at the end
        self.slider.disabled = self.button.disabled = guess is not None
        self.text.value = html.escape(self.prediction.says)


def calibration() -> Picture:
    """All scored predictions of all labs: predicted against true, with the band of a factor of 2.

    >>> calibration().says
    'No prediction has been scored yet: commit to a number in a lab, then run on to its answer.'
    """
    from labs_lib.figures import NEUTRAL, OPTIMISED, render, subplots

    scored = journal().scored
    figure, axes = subplots(width=4.6, height=4.2 if scored else 0.8)
    if not scored:
        says = "No prediction has been scored yet: commit to a number in a lab, then run on to its answer."
        axes.axis("off")
        axes.text(0.5, 0.5, says, ha="center", va="center", wrap=True)
        return render(figure, says)
    truths = [event["truth"] for event in scored]
    guesses = [event["guess"] for event in scored]
    ends = [min(truths + guesses) / 3, max(truths + guesses) * 3]
    axes.fill_between(
        ends, [end / 2 for end in ends], [end * 2 for end in ends], color=NEUTRAL, alpha=0.2, label="factor 2"
    )
    axes.plot(ends, ends, color=NEUTRAL, label="exactly right")
    axes.scatter(truths, guesses, color=OPTIMISED["color"], marker="o", zorder=3, label="your predictions")
    axes.set(xscale="log", yscale="log", xlim=ends, ylim=ends)
    axes.set(xlabel="truth (each in its own unit)", ylabel="prediction (same unit)", aspect="equal")
    axes.legend(loc="upper left", frameon=False)
    return render(figure, _summary([event["score"] for event in scored]))


def _summary(scores: list[float]) -> str:
    from statistics import median

    count = f"{len(scores)} predictions" if len(scores) > 1 else "1 prediction"
    factor = _factor(median(scores))
    within = sum(round(math.exp(score), 9) <= 2 for score in scores)  # exactly half is within
    return f"{count}: off by a factor of {factor} in the median, {within} within a factor of 2."


def quantity(value: float) -> str:
    """A count as it is, any other number to three significant digits; thousands separated.

    >>> [quantity(value) for value in (0.0312, 1.5, 417.3, 801_234.5, 8)]
    ['0.0312', '1.50', '417', '801,234', '8']
    """
    if isinstance(value, Integral):
        return f"{value:,}"
    return f"{value:,.0f}" if 99.95 <= abs(value) < 1e15 else f"{value:#.3g}"
