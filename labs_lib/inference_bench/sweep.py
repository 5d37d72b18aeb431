"""The benchmark: models, batch sizes, variants and devices, in rounds, into a journal that survives being killed.

All configurations of a model on a device are set up first: the answer is checked against eager's, work and memory are
counted, and calls are made until they get no faster. Then each round times every one of them, in an order drawn for
that round, with the control beside it. So a slow minute falls on all configurations, and a round is a repetition.
"""

from __future__ import annotations

import gc
import math
import random
import sys
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import torch
from tqdm.auto import tqdm

from labs_lib import hardware
from labs_lib.dispatch import tensors
from labs_lib.equality import difference
from labs_lib.errors import LabError
from labs_lib.inference_bench.calls import Call, timed
from labs_lib.inference_bench.control import Control
from labs_lib.inference_bench.models import Benchable, load
from labs_lib.inference_bench.rows import OK, Journal, Key, Settings, header, key_of
from labs_lib.inference_bench.variants import VARIANTS, Workbench
from labs_lib.inference_bench.warm_up import flops, peak_memory, warm_up
from labs_lib.machine import pinned_threads
from labs_lib.peak import counted_peak, out_of_memory
from labs_lib.units import size_text

SAMPLE_S = {"ci": 0.03, "lab": 0.2, "gpu": 0.2}  # of calls in a row, or one call where that takes longer
MOST_CALLS = 64  # in a row
UNAVAILABLE, TOO_LARGE, WRONG, FAILED = "unavailable", "does not fit", "wrong answer", "failed"


def sweep(settings: Settings, folder: Path) -> Journal:
    """Measures what `settings` ask for and the journal in `folder` does not hold yet, and returns the closed journal.

    A configuration that cannot be measured is a row that says why, and the others go on. Raises LabError where the
    folder cannot be written, or holds another run.
    """
    with Journal(folder, header(settings)) as journal, pinned_threads(settings.threads):
        work = _Work(settings, journal)
        with work.progress():
            for model in settings.models:
                for device in settings.devices:
                    work.group(model, device)
    return journal


