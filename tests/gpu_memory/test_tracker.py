"""The tracker against bytes computed by hand, on real and on fake tensors, and what it must leave as it was."""

import gc
import linecache
import weakref
from contextlib import nullcontext

import pytest
import torch
from torch import nn
from torch._subclasses import FakeTensorMode
from torch.nn import functional as F
from torch.nn.modules import module
from torch.optim.optimizer import _global_optimizer_post_hooks, _global_optimizer_pre_hooks
from torch.utils._python_dispatch import _get_current_dispatch_mode_stack
from torch.utils.checkpoint import checkpoint

from labs_lib.dispatch import Watch
from labs_lib.errors import LabError
from labs_lib.gpu_memory import track

FLOAT = 4
LOSS = FLOAT + FLOAT  # in the backward pass the loss and the gradient of itself, a one, are alive


def training(model, optimizer=None, reduce=torch.sum):
    def step(*inputs):
        if optimizer:
            optimizer.zero_grad()
        loss = reduce(model(*inputs))
        loss.backward()
        if optimizer:
            optimizer.step()
        return loss

    return step


# --- bytes computed by hand ---------------------------------------------------------------------------


def test_a_linear_layer():
    model, x = nn.Linear(64, 32), torch.ones(16, 64)
    trace = track(lambda: model(x).sum().backward(), model=model, inputs=x)
    weights, inputs, output = (64 * 32 + 32) * FLOAT, 16 * 64 * FLOAT, 16 * 32 * FLOAT
    assert trace.at(0) == {"parameters": weights, "inputs": inputs}
    born = [(block.operator, block.kind, block.size) for block in trace.blocks if block.born]
    assert born == [
        ("aten.addmm", "temporaries", output),  # a sum needs no values to be differentiated
        ("aten.sum", "temporaries", FLOAT),
        ("aten.ones_like", "temporaries", FLOAT),
        ("aten.mm", "gradients", 64 * 32 * FLOAT),
        ("aten.sum", "gradients", 32 * FLOAT),
    ]
    assert trace.peak == weights + inputs + weights + LOSS  # the output is dead by then
    assert trace.live_at_end == weights + inputs + weights
    assert trace.flops == 2 * (2 * 16 * 64 * 32)  # forward and weight gradient; the input needs none


def test_an_mlp_with_adamw():
    sizes = [(64, 128), (128, 10)]
    model = nn.Sequential(nn.Linear(*sizes[0]), nn.GELU(), nn.Linear(*sizes[1]))
    optimizer = torch.optim.AdamW(model.parameters(), foreach=False)
    x = torch.ones(32, 64)
    step = training(model, optimizer)
    weights = sum(n * m + m for n, m in sizes) * FLOAT
    state = 2 * weights + 4 * FLOAT  # two moments, and a step counter for each of the four tensors
    first = track(lambda: step(x), model=model, optimizer=optimizer, inputs=x)
    assert first.at(0) == {"parameters": weights, "inputs": x.nbytes}
    # The peak is in the optimiser, at the largest weight: the square root of a moment, and that divided.
    assert first.at(first.peak_at) == {
        "parameters": weights,
        "inputs": x.nbytes,
        "optimiser state": state,
        "gradients": weights,
        "temporaries": 2 * 64 * 128 * FLOAT + FLOAT,  # the loss is alive, its gradient is not
    }
    second = track(lambda: step(x), model=model, optimizer=optimizer, inputs=x)
    assert second.at(0) == {
        "parameters": weights,
        "inputs": x.nbytes,
        "optimiser state": state,
        "gradients": weights,
    }
    hidden = 32 * 128 * FLOAT  # before and after GELU: one for GELU, one for the second layer
    last_of_forward = max(i for i, operator in enumerate(second.operators, 1) if operator.phase == "forward")
    assert second.at(last_of_forward)["activations"] == 2 * hidden
    assert "gradients" not in second.at(last_of_forward)  # zero_grad has dropped them
    assert second.live_at_end == second.live_at_start == first.live_at_end


