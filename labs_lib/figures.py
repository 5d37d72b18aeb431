"""One way to show a picture: the figure, and the sentence that says what is to be seen in it."""

from __future__ import annotations

import base64
import html
import io
from dataclasses import dataclass
from typing import TYPE_CHECKING

from labs_lib.errors import LabError

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

# Naive and optimised look the same in every figure, and differ in hatch and marker too, not in colour alone.
NAIVE = {"color": "#e42536", "hatch": "//"}
OPTIMISED = {"color": "#5790fc", "hatch": ""}
NEUTRAL = "#717581"  # limits, bounds, the ground truth: whatever is neither


@dataclass(frozen=True)
class Picture:
    """A rendered figure: PNG bytes, and the sentence that is its caption and its alternative text."""

    png: bytes
    says: str

    @property
    def html(self) -> str:
        source = base64.b64encode(self.png).decode()
        return (
            f'<figure style="margin:0"><img style="max-width:100%" alt="{html.escape(self.says, quote=True)}" '
            f'src="data:image/png;base64,{source}"><figcaption>{html.escape(self.says)}</figcaption></figure>'
        )

    def _repr_mimebundle_(self, include: object = None, exclude: object = None) -> dict[str, object]:
        return {"text/plain": self.says, "text/html": self.html, "image/png": base64.b64encode(self.png).decode()}

    def __str__(self) -> str:
        return self.says


def subplots(width: float = 8, height: float = 3.2, columns: int = 1, **options: object) -> tuple[Figure, object]:
    """A figure in the course's style, with its axes: `plt.subplots`, outside pyplot's global state."""
    from matplotlib import style
    from matplotlib.figure import Figure

    with style.context(["petroff10", {"font.size": 10, "axes.spines.top": False, "axes.spines.right": False}]):
        figure = Figure(figsize=(width, height), layout="constrained")
        return figure, figure.subplots(1, columns, **options)


def bars(
    axes: Axes, labels: list[str], values: list[float], styles: list[dict], unit: str, digits: int = 0
) -> None:
    """Horizontal bars, top to bottom, each with its value written at its end."""
    for row, (value, look) in enumerate(zip(values, styles, strict=True)):
        axes.barh(row, value, edgecolor="white", **look)
        axes.annotate(
            f" {value:,.{digits}f} {unit}", (value, row), va="center", annotation_clip=False, fontsize=9
        )
    axes.set_yticks(range(len(labels)), labels)
    axes.invert_yaxis()
    axes.set_xlabel(unit)
    axes.margins(x=0.18)


def render(figure: Figure, says: str) -> Picture:
    """The figure as a `Picture`.

    Raises LabError where the sentence is missing: a picture that nobody can read aloud is half a picture.
    """
    if not says.strip():
        raise LabError("This figure has no sentence.", "It is the caption and the alternative text.", "Give says=.")
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=110, metadata={"Software": None})
    return Picture(buffer.getvalue(), says)


def show(figure: Figure, says: str) -> None:
    """Shows a matplotlib figure with its sentence; outside a notebook it prints the sentence.

    >>> figure, axes = subplots()
    >>> _ = axes.plot([1, 2, 3])
    >>> show(figure, says="The line rises from 1 to 3.")
    The line rises from 1 to 3.
    """
    present(render(figure, says))


def present(thing: object) -> None:
    """Displays an object richly in a notebook, and prints it anywhere else."""
    import sys

    if "IPython" in sys.modules and sys.modules["IPython"].get_ipython() is not None:
        from IPython.display import display

        display(thing)
    else:
        print(thing)
