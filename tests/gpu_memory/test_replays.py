"""Replays on fake tensors: CUDA's rules, plans, and a step too large for this machine."""

import json
import subprocess
import sys
from functools import partial

import pytest
import torch
from torch import nn
from torch._subclasses import FakeTensorMode
from torch.nn import functional as F

from labs_lib.errors import LabError
from labs_lib.gpu_memory import Plan, Step, replay, track
from labs_lib.gpu_memory.cuda_rules import PROMOTED, TO_HALF, as_on_cuda, on_cuda
from labs_lib.gpu_memory.eight_bit import AdamW8bit
from labs_lib.gpu_memory.models import Shape, Transformer, resnet50, step_of, transformer_step, vit_b_16
from labs_lib.gpu_memory.plans import OPTIMIZERS, freeze_but_last, repeated_blocks

FLOAT, HALF = 4, 2
TINY = Shape(layers=3, width=32, heads=2, hidden=64, vocabulary=100, context=16)
tiny = partial(transformer_step, TINY)


@pytest.fixture
def cuda():
    with FakeTensorMode(allow_non_fake_inputs=True), as_on_cuda():
        yield


# --- CUDA's rules -------------------------------------------------------------------------------------


def test_autocast_casts_by_the_lists_of_cuda(cuda):
    x, scores = torch.ones(4, 8), torch.ones(4, 8, dtype=torch.bfloat16)
    linear, norm = nn.Linear(8, 8), nn.LayerNorm(8)
    with torch.autocast("cpu", torch.bfloat16):
        assert linear(x).dtype == torch.bfloat16
        assert norm(linear(x)).dtype == torch.float32
        assert scores.softmax(-1).dtype == scores.sum().dtype == scores.pow(2).dtype == torch.float32
        assert F.gelu(scores).dtype == torch.bfloat16
        assert torch.stack([scores, scores]).dtype == torch.bfloat16


def test_the_rules_end_with_the_block():
    scores = torch.ones(4, 8, dtype=torch.bfloat16)
    with FakeTensorMode(), as_on_cuda():
        pass
    with torch.autocast("cpu", torch.bfloat16):
        assert scores.softmax(-1).dtype == torch.bfloat16
    assert torch.backends.mha.get_fastpath_enabled()
    mask = torch.ones(1000)
    assert set(F.dropout(mask, 0.5).unique().tolist()) == {0.0, 2.0}


def test_a_dtype_that_the_caller_asks_for_is_kept(cuda):
    scores = torch.ones(64, 64, dtype=torch.bfloat16)
    with torch.autocast("cpu", torch.bfloat16):
        assert scores.log_softmax(-1, dtype=torch.bfloat16).dtype == torch.bfloat16
        assert scores.log_softmax(-1, dtype=None).dtype == torch.float32
        trace = track(lambda: scores.sum(-1), inputs=scores)
    assert trace.peak == scores.nbytes + 64 * FLOAT  # no copy in float32


def test_cross_entropy_is_no_operator_of_cudas_lists(cuda):
    """On the CPU all of it runs in float32. On CUDA log_softmax stays in 16 bits, and nll_loss widens its result."""
    logits, classes = torch.ones(64, 50, dtype=torch.bfloat16), torch.zeros(64, dtype=torch.int64)
    with torch.autocast("cpu", torch.bfloat16):
        trace = track(lambda: F.cross_entropy(logits, classes), inputs=(logits, classes))
    sizes = [(block.operator, block.size) for block in trace.blocks if block.size >= logits.nbytes and block.born]
    assert sizes == [("aten._log_softmax", 64 * 50 * HALF), ("aten._to_copy", 64 * 50 * FLOAT)]


def test_every_operator_with_a_cast_on_cuda_is_known():
    """A new name in these lists means that PyTorch has changed its policies: read ATen/autocast_mode.h again."""
    registered = torch._C._dispatch_get_registrations_for_dispatch_key("AutocastCUDA")
    names = {name.removeprefix("aten::").partition(".")[0] for name in registered}
    assert names >= TO_HALF - {"_scaled_dot_product_flash_attention"}
    assert names >= PROMOTED


def saved(step):
    """Bytes of activations, by the operator that made them."""
    return {b.operator.removeprefix("aten."): b.size for b in track(step).blocks if b.kind == "activations"}


def test_dropout_saves_one_byte_per_element(cuda):
    x = torch.ones(64, 64, requires_grad=True)
    assert saved(lambda: F.dropout(x, 0.1))["native_dropout"] == 64 * 64
    assert track(lambda: F.dropout(x, 0.1, training=False)).operators == ()


@pytest.mark.parametrize("options", [{}, {"dropout_p": 0.1}, {"is_causal": True}, {"attn_mask": True}])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_attention_is_fused_whatever_dropout_and_mask(cuda, options, dtype):
    batch, heads, tokens, size = 2, 4, 64, 16
    q, k, v = (torch.ones(batch, heads, tokens, size, dtype=dtype, requires_grad=True) for _ in range(3))
    if "attn_mask" in options:
        options = {"attn_mask": torch.ones(tokens, tokens, dtype=torch.bool)}
    trace = track(lambda: F.scaled_dot_product_attention(q, k, v, **options).sum().backward(), inputs=(q, k, v))
    scores = batch * heads * tokens * tokens * q.element_size()
    assert max(block.size for block in trace.blocks) < scores
    assert any("flash" in o.name or "efficient" in o.name for o in trace.operators)
    assert trace.flops > 0


