"""Panels: a few controls, a pure function of their values, and the picture that it draws.

A panel is a thin shell. Everything it can show comes from `draw(**state)`, which needs no browser and
no widget; so the notebook drives it by code, tests try every control at both ends, and a reader of the
committed notebook sees the picture where the live widget is not.
"""

from __future__ import annotations

import base64
import html
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from labs_lib.errors import LabError
from labs_lib.figures import Picture


@dataclass(frozen=True)
class Choice:
    """A control: its label, the values it can take in their order, and the one it starts with.

    `widget` is "slider" for values with an order, "buttons" for a few names, "menu" for many.
    """

    label: str
    options: Sequence[object]
    value: object
    widget: str = "slider"

    def __post_init__(self) -> None:
        if self.value not in self.options:
            raise LabError(
                f"{self.label} starts with {self.value!r}.",
                "That is not one of its options.",
                f"Take one of {list(self.options)}.",
            )


class Panel:
    """A live panel. `draw` takes one keyword argument for each control and returns a `Picture`.

    >>> from labs_lib.figures import subplots, render
    >>> def draw(n):
    ...     figure, axes = subplots()
    ...     axes.plot(range(n))
    ...     return render(figure, says=f"A line of {n} points.")
    >>> panel = Panel(draw, n=Choice("points", [2, 4, 8], value=4))
    >>> panel.picture.says
    'A line of 4 points.'
    >>> panel.set(n=8).says
    'A line of 8 points.'

    Raises LabError for a control or a value that it does not have. An error inside `draw` is shown in
    the panel and raised again where code set the value: neither a learner nor a test can miss it.
    """

    def __init__(self, draw: Callable[..., Picture], **controls: Choice) -> None:
        self._draw = draw
        self.controls: Mapping[str, Choice] = controls
        self.state = {name: control.value for name, control in controls.items()}
        self.picture = draw(**self.state)
        self._view: _View | None = None

    def set(self, **state: object) -> Picture:
        """Moves controls by code, exactly as a hand would, and returns the new picture."""
        for name, value in state.items():
            if name not in self.controls:
                raise LabError(
                    f"This panel has no control {name!r}.", f"It has {', '.join(self.controls)}.", "Use one of these."
                )
            if value not in self.controls[name].options:
                raise LabError(
                    f"{name}={value!r} is not offered.",
                    f"The options are {list(self.controls[name].options)}.",
                    "Take one of these.",
                )
        wanted = self.state | state
        self.picture = self._draw(**wanted)
        self.state = wanted
        if self._view:
            self._view.follow(self.state, self.picture)
        return self.picture

    def sweep(self) -> Iterator[tuple[dict[str, object], Picture]]:
        """Every control at its first and last option, the others at their start: what a test must see work."""
        start = {name: control.value for name, control in self.controls.items()}
        for name, control in self.controls.items():
            for value in (control.options[0], control.options[-1]):
                state = start | {name: value}
                yield state, self._draw(**state)

    def widget(self) -> object:
        """The live ipywidgets box, made at the first call."""
        if self._view is None:
            self._view = _View(self)
        return self._view.box

    def _repr_mimebundle_(self, include: object = None, exclude: object = None) -> dict[str, object]:
        """The live widget, and for readers without a kernel the picture and its sentence."""
        # Not asked of the widget: ipywidgets 7 has no such method.
        model = {"version_major": 2, "version_minor": 0, "model_id": self.widget().model_id}
        return {
            "application/vnd.jupyter.widget-view+json": model,
            "text/plain": self.picture.says,
            "image/png": base64.b64encode(self.picture.png).decode(),
        }


class _View:
    """The widgets of one panel, in the API that ipywidgets 7.7.1 and 8 share."""

    def __init__(self, panel: Panel) -> None:
        import ipywidgets as widgets

        self.panel = panel
        self.following = False
        self.inputs = {}
        for name, control in panel.controls.items():
            kind = {
                "slider": widgets.SelectionSlider,
                "buttons": widgets.ToggleButtons,
                "menu": widgets.Dropdown,
            }[control.widget]
            options = {"continuous_update": False} if control.widget == "slider" else {}
            self.inputs[name] = kind(
                options=[(str(option), option) for option in control.options],
                value=control.value,
                description=control.label,
                style={"description_width": "110px"},
                layout=widgets.Layout(width="auto" if control.widget == "buttons" else "430px"),
                **options,
            )
            self.inputs[name].add_class("labs-control")
            self.inputs[name].observe(self.moved, names="value")
        self.image = widgets.Image(format="png", layout=widgets.Layout(max_width="100%", object_fit="contain"))
        self.text = widgets.HTML()
        self.progress = widgets.IntProgress(
            value=100, max=100, layout=widgets.Layout(width="430px", height="6px", visibility="hidden")
        )
        self.box = widgets.VBox(
            [*self.inputs.values(), self.progress, self.image, self.text],
            layout=widgets.Layout(align_items="flex-start"),  # else the picture is stretched to the page's width
        )
        self.box.add_class("labs-panel")
        self.follow(panel.state, panel.picture)

    def moved(self, change: Mapping[str, object]) -> None:
        """A hand moved a control: compute with the controls locked, then show picture or error."""
        if self.following:
            return
        self.lock(True)
        try:
            self.panel.set(**{name: control.value for name, control in self.inputs.items()})
        except Exception as error:
            self.text.value = f'<p class="labs-error" style="color:#b00">{html.escape(str(error))}</p>'
            raise
        finally:
            self.lock(False)

    def lock(self, working: bool) -> None:
        for control in self.inputs.values():
            control.disabled = working
        self.progress.layout.visibility = "visible" if working else "hidden"
        (self.box.add_class if working else self.box.remove_class)("labs-busy")

    def follow(self, state: Mapping[str, object], picture: Picture) -> None:
        """Shows a state that code or a hand has set."""
        self.following = True
        try:
            for name, value in state.items():
                self.inputs[name].value = value
        finally:
            self.following = False
        self.image.value = picture.png
        self.text.value = f"<p>{html.escape(picture.says)}</p>"
