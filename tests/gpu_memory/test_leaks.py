import functools
import gc
import sys
from collections import deque

import pytest
import torch
from torch import nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils.checkpoint import checkpoint

from labs_lib.errors import LabError
from labs_lib.gpu_memory.leak_cases import CASES, leak_case
from labs_lib.gpu_memory.leaks import CULPRITS, find_leak

TRUTH = {"1": "hook", "2": "graph", "3": "traceback", "4": "list", "5": "cache", "6": "cycle"}
# float32: 256 rows, 64 features in, 128 hidden, 10 classes; classes are int64
X, Y, HIDDEN, LOGITS = 256 * 64 * 4, 256 * 8, 256 * 128 * 4, 256 * 10 * 4
GROWTH = {
    "1": HIDDEN,  # the output of the ReLU
    "2": X + Y + HIDDEN + LOGITS + 4,  # saved: input, classes, ReLU's output, log-softmax, total weight
    "3": X + Y + HIDDEN + LOGITS + 4 + 4,  # these, and the loss itself
    "4": X + HIDDEN + LOGITS,
    "5": 256 * 256 * 4,
    "6": X + LOGITS,  # after backward the graph holds nothing
}


@pytest.fixture(autouse=True)
def small_heap():
    """What was there before a test is not looked at: a million objects of other tests' modules, and no leak."""
    gc.freeze()
    yield
    gc.unfreeze()


@pytest.fixture
def whole_heap(small_heap):
    """All objects are looked at, as in a learner's process: for leaks that hang on a module."""
    gc.unfreeze()


@functools.cache
def found(number):
    return leak_case(number).found


def fresh(number):
    """A case that nobody has worked on, but whose loop need not run again."""
    case = leak_case(number)
    case.found = found(number)
    return case


@pytest.fixture(params=CASES)
def case(request):
    return fresh(request.param)


def test_the_tool_alone_names_the_culprit_and_the_exact_growth(case):
    assert case.found.culprit == TRUTH[case.number]
    assert case.found.growth == GROWTH[case.number]
    assert not case.found.healthy


def test_one_change_proves_it(case):
    mended = case.replay(fixed=True)
    assert (mended.healthy, mended.growth, mended.culprit) == (True, 0, None)
    assert str(mended) == "grows by 0 bytes a step: nothing that an early step made is left."


def test_only_the_cycle_is_given_back_by_the_collector(case):
    left = sum(case.found.left)
    assert case.found.collected == (left if case.number == "6" else 0)


@pytest.mark.parametrize(
    ("number", "held"),
    [
        ("1", "variable `norms` of `watch`, a forward hook of ReLU -> list of 10 -> tensor"),
        ("2", "variable `total` of `step` -> tensor -> graph, saved by AddmmBackward0"),
        (
            "3",
            "variable `failures` of `step` -> list of 5 -> FloatingPointError -> traceback -> traceback -> "
            "frame of `train`, its variable `loss` -> tensor -> graph, saved by AddmmBackward0",
        ),
        ("4", "variable `predictions` of `step` -> list of 10 -> tensor -> graph, saved by AddmmBackward0"),
        ("5", "variable `masks` of `causal_mask` -> dict of 10 -> tensor"),
        ("6", "a reference cycle -> Sample.view -> View.sample -> Sample"),
    ],
)
def test_the_way_is_told_from_a_name_to_the_bytes(number, held):
    assert str(found(number).holders[0][0]) == held


def test_survivors_have_an_origin():
    line = "  ".join(["case_4.py:7", "logits = model(x)"])
    largest = found("4").survivors[0]
    assert str(largest) == f"131,072 bytes, activations: made by aten.relu in ReLU at {line}"


def test_wrong_accusations_meet_the_evidence(capsys):
    case = fresh("5")
    for culprit in CULPRITS:
        case.accuse(culprit)
    lines = dict(zip(CULPRITS, capsys.readouterr().out.splitlines(), strict=True))
    assert lines.pop("cache").startswith("Yes: a cache without a limit")
    assert lines.pop("cycle").endswith("But the collector gives back 0 of 2,097,152 bytes.")
    for culprit, line in lines.items():
        assert line.startswith(f"No. With a {culprit}, ")
        assert line.endswith("But the way is: variable `masks` of `causal_mask` -> dict of 10 -> tensor.")
    assert len(set(lines.values())) == 4


def test_with_a_cycle_the_collector_is_the_evidence(capsys):
    fresh("6").accuse("list")
    assert capsys.readouterr().out.endswith("But the collector gives back 606,208 of 606,208 bytes.\n")


def test_the_source_is_sealed_until_somebody_is_accused(capsys):
    case = fresh("4")
    case.source()
    case.accuse("the butler")
    case.source()
    sealed = capsys.readouterr().out
    assert sealed.count("sealed") == 2
    assert "Nobody here is called 'the butler'. Accuse one of: graph, list, hook" in sealed
    case.accuse("hook")
    case.source()
    assert "predictions.append(logits)" in capsys.readouterr().out


