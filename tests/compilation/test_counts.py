"""Operators, graphs, kernels and bytes, counted; with a compiler and as if there were none."""

import importlib
import math

import pytest
import torch
from torch import nn

from labs_lib.compilation import capture, eager_traffic
from labs_lib.compilation.pictures import traffic_picture
from labs_lib.errors import LabError
from tests.compilation.planted import Branches, BreaksInALoop, Counts, NormGelu, Prints, Reads, products, rows, small

FLOAT = 4  # bytes


@pytest.fixture(params=["with a compiler", "without"])
def any_machine(request, monkeypatch):
    if request.param == "without":
        monkeypatch.setattr("labs_lib.hardware.compiler", lambda: None)
        monkeypatch.setenv("PATH", "/nowhere")
        monkeypatch.delenv("CXX", raising=False)


@pytest.mark.parametrize(
    ("function", "operators", "passes"),
    [
        (lambda x: x + 1, 1, 2),  # read, write
        (lambda x: x + x, 1, 2),  # the same tensor is read once
        (lambda x: torch.relu(x * 2), 2, 4),
        (lambda x: (x * 2).add_(1), 2, 4),  # in place: read and written
        (lambda x: x.t().unsqueeze(0) + 0, 1, 2),  # views are free
        (lambda x: x.expand(3, *x.shape) + 0, 1, 1 + 3),  # an expanded tensor is as large as its memory
    ],
)
def test_eager_traffic_by_hand(function, operators, passes):
    x = torch.ones(32, 32)
    assert eager_traffic(function, x).operators == operators
    assert eager_traffic(function, x).bytes == passes * x.nbytes


def test_layer_norm_and_gelu_become_one_kernel_with_the_least_bytes(any_machine):
    model, x = NormGelu(256), rows(512, 256)
    found = capture(model, x)
    assert (found.regions, found.compiled, found.kernels, found.library_calls) == (1, 1, 1, 0)
    assert found.bytes == found.least_bytes == 2 * x.nbytes + 2 * 256 * FLOAT
    large = 14 * 2  # element-wise operations on whole tensors read and write at least that often
    assert found.eager.bytes > large * x.nbytes / 2
    assert found.eager.operators == len(found.graphs[0].operations)
    assert found.breaks == found.recompiles == ()
    assert "tanh" in found.graphs[0].source(found.graphs[0].kernels[0])


def test_a_matrix_product_stays_a_library_call(any_machine):
    found = capture(products(), rows(64, 512))
    assert found.kernels == 0
    assert found.library_calls == 2
    assert found.bytes > found.least_bytes  # what lies between the two is written and read again


def test_regions_in_one_call():
    assert capture(nn.Sequential(*(Prints() for _ in range(4))), rows(2)).regions == 8
    assert capture(BreaksInALoop(), rows(2)).regions == 0
    assert capture(BreaksInALoop(), rows(2)).outside == capture(BreaksInALoop(), rows(2)).eager
    reads = capture(nn.Sequential(*(Reads() for _ in range(3))), rows(2))
    assert reads.regions == 6
    assert len({each.source for each in reads.breaks}) == 1


def test_more_calls_show_what_is_compiled_anew():
    sizes = [(rows(n),) for n in range(3, 15)]
    found = capture(NormGelu(64), rows(2), more=sizes)
    assert (found.compiled, len(found.recompiles)) == (2, 1)
    found = capture(NormGelu(64), rows(2), more=sizes, dynamic=False)
    assert found.compiled == 8
    assert found.recompiles[-1].given_up
    marked = rows(2)
    torch._dynamo.mark_dynamic(marked, 0)
    assert capture(NormGelu(64), marked, more=sizes).compiled == 1
    assert capture(Counts(), rows(2), more=[(rows(2),)] * 12).compiled == 8


def test_a_dynamic_size_counts_as_it_was():
    x = rows(32, 64)
    torch._dynamo.mark_dynamic(x, 0)
    found = capture(NormGelu(64), x)
    assert found.least_bytes == 2 * x.nbytes + 2 * 64 * FLOAT


def test_guards_say_what_the_graph_relies_on():
    guards = capture(NormGelu(64), rows(4)).guards
    assert "L['x']: float32, size=[4, 64], stride=[64, 1]" in guards
    assert not any("0x" in guard or "_dynamo_" in guard for guard in guards)


def test_a_model_that_computes_nothing():
    found = capture(lambda x: x, torch.ones(3))
    assert (found.kernels, found.bytes, found.eager.operators) == (0, 0, 0)
    assert "0" in str(found)


def test_the_picture_says_the_bytes():
    says = traffic_picture(capture(NormGelu(256), rows(512, 256))).says
    assert says.endswith("the fused kernels 1.00 MiB; the least is 1.00 MiB.")


def test_errors_say_whose_they_are(monkeypatch):
    with pytest.raises(LabError, match="The model failed with RuntimeError") as caught:
        capture(small(), torch.ones(2, 3))
    assert "before anything was compiled" in caught.value.why

    def fails(graph, inputs, mode):
        raise ValueError("no such kernel")

    # The function of that name hides the module in the package.
    monkeypatch.setattr(importlib.import_module("labs_lib.compilation.capture"), "lower", fails)
    with pytest.raises(LabError, match=r"torch\.compile failed"):
        capture(small(), rows(2, 16))


def test_the_callers_model_and_stdout_are_left_alone(capsys):
    counts, norm = Counts(), nn.BatchNorm1d(64)
    capture(counts, rows(2))
    capture(norm, rows(4))
    capture(lambda x: (print("loud"), x + 1)[1], rows(2))
    assert counts.step == 0
    assert norm.num_batches_tracked == 0
    assert capsys.readouterr().out == ""


def test_whether_it_settles():
    assert capture(NormGelu(64), rows(2)).settled
    assert capture(Reads(), rows(2)).settled
    assert not capture(Counts(), rows(2)).settled


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: capture(small(), rows(1, 16), more=[rows(2, 16)]), "A further call is a Tensor"),
        (lambda: capture(small(), rows(1, 16), more=[(rows(2, 3),)]), "The model failed with RuntimeError"),
        (lambda: capture(small(), rows(1, 16), mode="turbo"), "no mode 'turbo'"),
        (lambda: capture(lambda x: x.add_(1), rows(2)), "changes its inputs"),
    ],
    ids=["no tuple", "wrong width", "no mode", "in place"],
)
def test_what_a_learner_can_get_wrong(call, message):
    with pytest.raises(LabError, match=message):
        call()


def test_nothing_is_left_behind():
    """A capture stops Inductor half-way; the next compilation must not notice."""
    capture(Branches(), rows(2))
    x = torch.linspace(0, math.pi, 8)
    assert torch.equal(torch.compile(torch.sin, backend="aot_eager")(x), torch.sin(x))


def test_on_a_cpu_reduce_overhead_writes_the_same_kernels():
    """It is about CUDA graphs: there is nothing of that kind to do on a CPU."""
    graphs = [capture(NormGelu(64), rows(4), mode=mode).graphs[0] for mode in (None, "reduce-overhead")]
    sources = [[graph.source(kernel) for kernel in graph.kernels] for graph in graphs]
    assert sources[0] == sources[1]
    assert all("tanh" in source for source, in sources)
