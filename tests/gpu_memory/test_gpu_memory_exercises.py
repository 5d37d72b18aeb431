"""Each exercise of lab 03: starter, solution, and wrong answers, each with the message it must earn."""

import copy

import torch
from torch.utils.checkpoint import checkpoint, checkpoint_sequential

from labs_lib.gpu_memory.exercises import EXERCISES
from tests.exercise_tests import ExerciseTests

# --- 3.1 --------------------------------------------------------------------------------------------


def held(blocks):
    sums = {}
    for block in blocks:
        sums[block.module] = sums.get(block.module, 0) + block.size
    return sums


def largest(sums):
    return max(sums.items(), key=lambda item: item[1])


def named(blocks):
    return [block for block in blocks if block.module]


def largest_block_at_the_peak(trace):
    block = max(named(trace.alive(trace.peak_at)), key=lambda block: block.size)
    return block.module, block.size


def over_the_whole_step(trace):
    return largest(held(named(trace.blocks)))


def closed_lives(trace):
    peak = trace.peak_at
    alive = [b for b in named(trace.blocks) if b.born <= peak and (b.died is None or peak <= b.died)]
    return largest(held(alive))


def outside_any_module_too(trace):
    return largest(held(trace.alive(trace.peak_at)))


def at_the_end(trace):
    return largest(held(named(trace.alive(len(trace.operators)))))


def kinds_apart(trace):
    return next((name, size) for name, size, _ in trace.owners() if name)


def only_the_name(trace):
    return largest(held(named(trace.alive(trace.peak_at))))[0]


def bytes_first(trace):
    name, size = largest(held(named(trace.alive(trace.peak_at))))
    return size, name


# --- 3.2 --------------------------------------------------------------------------------------------


def in_parts(model, loss_fn, x, y, size=32, weight=lambda part, x: len(part) / len(x), forward=None):
    total = 0.0
    for part, target in zip(x.split(size), y.split(size), strict=True):
        loss = loss_fn((forward or model)(part), target) * weight(part, x)
        loss.backward()
        total += loss.item()
    return total


def unscaled_parts(model, loss_fn, x, y):
    return in_parts(model, loss_fn, x, y, weight=lambda part, x: 1.0)


def mean_of_means(model, loss_fn, x, y):
    count = len(x.split(32))
    return in_parts(model, loss_fn, x, y, weight=lambda part, x: 1 / count)


def drops_the_tail(model, loss_fn, x, y):
    kept = len(x) // 32 * 32
    return in_parts(model, loss_fn, x[:kept], y[:kept])


def checkpointed(model, loss_fn, x, y):
    loss = loss_fn(checkpoint_sequential(model, 4, x, use_reentrant=False), y)
    loss.backward()
    return loss.item()


def checkpointed_parts(model, loss_fn, x, y):
    return in_parts(model, loss_fn, x, y, forward=lambda part: checkpoint(model, part, use_reentrant=False))


def all_graphs_at_once(model, loss_fn, x, y):
    losses = [
        loss_fn(model(part), target) * (len(part) / len(x))
        for part, target in zip(x.split(32), y.split(32), strict=True)
    ]
    total = sum(losses)
    total.backward()
    return total.item()


