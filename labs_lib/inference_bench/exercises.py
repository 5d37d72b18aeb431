"""The exercises of lab 09: starters, solutions, hints. The modules named `..._checks` judge the answers.

Starters and solutions are ordinary functions: a learner's code is compared with the starter's source, and
`lab.solution` prints the solution's.
"""

from __future__ import annotations

import copy

import numpy as np
import torch

from labs_lib.exercises import Exercise
from labs_lib.inference_bench import benchmark_checks, cheat_checks, roof_checks, search_checks


def roof_starter(layer, shape, peak, bandwidth):
    # YOUR TURN: this is of the weights alone, as if each were used once. What of batch, bias, groups and dtype?
    flops = layer.weight.numel()
    moved = 4 * layer.weight.numel()
    seconds = min(flops / peak, moved / bandwidth)
    return flops, moved, seconds, "compute"


def roof_solution(layer, shape, peak, bandwidth):
    twin = copy.deepcopy(layer).to("meta")  # has shapes and dtypes, and computes nothing
    x = torch.empty(shape, dtype=twin.weight.dtype, device="meta")
    output = twin(x)
    rows = output.numel() // twin.weight.shape[0]  # or pixels: each uses each weight once
    flops = 2 * rows * twin.weight.numel()
    moved = sum(each.numel() * each.element_size() for each in (x, output, *twin.parameters()))
    compute, memory = flops / peak, moved / bandwidth
    return flops, moved, max(compute, memory), "compute" if compute > memory else "memory"


def slowest_starter(model, x, device):
    # YOUR TURN: this times the parts of the model, once each, and on a GPU only until they are launched
    times = {}
    for name, part in model.named_children():
        start = device.clock()
        x = part(x)
        times[name] = device.clock() - start
    return max(times, key=times.get)


def slowest_solution(model, x, device):
    names = {module: name for name, module in model.named_modules()}
    inside = []  # for each module that runs now: its start, and the time in the modules inside it
    times = {name: [] for name in names.values()}

    def now():
        device.synchronize()
        return device.clock()

    def enter(module, inputs):
        inside.append([now(), 0])

    def leave(module, inputs, output):
        start, others = inside.pop()
        took = now() - start
        times[names[module]][-1] += took - others
        if inside:
            inside[-1][1] += took

    hooks = [module.register_forward_pre_hook(enter) for module in names]
    hooks += [module.register_forward_hook(leave) for module in names]
    try:
        for _ in range(8):
            for each in times.values():
                each.append(0)
            model(x)
    finally:
        for hook in hooks:
            hook.remove()
    return max(times, key=lambda name: np.median(times[name][1:]))


def benchmark_starter(device, contestants, make_batch, rounds, warmup):
    # YOUR TURN: it runs, and hardly a number is true. How many lies do you find?
    results = {}
    for name, run in contestants.items():
        batch = make_batch()
        times = []
        for _ in range(rounds):
            start = device.clock()
            run(batch)
            times.append(device.clock() - start)
        results[name] = sum(times) / rounds, max(times)
    return results


def benchmark_solution(device, contestants, make_batch, rounds, warmup):
    times = {name: [] for name in contestants}
    for number in range(warmup + rounds):
        batch = make_batch()
        for name, run in contestants.items():
            device.synchronize()
            start = device.clock()
            run(batch)
            device.synchronize()
            if number >= warmup:
                times[name].append((device.clock() - start) / len(batch))
    return {name: (np.quantile(each, 0.5), np.quantile(each, 0.99)) for name, each in times.items()}


def cheats_starter(work):
    # YOUR TURN: these are honest. Make each look faster than it is, and get past all defences before its own
    return {
        "inputs": lambda x: work(x),
        "answer": lambda x: work(x),
        "precision": lambda x: work(x),
        "timed": lambda x: work(x),
        "fresh": lambda x: work(x),
    }


def cheats_solution(work):
    calls, answers = [], {}

    def timed(x):
        calls.append(1)
        return work(x) if len(calls) == 1 else np.zeros_like(x)

    def fresh(x):
        if id(x) not in answers:
            answers[id(x)] = work(x)
        return answers[id(x)]

    return {
        "inputs": lambda x: work(x, out=x),
        "answer": lambda x: np.zeros_like(x),
        "precision": lambda x: work(x, dtype=np.float16),
        "timed": timed,
        "fresh": fresh,
    }


