"""tune(dataset, step): a small measured search for the settings of a DataLoader."""

from __future__ import annotations

import html
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from itertools import islice
from math import inf
from numbers import Real

import torch
from torch.utils.data import DataLoader, Dataset, IterableDataset

from labs_lib.data_loading.failures import refuse_unless_a_step, stepped
from labs_lib.data_loading.race import Standing, race
from labs_lib.data_loading.settings import Epochs, Setting, candidates, more_workers_than_cores
from labs_lib.data_loading.timeline import no_step, unmoved_generators
from labs_lib.errors import LabError
from labs_lib.figures import Picture
from labs_lib.machine import synchronize

EPOCHS = 60  # that the budget should hold: of the default's duration
FEWEST = 8  # batches in an epoch that is measured
PROBE_S = 0.5  # how long the default runs to see how long an epoch takes


@dataclass(frozen=True)
class Tuning:
    """What `tune` found. A ratio is the default's time over a setting's; above 1 the setting is ahead."""

    best: Setting
    standings: list[Standing] = field(repr=False)  # the default first
    samples: int  # in an epoch as it was measured
    total: int  # in the dataset

    @property
    def default(self) -> Setting:
        return self.standings[0].setting

    @property
    def changes(self) -> bool:
        """Whether anything is better than the default."""
        return self.best != self.default

    @property
    def standing(self) -> Standing:
        """Where the best setting stands."""
        return next(one for one in self.standings if one.setting == self.best)

    @property
    def indistinguishable(self) -> list[Setting]:
        """Settings that the final rounds can't tell from the best."""
        return [one.setting for one in self.standings if one.indistinguishable]

    def table(self) -> list[tuple[str, str, str]]:
        """(setting, ratio with interval, remark), the default first."""
        rows = []
        for one in self.standings:
            interval = f"{one.ratio.median:.2f}x, {one.ratio.low:.2f} to {one.ratio.high:.2f}"
            if one.setting == self.default:
                interval = "1x"
            elif not one.final:
                interval = f"{one.ratio.median:.2f}x"
            remark = "best" if one.setting == self.best else "as good" if one.indistinguishable else ""
            if not one.final:
                remark = f"left after {one.rounds} round{'s' if one.rounds > 1 else ''}"
            rows.append((f"{one.setting}{' (default)' if one.setting == self.default else ''}", interval, remark))
        return rows

    def picture(self) -> Picture:
        from labs_lib.data_loading.pictures import tuning_picture

        return tuning_picture(self)

    def as_dict(self) -> dict[str, object]:
        return {
            "best": vars(self.best),
            "default": vars(self.default),
            "changes": self.changes,
            "indistinguishable": [vars(setting) for setting in self.indistinguishable],
            "settings": [
                {
                    **vars(one.setting), "ratio": one.ratio.median, "rounds": one.rounds, "final": one.final,
                    "low": one.ratio.low if one.final else None, "high": one.ratio.high if one.final else None,
                }
                for one in self.standings
            ],
        }  # fmt: skip

    def __str__(self) -> str:
        if not self.changes:
            return f"Stay with {self.default}: nothing was better in the final rounds (measured)."
        ratio = self.standing.ratio
        others = f"; not to be told from it: {' / '.join(map(str, same))}" if (same := self.indistinguishable) else ""
        return (
            f"Take {self.best}: {ratio.median:.2f}x as fast as {self.default}, interval {ratio.low:.2f} to "
            f"{ratio.high:.2f} (measured, 95 % for all finalists together){others}."
        )

    def _repr_html_(self) -> str:
        left = 'style="text-align:left"'
        rows = "".join(
            "<tr>" + "".join(f"<td {left}>{html.escape(cell)}</td>" for cell in row) + "</tr>" for row in self.table()
        )
        head = f"<tr><th {left}>setting</th><th {left}>times as fast as the default</th><th></th></tr>"
        return f"<p>{html.escape(str(self))}</p><table>{head}{rows}</table>"