def test_convolution_and_batch_norm():
    model = nn.Sequential(nn.Conv2d(3, 8, 3, padding=1, bias=False), nn.BatchNorm2d(8), nn.ReLU())
    x = torch.ones(4, 3, 16, 16)
    trace = track(lambda: model(x).sum().backward(), model=model, inputs=x)
    image = 4 * 8 * 16 * 16 * FLOAT
    statistics = 2 * 8 * FLOAT  # mean and inverse deviation of the batch
    weights = (8 * 3 * 9 + 8 + 8) * FLOAT
    buffers = 2 * 8 * FLOAT + 8  # running mean and variance, and an int64 counter
    assert trace.at(0) == {"parameters": weights + buffers, "inputs": x.nbytes}
    # At batch norm's backward: its input and statistics, saved; the incoming and the outgoing gradient.
    assert trace.at(trace.peak_at) == {
        "parameters": weights + buffers,
        "inputs": x.nbytes,
        "gradients": 2 * 8 * FLOAT,
        "activations": image + statistics,
        "temporaries": 2 * image + LOSS,
    }
    assert trace.operators[trace.peak_at - 1].name == "aten.native_batch_norm_backward"
    kept = sum(block.size for block in trace.blocks if block.kind == "activations")
    assert kept == 2 * image + statistics  # what ReLU returns is saved too; what batch norm returns is not


class Blocks(nn.Module):
    def __init__(self, keep):
        super().__init__()
        self.keep = keep
        self.blocks = nn.ModuleList(
            nn.Sequential(nn.Linear(32, 128), nn.ReLU(), nn.Linear(128, 32)) for _ in range(3)
        )

    def forward(self, x):
        for block in self.blocks:
            x = block(x) if self.keep else checkpoint(block, x, use_reentrant=False)
        return x


def test_checkpointed_blocks():
    x = torch.ones(64, 32)
    traces = {}
    for keep in (True, False):
        model = Blocks(keep)
        traces[keep] = track(lambda: model(x).sum().backward(), model=model, inputs=x)  # noqa: B023
    hidden, narrow = 64 * 128 * FLOAT, 64 * 32 * FLOAT
    block = (32 * 128 + 128 + 128 * 32 + 32) * FLOAT
    start_of_backward = {
        keep: next(i for i, operator in enumerate(trace.operators, 1) if operator.phase == "backward")
        for keep, trace in traces.items()
    }
    # Plain: what ReLU returns in each block, and what enters the second and third block.
    assert traces[True].at(start_of_backward[True])["activations"] == 3 * hidden + 2 * narrow
    # Checkpointed: what enters the blocks. The first one's input is an input anyway.
    assert traces[False].at(start_of_backward[False])["activations"] == 2 * narrow
    # The peak is in the last backward, of the first block: two blocks have their gradients, and the second layer
    # of this one. ReLU's result was computed again; the gradients before and after it are alive.
    assert traces[False].at(traces[False].peak_at) == {
        "parameters": 3 * block,
        "inputs": narrow,
        "gradients": 2 * block + (128 * 32 + 32) * FLOAT,
        "activations": hidden,
        "temporaries": 2 * hidden + LOSS,
    }
    # Each block's first layer is computed once more; the second one's result nobody needs again.
    layer = 2 * 64 * 32 * 128
    assert traces[False].flops - traces[True].flops == 3 * layer
    recomputed = [o for o in traces[False].operators if o.phase == "recomputation" and o.name == "aten.addmm"]
    assert [operator.module for operator in recomputed] == ["blocks.2.0", "blocks.1.0", "blocks.0.0"]


class Tied(nn.Module):
    def __init__(self):
        super().__init__()
        self.embedding = nn.Embedding(100, 16)
        self.head = nn.Linear(16, 100, bias=False)
        self.head.weight = self.embedding.weight

    def forward(self, tokens):
        return self.head(self.embedding(tokens))


