"""The journal of a benchmark run: JSON lines, each written once and synced, so that a killed run loses none of them.

The first line is the header: the settings, the machine and the version of the code that measures. Then come, for each
configuration (a model on a device, a variant, a batch size), one line of kind "setup" and one of kind "round" for
each round. A run that is started again reads them and does what is missing.
"""

from __future__ import annotations

import hashlib
import inspect
import json
import os
import sys
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from datetime import datetime
from pathlib import Path

from labs_lib import arguments, hardware, journal_file
from labs_lib.errors import LabError
from labs_lib.machine import fingerprint

SCHEMA = 1
FILE = "rows.jsonl"
PACKAGES = ("torch", "numpy", "torchvision", "transformers", "onnxruntime")
OK = "ok"  # the status of what was measured
MEASURING = ("calls", "control", "models", "rows", "sweep", "variants", "warm_up")  # whose text is the code version


@dataclass(frozen=True, order=True)
class Key:
    """One configuration."""

    model: str
    device: str
    variant: str
    batch: int

    def __str__(self) -> str:
        return f"{self.model}, {self.variant}, batch {self.batch}, {self.device}"


@dataclass(frozen=True)
class Settings:
    """What a run measures. Names of models as `models.load` takes them; `input` goes to models of your own."""

    models: tuple[str, ...]
    devices: tuple[str, ...]
    batch_sizes: tuple[int, ...]
    variants: tuple[str, ...]
    threads: int
    rounds: int
    preset: str
    input: str | None = None

    def configurations(self) -> list[Key]:
        """All configurations, in the order in which they are set up."""
        return [
            Key(model, device, variant, batch)
            for model in self.models
            for device in self.devices
            for batch in self.batch_sizes
            for variant in self.variants
        ]


def header(settings: Settings) -> dict[str, object]:
    """What must be the same for rows to belong to one run, and the date, which may differ."""
    gpu = hardware.gpu()
    return {
        "kind": "run",
        "schema": SCHEMA,
        "date": datetime.now().astimezone().isoformat(timespec="seconds"),
        "settings": json.loads(json.dumps(asdict(settings))),
        "machine": {
            "fingerprint": fingerprint(),
            "cpu": hardware.cpu_model(),
            "cores": hardware.usable_cores(),
            "gpu": gpu["name"] if gpu else None,
        },
        "versions": {package: hardware.version(package) for package in PACKAGES},
        "code": code_version(settings.models),
    }


def code_version(models: tuple[str, ...]) -> str:
    """Twelve characters that change with the code that measures, and with the file of a model of your own."""
    folder = Path(__file__).parent
    texts = [(folder / f"{name}.py").read_bytes() for name in MEASURING]
    texts += [_source(name) for name in models if ":" in name]
    return hashlib.sha256(b"\0".join(texts)).hexdigest()[:12]


def _source(name: str) -> bytes:
    """The file of the module in MODULE:NAME; nothing where there is none, which `load` has the words for."""
    try:
        arguments.named(name, "the model")
        return Path(inspect.getsourcefile(sys.modules[name.partition(":")[0]])).read_bytes()
    except (LabError, KeyError, TypeError, OSError):
        return b""


class Journal:
    """The rows of a run in `folder`, read on entry and appended to; locked against other writers until the exit.

    What a killed process left of a line is dropped. Raises LabError where something was measured there with other
    settings, on another machine or by another version of the code, where rows are damaged, and where another process
    writes them.
    """

    def __init__(self, folder: Path, expected: dict[str, object]) -> None:
        self.path = folder / FILE
        self.header = expected
        self.rows: list[dict] = []

    def __enter__(self) -> Journal:
        with ExitStack() as stack:
            try:
                self._file = stack.enter_context(journal_file.opened(self.path))
            except LabError as error:
                raise LabError(f"{self.path} is in use.", error.why, "Wait, or give another --output.") from error
            except OSError as error:
                raise LabError(
                    f"Can't write {self.path}: {error.strerror}.", "", "Give another folder with --output."
                ) from error
            lines, whole = read_lines(self.path)
            if lines and (differing := _differing(lines[0], self.header)):
                if any(row.get("status") == OK for row in lines[1:]):
                    raise LabError(
                        f"{self.path} holds a run with other {', '.join(differing)}.",
                        "Its rows can't be continued here.",
                        "Give another folder with --output.",
                    )
                lines, whole = [], 0  # it only says why nothing could be measured: a mended command begins anew
            os.ftruncate(self._file, whole)
            if not lines:
                journal_file.append(self._file, [self.header])
            else:
                self.header, *self.rows = lines
            self._stack = stack.pop_all()
        return self

    def __exit__(self, *error: object) -> None:
        self._stack.close()

    def write(self, row: dict[str, object]) -> None:
        """Appends one row; it is on the disk when this returns."""
        journal_file.append(self._file, [row])
        self.rows.append(row)


def read_lines(path: Path) -> tuple[list[dict], int]:
    """The rows, and the length of the file without the half line at its end.

    Raises LabError where a whole line is no row: that is damage no kill can do.
    """
    data = path.read_bytes()
    whole = data.rfind(b"\n") + 1
    lines = []
    for number, line in enumerate(data[:whole].splitlines(), start=1):
        try:
            row = json.loads(line)
        except ValueError:
            row = None
        if not isinstance(row, dict) or row.get("kind") not in ("run" if number == 1 else ("setup", "round")):
            raise LabError(f"Line {number} of {path} is no row of a benchmark.", "", "Give another folder.")
        lines.append(row)
    return lines, whole


def _differing(found: dict, expected: dict) -> list[str]:
    """The names of what makes another run of it; of the settings themselves where these differ."""
    differing = [name for name in expected if name != "date" and found.get(name) != expected[name]]
    settings = found.get("settings"), expected["settings"]
    if differing[:1] == ["settings"] and isinstance(settings[0], dict):
        return [name for name in settings[1] if settings[0].get(name) != settings[1][name]]
    return differing


def key_of(row: dict) -> Key:
    return Key(row["model"], row["device"], row["variant"], row["batch"])