def test_rms_norm_saves_its_input_and_a_number_per_row(cuda):
    norm, x = nn.RMSNorm(64), torch.ones(32, 64)

    def step():
        (norm(x * 2) * 1).sum().backward()

    trace = track(step, model=norm, inputs=x)
    kept = sorted(block.size for block in trace.blocks if block.kind == "activations")
    assert kept == [32 * FLOAT, 32 * 64 * FLOAT]


def test_optimisers_take_all_tensors_in_one_pass():
    model = nn.Linear(8, 8)
    assert on_cuda(torch.optim.AdamW(model.parameters())).param_groups[0]["foreach"] is True
    assert on_cuda(torch.optim.AdamW(model.parameters(), foreach=False)).param_groups[0]["foreach"] is False
    assert on_cuda(torch.optim.AdamW(model.parameters(), fused=True)).param_groups[0]["foreach"] is None
    assert "foreach" not in on_cuda(AdamW8bit(model.parameters())).param_groups[0]


# --- replays ------------------------------------------------------------------------------------------


def linear_step(batch, training=True):
    return step_of(nn.Linear(64, 32), torch.zeros(batch, 64), F.cross_entropy, torch.zeros(batch).long(), training)


def test_a_training_step_by_hand():
    run = replay(linear_step, 16)
    weights, x, y, logits = (64 * 32 + 32) * FLOAT, 16 * 64 * FLOAT, 16 * 8, 16 * 32 * FLOAT
    states = 2 * weights + 2 * FLOAT
    assert run.trace.at(0) == {
        "parameters": weights,
        "inputs": x + y,
        "optimiser state": states,
        "gradients": weights,
    }
    # In the optimiser: gradients, and the square roots of all second moments at once.
    assert run.peak == weights + x + y + states + weights + weights + FLOAT
    assert run.flops == 2 * 2 * 16 * 64 * 32
    assert run.trains
    assert logits < weights


def test_an_inference_step_by_hand():
    run = replay(partial(linear_step, training=False), 16)
    assert run.peak == (64 * 32 + 32) * FLOAT + 16 * 64 * FLOAT + 16 * 32 * FLOAT
    assert not run.trains
    half = replay(partial(linear_step, training=False), Plan(16, half=True))
    assert half.peak == run.peak // 2


def test_rounding_counts_what_the_allocator_adds():
    run = replay(partial(linear_step, training=False), 1)
    weight, bias, x, y = 64 * 32 * FLOAT, 32 * FLOAT, 64 * FLOAT, 32 * FLOAT
    assert run.peak == weight + bias + x + y
    assert run.rounding == (512 - bias) + (512 - x) + (512 - y)


def test_micro_batches_cost_no_flops_and_hold_one_activation_at_a_time():
    plain, four, eight = (replay(tiny, Plan(8, micro_batches=count)) for count in (1, 4, 8))
    assert plain.flops == four.flops == eight.flops
    assert four.peak < plain.peak
    assert eight.peak < four.peak


def test_more_than_two_micro_batches_need_what_two_need():
    def by_hand(batch):
        step = tiny(batch // 4)
        inner = step.run
        step.run = lambda: (setattr(step, "micro_batches", 4), inner())[1]
        return step

    assert replay(by_hand, 8).peak == replay(tiny, Plan(8, micro_batches=4)).peak


def test_checkpointing_computes_blocks_again():
    plain, checkpointed = replay(tiny, 8), replay(tiny, Plan(8, checkpoint=True))
    assert checkpointed.peak < plain.peak
    assert plain.flops < checkpointed.flops < 4 / 3 * plain.flops + 1
    assert {o.phase for o in checkpointed.trace.operators} == {"forward", "backward", "recomputation", "optimiser"}


def test_frozen_parameters_have_neither_gradients_nor_states():
    run = replay(tiny, Plan(8, freeze=True))
    with FakeTensorMode():
        model = Transformer(TINY)
    last = sum(p.nbytes for p in model.blocks[-1].parameters()) + 2 * 32 * FLOAT  # and the last norm
    assert run.trace.at(0)["gradients"] == last
    freeze_but_last(model)
    assert not model.head.weight.requires_grad  # tied to the embedding, which is frozen


def test_without_blocks_the_last_layer_stays_trainable():
    model = nn.Sequential(nn.Linear(4, 4), nn.ReLU(), nn.Linear(4, 4))
    freeze_but_last(model)
    assert [p.requires_grad for p in model.parameters()] == [False, False, True, True]


def test_repeated_blocks_of_known_models():
    with FakeTensorMode():
        assert len(repeated_blocks(Transformer(TINY))) == 3
        assert len(repeated_blocks(resnet50(1).model)) == 3 + 4 + 6 + 3
    nested = nn.Sequential(*(nn.Sequential(nn.Linear(2, 2), nn.ReLU()) for _ in range(3)))
    assert repeated_blocks(nested) == list(nested)
    deeper = nn.Sequential(nn.Sequential(*list(nested)[:2]), nn.Sequential(*list(nested)[1:]))
    assert repeated_blocks(deeper) == list(deeper)
    assert repeated_blocks(nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 2))) == []  # a lone Linear saves nothing


