import weakref

import pytest
import torch
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from labs_lib.errors import LabError
from labs_lib.static_memory.capture import capture
from labs_lib.static_memory.graph import REGIMES, Operator, aligned, lifetimes
from labs_lib.static_memory.lifetimes import lower_bound


class Written(nn.Module):
    """A module whose forward is the function given."""

    def __init__(self, forward):
        super().__init__()
        self.forward = forward


def captured(forward, *inputs):
    return capture(Written(forward), *inputs)


def names(graph):
    return [operator.name for operator in graph.operators]


def in_place_writes(graph):
    """The pairs (result, overwritten value) of the in-place regime."""
    home = lifetimes(graph, "in_place").home
    return {(b, a) for a in home for b in home if a < b and home[a] == home[b]}


def test_views_are_their_base_and_changes_in_place_make_no_value():
    def forward(x):
        y = x.exp()
        left, right = y.view(8, 4, 2).transpose(0, 1).flatten(2).chunk(2, dim=0)
        y[0].fill_(1)  # not y[0] = 1: some versions of torch make a tensor of the 1 first
        y.relu_()
        return left.reshape(-1).sum() + right[0].unsqueeze(0).expand(3, 8, 2).squeeze().mean()

    graph = captured(forward, torch.ones(8, 8))
    exp, fill, relu, copy, total, mean, add = graph.operators
    assert exp == Operator("exp", (0,), (1,), shares=(0,))
    assert (fill.inputs, fill.outputs, fill.writes) == ((1,), (), (1,))
    assert (relu.inputs, relu.outputs, relu.writes) == ((1,), (), (1,))
    assert (copy.inputs, total.inputs, mean.inputs, add.inputs) == ((1,), (2,), (1,), (3, 4))
    assert (graph.inputs, graph.outputs) == ((0,), (5,))
    assert graph.sizes == (256, 256, 128, 64, 64, 64)


def test_parameters_buffers_and_constants_are_no_values():
    class Model(nn.Module):
        def __init__(self):
            super().__init__()
            self.linear = nn.Linear(16, 16)
            self.register_buffer("scale", torch.ones(16))

        def forward(self, x):
            return self.linear(x) * self.scale + self.linear.weight.t()

    graph = capture(Model(), torch.ones(16, 16))
    assert [(operator.name, operator.inputs) for operator in graph.operators] == [
        ("linear", (0,)),
        ("mul", (1,)),
        ("add", (2,)),
    ]
    assert graph.sizes == (1024,) * 4


def test_several_results_dtypes_and_sizes_rounded_up():
    def forward(x):
        values, places = x.topk(3)
        return values.half(), places

    graph = captured(forward, torch.ones(8, 16))
    topk, half = graph.operators
    assert (len(topk.outputs), topk.outputs) == (2, (1, 2))
    assert [graph.sizes[v] for v in (*topk.outputs, *half.outputs)] == [aligned(8 * 3 * 4), 8 * 3 * 8, 64]
    assert graph.outputs == (3, 2)


def test_an_output_may_be_the_input_or_a_constant():
    weight = nn.Parameter(torch.ones(4))
    module = Written(lambda x: (x.view(2, 2), x.relu()))
    module.weight = weight
    graph = capture(module, torch.ones(4))
    assert graph.outputs == (0, 1)
    module.forward = lambda x: (module.weight, x.relu())
    assert capture(module, torch.ones(4)).outputs == (1,)


@pytest.mark.parametrize("mode", [torch.no_grad, torch.enable_grad])
def test_what_runs_under_another_grad_mode_is_recorded_too(mode):
    def forward(x):
        with mode():
            y = torch.nn.functional.linear(x.sigmoid(), x)
        return y.relu()

    graph = captured(forward, torch.ones(16, 16))
    assert names(graph) == ["sigmoid", "linear", "relu"]
    assert graph.operators[2].inputs == (2,)


def test_element_wise_results_take_over_inputs_of_the_same_layout_only():
    def forward(x):
        a, b, c = x.exp(), x.exp(), x.exp()
        return a + b, c + c.t()

    # a + b may overwrite a. c + c.t() reads every element of c at two places.
    assert in_place_writes(captured(forward, torch.ones(16, 16))) == {(4, 1)}