def test_tied_weights_count_once_and_their_gradients_are_added():
    model, tokens = Tied(), torch.zeros(8, 4, dtype=torch.int64)
    trace = track(lambda: model(tokens).sum().backward(), model=model, inputs=tokens)
    weight = 100 * 16 * FLOAT
    assert trace.at(0) == {"parameters": weight, "inputs": 8 * 4 * 8}
    # Head and embedding each make a gradient, and their sum is a third: that one becomes `.grad`.
    assert trace.at(trace.peak_at) == {
        "parameters": weight,
        "inputs": 8 * 4 * 8,
        "gradients": weight,
        "temporaries": 2 * weight + LOSS,
    }
    assert trace.live_at_end == 2 * weight + 8 * 4 * 8


def test_accumulation_adds_to_the_gradients_that_are_there():
    model, x = nn.Linear(64, 32, bias=False), torch.ones(16, 64)

    def step():
        for part in x.chunk(2):
            model(part).sum().backward()

    trace = track(step, model=model, inputs=x)
    weight = 64 * 32 * FLOAT
    gradients = [block.kind for block in trace.blocks if block.operator == "aten.mm" and block.size == weight]
    assert gradients == ["gradients", "temporaries"]
    assert trace.peak == weight + x.nbytes + 2 * weight + LOSS
    assert trace.live_at_end == weight + x.nbytes + weight


def test_gradients_that_the_step_drops_are_gradients_too():
    model, x = nn.Linear(64, 32, bias=False), torch.ones(16, 64)

    def step():
        model(x).sum().backward()
        model.zero_grad()

    trace = track(step, model=model, inputs=x)
    assert trace.live_at_end == trace.live_at_start
    assert trace.at(len(trace.operators))["gradients"] == 64 * 32 * FLOAT


def test_autocast_keeps_half_copies_of_weights_and_inputs():
    model, x = nn.Linear(64, 32), torch.ones(16, 64)

    def step():
        with torch.autocast("cpu", torch.bfloat16):
            loss = model(x).sum()
        loss.backward()

    trace = track(step, model=model, inputs=x)
    halves = {block.size: block.kind for block in trace.blocks if block.operator == "aten._to_copy" and block.module}
    # The bfloat16 input is saved for the weight's gradient; the input itself needs none, so the weight is not saved.
    assert halves[16 * 64 * 2] == "activations"
    assert halves[64 * 32 * 2] == "temporaries"


def test_inference_mode_keeps_one_value_at_a_time():
    model = nn.Sequential(nn.Linear(64, 32), nn.ReLU(), nn.Linear(32, 48))
    x = torch.ones(16, 64)
    with torch.inference_mode():
        trace = track(lambda: model(x), model=model, inputs=x)
    weights = (64 * 32 + 32 + 32 * 48 + 48) * FLOAT
    assert trace.peak == weights + x.nbytes + 16 * 32 * FLOAT + 16 * 48 * FLOAT
    assert {block.kind for block in trace.blocks if block.born} == {"temporaries"}
    with torch.no_grad():
        assert track(lambda: model(x), model=model, inputs=x).peak == trace.peak


def test_a_forward_pass_with_gradients_on_holds_activations():
    model = nn.Sequential(nn.Linear(64, 32), nn.ReLU(), nn.Linear(32, 48))
    x = torch.ones(16, 64)
    trace = track(lambda: model(x), model=model, inputs=x)
    assert [(b.size, b.kind) for b in trace.blocks if b.operator == "aten.relu"] == [(16 * 32 * 4, "activations")]


def test_views_hold_the_whole_storage_and_outs_and_resizes_are_seen():
    kept = []

    def step():
        kept.append(torch.zeros(1000)[:1])

    assert track(step).live_at_end == 4000
    out = torch.empty(0)
    trace = track(lambda: torch.add(torch.ones(500), 1, out=out), inputs=out)
    assert [(b.size, b.kind, b.operator) for b in trace.blocks] == [
        (0, "inputs", ""),
        (2000, "temporaries", "aten.ones"),
        (2000, "inputs", "aten.add"),
    ]
    assert trace.live_at_end == 2000
    x = torch.ones(100)
    trace = track(lambda: x.resize_(300), inputs=x)
    assert [(b.size, b.born, b.died) for b in trace.blocks] == [(400, 0, 1), (1200, 1, None)]


