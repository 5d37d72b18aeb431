"""A run as one HTML file that needs nothing else: sentences, tables and pictures, to read or to send."""

from __future__ import annotations

import html
import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median

from labs_lib.errors import LabError
from labs_lib.inference_bench.control import ROWS, kind
from labs_lib.inference_bench.exports import read_run
from labs_lib.inference_bench.noise import drift
from labs_lib.inference_bench.pictures import latency_picture, results_of, speed_picture
from labs_lib.inference_bench.results import HEAD, Result, Run
from labs_lib.units import size_text, time_text

FILE, PROFILE = "report.html", "profile.json"  # the second is what `profile --output` writes
FEWER_BITS = ("bf16", "int8")  # variants with another limit than the float32 product's
TOP = 12  # layers of a profile
STYLE = (
    "body{font-family:sans-serif;max-width:64em;margin:2em auto;padding:0 1em;line-height:1.45}"
    "table{border-collapse:collapse;font-size:.9em;display:block;overflow-x:auto}"
    "th,td{padding:.2em .7em;text-align:right;border-bottom:1px solid #ddd;white-space:nowrap}"
    "th:first-child,td:first-child{text-align:left}img{max-width:100%}figure{margin:1em 0!important}"
)


@dataclass(frozen=True)
class Report:
    """What was written where, and what it says."""

    path: Path
    run: Run
    sentences: tuple[str, ...]

    def as_dict(self) -> dict[str, object]:
        return {"report": str(self.path), "sentences": list(self.sentences), "measured": len(self.run.measured)}

    def __str__(self) -> str:
        return "\n".join([str(self.run), *self.sentences, f"The report is {self.path}."])


def write_report(folder: Path) -> Report:
    """Writes report.html into the folder of a run, from its journal, and from a profile.json where there is one.

    Raises LabError where the folder holds no run, nothing was measured, or the profile cannot be read.
    """
    if not folder.is_dir():
        raise LabError(f"There is no folder {folder}.", "", "Name a folder that `bench` wrote.")
    run = read_run(folder)
    groups = list(dict.fromkeys((result.key.model, result.key.device) for result in run.measured))
    if not groups:
        raise LabError(f"Nothing was measured in {folder}.", " ".join(run.reasons()))
    profile = folder / PROFILE
    layers = read_profile(profile) if profile.exists() else ""
    sentences, parts = [], []
    for model, device in groups:
        results = results_of(run, model, device)
        pictures = [speed_picture(run, model, device), latency_picture(run, model, device)]
        said = [*(picture.says for picture in pictures), *findings(results)]
        sentences += said
        parts.append(f"<h2>{html.escape(model)} on {html.escape(device)}</h2>")
        parts += [_paragraph(sentence) for sentence in said[len(pictures) :]]
        parts += [picture.html for picture in pictures]
    body = [
        "<h1>Inference benchmark</h1>",
        *map(_paragraph, run.notes()),
        _table(HEAD, run.rows()),
        *parts,
        layers,
        _machine(run),
    ]
    path = folder / FILE
    path.write_text(_page("Inference benchmark", body), encoding="utf-8")
    return Report(path, run, tuple(sentences))


def findings(results: Sequence[Result]) -> list[str]:
    """Sentences on one model: how near the machine's product it comes, what gradients cost, how still the run was."""
    said = []
    reached = [(share, result) for result in results if (share := product_share(result)) is not None]
    if reached:
        share, best = max(reached, key=lambda pair: pair[0])
        said.append(
            f"In float32, {best.key.variant} at batch {best.key.batch} comes nearest to the speed of a matrix product "
            f"timed beside it: {share:.0%} of it, {best.flops:,} FLOPs (counted) in "
            f"{time_text(best.latency(50).value)} (measured)."
        )
    peaks = {(result.key.variant, result.key.batch): result.facts.get("peak_bytes") for result in results}
    batch = max(result.key.batch for result in results)
    eager, plain = peaks.get(("eager", batch)), peaks.get(("inference_mode", batch))
    if eager and plain:
        said.append(
            f"At batch {batch} the peak is {size_text(eager)} where gradients are recorded, {size_text(plain)} in "
            "inference_mode."
        )
    drifts = [found for result in results if (found := drift(result)) is not None]
    if drifts:
        said.append(
            "The fastest calls of the first and of the second half of the rounds differ by a factor of "
            f"{min(drifts):.2f} to {max(drifts):.2f}, with the control taken out (measured): smaller differences "
            "between configurations say little."
        )
    return said


def product_share(result: Result) -> float | None:
    """FLOP/s over those of the control's product, both measured; None without FLOPs, and where fewer bits compute."""
    if not result.flops or result.key.variant in FEWER_BITS:
        return None
    seconds = median(min(one.product) for one in result.rounds)
    product = 2 * ROWS[kind(result.key.device)] ** 3 / seconds
    return result.flops / result.latency(50).value / product


def read_profile(path: Path) -> str:
    """A section with the slowest layers of a profile."""
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
        rows = [
            (str(layer["name"]), str(layer["kind"]), time_text(layer["seconds"]), f"{layer['seconds'] / whole:.1%}",
             " to ".join(map(time_text, layer["least_s"])), str(layer["limit"]))
            for whole in [data["whole_s"]]
            for layer in data["layers"][:TOP]
        ]  # fmt: skip
    except (OSError, ValueError, KeyError, TypeError, ZeroDivisionError) as error:
        do = "Write it again with `profile --output`, or remove it."
        raise LabError(f"{path} is no profile: {error!r}.", "", do) from error
    head = ("layer", "kind", "time (measured)", "share", "least possible (modelled)", "limit")
    return f"<h2>Profile: the {len(rows)} slowest layers</h2>{_table(head, rows)}"


def _machine(run: Run) -> str:
    rows = [*run.header["machine"].items(), *run.header["versions"].items(), *run.header["settings"].items()]
    rows += [("date", run.header["date"]), ("code", run.header["code"]), ("schema", run.header["schema"])]
    cells = (
        (name, " ".join(map(str, value)) if isinstance(value, list) else str(value))
        for name, value in rows
        if value is not None
    )
    return f"<h2>Where and how it was measured</h2>{_table(('', ''), cells)}"


def _page(title: str, body: Iterable[str]) -> str:
    head = f'<meta charset="utf-8"><title>{title}</title><style>{STYLE}</style>'
    return f'<!DOCTYPE html>\n<html lang="en"><head>{head}</head><body>\n' + "\n".join(body) + "\n</body></html>\n"


def _paragraph(text: str) -> str:
    return f"<p>{html.escape(text)}</p>"


def _table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    titles = "".join(f"<th>{html.escape(title)}</th>" for title in head)
    body = "".join("<tr>" + "".join(f"<td>{html.escape(cell)}</td>" for cell in row) + "</tr>" for row in rows)
    return f"<table><tr>{titles}</tr>{body}</table>"