def test_a_broadcast_operand_is_not_overwritten_though_its_size_rounds_to_the_same():
    graph = captured(lambda x: x[:1].exp() * x.exp(), torch.ones(16))
    assert graph.sizes == (64,) * 4
    assert in_place_writes(graph) == {(3, 2)}


def test_a_view_that_is_read_later_keeps_its_base():
    def forward(x):
        y = x.exp()
        first = y[0]
        return y.relu().matmul(x), first

    assert in_place_writes(captured(forward, torch.ones(16, 16))) == set()
    assert in_place_writes(captured(lambda x: x.exp().relu().matmul(x), torch.ones(16, 16))) == {(2, 1)}


def test_batch_norm_is_element_wise_at_inference_only():
    model = nn.Sequential(nn.Conv2d(4, 4, 1), nn.BatchNorm2d(4), nn.Flatten())
    x = torch.ones(2, 4, 4, 4)
    assert in_place_writes(capture(model.eval(), x)) == {(2, 1)}
    assert not in_place_writes(capture(model.train(), x))


def shared_by_cat(forward, *inputs):
    (cat,) = [operator for operator in captured(forward, *inputs).operators if operator.name == "cat"]
    return cat.shares


def test_a_concatenation_shares_where_its_operands_lie_one_after_the_other():
    one, two = torch.ones(1, 4, 16), torch.ones(2, 4, 16)

    def join(dim, change=lambda x: x.exp()):
        return lambda x: torch.cat([x.exp(), change(x)], dim)

    assert shared_by_cat(join(1), one) == (1, 2)
    assert shared_by_cat(join(-2), one) == (1, 2)
    assert shared_by_cat(join(0), two) == (1, 2)
    assert shared_by_cat(lambda x: torch.concat([x.exp(), x.exp()]), two) == (1, 2)
    assert shared_by_cat(join(1), two) == ()  # interleaved
    assert shared_by_cat(join(1, lambda x: x.exp()[:, :2]), one) == ()  # a part of a larger value
    assert shared_by_cat(join(1, lambda x: x.exp().int()), one) == ()  # converted
    assert shared_by_cat(join(2), torch.ones(1, 1, 3)) == ()  # 12 bytes, so the second is not aligned


def test_concatenations_are_planned_with_the_operands_inside():
    graph = captured(lambda x: torch.cat([x.exp(), x.sin()]).matmul(x), torch.ones(16, 16))
    fresh, in_place, concat = (lower_bound(lifetimes(graph, reuse).buffers) for reuse in REGIMES)
    assert (fresh, in_place, concat) == (4096, 4096, 4096)
    assert lifetimes(graph, "concat").home[2] == (lifetimes(graph, "concat").home[3][0], 1024)


@pytest.mark.parametrize(
    ("model", "inputs", "message"),
    [
        (nn.Linear, (torch.ones(4),), "type is no torch.nn.Module"),
        (nn.Linear(4, 4), (torch.ones(5),), "can't capture Linear"),
        (nn.Linear(4, 4), (), "can't capture Linear: .*argument"),
        (Written(lambda x: x + 1 if x.sum() > 0 else x), (torch.ones(4),), "can't capture Written: "),
        (Written(lambda x: x.nonzero()), (torch.ones(4),), "a tensor of .* bytes"),
        (Written(lambda x: x.to_sparse()), (torch.ones(4),), "a tensor of layout torch.sparse_coo"),
        (
            Written(lambda x: torch.cond(x.sum() > 0, torch.sin, torch.cos, (x,))),
            (torch.ones(4),),
            "The model contains torch.cond",
        ),
    ],
)
def test_what_has_no_fixed_graph_is_refused_with_the_reason(model, inputs, message, capfd):
    with pytest.raises(LabError, match=message) as error:
        capture(model, *inputs)
    assert capfd.readouterr() == ("", "")
    assert len(str(error.value).splitlines()) <= 3


def test_models_on_the_meta_device_take_no_memory():
    with torch.device("meta"):
        model = nn.Sequential(nn.Linear(2**20, 2**20), nn.ReLU(inplace=True))  # weights of 4 TiB
        graph = capture(model, torch.empty(1, 2**20))
    assert graph.sizes == (2**22, 2**22)


