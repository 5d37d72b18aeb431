"""What this machine is, for the learner (doctor) and for the code that measures on it."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass

from labs_lib import hardware
from labs_lib.catalogue import LABS, Lab
from labs_lib.errors import LabError
from labs_lib.tables import html_table

PRESETS = ("ci", "lab", "gpu")
THREAD_VARIABLES = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")
PACKAGES = ("labs_lib", "numpy", "torch", "torchvision", "matplotlib", "ipywidgets", "jupyterlab")
LITTLE_MEMORY = 2 * 2**30  # bytes: torch with one of the larger models of the labs


def preset() -> str:
    """The sizes the labs work with, from the environment variable LABS_PRESET: "ci", "lab" or "gpu".

    >>> preset() in PRESETS
    True

    Raises LabError for any other value. Not set, it is "lab".
    """
    chosen = os.environ.get("LABS_PRESET") or "lab"
    if chosen not in PRESETS:
        known = ", ".join(PRESETS)
        raise LabError(f"LABS_PRESET is {chosen!r}.", f"The presets are {known}.", "Set one of these.")
    return chosen


def fingerprint() -> str:
    """Twelve characters that change with the processor, the usable cores, and NumPy's or torch's version.

    Recorded results carry it, so that numbers of two machines are not taken for one another. It is a
    hash, and holds no host or user name.

    >>> fingerprint() == fingerprint()
    True
    >>> len(fingerprint())
    12
    """
    import hashlib

    facts = (
        _ask(hardware.cpu_model),
        _ask(hardware.usable_cores),
        hardware.version("numpy"),
        hardware.version("torch"),
    )
    return hashlib.sha256(repr(facts).encode()).hexdigest()[:12]


def synchronize() -> None:
    """Waits for the GPU where torch is loaded and has one; else does nothing, at next to no cost.

    >>> synchronize()
    """
    torch = sys.modules.get("torch")
    if torch is not None and torch.accelerator.is_available():
        torch.accelerator.synchronize()


@contextmanager
def pinned_threads(n: int) -> Iterator[None]:
    """Within the block BLAS, OpenMP and, once imported, torch compute with `n` threads.

    >>> with pinned_threads(1):
    ...     pass

    Raises LabError unless n is an integer of at least 1.
    """
    if not isinstance(n, int) or n < 1:
        raise LabError(f"{n!r} is no number of threads.", "At least one must compute.", "Give 1 or more.")
    from threadpoolctl import threadpool_limits

    torch = sys.modules.get("torch")
    # Asked before the limits, which torch's own number follows.
    before = torch.get_num_threads() if torch else None
    with threadpool_limits(n):
        try:
            if torch:
                torch.set_num_threads(n)
            yield
        finally:
            if torch:
                torch.set_num_threads(before)


@dataclass(frozen=True, repr=False)
class Report:
    """What doctor() found. Bytes and counts are numbers; what could not be told is "unknown (why)"."""

    cpu: str
    cores: int | str
    cpu_quota: float | str | None  # CPUs' worth of time; None: no limit
    load: float | str  # runnable processes in the last minute, on the whole machine
    threads: dict[str, int | str]
    simd: list[str] | str
    matrix_units: list[str] | str
    memory_bytes: tuple[int, int] | str  # total, available
    compiler: str | None
    torch: dict[str, object] | str
    gpu: dict[str, object] | str | None
    versions: dict[str, str | None]
    labs: dict[str, tuple[str, str]]  # number: "full", "reduced" or "without a GPU", and why

    def as_dict(self) -> dict[str, object]:
        """All of it as plain values for JSON."""
        return asdict(self)

    def rows(self) -> list[tuple[str, str]]:
        """(label, text) pairs, one for each line of the report."""
        quota = "no CPU quota" if self.cpu_quota is None else f"CPU quota {_number(self.cpu_quota)}"
        set_by = [f"{name}={value}" for name, value in self.threads.items() if name != "torch"]
        kernels = f"; torch uses {self.torch['kernels']}" if isinstance(self.torch, dict) else ""
        versions = [f"{name} {version or 'not installed'}" for name, version in self.versions.items()]
        return [
            ("processor", f"{self.cpu}, {_count(self.cores, 'usable core')}, {quota}"),
            ("load", f"{_number(self.load)} in the last minute{self._busy()}"),
            ("threads", f"torch {self.threads['torch']}; {', '.join(set_by) or 'OMP_NUM_THREADS not set'}"),
            ("SIMD", f"{_listed(self.simd)}{kernels}"),
            ("matrix units", _listed(self.matrix_units)),
            ("memory", self._memory()),
            ("C++ compiler", self.compiler or "none: torch.compile needs one on a CPU"),
            ("GPU", self._gpu()),
            ("versions", ", ".join(versions[:4])),
            ("", ", ".join(versions[4:])),
            *((f"lab {number}", f"{state}: {why}") for number, (state, why) in self.labs.items()),
        ]

    def _busy(self) -> str:
        """The load counts the whole machine's processes, so it is held against the whole machine's cores."""
        if isinstance(self.load, float) and self.load > (os.cpu_count() or 1) / 2:
            return ". The machine is busy: close what you can, or expect wide intervals."
        return ""

    def _memory(self) -> str:
        if isinstance(self.memory_bytes, str):
            return self.memory_bytes
        total, available = self.memory_bytes
        return f"{_gib(total)}, {_gib(available)} available"

    def _gpu(self) -> str:
        if self.gpu is None:
            return "none that torch can use"
        if isinstance(self.gpu, str):
            return self.gpu
        size = self.gpu["memory_bytes"]
        return f"{self.gpu['name']} ({self.gpu['kind']}{f', {_gib(size)}' if size else ''})"

    def __str__(self) -> str:
        return "\n".join(f"{label:14}{text}".rstrip() for label, text in self.rows())

    __repr__ = __str__

    def _repr_html_(self) -> str:
        return html_table(self.rows())


def doctor() -> Report:
    """Says what this machine is and can do, and how far each lab runs on it. It refuses nobody.

    >>> "lab 01" in str(doctor())
    True

    Never raises: what cannot be told is reported as unknown, with the reason. Imports torch.
    """
    torch = _ask(hardware.torch_settings)
    memory = _ask(hardware.memory)
    gpu = _ask(hardware.gpu)
    compiler = _ask(hardware.compiler)
    return Report(
        cpu=_ask(hardware.cpu_model),
        cores=_ask(hardware.usable_cores),
        cpu_quota=_ask(hardware.cpu_quota),
        load=_ask(hardware.load_average),
        threads={"torch": torch["threads"] if isinstance(torch, dict) else torch}
        | {name: os.environ[name] for name in THREAD_VARIABLES if name in os.environ},
        simd=_ask(lambda: hardware.instruction_sets(hardware.SIMD)),
        matrix_units=_ask(lambda: hardware.instruction_sets(hardware.MATRIX_UNITS)),
        memory_bytes=memory,
        compiler=compiler,
        torch=torch,
        gpu=gpu,
        versions={"python": "{}.{}.{}".format(*sys.version_info)}
        | {name: hardware.version(name) for name in PACKAGES},
        labs={lab.number: _extent(lab, torch, memory, gpu, compiler) for lab in LABS},
    )


def _extent(lab: Lab, torch: object, memory: object, gpu: object, compiler: object) -> tuple[str, str]:
    """How far a lab runs here, and why."""
    chosen = _ask(preset)
    if isinstance(torch, str):
        return "reduced", "torch cannot be imported, so what works on torch models is left out"
    if isinstance(memory, tuple) and memory[1] < LITTLE_MEMORY:
        return "reduced", f"{_gib(memory[1])} of memory available; LABS_PRESET=ci takes the smallest sizes"
    if chosen not in PRESETS:
        return "reduced", chosen
    if chosen == "ci":
        return "reduced", "LABS_PRESET=ci takes the smallest sizes"
    if lab.compiler and compiler is None:
        return "reduced", "no C++ compiler, so what it would build is counted and not timed"
    if lab.gpu == "none":
        return "full", "it needs no GPU"
    if isinstance(gpu, dict) and gpu["kind"] == "CUDA":
        return "full", f"with the {gpu['name']}"
    return "without a GPU", "what needs a CUDA GPU is left out or recorded; all else is of this machine"


def _ask(probe: Callable[[], object]) -> object:
    """The probe's answer, or "unknown" with what it tripped over: one odd machine must not hide the rest."""
    try:
        return probe()
    except Exception as error:
        return f"unknown ({type(error).__name__}: {' '.join(str(error).split())})"


def _gib(size: int) -> str:
    return f"{size / 2**30:.1f} GiB"


def _number(value: float | str) -> str:
    return value if isinstance(value, str) else f"{value:.2f}"


def _count(value: int | str, noun: str) -> str:
    return f"{value} {noun}{'' if value == 1 else 's'}"


def _listed(names: list[str] | str) -> str:
    return names if isinstance(names, str) else ", ".join(names) or "none"