def two_halves(model, loss_fn, x, y):
    return in_parts(model, loss_fn, x, y, size=len(x) // 2 + 1)


def loss_of_the_last_part(model, loss_fn, x, y):
    in_parts(model, loss_fn, x, y)
    return loss_fn(model(x[-8:]).detach(), y[-8:]).item()


def loss_as_a_tensor(model, loss_fn, x, y):
    return torch.tensor(in_parts(model, loss_fn, x, y))


def without_gradients(model, loss_fn, x, y):
    with torch.no_grad():
        return loss_fn(model(x), y).item()


def trains_as_well(model, loss_fn, x, y):
    loss = in_parts(model, loss_fn, x, y)
    torch.optim.SGD(model.parameters(), 0.1).step()
    return loss


def in_bfloat16(model, loss_fn, x, y):
    with torch.autocast("cpu", torch.bfloat16):
        loss = loss_fn(model(x), y)
    loss.backward()
    return loss.item()


def from_a_cache(model, loss_fn, x, y, cache=[]):  # noqa: B006
    if not cache:
        cache.append(in_parts(model, loss_fn, x, y))
        cache.extend([[p.grad.clone() for p in model.parameters()]])
    for parameter in model.parameters():
        parameter.grad = torch.ones_like(parameter)
    return cache[0]


# --- 3.3 --------------------------------------------------------------------------------------------


def training(record, remember=lambda output: output.detach().abs().max().item(), remove=True, learn=True):
    """A training whose history gets `record(loss)`, and whose hook keeps `remember(output)` of each output."""

    def train(model, loss_fn, optimizer, batches):
        outputs, history, total = [], [], 0
        handle = model.register_forward_hook(lambda module, inputs, output: outputs.append(remember(output)))
        for x, y in batches:
            optimizer.zero_grad()
            loss = loss_fn(model(x), y)
            loss.backward()
            if learn:
                optimizer.step()
            total = total + record(loss)
            history.append(total / (len(history) + 1))
        if remove:
            handle.remove()
        return history, max(float(torch.as_tensor(output).detach().abs().max()) for output in outputs)

    return train


def number(loss):
    return loss.item()


only_the_sum_mended = training(number, remember=lambda output: output)
only_the_hook_mended = training(lambda loss: loss)
detached_losses = training(lambda loss: loss.detach())
detached_outputs = training(number, remember=lambda output: output.detach())
leaves_the_hook = training(number, remove=False)
never_steps = training(number, learn=False)


def always_the_first_loss(model, loss_fn, optimizer, batches):
    history, biggest = training(number)(model, loss_fn, optimizer, batches)
    return [history[0]] * len(history), biggest


def no_largest_output(model, loss_fn, optimizer, batches):
    return training(number)(model, loss_fn, optimizer, batches)[0], 0.0


def only_the_history(model, loss_fn, optimizer, batches):
    return training(number)(model, loss_fn, optimizer, batches)[0]


def every_other_entry(model, loss_fn, optimizer, batches):
    history, biggest = training(number)(model, loss_fn, optimizer, batches)
    return history[::2], biggest


def words(model, loss_fn, optimizer, batches):
    history, _ = training(number)(model, loss_fn, optimizer, batches)
    return history, "large"


# --- 3.4 --------------------------------------------------------------------------------------------


def no_counters(model):
    return sum(2 * p.nbytes for p in model.parameters() if p.requires_grad)


def buffers_too(model):
    trainable = [p for p in model.parameters() if p.requires_grad]
    return sum(2 * p.nbytes + 4 for p in [*trainable, *model.buffers()])


def frozen_too(model):
    return sum(2 * p.nbytes + 4 for p in model.parameters())


def tied_twice(model):
    own = [p for module in model.modules() for p in module.parameters(recurse=False)]
    return sum(2 * p.nbytes + 4 for p in own if p.requires_grad)


def always_float32(model):
    return sum(2 * 4 * p.numel() + 4 for p in model.parameters() if p.requires_grad)


def by_running_it(model):
    optimizer = torch.optim.AdamW(model.parameters())
    for p in model.parameters():
        p.grad = torch.zeros_like(p)
    optimizer.step()
    return sum(value.nbytes for state in optimizer.state.values() for value in state.values())


def unfreezes(model):
    model.requires_grad_(True)
    return sum(2 * p.nbytes + 4 for p in model.parameters())


def one_counter_for_all(model):
    return sum(2 * p.nbytes for p in model.parameters() if p.requires_grad) + 8


def fails_without_parameters(model):
    trainable = [p for p in model.parameters() if p.requires_grad]
    return sum(2 * p.nbytes + 4 for p in trainable) + 0 * trainable[0].numel()


WRONG = {
    "3.1": [
        (largest_block_at_the_peak, "b holds two blocks"),
        (over_the_whole_step, "dead before the peak"),
        (closed_lives, "born <= index < died"),
        (outside_any_module_too, "stands for no module"),
        (at_the_end, "at the end a holds most"),
        (kinds_apart, "parameters and gradients, and both count"),
        (only_the_name, "return (module, bytes)"),
        (bytes_first, "return (module, bytes)"),
    ],
    "3.2": [
        (unscaled_parts, "the gradients are wrong"),
        (mean_of_means, "the last one too"),
        (drops_the_tail, "the gradients are wrong"),
        (in_bfloat16, "the gradients are wrong"),
        (checkpointed, "and the budget is"),
        (checkpointed_parts, "more FLOPs than the starter"),
        (all_graphs_at_once, "and the budget is"),
        (two_halves, "and the budget is"),
        (loss_of_the_last_part, "for a mean loss of"),
        (loss_as_a_tensor, "Return it as a float"),
        (without_gradients, "have no gradient"),
        (trains_as_well, "changes its batch or the weights"),
        (from_a_cache, "the gradients are wrong"),
    ],
    "3.3": [
        (only_the_sum_mended, "bytes with every step"),
        (only_the_hook_mended, "bytes with every step"),
        (detached_losses, "grows by 4 bytes with every step"),
        (detached_outputs, "bytes with every step"),
        (leaves_the_hook, "the hook is still on the model"),
        (never_steps, "not trained as by the starter"),
        (always_the_first_loss, "the history is wrong"),
        (no_largest_output, "you return 0.0"),
        (only_the_history, "return (history, largest)"),
        (every_other_entry, "must have 4 entries"),
        (words, "one of yours is str"),
    ],
    "3.4": [
        (no_counters, "a step counter of 4 bytes"),
        (buffers_too, "are buffers"),
        (frozen_too, "is frozen"),
        (tied_twice, "share one weight"),
        (always_float32, "the dtype of their parameter"),
        (by_running_it, "you run AdamW"),
        (unfreezes, "changes the model"),
        (one_counter_for_all, "share one weight"),
        (fails_without_parameters, "IndexError"),
    ],
}


def by_owners(trace):
    sums = {}
    for name, size, _ in trace.owners():
        if name:
            sums[name] = sums.get(name, 0) + size
    return max(sums.items(), key=lambda item: item[1])


def eight_at_a_time(model, loss_fn, x, y):
    return in_parts(model, loss_fn, x, y, size=8)


def by_a_copy(model):
    model = copy.deepcopy(model)
    return sum(2 * p.nbytes + 4 for p in model.parameters() if p.requires_grad)


class TestExercises(ExerciseTests):
    exercises, wrong = EXERCISES, WRONG
    right = (
        ("3.1", by_owners),
        ("3.2", eight_at_a_time),
        ("3.4", by_a_copy),
    )