class PeakBytes(TorchDispatchMode):
    """Peak of bytes alive in storages that operators make, each rounded up to 64: what eager really holds."""

    def __init__(self):
        super().__init__()
        self.live, self.peak, self.known = 0, 0, {}

    def __torch_dispatch__(self, operator, types, args=(), kwargs=None):
        for tensor in self.tensors((args, kwargs)):
            self.known.setdefault(tensor.untyped_storage()._cdata, 0)
        result = operator(*args, **(kwargs or {}))
        for tensor in self.tensors(result):
            storage = tensor.untyped_storage()
            if storage._cdata not in self.known:
                self.known[storage._cdata] = aligned(storage.nbytes())
                self.live += aligned(storage.nbytes())
                self.peak = max(self.peak, self.live)
                weakref.finalize(storage, self.drop, storage._cdata)
        return result

    @staticmethod
    def tensors(tree):
        return [leaf for leaf in tree_leaves(tree) if isinstance(leaf, torch.Tensor)]

    def drop(self, storage):
        self.live -= self.known.pop(storage)


def peak_and_bound(model, *inputs):
    torch.backends.mha.set_fastpath_enabled(False)  # the fused encoder layer would hide what it holds
    try:
        with torch.no_grad(), PeakBytes() as eager:
            model.eval()(*inputs)
    finally:
        torch.backends.mha.set_fastpath_enabled(True)
    return eager.peak, lower_bound(lifetimes(capture(model, *inputs)).buffers)


class Residual(nn.Module):
    def __init__(self):
        super().__init__()
        self.first, self.second = nn.Conv2d(8, 8, 3, padding=1), nn.Conv2d(8, 8, 3, padding=1)
        self.norm = nn.BatchNorm2d(8)

    def forward(self, x):
        y = self.norm(self.first(x)).relu_()
        return torch.relu(self.second(y) + x)


@pytest.mark.parametrize(
    ("model", "shape"),
    [
        (nn.Sequential(nn.Linear(64, 256), nn.ReLU(), nn.Linear(256, 64)), (4, 64)),
        (nn.Sequential(nn.Linear(64, 256), nn.ReLU(inplace=True), nn.Linear(256, 64)), (4, 64)),
        (nn.Sequential(Residual(), nn.ReLU(), nn.Conv2d(8, 16, 1), nn.Flatten()), (2, 8, 16, 16)),
        (nn.TransformerEncoderLayer(64, 4, 256, batch_first=True), (2, 16, 64)),
    ],
)
def test_the_bound_of_the_fresh_regime_is_what_eager_holds(model, shape):
    """To the byte, where Python drops each value after its last reader, and operators keep nothing hidden."""
    peak, bound = peak_and_bound(model, torch.ones(shape))
    assert peak == bound


def test_eager_holds_more_where_a_caller_still_holds_a_value():
    block = nn.Sequential(nn.Linear(64, 256), nn.Linear(256, 256), nn.Linear(256, 64))
    # The outer Sequential holds the 64 KiB of its first layer while the inner one runs: at the peak as well.
    peak, bound = peak_and_bound(nn.Sequential(nn.Linear(64, 64), block), torch.ones(256, 64))
    assert peak - bound == 256 * 64 * 4


def test_eager_holds_more_where_an_operator_makes_more_than_it_returns():
    # max_pool2d also makes the places of the maxima, int64, and drops them.
    peak, bound = peak_and_bound(nn.Sequential(nn.Conv2d(4, 4, 1), nn.MaxPool2d(2)), torch.ones(1, 4, 16, 16))
    assert peak - bound == 4 * 8 * 8 * 8


def test_mobilenet_v2():
    """At batch 1 the peak is in the second block, which widens 16 channels of 112 x 112 to 96."""
    import torchvision

    with torch.device("meta"):
        graph = capture(torchvision.models.mobilenet_v2().eval(), torch.empty(1, 3, 224, 224))
    wide, strided = 4 * 96 * 112**2, 4 * 96 * 56**2
    # Fresh: a convolution's result and its batch norm. In place they are one, and the next result is smaller.
    assert [lower_bound(lifetimes(graph, reuse).buffers) for reuse in REGIMES] == [
        2 * wide,
        wide + strided,
        wide + strided,
    ]
