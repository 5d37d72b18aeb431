"""Answers to the exercises of lab 09, wrong ones and right ones written differently, and what the check says."""

import collections
import copy
import math
import random
import statistics
import sys
import threading
import time

import numpy as np
import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from labs_lib import ledger, timing
from labs_lib.exercises import NOT_YET, judge
from labs_lib.inference_bench.attempts import KINDS, LAUNCH, REPEATS, Block, Device, Layer, planted
from labs_lib.inference_bench.exercises import EXERCISES
from tests.exercise_tests import ExerciseTests


def named(name, attempt):
    attempt.__name__ = name
    return attempt


# --- 9.1 --------------------------------------------------------------------------------------------


def roof(flops=lambda true, layer, shape, rows: true, moved=lambda true, sizes: true, place=max, swap=False):
    """An answer to 9.1 that is right but for one of its parts; `sizes`: bytes of input, output, weight, bias."""

    def attempt(layer, shape, peak, bandwidth):
        twin = copy.deepcopy(layer).to("meta")
        x = torch.empty(shape, dtype=twin.weight.dtype, device="meta")
        output = twin(x)
        rows = output.numel() // twin.weight.shape[0]
        sizes = {"input": x.nbytes, "output": output.nbytes, "weight": twin.weight.nbytes}
        sizes["bias"] = 0 if twin.bias is None else twin.bias.nbytes
        count = flops(2 * rows * twin.weight.numel(), layer, shape, rows)
        size = moved(sum(sizes.values()), sizes)
        compute, memory = count / peak, size / bandwidth
        return count, size, place((compute, memory)), "compute" if (compute > memory) != swap else "memory"

    return attempt


def without(*names):
    return lambda true, sizes: true - sum(sizes[name] for name in names)


def twice_the_input(true, sizes):
    return true + sizes["input"] - sizes["output"]


def ignores_groups(true, layer, shape, rows):
    return true * getattr(layer, "groups", 1)


def ignores_stride(true, layer, shape, rows):
    pixels = math.prod(shape[-2:]) if len(shape) == 4 else rows / shape[0]
    return 2 * layer.weight.numel() * shape[0] * pixels


def with_bias_additions(true, layer, shape, rows):
    return true + (rows * layer.weight.shape[0] if layer.bias is not None else 0)


def always_float32(layer, shape, peak, bandwidth):
    flops, moved, *place = EXERCISES["9.1"].solution(layer, shape, peak, bandwidth)
    return flops, moved // layer.weight.element_size() * 4, *place


def moves_the_layer(layer, shape, peak, bandwidth):
    found = EXERCISES["9.1"].solution(layer, shape, peak, bandwidth)
    layer.to("meta")
    return found


def clears_the_layer(layer, shape, peak, bandwidth):
    with torch.no_grad():
        layer.weight.zero_()
    return EXERCISES["9.1"].solution(layer, shape, peak, bandwidth)


def three_things(*given):
    return EXERCISES["9.1"].solution(*given)[:3]


def seconds_as_text(*given):
    flops, moved, seconds, limit = EXERCISES["9.1"].solution(*given)
    return flops, moved, f"{seconds:.3g} s", limit


def says_bandwidth(*given):
    return (*EXERCISES["9.1"].solution(*given)[:3], "bandwidth")


def by_the_ledger(layer, shape, peak, bandwidth):
    """Runs the layer and counts."""
    x = torch.zeros(shape, dtype=layer.weight.dtype)
    with torch.no_grad():
        count = ledger(layer, x)
        parts = [x, layer(x), *layer.parameters()]
    moved = sum(part.nbytes for part in parts)
    return count.flops, moved, max(count.flops / peak, moved / bandwidth), (
        "memory" if moved / bandwidth >= count.flops / peak else "compute"
    )


def by_the_flop_counter(layer, shape, peak, bandwidth):
    with FlopCounterMode(display=False) as counter, torch.inference_mode():
        output = layer(torch.zeros(shape, dtype=layer.weight.dtype))
    numbers = math.prod(shape) + output.numel() + sum(each.numel() for each in layer.parameters())
    flops, moved = counter.get_total_flops(), numbers * layer.weight.itemsize
    times = {"compute": flops / peak, "memory": moved / bandwidth}
    limit = max(times, key=times.get)
    return [flops, moved, times[limit], limit]


