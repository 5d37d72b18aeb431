"""What the exercises of lab 02 demand: each check gets the learner's function and judges what it does.

Answers come first, on edge cases and fresh inputs, compared with float64 arithmetic written differently. Then
the counts: graphs are counted by Dynamo with a backend that runs them as they are, so no compiler is needed.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np
import torch

from labs_lib import hardware
from labs_lib.compilation.operands import largest_operand
from labs_lib.compilation.services import SERVICES, totals
from labs_lib.compilation.watch import OTHER_BACKEND, Break, Recompile, watch
from labs_lib.equality import difference
from labs_lib.exercises import NotYet
from labs_lib.ledger import ledger
from labs_lib.units import size_text, time_text

EXACT = 64 * np.finfo(np.float32).eps  # what rounding makes of sums of some thousand terms
TILE = 256 * 1024  # bytes that one operation of exercise 2.4 may work on, and that may be allocated at a time


@dataclass
class Followed:
    """Graphs that were compiled, and how often each was launched, in the order of the launches."""

    graphs: list[torch.fx.GraphModule] = field(default_factory=list)
    launches: list[int] = field(default_factory=list)
    breaks: list[Break] = field(default_factory=list)
    recompiles: list[Recompile] = field(default_factory=list)

    def compile(self, function: Callable[..., object], **options: object) -> Callable[..., object]:
        """torch.compile with a backend that notes each graph and runs it as it is."""

        def backend(graph: torch.fx.GraphModule, examples: list[object]) -> Callable[..., object]:
            number = len(self.graphs)
            self.graphs.append(graph)

            def run(*arguments: object) -> object:
                self.launches.append(number)
                return graph.forward(*arguments)

            return run

        return torch.compile(function, backend=backend)

    def operations(self, name: str) -> int:
        """How often an operation stands in the graphs, such as "matmul"."""
        nodes = [node for graph in self.graphs for node in graph.graph.nodes]
        return sum(name in (getattr(node.target, "__name__", ""), node.target) for node in nodes)


def follow(function: Callable[..., object], calls: Sequence[tuple[object, ...]]) -> tuple[Followed, list[object]]:
    """Compiles the function, makes the calls, and returns what was seen together with the answers."""
    followed = Followed()
    with watch() as seen, torch.no_grad():
        compiled = followed.compile(function)
        answers = [compiled(*call) for call in calls]
    followed.breaks, followed.recompiles = seen.breaks, seen.recompiles
    return followed, answers


def demand_one_graph(followed: Followed) -> None:
    """NotYet with the first break, or with the reason for a second graph."""
    if followed.breaks:
        first = followed.breaks[0]
        raise NotYet(f"the answer is right, but the graph breaks at `{first.source}` ({first.kind}): {first.advice}.")
    if any(OTHER_BACKEND in each.reason for each in followed.recompiles):
        raise NotYet("the answer is right, but each call compiles: call compile once, outside of forward.")
    if followed.recompiles:
        raise NotYet(
            f"the answer is right, but a later call compiles anew, because a guard fails: "
            f"{followed.recompiles[0].reason}. Something that Python sees has changed between the calls."
        )
    if len(followed.graphs) != 1:
        raise NotYet(f"the answer is right, but {len(followed.graphs)} graphs are compiled where 1 would do.")


def check_clip_norm(attempt: Callable) -> str:
    rng = np.random.default_rng()
    cases = [
        (np.zeros(8), 1.0, "a tensor of zeros stays as it is: limit / 0 is infinite, and infinite times 0 is NaN"),
        (np.full(4, 0.25), 1.0, "a norm below the limit leaves x as it is"),
        (np.full(4, 8.0), 1.0, "a norm above the limit is brought down to it: the whole tensor is scaled"),
        *((rng.standard_normal(rng.integers(10, 200)), 10 ** rng.uniform(-1, 2), "fresh tensor") for _ in range(20)),
    ]
    for values, limit, why in cases:
        x = torch.tensor(values, dtype=torch.float32)
        before, norm = x.clone(), float(np.sqrt((values.astype(np.float32).astype(float) ** 2).sum()))
        expected = x.double().numpy() * min(1.0, limit / norm if norm else 1.0)
        answer = attempt(x, limit)
        if not torch.equal(x, before):
            raise NotYet("your function changes its input x, which belongs to the caller.")
        if not isinstance(answer, torch.Tensor) or answer.shape != x.shape:
            raise NotYet(f"for a tensor of shape {tuple(x.shape)} return a tensor of that shape.")
        if difference(expected, answer).relative > EXACT:
            raise NotYet(f"for norm {norm:.3g} and limit {limit:.3g} the answer is wrong: {why}.")
    small, large = torch.full((16,), 0.01), torch.full((16,), 100.0)
    followed, _ = follow(attempt, [(small, 1.0), (large, 1.0), (torch.zeros(16), 1.0)])
    demand_one_graph(followed)
    return f"right on {len(cases)} tensors, below and above the limit, in 1 graph without a break (counted)."


def check_make_forward(attempt: Callable) -> str:
    rng = np.random.default_rng()
    layers, width = int(rng.integers(3, 6)), int(rng.integers(8, 32))
    scale = width**-0.5  # keeps the layers from multiplying each other's rounding
    weights = [torch.tensor(rng.standard_normal((width, width)) * scale, dtype=torch.float32) for _ in range(layers)]
    inputs = [torch.tensor(rng.standard_normal((4, width)), dtype=torch.float32) for _ in range(3)]
    reports: list[tuple[object, object]] = []
    followed = Followed()
    with watch() as seen, torch.no_grad():
        forward = attempt(weights, lambda layer, mean: reports.append((layer, mean)), followed.compile)
        if not callable(forward):
            raise NotYet(f"make_forward must return a function forward(x), and returned {type(forward).__name__}.")
        for x in inputs:
            reports.clear()
            answer = forward(x)
            _demand_reports(weights, x, answer, reports)
    if followed.operations("matmul") + followed.operations("mm") == 0 and not seen.breaks:
        raise NotYet("answer and reports are right, but no graph holds the layers: call compile(...) on what computes.")
    followed.breaks, followed.recompiles = seen.breaks, seen.recompiles
    demand_one_graph(followed)
    if len(followed.launches) != len(inputs):
        raise NotYet(f"{len(inputs)} calls launch the graph {len(followed.launches)} times: once a call must do.")
    products = followed.operations("matmul") + followed.operations("mm")
    if products < layers:
        raise NotYet(f"the graph holds {products} of the {layers} matrix products: the loop belongs inside of it.")
    return f"{layers} layers right on {len(inputs)} inputs, each reported; 1 graph, launched once a call (counted)."


def _demand_reports(
    weights: list[torch.Tensor], x: torch.Tensor, answer: object, reports: list[tuple[object, object]]
) -> None:
    values, expected = x.double(), []
    for layer, weight in enumerate(weights):
        values = torch.tanh(torch.einsum("ij,jk->ik", values, weight.double()))
        expected.append((layer, float(values.abs().mean())))
    if not isinstance(answer, torch.Tensor) or difference(values, answer).relative > EXACT:
        raise NotYet("forward(x) must return the tensor after the last layer; yours differs.")
    if [layer for layer, _ in reports] != [layer for layer, _ in expected]:
        raise NotYet(
            f"in one call report was called for the layers {[layer for layer, _ in reports]}, and must be for "
            f"{[layer for layer, _ in expected]}."
        )
    if not all(isinstance(mean, float) for _, mean in reports):
        raise NotYet("report must get a Python float, not a tensor: whoever reads it can't know about graphs.")
    if difference([mean for _, mean in expected], [mean for _, mean in reports]).relative > EXACT:
        raise NotYet("a reported number is wrong: it is the mean of the absolute values after that layer.")


STEPS = 20


def check_make_model(attempt: Callable) -> str:
    warmup = int(np.random.default_rng().integers(5, 15))
    one, other = attempt(warmup), attempt(warmup)
    if not isinstance(one, torch.nn.Module):
        raise NotYet(f"make_model must return a torch.nn.Module, and returned {type(one).__name__}.")
    if one is other:
        raise NotYet("two calls of make_model return one and the same model: each needs a step of its own.")
    x = torch.arange(1.0, 5.0)
    followed = Followed()
    with watch() as seen, torch.no_grad():
        compiled = followed.compile(one)
        for step in range(1, STEPS + 1):
            answer = compiled(x)
            if step == 3:
                early = other(x)
            expected = x.double() * min(1.0, step / warmup)
            if not isinstance(answer, torch.Tensor) or difference(expected, answer).relative > EXACT:
                raise NotYet(
                    f"at step {step} of a warm-up of {warmup} the factor must be {min(1.0, step / warmup):.3f}; "
                    f"for x = {x.tolist()} you return {_brief(answer)}."
                )
    if difference(x.double() / warmup, early).relative > EXACT:
        raise NotYet("a second model does not start at step 1: the step must belong to the model, not to its class.")
    if seen.breaks:
        followed.breaks = seen.breaks
        demand_one_graph(followed)
    if not followed.graphs:
        raise NotYet("the answers are right, but nothing was compiled: the model keeps the compiler out.")
    if len(followed.graphs) > 2:
        given_up = " Then the compiler gave up, and the model ran eagerly." if seen.recompiles[-1].given_up else ""
        raise NotYet(
            f"the answers are right, but {STEPS} calls compiled {len(followed.graphs)} graphs, because a guard fails: "
            f"{seen.recompiles[0].reason}.{given_up}"
        )
    return f"right at {STEPS} steps, in two models at once; graphs compiled: {len(followed.graphs)} (counted)."


def _brief(answer: object) -> str:
    return str(answer.tolist() if isinstance(answer, torch.Tensor) else answer)[:60]


def check_layer_norm(attempt: Callable) -> str:
    rng = np.random.default_rng()
    cases = [
        (100 * rng.standard_normal((3, 4)), "a few short rows"),
        (np.ones((5, 256)), "rows without any variance: mind eps"),
        (rng.standard_normal((300, 256)) + 4000.0, "rows far from zero: E[x*x] - mean*mean loses all digits there"),
        (
            rng.standard_normal((int(rng.integers(1000, 1500)) | 1, 1000)),
            "rows that fill no whole number of tiles: mind the last ones",
        ),
    ]
    for values, why in cases:
        x = values.astype(np.float32)
        scale, shift = (rng.standard_normal(x.shape[1]).astype(np.float32) for _ in range(2))
        out, before = np.full_like(x, np.nan), x.copy()
        answer = attempt(x, scale, shift, out)
        if not np.array_equal(x, before):
            raise NotYet("your function writes into its input x, which belongs to the caller.")
        if answer is not out:
            raise NotYet("write the result into out, and return out itself.")
        wide = before.astype(np.float64)
        variance = wide.var(axis=1)[:, None]
        expected = (wide - wide.mean(axis=1)[:, None]) / np.sqrt(variance + 1e-5) * scale + shift
        # Numbers near m are rounded to m * eps, and their mean to a few times that.
        slack = max(EXACT, 16 * np.finfo(np.float32).eps * float(np.abs(wide).max()))
        if not difference(expected, out).relative <= slack:
            raise NotYet(f"the answer is wrong for {why}.")
    x = rng.standard_normal((2048, 1024), dtype=np.float32)
    scale, shift, out = np.ones(1024, np.float32), np.zeros(1024, np.float32), np.empty_like(x)
    largest = largest_operand(attempt, x, scale, shift, out)
    if largest > TILE:
        raise NotYet(
            f"the answer is right, but on {size_text(x.nbytes)} one operation works on {size_text(largest)} at once: "
            f"that is a pass over memory. Work on tiles of rows, of at most {size_text(TILE)}."
        )
    count = ledger(attempt, x, scale, shift, out)
    if count.peak_bytes > TILE:
        raise NotYet(
            f"the answer is right, but one call has {size_text(count.peak_bytes)} of arrays of its own at a time, and "
            f"{size_text(TILE)} must do: smaller tiles, or out= into scratch space taken once."
        )
    return (
        f"right on {len(cases)} arrays; on {size_text(x.nbytes)} no operation works on more than {size_text(largest)} "
        f"at once, with {size_text(count.peak_bytes)} of scratch (counted)."
    )


def check_choose(attempt: Callable) -> str:
    choices = {}
    for service in SERVICES:
        choices[service.name] = attempt(service)
        if choices[service.name] not in ("compile", "eager"):
            raise NotYet(f'for each service return "compile" or "eager"; for {service.name} you return '
                         f"{choices[service.name]!r}.")  # fmt: skip
    if hardware.compiler() is None:
        raise NotYet("cannot tell here: without a C++ compiler nothing can be measured.")
    wrong = []
    for service in SERVICES:
        found = totals(service)
        if choices[service.name] not in found.right:
            wrong.append(
                f"{service.name}: {service.calls:,} calls take {time_text(found.eager)} eager and "
                f"{time_text(found.compiled[0])} to {time_text(found.compiled[1])} compiled, the first call included "
                "(measured)"
            )
    if wrong:
        raise NotYet(f"{len(SERVICES) - len(wrong)} of {len(SERVICES)} are right. {wrong[0]}.")
    ties = [service.name for service in SERVICES if len(totals(service).right) > 1]
    told = f" For {', '.join(ties)} it can't tell, so either is right." if ties else ""
    return f"all {len(SERVICES)} choices agree with what this machine measures.{told}"