def test_sparse_gradients_are_counted_by_their_parts():
    model = nn.Embedding(100, 16, sparse=True)
    tokens = torch.tensor([3, 5])
    trace = track(lambda: model(tokens).sum().backward(), model=model, inputs=tokens)
    gradient = 2 * 16 * FLOAT + 2 * 8  # two rows and their two indices
    assert trace.at(len(trace.operators)) == {
        "parameters": 100 * 16 * FLOAT,
        "inputs": tokens.nbytes,
        "gradients": gradient,
        "temporaries": LOSS,
    }


@pytest.mark.filterwarnings("ignore:Sparse CSR")
def test_compressed_sparse_tensors_are_counted_by_their_parts():
    x = torch.eye(10)
    trace = track(lambda: x.to_sparse_csr(), inputs=x)
    parts = 11 * 8 + 10 * 8 + 10 * FLOAT  # where rows begin, columns, values
    assert trace.peak >= x.nbytes + parts
    assert trace.live_at_end == x.nbytes


# --- fake tensors -------------------------------------------------------------------------------------


def attention_block():
    return nn.TransformerEncoderLayer(32, 4, 64, dropout=0.0, batch_first=True)


STEPS = {
    "mlp": (lambda: nn.Sequential(nn.Linear(8, 32), nn.Tanh(), nn.Linear(32, 4)), (16, 8)),
    "convolution": (lambda: nn.Sequential(nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.ReLU()), (2, 3, 12, 12)),
    "attention": (attention_block, (2, 16, 32)),
    "checkpoints": (lambda: Blocks(keep=False), (16, 32)),
}
OPTIMIZERS = {
    "sgd": lambda parameters: torch.optim.SGD(parameters, 0.1, momentum=0.9),
    "adamw": torch.optim.AdamW,
    "foreach": lambda parameters: torch.optim.AdamW(parameters, foreach=True),
}


def traced(name, optimizer, fake, autocast):
    make, shape = STEPS[name]
    with FakeTensorMode() if fake else nullcontext():
        model, x = make(), torch.ones(shape)
        optimizer = OPTIMIZERS[optimizer](model.parameters())

        def step():
            optimizer.zero_grad()
            for part in x.chunk(2):
                with torch.autocast("cpu", torch.bfloat16, enabled=autocast):
                    loss = model(part).square().mean()
                loss.backward()
            optimizer.step()

        return [track(step, model=model, optimizer=optimizer, inputs=x) for _ in range(2)]


@pytest.mark.parametrize(
    ("name", "optimizer"),
    [*((name, "adamw") for name in STEPS), *(("mlp", optimizer) for optimizer in OPTIMIZERS if optimizer != "adamw")],
)
def test_fake_tensors_give_the_same_trace(name, optimizer):
    # (Fake batch norm gives the statistics of a bfloat16 batch its dtype; a real one keeps float32.)
    for autocast in (False, True) if name != "convolution" else (False,):
        real, fake = (traced(name, optimizer, fake, autocast) for fake in (False, True))
        for one, other in zip(real, fake, strict=True):
            assert one.blocks == other.blocks
            assert (one.operators, one.flops) == (other.operators, other.flops)


class Names(Watch):
    def __init__(self):
        super().__init__()
        self.names = []

    def after(self, operator, operands, results):
        self.names.append(str(operator._overloadpacket))


def test_the_tracker_adds_no_operators_but_detach():
    model, x = Blocks(keep=True), torch.ones(16, 32)
    trace = track(lambda: model(x).sum().backward(), model=model, inputs=x)
    model.zero_grad()
    with Names() as plain:
        model(x).sum().backward()
    tracked = [operator.name for operator in trace.operators]
    assert [name for name in tracked if name != "aten.detach"] == [n for n in plain.names if n != "aten.detach"]
    assert "aten.detach" not in [operator.name for operator in trace.operators if operator.phase == "forward"]
    assert trace.flops == plain.flops


# --- owners -------------------------------------------------------------------------------------------


