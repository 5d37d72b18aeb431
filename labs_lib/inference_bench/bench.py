"""`benchmark`: the sweep in one call, as the notebook and the command use it."""

from __future__ import annotations

import math
import tempfile
from collections.abc import Sequence
from pathlib import Path

from labs_lib.errors import LabError
from labs_lib.inference_bench.exports import export
from labs_lib.inference_bench.results import Run, run_of
from labs_lib.inference_bench.rows import Settings
from labs_lib.inference_bench.sweep import SAMPLE_S, sweep
from labs_lib.inference_bench.variants import variants_named
from labs_lib.machine import preset

BATCH_SIZES = (1, 4, 8)
ROUNDS = 20  # at least, two for each replicate that `noise` makes of them
LEAST_S = 6.0  # of samples of each model, one configuration after the other: a neighbour's moment is shorter


def benchmark(
    models: str | Sequence[str],
    batch_sizes: Sequence[int] = BATCH_SIZES,
    variants: Sequence[str] | None = None,
    devices: Sequence[str] = ("cpu",),
    *,
    threads: int = 1,
    rounds: int | None = None,
    input: str | None = None,
    folder: Path | str | None = None,
) -> Run:
    """Latency, throughput and memory of models, for all batch sizes, variants (None: all) and devices.

    Without `rounds` there are 20, and more where a model has few configurations, see `rounds_for`.

    `models` and `input`: see `models.load`. With a `folder` the rows are kept there, with bench.json and bench.csv, and
    the same call goes on with an interrupted run. What cannot be measured is in the result with its reason.

    >>> run = benchmark("torch.nn:Identity", (1, 2), ["inference_mode"], input="3", rounds=2)
    >>> [(result.key.variant, result.key.batch, result.status) for result in run.results]
    [('eager', 1, 'ok'), ('inference_mode', 1, 'ok'), ('eager', 2, 'ok'), ('inference_mode', 2, 'ok')]

    Raises LabError for arguments of another kind, an unknown variant, and a folder that holds another run.
    """
    if isinstance(models, str):
        models = (models,)
    for what, values in (("models", models), ("batch_sizes", batch_sizes), ("devices", devices)):
        if isinstance(values, str) or not isinstance(values, Sequence) or not values:
            raise LabError(f"{what} is {values!r}.", "It is a list of at least one.", "Give for instance a tuple.")
    counts = [] if rounds is None else [rounds]
    for what, values in (("batch_sizes", batch_sizes), ("threads", [threads]), ("rounds", counts)):
        if not all(type(value) is int and value > 0 for value in values):
            raise LabError(f"{what} is {values!r}.", "", "Give whole numbers above 0.")
    chosen = variants_named(variants)
    settings = Settings(
        models=tuple(dict.fromkeys(models)),
        devices=tuple(dict.fromkeys(devices)),
        batch_sizes=tuple(sorted(set(batch_sizes))),
        variants=chosen,
        threads=threads,
        rounds=rounds or rounds_for(len(set(batch_sizes)) * len(chosen), SAMPLE_S[preset()]),
        preset=preset(),
        input=input,
    )
    if folder is None:
        with tempfile.TemporaryDirectory(prefix="labs-bench-") as temporary:
            journal = sweep(settings, Path(temporary))
        return run_of(journal.header, journal.rows)
    journal = sweep(settings, Path(folder))
    run = run_of(journal.header, journal.rows)
    export(run, Path(folder))
    return run


def rounds_for(configurations: int, sample_s: float) -> int:
    """How many rounds a model of so many configurations has: few would all fall into the same moment.

    >>> rounds_for(2, 0.03), rounds_for(21, 0.03)
    (100, 20)
    """
    return max(ROUNDS, math.ceil(LEAST_S / (configurations * sample_s)))