def tune(
    dataset: Dataset,
    step: Callable[[object], object] = no_step,
    budget_s: float = 30,
    *,
    batches: tuple[int, ...] = (32,),
    collate_fn: Callable | None = None,
    predecode: bool = True,
    progress: bool = True,
) -> Tuning:
    """Searches workers, prefetching, persistent workers, batch sizes, pinned memory and decoding ahead.

    The default is DataLoader's own: no workers, with the first of `batches`. Each round measures epochs of it and of
    the candidates in random order; about half of `budget_s` goes into screening, the rest into fresh rounds with the
    best three, and only these decide (see `labs_lib.data_loading.race`). Another setting is recommended where its
    whole interval is better by 2 %. Pinned memory is tried where there is a GPU, decoding ahead where the dataset has
    a method `predecoded()`, unless `predecode` is False. Of settings that can't be told apart the simplest is named.

    `budget_s` is what it takes at least, about; on a slow set or a busy machine it may be several times as long: each
    candidate is measured once, and seven final rounds with at least one of them always.

    Raises LabError for an iterable dataset (whose shares only its author knows), an empty one, for a DataLoader, and
    where budget, batches or step are none; and, with the number of the batch, where loading or the step fails.
    """
    _refuse_dataset(dataset)
    refuse_unless_a_step(step)
    if not isinstance(budget_s, Real) or not 0 < budget_s < inf:
        raise LabError(f"budget_s={budget_s!r} can't be used.", "It is a number of seconds above 0.", "Try 20.")
    if not isinstance(batches, tuple | list) or not batches or not all(map(_is_count, batches)):
        raise LabError(
            f"batches={batches!r} can't be used.", "It holds sizes of a batch, whole numbers above 0.",
            "Write batches=(8,) for one.",
        )  # fmt: skip
    datasets: dict[bool, Dataset] = {False: dataset}
    if predecode and hasattr(dataset, "predecoded"):
        datasets[True] = dataset.predecoded()
    settings = candidates(batches, True in datasets, torch.cuda.is_available())
    with unmoved_generators(), more_workers_than_cores(), _bar(progress) as bar:
        sample_s = _seconds_per_sample(dataset, step, batches[0], collate_fn)
        epochs = Epochs(datasets, step, max(FEWEST * max(batches), int(budget_s / EPOCHS / sample_s)), collate_fn)
        try:
            best, standings = race(
                settings[0], settings[1:], epochs.measure, time.perf_counter, budget_s,
                lambda fraction: bar.update(int(100 * fraction) - bar.n), epochs.drop,
            )  # fmt: skip
        finally:
            epochs.close()
        bar.update(100 - bar.n)
    return Tuning(best, standings, epochs.limit, epochs.total)


def _refuse_dataset(dataset: object) -> None:
    if isinstance(dataset, DataLoader):
        raise LabError(
            "tune takes a dataset, and this is a DataLoader.", "It makes loaders of its own.",
            "Give loader.dataset, and batches=(loader.batch_size,).",
        )  # fmt: skip
    if isinstance(dataset, IterableDataset):
        raise LabError(
            "tune can't cut an iterable dataset into epochs.",
            "How it deals its samples out to workers is up to its own code.",
            "Use diagnose(loader, step) and timeline(loader, step).",
        )
    if not hasattr(dataset, "__getitem__") or not hasattr(dataset, "__len__"):
        raise LabError(f"{type(dataset).__name__} is no dataset.", "A dataset has __getitem__ and __len__.", "")
    if len(dataset) == 0:
        raise LabError("The dataset is empty.", "Its length is 0.", "")


def _is_count(size: object) -> bool:
    return hasattr(size, "__index__") and size >= 1


def _seconds_per_sample(
    dataset: Dataset, step: Callable[[object], object], batch: int, collate_fn: Callable | None
) -> float:
    """How long the default takes, from batches within PROBE_S after the first one."""
    numbers = stepped(DataLoader(dataset, batch_size=batch, collate_fn=collate_fn), step)
    start = time.perf_counter()
    next(numbers)
    first = time.perf_counter() - start
    start, count = time.perf_counter(), 0
    for count in islice(numbers, 1000):  # noqa: B007 - the batches after the first
        if time.perf_counter() - start > PROBE_S:
            break
    synchronize()
    return (time.perf_counter() - start) / count / batch if count else first / batch


def _bar(wanted: bool) -> object:
    """A bar over the budget, where somebody can see it."""
    from tqdm.auto import tqdm

    seen = sys.stderr.isatty() or "ipykernel" in sys.modules
    return tqdm(total=100, desc="tuning", unit="%", leave=False, disable=not (wanted and seen))