def test_evidence_comes_card_by_card(capsys):
    case = fresh("6")
    for _ in range(5):
        case.evidence()
    case.evidence(2)
    case.evidence(7)
    firsts = [line[:11] for line in capsys.readouterr().out.splitlines() if not line.startswith(" ")]
    assert firsts == [f"Card {n} of 4" for n in (1, 2, 3, 4, 4, 2)] + ["There are t"]


def test_a_learner_replays_a_change_of_her_own():
    case = fresh("4")
    assert case.replay(("predictions.append(logits)", "predictions.append(logits.detach())")).growth == LOGITS
    with pytest.raises(LabError, match="stands 0 times in the source of case 4"):
        case.replay(("print(", "pass"))


def test_an_unknown_case_is_named():
    with pytest.raises(LabError, match="There is no case '7'"):
        leak_case("7")


# --- steps of all sorts --------------------------------------------------------------------------------------


def model():
    return nn.Sequential(nn.Linear(64, 128), nn.ReLU(), nn.Linear(128, 10))


def training(optimizer_class, **options):
    net = model()
    optimizer = optimizer_class(net.parameters(), **options)

    def step():
        optimizer.zero_grad()
        net(torch.ones(256, 64)).square().mean().backward()
        optimizer.step()

    return step


def checkpointed():
    net = model()
    return lambda: checkpoint(net, torch.ones(256, 64), use_reentrant=False).mean().backward()


def bounded():
    recent, net = deque(maxlen=3), model()
    return lambda: recent.append(net(torch.ones(256, 64)))


def lazy():
    tables = {}
    return lambda: tables.setdefault("mask", torch.ones(256, 256)).sum()


def made_late():
    tables, numbers = [], iter(range(100))
    return lambda: tables.append(torch.ones(1024)) if next(numbers) == 3 else None


def summed_after_backward():
    """`total += loss` keeps the nodes of every graph, but backward has freed what these had saved."""
    net, total = model(), torch.zeros(())

    def step():
        nonlocal total
        loss = net(torch.ones(256, 64)).mean()
        loss.backward()
        total += loss

    return step


HEALTHY = {
    "momentum": lambda: training(torch.optim.SGD, lr=0.1, momentum=0.9),
    "AdamW": lambda: training(torch.optim.AdamW, lr=0.1),
    "checkpoint": checkpointed,
    "a bounded buffer": bounded,
    "made once": lazy,
    "made once, and late": made_late,
    "summed after backward": summed_after_backward,
    "nothing": lambda: lambda: None,
}


@pytest.mark.parametrize("name", HEALTHY)
def test_healthy_loops_are_healthy(name):
    found = find_leak(HEALTHY[name](), warmup=1)
    assert (found.healthy, found.growth, found.holders, found.survivors) == (True, 0, (), ())


def test_warm_up_is_live_but_no_leak():
    found = find_leak(HEALTHY["AdamW"](), warmup=1)
    parameters = sum(4 * parameter.numel() for parameter in model().parameters())
    assert min(found.live) >= 3 * parameters  # two states, and the last gradients
    assert len(set(found.live)) == 1


kept: list[torch.Tensor] = []


def global_variable():
    return lambda: kept.append(torch.ones(1024))


def default_argument():
    def step(seen=[]):  # noqa: B006
        seen.append(torch.ones(1024))

    return step


def attribute_of_an_object():
    class Trainer:
        def __init__(self):
            self.history = []

        def step(self):
            self.history.append({"loss": torch.ones(1024)})

    trainer = Trainer()
    return lambda: trainer.step()


def attribute_of_a_module():
    net = nn.Linear(1, 1)
    net.memory = []
    return lambda: net.memory.append(torch.ones(1024))


def lru_cache():
    table = functools.lru_cache(maxsize=None)(lambda number: torch.ones(1024))
    numbers = iter(range(100))
    return lambda: table(next(numbers))


def recorder():
    class Recorder:
        def __init__(self):
            self.outputs = []

        def save(self, tag, module, inputs, output):
            self.outputs.append((tag, output.detach()))

    net = nn.Linear(1, 1024)
    net.register_forward_hook(functools.partial(Recorder().save, "tag"))
    return lambda: net(torch.ones(1, 1))


def hook_whose_list_the_step_reads():
    net, outputs = nn.Linear(1, 1024), []

    def step():
        net(torch.ones(1, 1))
        return len(outputs)

    net.register_forward_hook(lambda module, inputs, output: outputs.append(output.detach()))
    return step


def global_hook():
    net = nn.Linear(1, 1024)
    net.register_forward_hook(store)
    return lambda: net(torch.ones(1, 1))


stored: list[torch.Tensor] = []


