"""The analyzer as a page: naive against planned memory, on the reader's own numbers.

A thin shell, as `labs_lib.panels` is: what it shows comes from `app_run` and `app_history`, which need no browser.
"""

from __future__ import annotations

import base64
import html
from collections.abc import Mapping

from labs_lib.errors import LabError
from labs_lib.figures import Picture
from labs_lib.static_memory import app_history, app_run
from labs_lib.static_memory.app_guard import GUARD
from labs_lib.static_memory.app_run import MLP, MODELS, Run

EXAMPLE = "1.0, 0.5, -0.25"
BOX, FILE = "the box", "the file"
WIDGET_VIEW = "application/vnd.jupyter.widget-view+json"
STAGES = 4  # at most so many are announced in one run, the drawing included


class Analyzer:
    """The page. Shown in a notebook, it is live; `analyze` does by code what its button does.

    >>> page = Analyzer()
    >>> page.analyze("1.0, 0.5", batch=1, budget_s=0.1).analysis.comparison.same
    True
    >>> page.done.analysis.arena
    8192
    """

    def __init__(self) -> None:
        self.done: Run | None = None  # the last run that succeeded
        self.session: list[str] = []  # ids of the journal's events of this page
        self._view: _View | None = None

    def analyze(
        self, data: str | bytes = EXAMPLE, model: str = MLP, batch: int = 32, budget_s: float | None = None
    ) -> Run:
        """Reads the numbers and runs the model on them; the page then shows the run, and the history has one more.

        `data` is a text, or the bytes of a CSV file. Raises LabError for numbers, a model or a batch that can't
        be used, and then changes nothing.
        """
        return self._run(app_run.numbers(data), model, batch, budget_s)

    def _run(self, values: object, model: str, batch: int, budget_s: float | None = None) -> Run:
        view = self._view
        done = app_run.run(values, model, batch, budget_s, view.stage if view else lambda says: None)
        self.session.append(done.event["id"])
        self.done = done
        if view:
            view.stage("Drawing.")
            view.show(done)
            view.say("Done.")
        return done

    def widget(self) -> object:
        """The live ipywidgets box, made at the first call."""
        if self._view is None:
            self._view = _View(self)
        return self._view.box

    def _ipython_display_(self) -> None:
        """The guard, and the live page; for readers without a kernel the memory of the last run and its sentence."""
        from IPython.display import display

        model = {"version_major": 2, "version_minor": 0, "model_id": self.widget().model_id}
        data = {WIDGET_VIEW: model, "text/plain": "The analyzer: run this cell to use it."}
        if self.done:
            picture = app_run.memory(self.done)
            data |= {"text/plain": picture.says, "image/png": base64.b64encode(picture.png).decode()}
        display({"text/plain": "", "text/html": GUARD}, raw=True)
        display(data, raw=True)


def uploaded(value: object) -> tuple[str, bytes]:
    """Name and bytes of the one file in a FileUpload's value, which ipywidgets 7 and 8 give in different forms.

    >>> uploaded({"a.csv": {"metadata": {"name": "a.csv"}, "content": b"1,2"}})
    ('a.csv', b'1,2')
    >>> uploaded(({"name": "a.csv", "content": memoryview(b"1,2")},))
    ('a.csv', b'1,2')
    """
    if isinstance(value, Mapping):
        name, file = next(iter(value.items()))
    else:
        file = value[0]
        name = file["name"]
    return name, bytes(file["content"])


