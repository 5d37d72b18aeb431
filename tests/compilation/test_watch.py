"""Each kind of break is named, with its line; each recompilation with the guard that failed."""

import logging

import pytest
import torch

from labs_lib.compilation.watch import BREAK_LOGS, OTHER, watch
from tests.compilation.planted import HERE, Branches, BreaksInALoop, Counts, NormGelu, Prints, Reads, Selects, rows


def seen_of(model, calls, **options):
    with watch() as seen, torch.no_grad():
        compiled = torch.compile(model, backend="eager", **options)
        for call in calls:
            compiled(call)
    return seen


@pytest.mark.parametrize(
    ("model", "kind", "source", "in_loop"),
    [
        (Reads(), "value read", "limit = x.abs().max().item()", False),
        (Branches(), "branch on data", "if x.sum() > 0:", False),
        (Prints(), "side effect", 'print("", end="")', False),
        (Selects(), "shape from data", "return torch.tanh(x[x > 0]).sum() + x", False),
        (BreaksInALoop(), "branch on data", "if x.sum() > 0:", True),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, torch.nn.Module) else None,
)
def test_a_break_is_named_with_its_line(model, kind, source, in_loop):
    (found,) = seen_of(model, [rows(2)]).breaks
    assert (found.kind, found.source, found.in_loop) == (kind, source, in_loop)
    assert found.place.startswith(f"{HERE}:")
    assert found.reason
    assert "\n" not in found.reason
    assert found.advice


def test_what_has_no_kind_of_its_own_is_still_told():
    def function(x):
        x = torch.tanh(x)
        torch._dynamo.graph_break()
        return torch.sin(x)

    (found,) = seen_of(function, [rows(2)]).breaks
    assert found.kind == OTHER
    assert found.source == "torch._dynamo.graph_break()"


def test_a_break_inside_a_library_is_told_at_the_learners_line():
    def function(x):
        logging.getLogger("labs").warning("x")
        return torch.sin(x)

    logging.getLogger("labs").setLevel(logging.CRITICAL)
    found = seen_of(function, [rows(2)]).breaks
    assert found
    assert {each.source for each in found} == {'logging.getLogger("labs").warning("x")'}


def test_a_healthy_model_is_quiet():
    seen = seen_of(NormGelu(64), [rows(2), rows(2)])
    assert (seen.breaks, seen.recompiles) == ([], [])


def test_a_size_that_changes_fails_a_guard_once_then_it_is_dynamic():
    (found,) = seen_of(NormGelu(64), [rows(n) for n in range(2, 9)]).recompiles
    assert "size mismatch at index 0. expected 2, actual 3" in found.reason
    assert not found.given_up


def test_the_limit_is_seen():
    found = seen_of(NormGelu(64), [rows(n) for n in range(2, 16)], dynamic=False).recompiles
    assert [each.given_up for each in found] == [False] * 7 + [True]
    assert found[-1].function == "forward"
    found = seen_of(Counts(), [rows(2)] * 12).recompiles
    assert "step == 0" in found[0].reason
    assert found[-1].given_up


def test_logs_are_left_as_they_were(capfd):
    logs = [logging.getLogger(name) for name in (*BREAK_LOGS, "torch._dynamo", "torch._inductor")]
    before = [(log.level, log.propagate, list(log.handlers)) for log in logs]
    seen_of(Counts(), [rows(2)] * 12)
    assert [(log.level, log.propagate, list(log.handlers)) for log in logs] == before
    assert capfd.readouterr().err == ""
