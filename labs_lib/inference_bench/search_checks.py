"""What exercise 9.2 demands: the module that takes most time of its own, in models with one trap each."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch

from labs_lib.exercises import NotYet
from labs_lib.inference_bench.attempts import KINDS, Block, Planted, planted

ASK = {
    "plain": "layers in a row, one of them slow",
    "crowd": "the slow layer is inside a block, and another block has many layers",
    "own": "a block does slow work of its own, outside of its layers",
    "often": "one layer is called many times in a pass",
    "first": "one layer compiles in its first call",
    "hiccup": "in each pass something else comes in between",
    "queue": "the device has a queue",
    "all": "all of these at once",
}


def check_slowest(attempt: Callable) -> str:
    rng = np.random.default_rng()
    for kind in KINDS:
        case = planted(rng, kind)
        before = case.x.clone(), {name: value.clone() for name, value in case.model.state_dict().items()}
        found = attempt(case.model, case.x, case.device)
        _demand_as_it_was(case, *before)
        _demand_name(found, case, kind)
    total = sum(case.own.values())
    return (
        f"found in {len(KINDS)} models. In the last, {case.slow} takes {case.own[case.slow] / total:.0%} of the time "
        f"(virtual clock, exact); planted: {case.reason}."
    )


def _demand_name(found: object, case: Planted, kind: str) -> None:
    if not isinstance(found, str):
        raise NotYet(f"return the name of a module, a str; you return {type(found).__name__}.")
    if found == case.slow:
        return
    of = f"{ASK[kind]}: "
    if found not in case.own:
        raise NotYet(f"{of}the model has no module {found!r}. Names are those of model.named_modules().")
    if found == "":
        raise NotYet(f"{of}you name the model itself. Which module in it takes the time?")
    if not case.device._readings:
        raise NotYet(f"{of}{found} it is not, and device.clock() was not read. Measure.")
    times = {name: f"{case.own[name] / 1000:,.0f} us" for name in (found, case.slow)}
    own = f"{found} takes {times[found]} of its own in a usual pass, {case.slow} takes {times[case.slow]}"
    if case.slow.startswith(f"{found}."):
        raise NotYet(f"{of}{found} is near, but the time passes in a module inside it. ({own}.)")
    why = case.decoys.get(found)
    if not why and isinstance(case.model.get_submodule(case.slow), Block):
        why = "is not it. A module may do work of its own, before and after those inside it"
    raise NotYet(f"{of}{f'{found} {why}. ({own}.)' if why else f'{own}.'}")


def _demand_as_it_was(case: Planted, x: torch.Tensor, state: dict[str, torch.Tensor]) -> None:
    """The model is the caller's, who goes on with it."""
    hooks = sum(len(each._forward_hooks) + len(each._forward_pre_hooks) for each in case.model.modules())
    if hooks:
        raise NotYet(f"{hooks} hooks are still in the model. Keep what register_forward_hook returns, and remove() it.")
    if any("forward" in vars(each) for each in case.model.modules()):
        raise NotYet("the model's forward is still replaced by yours. Put back what was there, or use hooks.")
    after = case.model.state_dict()
    if list(after) != list(state) or not all(torch.equal(after[name], value) for name, value in state.items()):
        raise NotYet("your function leaves other modules or weights in the model than there were. It is the caller's.")
    if any(each.training for each in case.model.modules()):
        raise NotYet("the model was in eval mode, and you leave it in training mode.")
    if not torch.equal(case.x, x):
        raise NotYet("your function changes its input x, which belongs to the caller.")
