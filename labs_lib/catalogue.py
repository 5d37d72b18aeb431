"""The labs of the course, in order: the one table from which every list of labs is made."""

from __future__ import annotations

import importlib
import importlib.util
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType

from labs_lib.errors import LabError

ROOT = Path(__file__).resolve().parent.parent
NOTEBOOKS, DATA = ROOT / "notebooks", ROOT / "data"


@dataclass(frozen=True)
class Lab:
    """One lab: its number, the subject package with its tools and exercises, and its notebook."""

    number: str
    subject: str
    file: str
    title: str
    question: str
    minutes: int
    gpu: str  # "none": a GPU changes nothing; "optional": with one the lab shows more
    commands: tuple[str, ...]  # of `python -m labs_lib`, which the subject's module of that name registers
    compiler: bool = False  # whether the lab builds C++ kernels

    @property
    def notebook(self) -> Path:
        return NOTEBOOKS / self.file

    def module(self, name: str) -> ModuleType | None:
        """The subject's module of that name, such as "exercises" or "commands"; None where it has none."""
        path = f"labs_lib.{self.subject}.{name}"
        return importlib.import_module(path) if importlib.util.find_spec(path) else None


LABS = (
    Lab(
        number="01",
        subject="static_memory",
        file="01_static_memory_planning.ipynb",
        title="Static memory planning",
        question="How little memory does a forward pass need, and does reusing it make anything faster?",
        minutes=55,
        gpu="none",
        commands=("plan", "analyze"),
    ),
    Lab(
        number="02",
        subject="compilation",
        file="02_compilation.ipynb",
        title="Compilation",
        question="What does a compiler do to my model, and when does it pay?",
        minutes=65,
        gpu="optional",
        commands=("compile-report",),
        compiler=True,
    ),
    Lab(
        number="03",
        subject="gpu_memory",
        file="03_gpu_memory.ipynb",
        title="GPU memory diagnosis",
        question="Why out of memory, who holds it, and what gives it back?",
        minutes=45,
        gpu="optional",
        commands=("fit",),
    ),
    Lab(
        number="04",
        subject="data_loading",
        file="04_data_loading.ipynb",
        title="Dataloader tuning",
        question="Is my model waiting for data, and which knob ends the wait?",
        minutes=50,
        gpu="optional",
        commands=("diagnose-loader",),
    ),
    Lab(
        number="05",
        subject="batched_eval",
        file="05_batched_eval.ipynb",
        title="Batched evaluation",
        question="Why is evaluating one by one slow, and what is the limit?",
        minutes=45,
        gpu="optional",
        commands=("best-batch",),
        compiler=True,
    ),
    Lab(
        number="06",
        subject="race_conditions",
        file="06_race_conditions.ipynb",
        title="Race conditions",
        question="Why does my counter lie, and how do I prove that it no longer does?",
        minutes=55,
        gpu="none",
        commands=("explore",),
    ),
    Lab(
        number="07",
        subject="serving",
        file="07_serving.ipynb",
        title="Serving",
        question="What does a request wait for, and what does batching buy at p99?",
        minutes=60,
        gpu="none",
        commands=("serve", "load-test"),
    ),
    Lab(
        number="08",
        subject="text_pipeline",
        file="08_text_pipeline.ipynb",
        title="Text pipelines",
        question="Why did parallelism not help, and what does?",
        minutes=55,
        gpu="optional",
        commands=("augment",),
    ),
    Lab(
        number="09",
        subject="inference_bench",
        file="09_inference_bench.ipynb",
        title="Inference benchmark and profile",
        question="Where does the time of a real model go, and how far is it from the machine's limit?",
        minutes=75,
        gpu="optional",
        commands=("bench", "report", "bench-diff", "profile"),
        compiler=True,
    ),
)


def find(name: str) -> Lab:
    """The lab with that number or subject.

    >>> find("1").title
    'Static memory planning'
    >>> find("static_memory").number
    '01'

    Raises LabError when there is no such lab.
    """
    for lab in LABS:
        if name == lab.subject or name.zfill(2) == lab.number:
            return lab
    known = ", ".join(f"{lab.number} ({lab.subject})" for lab in LABS)
    raise LabError(f"There is no lab {name!r}.", f"The labs are {known}.", "Give one of these numbers or names.")


@dataclass(frozen=True)
class Syllabus:
    """The labs of a class, session by session, each session of so many minutes.

    What a session's labs leave of its minutes is for questions and breaks. Notebook 00 opens the first session.
    """

    name: str
    for_whom: str
    session_minutes: int
    sessions: tuple[tuple[str, ...], ...]  # numbers of labs

    def labs(self, session: tuple[str, ...]) -> list[Lab]:
        return [find(number) for number in session]

    def minutes(self, session: tuple[str, ...]) -> int:
        """The minutes that the session's labs take, by the catalogue.

        >>> syllabus = SYLLABI["two-hours"]
        >>> syllabus.minutes(syllabus.sessions[0]) <= syllabus.session_minutes
        True
        """
        return sum(lab.minutes for lab in self.labs(session))


SYLLABI = {
    syllabus.name: syllabus
    for syllabus in (
        Syllabus(
            name="two-hours",
            for_whom="any class: no GPU and no compiler, and two questions that everyone who trains has",
            session_minutes=2 * 60,
            sessions=(("03", "04"),),
        ),
        Syllabus(
            name="one-day",
            for_whom="engineers who train and evaluate models",
            session_minutes=7 * 60,
            sessions=(("01", "02", "03", "04", "05", "08"),),
        ),
        Syllabus(
            name="one-week",
            for_whom="a course: all labs, in five sessions",
            session_minutes=3 * 60,
            sessions=(("01", "02"), ("03", "04"), ("05", "09"), ("06", "08"), ("07",)),
        ),
    )
}