def store(module, inputs, output):
    stored.append(output.detach())


def hidden_state():
    cell, hidden = nn.Linear(256, 1024 - 256), torch.zeros(1, 256)

    def step():
        nonlocal hidden
        hidden = cell(hidden)[:, :256]

    return step


def last_exception():
    def step():
        try:
            kept_by_the_frame = torch.ones(1024)
            raise ValueError(len(kept_by_the_frame))
        except ValueError as error:
            error.__context__ = getattr(sys, "last_exc_of_test", None)
            sys.last_exc_of_test = error

    return step


LEAKS = {
    "global variable": (global_variable, "list", "global variable `kept` of the module"),
    "default argument": (default_argument, "list", "default argument `seen` of `step`"),
    "attribute of an object": (attribute_of_an_object, "list", "variable `trainer` of `<lambda>`"),
    "attribute of a module": (attribute_of_a_module, "list", "attribute `memory` of the module Linear"),
    "lru_cache": (lru_cache, "cache", "the lru_cache of `<lambda>`"),
    "method as hook": (recorder, "hook", "Recorder, a forward hook of Linear"),
    "hook whose list the step reads": (
        hook_whose_list_the_step_reads,
        "hook",
        "variable `outputs` of `<lambda>`, a forward hook of Linear",
    ),
    "hook with a global variable": (global_hook, "hook", "global variable `stored` of the module"),
    "hidden state": (hidden_state, "graph", "variable `hidden` of `step`"),
    "last exception": (last_exception, "traceback", "global variable `last_exc_of_test` of the module sys"),
}


@pytest.mark.usefixtures("whole_heap")
@pytest.mark.parametrize("name", LEAKS)
def test_leaks_of_all_sorts_are_named(name):
    make, culprit, root = LEAKS[name]
    found = find_leak(make())
    assert (found.culprit, found.holders[0][0].root[: len(root)]) == (culprit, root)


def test_attributes_are_named_on_the_way():
    found = find_leak(attribute_of_an_object())
    assert found.holders[0][0].way == ("Trainer.history", "list of 10", "dict of 1", "tensor")


def test_fake_tensors_grow_too():
    outputs = []
    with FakeTensorMode():
        net = nn.Linear(4096, 4096)
        found = find_leak(lambda: outputs.append(net(torch.empty(2**20, 4096))))
    assert (found.culprit, found.growth) == ("list", 2 * 2**20 * 4096 * 4)


def test_real_tensors_that_live_beside_a_fake_mode_are_no_obstacle():
    weight = torch.ones(4, 4, requires_grad=True)
    with torch.autograd.graph.saved_tensors_hooks(lambda tensor: tensor * 1, lambda tensor: tensor * 1):
        kept = weight.exp()  # its saved tensors are read, and so unpacked, while holders are looked for
    outputs = []
    with FakeTensorMode():
        found = find_leak(lambda: outputs.append(torch.empty(2**20)))
    assert (found.culprit, found.growth) == ("list", 2**20 * 4)
    assert kept.requires_grad


def test_the_collector_is_left_as_it_was():
    for enabled in (True, False):
        (gc.enable if enabled else gc.disable)()
        with pytest.raises(ZeroDivisionError):
            find_leak(lambda: 1 / 0)
        find_leak(lambda: None)
        assert gc.isenabled() == enabled
        assert not gc.get_debug()
    gc.enable()


def test_too_few_steps_show_no_growth():
    with pytest.raises(LabError, match="steps=3"):
        find_leak(lambda: None, steps=3)


def test_a_tensor_that_is_replaced_by_a_larger_one_is_a_leak():
    """No early storage is left of `predictions = torch.cat([predictions, new])`, and yet it grows."""
    predictions = torch.zeros(0, 64)

    def step():
        nonlocal predictions
        predictions = torch.cat([predictions, torch.ones(16, 64)])

    leak = find_leak(step)
    assert not leak.healthy
    assert leak.growth == 16 * 64 * 4
    assert "replaced by a larger one" in str(leak)
    assert "predictions" in str(leak)

    class Cache(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.register_buffer("keys", torch.zeros(0, 64))

        def forward(self, x):
            self.keys = torch.cat([self.keys, x])

    cache = Cache()
    leak = find_leak(lambda: cache(torch.ones(8, 64)), model=cache)
    assert leak.growth == 8 * 64 * 4


def test_sizes_that_go_up_and_down_are_no_leak():
    kept, sizes = {}, iter([5, 3, 8, 2, 9, 4, 7, 1, 6, 3])

    def step():
        kept["last"] = torch.ones(next(sizes), 64)

    assert find_leak(step).healthy


def test_an_accusation_that_is_half_right_is_told_so(capsys):
    """Case 1's hook fills a list: whoever accuses the list has seen something."""
    leak_case("1").accuse("list")
    assert capsys.readouterr().out.startswith("Nearly: there is a list on the way")