@dataclass
class _Work:
    settings: Settings
    journal: Journal
    bar: tqdm | None = None
    states: dict[Key, str] = field(default_factory=dict)  # of configurations that are set up, or given up
    rounds: set[tuple[Key, int]] = field(default_factory=set)  # that are done

    def __post_init__(self) -> None:
        for row in self.journal.rows:
            self._note(row)

    def _note(self, row: dict) -> None:
        key = key_of(row)
        if row["kind"] == "setup" or row["status"] != OK:
            self.states[key] = row["status"]
        if row["kind"] == "round":
            self.rounds.add((key, row["round"]))

    @contextmanager
    def progress(self) -> Iterator[None]:
        keys = self.settings.configurations()
        total = len(keys) * (1 + self.settings.rounds)
        left = sum(len(self.missing(key)) + (key not in self.states) for key in keys)
        seen = sys.stderr.isatty() or "ipykernel" in sys.modules  # else it would fill a log
        with tqdm(total=total, initial=total - left, desc="measuring", leave=False, disable=not seen) as self.bar:
            yield

    def missing(self, key: Key) -> list[int]:
        """The rounds of a configuration that are still to be done; none where it was given up."""
        if self.states.get(key, OK) != OK:
            return []
        return [number for number in range(self.settings.rounds) if (key, number) not in self.rounds]

    def write(self, kind: str, key: Key, status: str, **facts: object) -> None:
        row = {"kind": kind, **vars(key), "status": status, **facts}
        pending = len(self.missing(key)) + (key not in self.states)
        self.journal.write(row)
        self._note(row)
        self.bar.update(1 if status == OK else pending)

    def give_up(self, key: Key, status: str, reason: str, **facts: object) -> None:
        """A configuration that is not measured: its only row, and a line for whoever waits."""
        self.write("setup", key, status, reason=reason, **facts)
        if status != UNAVAILABLE:
            tqdm.write(f"{key}: {status}: {reason}", file=sys.stderr)

    def group(self, name: str, device: str) -> None:
        """One model on one device: everything that the journal does not hold yet."""
        keys = [key for key in self.settings.configurations() if (key.model, key.device) == (name, device)]
        if not any(key not in self.states or self.missing(key) for key in keys):
            return
        try:
            model = load(name, self.settings.input if ":" in name else None)
            info = model.info().as_dict()
            bench = Workbench(model, device, self.settings.threads)
        except Exception as error:  # the learner's own code among others
            if isinstance(error, LabError):
                status, reason = UNAVAILABLE, " ".join(error.sentences)
            else:
                status, reason = FAILED, in_one_line(error)
            tqdm.write(f"{name} on {device}: {reason}", file=sys.stderr)
            for key in keys:
                if key not in self.states:
                    self.write("setup", key, status, reason=reason)
            return
        with closing(bench):
            runs = {}
            for batch in self.settings.batch_sizes:
                runs |= self._set_up(bench, info, [key for key in keys if key.batch == batch])
            self._time(runs, Control(device))

    def _set_up(self, bench: Workbench, info: dict, keys: list[Key]) -> dict[Key, _Prepared]:
        """What can be timed of one batch size: eager first, with whose answer the others are compared."""
        runs: dict[Key, _Prepared] = {}
        if not any(key not in self.states or self.missing(key) for key in keys):
            return runs
        expected: torch.Tensor | None = None
        for key in keys:
            known = key in self.states
            if known and not self.missing(key) and key.variant != "eager":
                continue
            try:
                found = _prepared(bench, key, expected)
            except _GivenUp as reason:
                if not known:
                    self.give_up(key, reason.status, str(reason), info=info)
                elif missing := self.missing(key):  # it worked when the run was begun
                    self.write("round", key, reason.status, round=missing[0], reason=str(reason))
                if key.variant == "eager":  # nothing to compare the others with
                    for other in keys:
                        if other not in self.states:
                            self.write("setup", other, reason.status, reason=f"as eager: {reason}", info=info)
                    return {}
                continue
            if key.variant == "eager":
                expected = found.answer
            found.answer = None
            if not known:
                self.write("setup", key, OK, info=info, **found.facts)
            if self.missing(key):
                runs[key] = found
        return runs

    def _time(self, runs: dict[Key, _Prepared], control: Control) -> None:
        """Round after round, each configuration that still lacks it, in an order drawn for the round."""
        sample_s = SAMPLE_S[self.settings.preset]
        speed = control.speed()
        for number in range(self.settings.rounds):
            order = [key for key in runs if number in self.missing(key)]
            random.Random(number).shuffle(order)
            for key in order:
                try:
                    taken = _sample(runs[key], key.device, sample_s)
                except Exception as error:  # the learner's own code among others
                    self.write("round", key, FAILED, round=number, reason=in_one_line(error))
                    tqdm.write(f"{key}: failed in round {number}: {in_one_line(error)}", file=sys.stderr)
                    continue
                before, speed = speed, control.speed()
                calls = {"calls": [call.wall for call in taken], "busy": [call.busy for call in taken]}
                beside = {name: [seconds, getattr(speed, name)] for name, seconds in vars(before).items()}
                self.write("round", key, OK, round=number, **calls, **beside)


@dataclass
class _Prepared:
    """A configuration that works: what to call, what a call takes, and the facts for its row."""

    run: Callable[[], torch.Tensor]
    seconds: float
    facts: dict[str, object]
    answer: torch.Tensor | None


class _GivenUp(Exception):
    def __init__(self, status: str, reason: str) -> None:
        super().__init__(reason)
        self.status = status


