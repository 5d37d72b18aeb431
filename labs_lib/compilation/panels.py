"""The panel of lab 02: how many calls it takes until compiling has paid."""

from __future__ import annotations

from labs_lib.compilation.payoff import Costs
from labs_lib.compilation.pictures import payoff_picture
from labs_lib.figures import Picture
from labs_lib.panels import Choice, Panel


def payoff_panel(costs: Costs) -> Panel:
    """Width, depth, batch and mode as controls; calls against total time as the picture. Nothing is compiled.

    Where only one mode was measured there is no control for it.
    """

    def draw(width: int, depth: int, batch: int, mode: str = "default") -> Picture:
        return payoff_picture(costs, width, depth, batch, mode)

    modes = {"mode": Choice("mode", tuple(costs.modes), "default", widget="menu")} if len(costs.modes) > 1 else {}
    return Panel(
        draw,
        width=Choice("width", (64, 128, 256, 512, 1024), 256),
        depth=Choice("depth", (1, 2, 4, 8, 16, 32), 4),
        batch=Choice("batch", (1, 8, 64, 512, 4096), 64),
        **modes,
    )
