"""The panel of lab 04: a pipeline of loader and model on the virtual clock."""

from __future__ import annotations

from labs_lib.data_loading.pictures import timeline_picture
from labs_lib.data_loading.settings import crew
from labs_lib.data_loading.simulate import simulate
from labs_lib.figures import Picture
from labs_lib.panels import Choice, Panel

BATCHES = 12  # as many as can be told apart in a picture
STARTUP = 20  # ticks


def model_panel() -> Panel:
    """Workers, prefetch, costs and cores as controls; the schedule they give, and the share of waiting in it."""

    def draw(workers: int, prefetch: int, wait: int, cpu: int, step: int, cores: int) -> Picture:
        run = simulate(
            batches=BATCHES, wait=wait, cpu=cpu, step=step, workers=workers, prefetch=prefetch, cores=cores,
            startup=STARTUP,
        )  # fmt: skip
        start = f" ({STARTUP} of them while workers start)" if workers else ""
        says = (
            f"{crew(workers)} with prefetch {prefetch} on {cores} cores, wait {wait} + cpu {cpu} and step {step} "
            f"ticks a batch: {BATCHES} batches take {run.epoch} ticks, and the model waits in {run.idle} of them, "
            f"{run.idle_share:.0%}: {run.idle_steps[0]} for the first batch{start}, "
            f"{run.idle - run.idle_steps[0]} later (modelled)."
        )
        return timeline_picture(run.events, says, unit="ticks")

    return Panel(
        draw,
        workers=Choice("workers", (0, 1, 2, 3, 4, 5, 6, 8), 2),
        prefetch=Choice("prefetch", (1, 2, 4, 8), 2),
        wait=Choice("wait (storage)", (0, 10, 20, 40, 80), 40),
        cpu=Choice("cpu (decode)", (1, 5, 10, 20, 40), 10),
        step=Choice("step", (5, 10, 20, 40), 10),
        cores=Choice("cores", (1, 2, 4, 8), 2),
    )