def _prepared(bench: Workbench, key: Key, expected: torch.Tensor | None) -> _Prepared:
    """Checked against `expected`, counted and warm. Raises _GivenUp with the reason where it cannot be."""
    if reason := bench.missing(key.variant):
        raise _GivenUp(UNAVAILABLE, reason)
    try:
        if key.variant == "eager":
            _demand_room(bench.model, key)
        return _measured_once(bench, key, expected)
    except _GivenUp:
        raise
    except Exception as error:  # the learner's own code, the compiler, the exporter
        status, reason = (TOO_LARGE, "out of memory") if out_of_memory(error) else (FAILED, in_one_line(error))
    # Behind the except block, where the error's traceback no longer holds the tensors.
    gc.collect()
    if key.device == "cuda":
        torch.cuda.empty_cache()
    raise _GivenUp(status, reason)


def _measured_once(bench: Workbench, key: Key, expected: torch.Tensor | None) -> _Prepared:
    answer = None

    def build() -> None:
        nonlocal run, answer
        run = bench.runner(key.variant, key.batch)
        answer = run()

    run = build
    build_s = timed(build).wall
    answer = _checked(key, answer, expected)
    variant = VARIANTS[key.variant]
    off = 0.0 if expected is None else difference(expected, answer).relative
    if off > variant.tolerance:
        raise _GivenUp(WRONG, f"{off:.1e} of the largest value from eager's answer, {variant.tolerance:.0e} allowed")
    peak, peak_by = peak_memory(run, key.device, counted=key.variant not in ("onnx", "int8"))
    work = flops(bench.runner("inference_mode", key.batch)) if key.variant == "eager" else None
    warm = warm_up(run, key.device)
    facts = {
        "build_seconds": build_s,
        "difference": off,
        "tolerance": variant.tolerance,
        "peak_bytes": peak,
        "peak_by": peak_by,
        "flops": work,
        "warm_up_calls": warm.calls,
    }
    return _Prepared(run, warm.seconds, facts, answer)


def _checked(key: Key, answer: object, expected: torch.Tensor | None) -> torch.Tensor:
    """The answer on the CPU. Raises _GivenUp unless it is a tensor, all finite, with a row for each sample."""
    if not isinstance(answer, torch.Tensor):
        raise _GivenUp(FAILED, f"the answer is of type {type(answer).__name__}, no tensor")
    if answer.dim() == 0 or len(answer) != key.batch:
        raise _GivenUp(FAILED, f"the answer's shape is {tuple(answer.shape)}, not one row for each sample")
    answer = answer.detach().cpu()
    if expected is None and not answer.isfinite().all():
        raise _GivenUp(FAILED, "the answer has NaN or infinite values")
    return answer


def _demand_room(model: Benchable, key: Key) -> None:
    """On a CPU, where a process that asks for too much may be killed, a batch is first reckoned from one sample."""
    if key.device != "cpu" or key.batch == 1:
        return
    sample = model.prepare_input(1)
    one = counted_peak(lambda: model.forward(sample))
    if one is None:
        raise MemoryError("out of memory")
    needs = key.batch * (one + sum(tensor.nbytes for tensor in tensors(sample)))
    available = hardware.memory()[1]
    if needs > available:
        said = f"about {size_text(needs)} (modelled from one sample), {size_text(available)} are available"
        raise _GivenUp(TOO_LARGE, f"it needs {said}")


def _sample(prepared: _Prepared, device: str, sample_s: float) -> list[Call]:
    """Calls in a row."""
    calls = min(MOST_CALLS, max(1, math.ceil(sample_s / prepared.seconds)))
    if calls > 1:
        prepared.run()  # the caches hold what ran before it
    collecting = gc.isenabled()
    gc.disable()
    try:
        return [timed(prepared.run, device) for _ in range(calls)]
    finally:
        if collecting:
            gc.enable()


def in_one_line(error: BaseException) -> str:
    """What an error says, in at most 200 characters."""
    said = " ".join(str(error).split())
    return f"{type(error).__name__}: {said}"[:200]