def by_formulas(layer, shape, peak, bandwidth):
    weight = layer.weight
    if isinstance(layer, torch.nn.Linear):
        pixels, out = math.prod(shape[:-1]), layer.out_features
    else:
        pixels, out = shape[0], layer.out_channels
        for side in (0, 1):
            reach = layer.dilation[side] * (layer.kernel_size[side] - 1)
            padded = reach if layer.padding == "same" else 2 * layer.padding[side]
            pixels *= (shape[2 + side] + padded - reach - 1) // layer.stride[side] + 1
    flops = 2 * pixels * out * math.prod(weight.shape[1:])
    bias = 0 if layer.bias is None else out
    moved = weight.element_size() * (math.prod(shape) + weight.numel() + bias + pixels * out)
    if flops / moved > peak / bandwidth:
        return np.int64(flops), np.int64(moved), np.float64(flops / peak), "compute"
    return float(flops), float(moved), moved / bandwidth, "memory"


# --- 9.2 --------------------------------------------------------------------------------------------


def slowest(
    of=lambda modules: modules,
    synchronize=True,
    passes=8,
    skip=1,
    of_passes=np.median,
    own=True,
    of_calls=sum,
    keep=False,
):
    """An answer to 9.2 from its parts: which modules, how often, which time, how calls and passes are put together."""

    def attempt(model, x, device):
        names = of({module: name for name, module in model.named_modules()})
        stack, calls = [], {name: [] for name in names.values()}

        def now():
            if synchronize:
                device.synchronize()
            return device.clock()

        def leave(module, inputs, output):
            start, inside = stack.pop()
            took = now() - start
            calls[names[module]][-1].append(took - (inside if own else 0))
            if stack:
                stack[-1][1] += took

        hooks = []
        for module in names:
            hooks.append(module.register_forward_pre_hook(lambda module, inputs: stack.append([now(), 0])))
            hooks.append(module.register_forward_hook(leave))
        for _ in range(passes):
            for each in calls.values():
                each.append([])
            model(x)
        for hook in () if keep else hooks:
            hook.remove()
        return max(calls, key=lambda name: of_passes([of_calls(each or [0]) for each in calls[name]][skip:]))

    return attempt


def containers(modules):
    return {module: name for module, name in modules.items() if name and "." not in name}


def leaves(modules):
    return {module: name for module, name in modules.items() if not list(module.children())}


def by_weights(model, x, device):
    return max(leaves(dict(map(reversed, model.named_modules()))).items(), key=lambda each: each[0].weight.numel())[1]


def by_flops(model, x, device):
    device.clock()
    with FlopCounterMode(display=False) as counter:
        model(x)
    flops = {name: sum(each.values()) for name, each in counter.get_flop_counts().items()}
    names = [name for name, module in model.named_modules() if isinstance(module, torch.nn.Linear)]
    return max(names, key=lambda name: flops.get(f"{type(model).__name__}.{name}", 0))


def the_first(model, x, device):
    return next(iter(model._modules))


def the_last(model, x, device):
    device.clock()
    return list(dict(model.named_modules()))[-1]


def the_block_around_it(model, x, device):
    found = EXERCISES["9.2"].solution(model, x, device)
    return found.rpartition(".")[0] or found


def a_layer_in_it(model, x, device):
    found = EXERCISES["9.2"].solution(model, x, device)
    return ".".join((found, *list(model.get_submodule(found)._modules)[:1]))


def the_model(model, x, device):
    return ""


def the_module_itself(model, x, device):
    return model.get_submodule(EXERCISES["9.2"].solution(model, x, device))


def the_class(model, x, device):
    return "Layer"


def trains(model, x, device):
    model.train()
    return EXERCISES["9.2"].solution(model, x, device)


def scales_x(model, x, device):
    found = EXERCISES["9.2"].solution(model, x, device)
    x.mul_(2)
    return found


def takes_a_layer_out(model, x, device):
    found = EXERCISES["9.2"].solution(model, x, device)
    model.add_module(next(iter(model._modules)), torch.nn.Identity())
    return found