def test_optimisers_and_their_states():
    sizes = {name: replay(tiny, Plan(8, optimizer=name)).trace.at(0).get("optimiser state", 0) for name in OPTIMIZERS}
    with FakeTensorMode():
        tensors = list(Transformer(TINY).parameters())
    assert sizes["SGD with momentum"] == sum(t.nbytes for t in tensors)
    assert sizes["plain SGD"] == 0


def test_8_bit_states_are_laid_out_as_in_bitsandbytes():
    def make_step(batch):
        return Step(nn.Linear(64, 100), torch.ones(batch, 64), optimizer=AdamW8bit)

    weight, bias = 64 * 100, 100  # the bias has less than 4096 values
    states = replay(make_step, 4).trace.at(0)["optimiser state"]
    assert states == 2 * (weight + weight // 256 * FLOAT) + 2 * bias * FLOAT


def test_a_vision_transformer_can_be_replayed():
    """torchvision draws its weights by a method that looks at the values drawn."""
    assert replay(partial(vit_b_16, training=False), 1).peak > 86e6 * FLOAT


def test_8_bit_states_train_like_float_states():
    losses = {}
    for make in (torch.optim.AdamW, AdamW8bit):
        torch.manual_seed(0)
        model = nn.Sequential(nn.Linear(64, 200), nn.Tanh(), nn.Linear(200, 60))
        x, y = torch.randn(128, 64), torch.randn(128, 60)
        optimizer = make(model.parameters(), lr=3e-3)
        for _ in range(100):
            optimizer.zero_grad()
            loss = F.mse_loss(model(x), y)
            loss.backward()
            optimizer.step()
        losses[make] = float(loss.detach())
    state = optimizer.state[model[0].weight]
    assert (state["root"] > 0).all()  # where nothing was rounded down to 0, nothing is divided by it
    assert losses[AdamW8bit] < 0.1
    assert losses[torch.optim.AdamW] < 0.1


# --- what a learner can do wrong ----------------------------------------------------------------------

REAL = nn.Linear(4, 4)


def reads_the_loss(batch):
    model, x = nn.Linear(4, 4), torch.ones(batch, 4)
    return Step(model, x, loss=lambda y: y.sum() * y.sum().item(), optimizer=torch.optim.SGD)


@pytest.mark.parametrize(
    ("make_step", "message"),
    [
        (lambda batch: 3, "returned int, and no Step"),
        (lambda batch: Step(REAL, torch.ones(batch, 4)), "a model that was made before"),
        (lambda batch: 1 / 0, "make_step failed on fake tensors with ZeroDivisionError"),
        (lambda batch: Step(nn.Linear(4, 4), torch.ones(batch, 5)), "The step failed on fake tensors"),
        (reads_the_loss, "looks into a tensor's values"),
    ],
)
def test_bad_steps(make_step, message):
    with pytest.raises(LabError, match=message):
        replay(make_step, 2)
    assert nn.LayerNorm(8)(torch.ones(2, 8)).dtype == torch.float32


def test_bad_plans():
    with pytest.raises(LabError, match="can't be run in 3 micro-batches"):
        Plan(8, micro_batches=3)
    with pytest.raises(LabError, match="no optimiser of a plan"):
        Plan(8, optimizer="Adagrad")
    with pytest.raises(LabError, match="no repeated blocks"):
        replay(linear_step, Plan(8, checkpoint=True))


# --- a step too large for this machine ----------------------------------------------------------------

LLAMA = """
import json, resource, time
from labs_lib.gpu_memory import replay
from labs_lib.gpu_memory.models import llama_7b
start = time.monotonic()
run = replay(llama_7b, 1)
print(json.dumps({
    "seconds": time.monotonic() - start,
    "process_bytes": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024,
    "at_start": run.trace.at(0),
}))
"""


@pytest.mark.skipif(sys.platform != "linux", reason="the peak of a process is in KiB on Linux only")
def test_seven_billion_parameters_fit_into_a_laptop():
    done = subprocess.run([sys.executable, "-c", LLAMA], capture_output=True, text=True, check=True)
    result = json.loads(done.stdout)
    block = 4096 * 3 * 4096 + 4096 * 4096 + 3 * 4096 * 11008 + 2 * 4096
    parameters = 32 * block + 2 * 32000 * 4096 + 4096
    assert parameters > 6.7e9
    assert result["at_start"]["gradients"] == FLOAT * parameters
    tensors = 32 * 7 + 3
    assert result["at_start"]["optimiser state"] == 2 * FLOAT * parameters + FLOAT * tensors
    assert result["process_bytes"] < 4 * 2**30