def test_owners_in_forward_and_backward():
    model = nn.Sequential(nn.Linear(64, 256), nn.ReLU(), nn.Linear(256, 8))
    x = torch.ones(512, 64)
    trace = track(lambda: model(x).sum().backward(), model=model, inputs=x)
    hidden = 512 * 256 * FLOAT
    assert trace.operators[trace.peak_at - 1].module == "1"  # the backward of ReLU
    assert trace.owners()[:3] == [
        ("1", hidden, "activations"),
        ("1", hidden, "temporaries"),  # the gradient of its input
        ("2", hidden, "temporaries"),  # the gradient of its output, which the layer behind it made
    ]
    assert sum(size for _, size, _ in trace.owners()) == trace.peak
    assert sum(size for _, size, _ in trace.owners("operator", at=0)) == trace.live_at_start
    with pytest.raises(LabError, match="no owner"):
        trace.owners("colour")
    with pytest.raises(LabError, match="no operator"):
        trace.at(10_000)


def test_what_is_alive_adds_up_to_the_timeline():
    model = nn.Sequential(nn.Linear(8, 16), nn.ReLU(), nn.Linear(16, 2))
    trace = track(lambda: model(torch.ones(4, 8)).sum().backward(), model=model)
    lines = trace.timeline()
    for index in range(len(trace.operators) + 1):
        alive = trace.alive(index)
        assert sum(block.size for block in alive) == sum(trace.at(index).values())
        assert sum(block.size for block in alive if block.kind == "gradients") == lines["gradients"][index]


def test_an_operator_without_a_gradient_does_not_take_over_the_node_before_it():
    class Looks(nn.Module):
        def forward(self, x):
            self.seen = x.detach().argmax()
            return x

    model = nn.Sequential(nn.Sigmoid(), Looks())
    x = torch.ones(16, 4, requires_grad=True)
    trace = track(lambda: model(x).sum().backward(), model=model, inputs=x)
    backward = [operator for operator in trace.operators if operator.name == "aten.sigmoid_backward"]
    assert [operator.module for operator in backward] == ["0"]


def test_parameters_gradients_and_states_belong_to_their_modules():
    model = nn.Sequential(nn.Linear(4, 8), nn.Linear(8, 2))
    optimizer = torch.optim.AdamW(model.parameters())
    step = training(model, optimizer)
    trace = track(lambda: step(torch.ones(3, 4)), model=model, optimizer=optimizer)
    sizes = {name: sum(p.nbytes for p in model[int(name)].parameters()) for name in "01"}
    owned = {(name, kind): size for name, size, kind in trace.owners(at=len(trace.operators))}
    for name, size in sizes.items():
        assert owned[name, "parameters"] == owned[name, "gradients"] == size
        assert owned[name, "optimiser state"] == 2 * size + 2 * FLOAT


CELL = """
def step(x, weight):
    y = x @ weight
    z = y.tanh()
    return z.sum().backward()
"""


def test_lines_are_those_of_the_learner_even_in_a_notebook_cell():
    file = "/tmp/ipykernel_4711/123456.py"
    linecache.cache[file] = (len(CELL), None, CELL.splitlines(keepends=True), file)
    cell = {}
    exec(compile(CELL, file, "exec"), cell)
    weight = torch.ones(4, 4, requires_grad=True)
    trace = track(lambda: cell["step"](torch.ones(4, 4), weight))
    lines = {block.operator: block.line for block in trace.blocks}
    assert lines["aten.mm"] == "cell:3  y = x @ weight"  # its backward too
    assert lines["aten.tanh"] == "cell:4  z = y.tanh()"
    assert lines["aten.tanh_backward"] == "cell:4  z = y.tanh()"
    ours = track(lambda: torch.ones(4)).blocks[0].line
    assert ours.startswith("test_tracker.py:")
    assert "ours = track" in ours


def test_without_a_model_things_are_found_when_they_are_touched():
    model = nn.Sequential(nn.Linear(4, 8), nn.Linear(8, 2))
    optimizer = torch.optim.SGD(model.parameters(), 0.1, momentum=0.9)
    step = training(model, optimizer)
    x = torch.ones(3, 4)
    named = track(lambda: step(x), model=model, optimizer=optimizer, inputs=x)
    found = track(lambda: step(x))
    assert found.at(0)["parameters"] == named.at(0)["parameters"]
    assert found.at(found.peak_at)["gradients"] == named.at(named.peak_at)["gradients"]
    assert {module for module, _, kind in found.owners() if kind == "parameters"} == {"Linear"}