class _View:
    """The widgets of the page, in the API that ipywidgets 7.7.1 and 8 share."""

    def __init__(self, page: Analyzer) -> None:
        import ipywidgets as widgets

        self.page = page
        self.file: tuple[str, bytes] | None = None
        wide = {"style": {"description_width": "110px"}, "layout": widgets.Layout(width="430px")}
        self.numbers = widgets.Textarea(
            value=EXAMPLE,
            description="numbers",
            placeholder="numbers with commas between, such as 1.0, 0.5",
            continuous_update=False,
            style=wide["style"],
            layout=widgets.Layout(width="100%", max_width="700px", height="90px"),
        )
        self.upload = widgets.FileUpload(
            accept=".csv,.txt", multiple=False, description="Upload a CSV file",
            layout=widgets.Layout(width="200px", margin="2px 2px 2px 116px"),
        )
        self.source = widgets.Dropdown(options=[BOX, FILE], value=BOX, description="take", **wide)
        self.model = widgets.Dropdown(options=list(MODELS), value=MLP, description="model", **wide)
        self.batch = widgets.Dropdown(options=MODELS[MLP].batches, value=32, description="batch", **wide)
        self.about = widgets.HTML()
        self.button = widgets.Button(
            description="Analyze", button_style="primary", layout=widgets.Layout(margin="2px 2px 2px 116px")
        )
        self.message = widgets.HTML()
        self.progress = widgets.IntProgress(max=STAGES, layout=widgets.Layout(width="430px", visibility="hidden"))
        self.answer, self.export, self.history = widgets.HTML(), widgets.HTML(), widgets.HTML()
        self.pictures = [(_image(widgets), widgets.HTML()) for _ in range(3)]
        self.result = widgets.VBox(
            [self.answer, *(part for pair in self.pictures for part in pair), self.export], layout=_top(widgets)
        )
        self.box = widgets.VBox(
            [
                self.numbers,
                self.upload,
                self.source,
                self.model,
                self.about,
                self.batch,
                widgets.HBox([self.button, self.progress]),
                self.message,
                self.result,
                widgets.HTML("<h3>Earlier runs</h3>"),
                self.history,
            ],
            layout=_top(widgets),
        )
        self.result.layout.display = "none"
        self.inputs = (self.numbers, self.upload, self.source, self.model, self.batch, self.button)
        for part, name in (
            (self.box, "analyzer"),
            (self.numbers, "numbers"),
            (self.upload, "upload"),
            (self.message, "message"),
            (self.button, "analyze"),
            (self.model, "model"),
            (self.batch, "batch"),
            (self.source, "source"),
            (self.result, "result"),
            (self.history, "history"),
        ):
            part.add_class(f"labs-{name}")
        self.model.observe(self.model_chosen, names="value")
        self.upload.observe(self.file_chosen, names="value")
        self.button.on_click(self.pressed)
        self.model_chosen()
        self.history.value = app_history.table(page.session)
        if page.done:
            self.show(page.done)

    def model_chosen(self, change: object = None) -> None:
        """Offers the batches of the model, and keeps the chosen one where it can."""
        model, batch = MODELS[self.model.value], self.batch.value
        self.batch.options = model.batches
        self.batch.value = batch if batch in model.batches else model.batches[-1]
        self.about.value = (
            f'<span style="margin-left:118px">{html.escape(model.says)}; one row is {model.values:,} numbers.</span>'
        )

    def file_chosen(self, change: Mapping[str, object]) -> None:
        """Reads the file at once, so that a wrong one is told now; it then replaces the one before."""
        if not change["new"]:
            return
        name, data = uploaded(change["new"])
        name = name if len(name) <= 60 else f"{name[:57]}..."
        try:
            values = app_run.numbers(data, name)
        except LabError as error:
            self.say(error)
            return
        self.file = name, data
        self.source.value = FILE
        self.say(f"{name}: numbers read, {values.size:,} of them.")

    def pressed(self, _: object) -> None:
        """Runs with the controls locked. What the reader can mend is a sentence; anything else is raised as well."""
        self.lock(True)
        self.say("Reading the numbers.")
        try:
            self.page._run(self.given(), self.model.value, self.batch.value)
        except LabError as error:
            self.say(error)
        except Exception as error:
            self.say(LabError(f"The analysis failed: {type(error).__name__}: {error}"))
            raise
        finally:
            self.lock(False)

    def given(self) -> object:
        """The numbers of the source that is chosen."""
        if self.source.value == BOX:
            return app_run.numbers(self.numbers.value, BOX)
        if self.file is None:
            raise LabError("No file has been uploaded yet.", "", "Upload one, or take the numbers in the box.")
        name, data = self.file
        return app_run.numbers(data, name)

    def lock(self, working: bool) -> None:
        for control in self.inputs:
            control.disabled = working
        self.progress.value = 0
        self.progress.layout.visibility = "visible" if working else "hidden"
        (self.box.add_class if working else self.box.remove_class)("labs-busy")

    def stage(self, says: str) -> None:
        self.progress.value += 1
        self.say(says)

    def say(self, what: str | LabError) -> None:
        if isinstance(what, LabError):
            text = html.escape(" ".join(what.sentences))
            self.message.value = f'<p class="labs-error" role="alert" style="color:#b00">{text}</p>'
        else:
            self.message.value = f'<p role="status">{html.escape(what)}</p>'

    def show(self, done: Run) -> None:
        """The run: answer and costs, the three pictures with their sentences, the link, and the history."""
        compared = done.analysis.comparison
        for (image, text), picture in zip(
            self.pictures, (app_run.memory(done), compared.picture(), app_run.arena(done)), strict=True
        ):
            _draw(image, text, picture)
        self.answer.value = (
            f"<h3>{html.escape(done.model)}, batch {done.batch}</h3>"
            f"<p><b>Is the answer the same? {'Yes' if compared.same else 'NO'}.</b> "
            f"{html.escape(app_run.remark(done))}</p>{compared._repr_html_()}"
        )
        self.export.value = app_run.export_link(done)
        self.history.value = app_history.table(self.page.session)
        self.result.layout.display = "flex"


def _top(widgets: object) -> object:
    return widgets.Layout(align_items="flex-start", width="100%")  # else pictures are stretched to the page's width


def _image(widgets: object) -> object:
    return widgets.Image(format="png", layout=widgets.Layout(max_width="100%", object_fit="contain"))


def _draw(image: object, text: object, picture: Picture) -> None:
    image.value = picture.png
    text.value = f"<p>{html.escape(picture.says)}</p>"