EXERCISES = {
    exercise.id: exercise
    for exercise in (
        Exercise(
            id="9.1",
            title="a layer under its roof",
            minutes=10,
            difficulty=2,
            checked="FLOPs and bytes of 12 layers, exactly; then the least time and what bounds it",
            starter=roof_starter,
            solution=roof_solution,
            why=(
                "Each weight is used once for each row, or each pixel of the output, so FLOPs are 2 * rows * weights, "
                "and groups need no case of their own: they make the weight smaller. A copy on the meta device knows "
                "the shape of the output without computing it, and no formula for stride and padding can be wrong. "
                "Both must be done, so the longer of the two times is the least."
            ),
            hints=(
                "How often is one weight used in a call? Count 2 FLOPs each time, for the product and the sum. And "
                "what is read and written besides the weights?",
                "Ask for the output's shape instead of computing it: copy.deepcopy(layer).to('meta') takes an input "
                "torch.empty(shape, dtype=layer.weight.dtype, device='meta').",
                "rows = output.numel() // weight.shape[0], flops = 2 * rows * weight.numel(). Bytes: numel() * "
                "element_size() of input, output, weight, and bias if there is one. Then max(), not min().",
            ),
            check=roof_checks.check_roof,
        ),
        Exercise(
            id="9.2",
            title="the layer that takes the time",
            minutes=20,
            difficulty=4,
            checked="the name in eight models with a trap each, on a virtual clock; then that the model is as it was",
            starter=slowest_starter,
            solution=slowest_solution,
            why=(
                "What is asked is own time: a module's, less that of the modules inside it, summed over its calls in "
                "one pass. Waiting for the device at both ends charges work to whom it belongs. The first pass is left "
                "out and the median taken, so neither a compilation nor a hiccup decides. No count could tell: "
                "weights and FLOPs say what a layer should cost, and not what it does cost."
            ),
            hints=(
                "register_forward_pre_hook and register_forward_hook call your function before and after each module, "
                "however deep. Read the clock there, after device.synchronize().",
                "Modules end in the reverse of the order in which they begin: keep a stack. Who ends adds its time to "
                "what passed inside the module below it on the stack.",
                "Own time is its time less that inside. Sum it over the calls of one pass, run several passes, leave "
                "the first out, take the median, and remove() the hooks.",
            ),
            check=search_checks.check_slowest,
        ),
        Exercise(
            id="9.3",
            title="the lies in a benchmark",
            minutes=15,
            difficulty=3,
            checked="which runs you make and time; then median and p99 in six worlds with a trap each, on a virtual "
            "clock",
            starter=benchmark_starter,
            solution=benchmark_solution,
            why=(
                "Eight lies: no warm-up, the clock started while the device was still busy, stopped when the work was "
                "only launched, the same batch again and again, another for each contestant, one contestant after the "
                "other, time per batch where batches differ in size, and a mean and a maximum where a median and a "
                "p99 were asked for. Each of them can make the slower one win."
            ),
            hints=(
                "Ask of each line: what else passes between the two readings of the clock, and what does not?",
                "Swap the loops: rounds outside, contestants inside, a new batch for each round. The first `warmup` "
                "rounds are not timed.",
                "device.synchronize() before each reading of the clock, / len(batch), and np.quantile(times, 0.99).",
            ),
            check=benchmark_checks.check_benchmark,
        ),
        Exercise(
            id="9.4",
            title="cheat the benchmark",
            minutes=15,
            difficulty=3,
            checked="that each cheat looks faster to whoever trusts it, and which defence of compare() is the first to "
            "catch it, on a virtual clock",
            starter=cheats_starter,
            solution=cheats_solution,
            why=(
                "Each cheat gets past all defences before its own, so none of them can be left out. The last one is "
                "compare(..., fresh=make_inputs): a memory of answers is right as long as the question is the same. "
                "What no defence stops is code in the same process that replaces the clock, or a list that computes "
                "its items when they are read: that is why code is read, and why a contest runs it in another process."
            ),
            hints=(
                "Three need one line each: work(x, out=x), an answer without any work, and dtype=np.float16.",
                '"timed" must be right when it is called once. What may it do from the second call on?',
                '"fresh" is right for the same x however often it is asked, and does the work once: let it remember '
                "its answer by id(x).",
            ),
            check=cheat_checks.check_cheats,
        ),
    )
}