def test_a_step_may_free_the_model_that_it_makes():
    def step():
        model = nn.Linear(10, 10)
        optimizer = torch.optim.AdamW(model.parameters())
        training(model, optimizer)(torch.ones(2, 10))

    assert track(step).live_at_end == 0


# --- everything is left as it was -----------------------------------------------------------------------


def test_an_error_carries_the_trace_up_to_it_and_the_hooks_are_gone():
    model, x = nn.Sequential(nn.Linear(64, 32), nn.ReLU()), torch.ones(16, 64)

    def step():
        hidden = model(x)
        return hidden @ torch.ones(7)

    with pytest.raises(RuntimeError) as caught:
        track(step, model=model, inputs=x)
    trace = caught.value.trace
    assert trace.operators[-1].name == "aten.ones"
    assert ("aten.relu", "activations") in {(block.operator, block.kind) for block in trace.blocks}
    assert _get_current_dispatch_mode_stack() == []
    assert not module._global_forward_hooks
    assert not module._global_forward_pre_hooks
    assert not module._global_forward_hooks_always_called
    assert not _global_optimizer_pre_hooks
    assert not _global_optimizer_post_hooks
    assert all(not p._post_accumulate_grad_hooks for p in model.parameters())
    assert gc.isenabled()


def test_an_error_inside_a_module_leaves_no_module_running():
    class Fragile(nn.Module):
        def forward(self, x):
            raise ZeroDivisionError

    fragile = Fragile()

    def step():
        try:
            fragile(torch.ones(3))
        except ZeroDivisionError:
            return torch.ones(5)

    assert [block.module for block in track(step).blocks if block.size == 20] == [""]


@pytest.mark.parametrize("fake", [False, True])
def test_changing_a_saved_value_in_place_is_still_an_error(fake):
    with FakeTensorMode() if fake else nullcontext():
        x = torch.ones(3, requires_grad=True)

        def step(change):
            y = x.exp()
            if change:
                y.add_(1)
            y.sum().backward()

        track(lambda: step(False))
        with pytest.raises(RuntimeError, match="modified by an inplace operation"):
            track(lambda: step(True))


def test_gradients_and_results_are_those_of_an_untracked_step():
    torch.manual_seed(0)
    model, x = Blocks(keep=False), torch.randn(8, 32)
    training(model)(x)
    plain = [p.grad.clone() for p in model.parameters()]
    model.zero_grad()
    track(lambda: training(model)(x), model=model, inputs=x)
    assert all(torch.equal(p.grad, g) for p, g in zip(model.parameters(), plain, strict=True))


def test_a_value_that_dies_after_the_trace_changes_nothing():
    kept = []
    watched = len(weakref.finalize._registry)
    trace = track(lambda: kept.append(torch.ones(100)))
    assert len(weakref.finalize._registry) == watched
    kept.clear()
    assert trace.live_at_end == 400
    assert trace.blocks[0].died is None


def test_cycles_wait_for_the_collector_which_rests_during_a_step():
    def step():
        for _ in range(3):
            circle = [torch.ones(100)]
            circle.append(circle)

    before = gc.get_threshold()
    gc.set_threshold(1, 1, 1)
    try:
        assert track(step).live_at_end == 3 * 400
    finally:
        gc.set_threshold(*before)
        gc.collect()


def test_one_device_of_a_trace():
    trace = track(lambda: (torch.ones(10), torch.empty(20, device="meta")))
    assert (trace.peak, trace.on("cpu").peak, trace.on("meta").peak) == (120, 40, 80)


def test_data_from_python_is_born_where_it_is_made():
    trace = track(lambda: torch.tensor([1.0, 2.0]) * F.relu(torch.tensor([3.0])))
    assert [(block.size, block.kind) for block in trace.blocks if block.born == 0] == []
