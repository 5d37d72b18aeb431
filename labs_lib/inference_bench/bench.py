"""`benchmark`: the sweep in one call, as the notebook and the command use it."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from pathlib import Path

from labs_lib.errors import LabError
from labs_lib.inference_bench.exports import export
from labs_lib.inference_bench.results import Run, run_of
from labs_lib.inference_bench.rows import Settings
from labs_lib.inference_bench.sweep import sweep
from labs_lib.inference_bench.variants import variants_named
from labs_lib.machine import preset

BATCH_SIZES = (1, 4, 8)
ROUNDS = 20  # 12 are the fewest that leave an interval where a hundred configurations are compared


def benchmark(
    models: str | Sequence[str],
    batch_sizes: Sequence[int] = BATCH_SIZES,
    variants: Sequence[str] | None = None,
    devices: Sequence[str] = ("cpu",),
    *,
    threads: int = 1,
    rounds: int = ROUNDS,
    input: str | None = None,
    folder: Path | str | None = None,
) -> Run:
    """Latency, throughput and memory of models, for all batch sizes, variants (None: all) and devices.

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
    for what, values in (("batch_sizes", batch_sizes), ("threads", [threads]), ("rounds", [rounds])):
        if not all(type(value) is int and value > 0 for value in values):
            raise LabError(f"{what} is {values!r}.", "", "Give whole numbers above 0.")
    settings = Settings(
        models=tuple(dict.fromkeys(models)),
        devices=tuple(dict.fromkeys(devices)),
        batch_sizes=tuple(sorted(set(batch_sizes))),
        variants=variants_named(variants),
        threads=threads,
        rounds=rounds,
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