def patches_forward(restores):
    def attempt(model, x, device):
        times = collections.defaultdict(lambda: [0] * 9)
        running, number = [], 0

        def timed(name, forward):
            def wrapped(*inputs):
                device.synchronize()
                start = device.clock()
                running.append(0)
                output = forward(*inputs)
                device.synchronize()
                took = device.clock() - start
                times[name][number] += took - running.pop()
                if running:
                    running[-1] += took
                return output

            return wrapped

        for name, module in model.named_modules():
            module.forward = timed(name, module.forward)
        for number in range(9):  # noqa: B007
            model(x)
        for module in model.modules() if restores else ():
            del module.forward
        return max(times, key=lambda name: sorted(times[name])[4])

    return attempt


def by_subtraction(model, x, device):
    """Whole times of all modules, and from each those of its direct children."""
    whole = collections.defaultdict(list)
    started = {}

    def enter(module, inputs):
        device.synchronize()
        started[module] = device.clock()

    def leave(module, inputs, output):
        device.synchronize()
        whole[module][-1] += device.clock() - started[module]

    handles = [torch.nn.modules.module.register_module_forward_pre_hook(enter)]
    handles.append(torch.nn.modules.module.register_module_forward_hook(leave))
    for _ in range(6):
        for module in model.modules():
            whole[module].append(0)
        model(x)
    for handle in handles:
        handle.remove()
    best = {}
    for name, module in model.named_modules():
        each = [took - sum(parts) for took, *parts in zip(whole[module], *(whole[c] for c in module.children()))]  # noqa: B905
        best[name] = statistics.median_low(each[1:])
    return sorted(best, key=best.get)[-1]


# --- 9.3 --------------------------------------------------------------------------------------------


def benchmark(
    before=True,
    after=True,
    warm=True,
    of=lambda times: (np.quantile(times, 0.5), np.quantile(times, 0.99)),
    per=len,
    batches="new",
    turns=True,
    extra=0,
    warm_on_first=False,
):
    """An answer to 9.3 from its parts."""

    def attempt(device, contestants, make_batch, rounds, warmup):
        first = make_batch()
        ready = [first if batches == "same" else make_batch() for _ in range(rounds)]
        times = {name: [] for name in contestants}

        def one(name, batch):
            if before:
                device.synchronize()
            start = device.clock()
            contestants[name](batch)
            if after:
                device.synchronize()
            return (device.clock() - start) / per(batch)

        for name in contestants:
            for _ in range(warmup if warm else 0):
                contestants[name](ready[0] if warm_on_first else make_batch())
        plan = [(name, number) for number in range(rounds + extra) for name in contestants]
        if not turns:
            plan.sort(key=lambda each: list(contestants).index(each[0]))
        for name, number in plan:
            batch = make_batch() if batches == "own" else ready[number % (2 if batches == "two" else rounds)]
            if batches == "just made" and name == next(iter(contestants)):
                ready[number] = batch = make_batch()
            times[name].append(one(name, batch))
        return {name: of(each) for name, each in times.items()}

    return attempt


def times_the_warm_up(device, contestants, make_batch, rounds, warmup):
    times = {name: [] for name in contestants}
    for _ in range(warmup + rounds):
        batch = make_batch()
        for name, run in contestants.items():
            device.synchronize()
            start = device.clock()
            run(batch)
            device.synchronize()
            times[name].append((device.clock() - start) / len(batch))
    return {name: (np.median(each), np.quantile(each, 0.99)) for name, each in times.items()}


def on_this_machine(device, contestants, make_batch, rounds, warmup):
    results = {}
    for name, run in contestants.items():
        start = time.perf_counter()
        run(make_batch())
        results[name] = (time.perf_counter() - start,) * 2
    return results


def makes_up_batches(device, contestants, make_batch, rounds, warmup):
    device.clock()
    for run in contestants.values():
        run([1, 2, 3])


def never_ends(device, contestants, make_batch, rounds, warmup):
    device.clock()
    while True:
        for run in contestants.values():
            run(make_batch())


def as_a_list(*given):
    return list(EXERCISES["9.3"].solution(*given).values())


def runs_one_only(device, contestants, make_batch, rounds, warmup):
    device.clock()
    name = next(iter(contestants))
    for _ in range(rounds + warmup):
        contestants[name](make_batch())
    return {name: (1, 1)}


def waits_for_the_clock(device, contestants, make_batch, rounds, warmup):
    start = device.clock()
    while device.clock() < start + 10:
        pass


