"""The files of a finished run: bench.json and bench.csv, written and read back.

`bench.csv` has a line for each configuration with the columns of `COLUMNS`; `bench.json` has the same fields under
"results", the header of the run, and "schema": 1, which grows when a field changes its meaning. Times are seconds,
sizes bytes, throughput samples a second, `flops` products only with a multiply-add as 2. Fields that end in `_low` and
`_high` are the ends of a 95 % interval, empty (null) where too few values bound it. `drift` is the factor between
the fastest calls of the two halves of the rounds, the control taken out. What was not measured is empty, and `status`
and `reason` say why. JSON has each round's `rounds` in addition: the seconds of each call, those without what other
processes took of them (`busy`), and the control's `product`, `near` and `far` copy just before and just after.
"""

from __future__ import annotations

import csv
import io
import json
import os
from pathlib import Path

from labs_lib.errors import LabError
from labs_lib.inference_bench.results import COLUMNS, FACTS, Result, Round, Run, run_of
from labs_lib.inference_bench.rows import FILE, SCHEMA, key_of, read_lines

JSON_FILE, CSV_FILE = "bench.json", "bench.csv"


def export(run: Run, folder: Path) -> None:
    """Writes both files; each is there whole or not at all."""
    _replace(folder / JSON_FILE, json.dumps(run.as_dict(), allow_nan=False, indent=1))
    _replace(folder / CSV_FILE, csv_text(run))


def csv_text(run: Run) -> str:
    """A line for each configuration, below the names of the columns."""
    text = io.StringIO()
    writer = csv.DictWriter(text, COLUMNS, lineterminator="\n")
    writer.writeheader()
    for result in run.results:
        row = result.as_dict()
        shape = row["input_shape"]
        writer.writerow({**row, "input_shape": "x".join(map(str, shape)) if shape else None})
    return text.getvalue()


def read_run(path: Path) -> Run:
    """A run from its folder, or from a `bench.json`.

    Raises LabError where there is none, or one of another schema.
    """
    do = f"Name a folder that `bench` wrote, or its {JSON_FILE}."
    try:
        lines = read_lines(path / FILE)[0] if path.is_dir() else [json.loads(path.read_text(encoding="utf-8"))]
    except FileNotFoundError:
        raise LabError(f"There is no run in {path}.", "", do) from None
    except (OSError, ValueError) as error:
        raise LabError(f"Can't read {path}: {error}.", "", do) from error
    data = lines[0] if lines else None
    if not isinstance(data, dict) or "schema" not in data:
        raise LabError(f"{path} is no run of `bench`.", "", do)
    if data["schema"] != SCHEMA:
        raise LabError(f"{path} has the schema {data['schema']!r}.", f"Known is {SCHEMA}.", "Measure again.")
    if path.is_dir():
        return run_of(data, lines[1:])
    try:
        return Run(
            {name: value for name, value in data.items() if name != "results"},
            tuple(_result(row) for row in data["results"]),
        )
    except (KeyError, TypeError, AttributeError) as error:
        raise LabError(f"{path} is no run of `bench`: {error!r}.", "", do) from error


def _result(row: dict) -> Result:
    return Result(
        key=key_of(row),
        status=row["status"],
        reason=row["reason"] or "",
        info={name: row[name] for name in ("note", "parameters", "weight_bytes", "input_shape", "dtype")}
        if row["parameters"] is not None
        else {},
        facts={name: row[name] for name in FACTS},
        flops=row["flops"],
        rounds=tuple(Round(**{name: tuple(values) for name, values in each.items()}) for each in row["rounds"]),
    )


def _replace(path: Path, text: str) -> None:
    new = path.with_name(path.name + ".new")
    new.write_text(text, encoding="utf-8")
    os.replace(new, path)