def in_random_order(device, contestants, make_batch, rounds, warmup):
    times = {name: [] for name in contestants}
    for number in range(-warmup, rounds):
        batch = make_batch()
        for name in random.sample(list(contestants), len(contestants)):
            device.synchronize()
            start = device.clock()
            contestants[name](batch)
            device.synchronize()
            times[name] += [(device.clock() - start) / len(batch)] * (number >= 0)
    return {name: [statistics.median(each), statistics.quantiles(each, n=100)[98]] for name, each in times.items()}


def by_nearest_rank(device, contestants, make_batch, rounds, warmup):
    ranked = benchmark(of=lambda times: (sorted(times)[rounds // 2], sorted(times)[math.ceil(0.99 * rounds) - 1]))
    return ranked(device, contestants, make_batch, rounds, warmup)


# --- 9.4 --------------------------------------------------------------------------------------------


def cheats(**others):
    """The solution's cheats, some of them in another form: a function of work that makes the cheat."""

    def attempt(work):
        made = dict(EXERCISES["9.4"].solution(work))
        return made | {name: make(work) for name, make in others.items()}

    return attempt


def one_missing(work):
    made = EXERCISES["9.4"].solution(work)
    del made["timed"]
    return made


def swapped(work):
    made = EXERCISES["9.4"].solution(work)
    made["timed"], made["fresh"] = made["fresh"], made["timed"]
    return made


def lazy(work):
    return lambda x: (work(each) for each in [x])


class Late(list):
    def __iter__(self):
        return iter([self.later()])


def lazy_list(work):
    def cheat(x):
        late = Late([0])
        late.later = lambda: work(x)
        return late

    return cheat


def into_a_buffer(work):
    buffer = np.empty(256, np.float32)
    return lambda x: work(x, out=buffer)[:]


def without_work(work):
    return lambda x: np.sin(work.scale * x + work.shift)


def in_a_thread(work):
    def cheat(x):
        answer = np.zeros_like(x)
        thread = threading.Thread(target=work, args=(x,), kwargs={"out": answer})
        thread.start()
        thread.join()
        return answer

    return cheat


def stops_the_clock(work):
    def cheat(x):
        timing.perf_counter = lambda: 0.0
        return work(x)

    return cheat


def stops_every_clock(work):
    time.perf_counter = lambda: 0.0
    return EXERCISES["9.4"].solution(work)


def within_rounding(work):
    return lambda x: work(x) * np.float32(1 + 1e-7)


def in_half(work):
    return lambda x: work(x, dtype=np.float16)


def slow_and_wrong(work):
    return lambda x: work(x) * 2


def raises_on_the_second_call(work):
    calls = []

    def cheat(x):
        calls.append(1)
        if len(calls) > 1:
            raise RuntimeError("second call")
        return work(x)

    return cheat


def first_answer_for_ever(work):
    answers = []

    def cheat(x):
        answers.append(None if answers else work(x))
        return answers[0]

    return cheat


def by_contents(work):
    answers = {}

    def cheat(x):
        key = x.tobytes()
        if key not in answers:
            answers[key] = work(x)
        return answers[key]

    return cheat


def knows_that_it_is_timed(work):
    def cheat(x):
        frame, seen = sys._getframe(), False
        while frame:
            seen |= frame.f_code.co_name == "sample"
            frame = frame.f_back
        return np.ones_like(x) if seen else work(x)

    return cheat


def half_of_it(work):
    return lambda x: np.concatenate([work(x[:128]), x[128:]])


def loses_digits(work):
    return lambda x: np.concatenate([work(x[:128]), work(x[128:], dtype=np.float16)])


def returns_x(work):
    return lambda x: work(x, out=x[: len(x)])


def in_tuple(work):
    return lambda x: (np.zeros_like(x),)


WRONG = {
    "9.1": [
        (named("one_for_both", roof(lambda true, *_: true / 2)), "a multiply-add counts 2"),
        (named("one_row", roof(lambda true, layer, shape, rows: true / rows)), "each weight is used once for each"),
        (named("one_image", roof(lambda true, layer, shape, rows: true / shape[0])), "rows or pixels"),
        (named("bias_additions", roof(with_bias_additions)), "no products, and the ledger leaves them out"),
        (named("ignores_groups", roof(ignores_groups)), "with 2 groups"),
        (named("ignores_stride", roof(ignores_stride)), "not as many pixels as the input"),
        (named("weights_only", roof(moved=lambda true, sizes: sizes["weight"])), "the input is read too"),
        (named("no_bias", roof(moved=without("bias"))), "the bias is missing"),
        (named("no_output", roof(moved=without("output"))), "the output is missing"),
        (named("no_input", roof(moved=without("input"))), "the input is missing"),
        (named("output_as_input", roof(moved=twice_the_input)), "of its own"),
        (always_float32, "an element has 2 bytes here"),
        (named("min", roof(place=min)), "the shorter of the two"),
        (named("sum", roof(place=sum)), "that is their sum"),
        (named("swapped", roof(swap=True)), "takes longer, so it bounds the layer"),
        (says_bandwidth, 'say "memory" or "compute"'),
        (moves_the_layer, "moves the caller's layer"),
        (clears_the_layer, "changes the weight"),
        (three_things, "return four things"),
        (seconds_as_text, "seconds must be a number"),
    ],
    "9.2": [
        (by_weights, "device.clock() was not read"),
        (by_flops, "has the most weights and FLOPs"),
        (the_first, "device.clock() was not read"),
        (the_last, "takes"),
        (the_model, "you name the model itself"),
        (the_block_around_it, "the time passes in a module inside it"),
        (a_layer_in_it, "own, before and after those inside it"),
        (the_module_itself, "return the name of a module"),
        (the_class, "the model has no module 'Layer'"),
        (named("whole_time", slowest(own=False)), "you name the model itself"),
        (named("containers", slowest(containers, own=False)), "only holds many layers"),
        (named("leaves", slowest(leaves)), "A module may do work of its own"),
        (named("one_call", slowest(of_calls=max)), "one layer is called many times in a pass: "),
        (named("first_pass", slowest(passes=1, skip=0)), "in its first call only"),
        (named("mean", slowest(of_passes=np.mean)), "when something else came in between"),
        (named("never_waits", slowest(synchronize=False)), "it waits for what others have launched"),
        (named("keeps_hooks", slowest(keep=True)), "hooks are still in the model"),
        (named("keeps_patches", patches_forward(restores=False)), "forward is still replaced"),
        (trains, "leave it in training mode"),
        (scales_x, "changes its input x"),
        (takes_a_layer_out, "other modules or weights"),
    ],
    "9.3": [
        (named("no_warm_up", benchmark(warm=False)), "run it"),
        (times_the_warm_up, "the runs that compile are among them"),
        (named("one_batch", benchmark(batches="same")), "all rounds run the same batch"),
        (named("two_batches", benchmark(batches="two")), "rounds run 2 batches"),
        (named("own_batches", benchmark(batches="own")), "get different batches"),
        (named("warm_on_the_first", benchmark(warm_on_first=True)), "answered from memory"),
        (named("in_blocks", benchmark(turns=False)), "let them take turns"),
        (named("mean", benchmark(of=lambda times: (np.mean(times), np.quantile(times, 0.99)))), "that is the mean"),
        (named("best", benchmark(of=lambda times: (np.min(times), np.quantile(times, 0.99)))), "that is the best run"),
        (named("slowest", benchmark(of=lambda times: (np.median(times), max(times)))), "that is the slowest run"),
        (named("p50_twice", benchmark(of=lambda times: (np.median(times),) * 2)), "the p99 of"),
        (named("whole_batch", benchmark(per=lambda batch: 1)), "that is of a whole batch"),
        (named("milliseconds", benchmark(per=lambda batch: 1e6 * len(batch))), "in another unit"),
        (named("launch_only", benchmark(after=False)), "the clock stops when the work is launched"),
        (named("busy_device", benchmark(before=False, batches="just made")), "the device may not be idle when"),
        (named("too_often", benchmark(extra=5)), "warm up and one in each of"),
        (on_this_machine, "device.clock() is never read"),
        (makes_up_batches, "a batch as make_batch() returns it"),
        (runs_one_only, "is never run"),
        (never_ends, "and you go on"),
        (as_a_list, "return a dict with a result for each"),
        (waits_for_the_clock, "It only moves when something works"),
        (named("medians_only", benchmark(of=np.median)), "two numbers, median and p99"),
    ],
    "9.4": [
        (one_missing, "a function for each of"),
        (named("no_function", cheats(answer=lambda work: 0)), "must be a function of x"),
        (swapped, "cheat 'timed' is not caught by 'timed', only by 'fresh'"),
        (named("wrong_at_once", cheats(fresh=slow_and_wrong)), "gains nothing"),
        (named("zeros_as_timed", cheats(timed=lambda work: np.zeros_like)), "'timed' is already caught by 'answer'"),
        (named("half_as_answer", cheats(answer=in_half)), "'answer' is not caught by 'answer', only by 'precision'"),
        (named("overwrites", cheats(precision=lambda work: lambda x: work(x, out=x))), "already caught by 'inputs'"),
        (named("within_rounding", cheats(precision=within_rounding)), "gains nothing"),
        (named("lazy", cheats(answer=lazy)), "an object of type generator"),
        (named("lazy_list", cheats(fresh=lazy_list)), "an object of type Late"),
        (named("tuple", cheats(answer=in_tuple)), "an object of type tuple"),
        (named("buffer", cheats(fresh=into_a_buffer)), "the same array each time"),
        (named("really_faster", cheats(fresh=without_work)), "then it is no cheat"),
        (named("thread", cheats(answer=in_a_thread)), "works in a thread of its own"),
        (named("clock", cheats(timed=stops_the_clock)), "replaces the clock"),
        (stops_every_clock, "replaces the clock"),
        (named("second_call", cheats(timed=raises_on_the_second_call)), "RuntimeError: second call"),
    ],
}  # fmt: skip
RIGHT = (
    ("9.1", by_the_ledger),
    ("9.1", by_the_flop_counter),
    ("9.1", by_formulas),
    ("9.2", named("minimum", slowest(of_passes=min, passes=4))),
    ("9.2", named("patches", patches_forward(restores=True))),
    ("9.2", by_subtraction),
    ("9.3", in_random_order),
    ("9.3", by_nearest_rank),
    ("9.3", named("prepared", benchmark())),
    ("9.3", named("just_made", benchmark(batches="just made"))),
    ("9.4", named("memories", cheats(fresh=first_answer_for_ever, inputs=returns_x))),
    ("9.4", named("contents", cheats(fresh=by_contents, precision=loses_digits))),
    ("9.4", named("frames", cheats(timed=knows_that_it_is_timed, answer=half_of_it))),
)


class TestExercises(ExerciseTests):
    exercises = EXERCISES
    wrong = WRONG
    right = RIGHT


@pytest.mark.parametrize("kind", KINDS)
def test_the_planted_module_takes_five_times_as_long_as_any_other(kind):
    """By the device's own clock in a usual pass, so that the table of own times is checked too."""
    for seed in range(10):
        case = planted(np.random.default_rng(seed), kind)
        times = sorted(case.own, key=case.own.get)
        assert times[-1] == case.slow
        assert case.own[case.slow] > 5 * case.own[times[-2]]
        if kind not in ("hiccup", "all"):
            case.model(case.x)
            before = case.device.clock()
            case.model(case.x)
            case.device.synchronize()
            launches = sum(isinstance(each, Layer) for each in case.model.modules()) + REPEATS - 1 + (kind == "own")
            assert 0 <= case.device.clock() - before - sum(case.own.values()) <= launches * LAUNCH


@pytest.mark.parametrize("seed", range(5))
def test_no_count_finds_the_planted_module(seed):
    case = planted(np.random.default_rng(seed), "all")
    layers = {name: module for name, module in case.model.named_modules() if isinstance(module, Layer)}
    assert max(layers, key=lambda name: layers[name].weight.numel()) != case.slow
    assert {type(module) for module in case.model.modules()} == {Layer, Block}  # nor does a class name


def test_a_device_with_a_queue_works_after_the_launch_and_one_without_in_it():
    direct, queued = Device(queue=False), Device(queue=True)
    for device, after_launch in ((direct, LAUNCH + 1000), (queued, LAUNCH)):
        device._launch(1000)
        assert device.clock() == after_launch
        device._launch(5000)
        device.synchronize()
        device.synchronize()
        assert device.clock() == (2 * LAUNCH + 6000 if device is direct else 2 * LAUNCH + 5000)


def test_a_cheat_that_replaced_the_clocks_leaves_none_of_them_behind():
    clocks = time.perf_counter, timing.perf_counter
    for attempt in (stops_every_clock, cheats(timed=stops_the_clock)):
        assert judge(EXERCISES["9.4"], attempt).state == NOT_YET
        assert (time.perf_counter, timing.perf_counter) == clocks
