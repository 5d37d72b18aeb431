"""The exercises of lab 03: starters, solutions, hints. `labs_lib.gpu_memory.checks` and `step_checks`
judge the answers.

Starters and solutions are ordinary functions: a learner's code is compared with the starter's source, and
`lab.solution` prints the solution's.
"""

from __future__ import annotations

from labs_lib.exercises import Exercise
from labs_lib.gpu_memory import checks, step_checks


def largest_holder_starter(trace):
    # YOUR TURN: this is the largest block, whenever it lived
    block = max(trace.blocks, key=lambda block: block.size)
    return block.module, block.size


def largest_holder_solution(trace):
    held = {}
    for block in trace.blocks:
        born, died = block.born, block.died
        if block.module and born <= trace.peak_at and (died is None or trace.peak_at < died):
            held[block.module] = held.get(block.module, 0) + block.size
    return max(held.items(), key=lambda item: item[1])


def train_step_starter(model, loss_fn, x, y):
    # YOUR TURN: all samples are in flight at the same time
    loss = loss_fn(model(x), y)
    loss.backward()
    return loss.item()


def train_step_solution(model, loss_fn, x, y):
    total = 0.0
    for part, target in zip(x.split(32), y.split(32)):
        loss = loss_fn(model(part), target) * (len(part) / len(x))
        loss.backward()
        total += loss.item()
    return total


def train_starter(model, loss_fn, optimizer, batches):
    # YOUR TURN: two things in here keep memory from every step
    outputs, history, total = [], [], 0
    model.register_forward_hook(lambda module, inputs, output: outputs.append(output))
    for x, y in batches:
        optimizer.zero_grad()
        loss = loss_fn(model(x), y)
        loss.backward()
        optimizer.step()
        total = total + loss
        history.append(total / (len(history) + 1))
    largest = max(output.abs().max() for output in outputs)
    return history, largest


def train_solution(model, loss_fn, optimizer, batches):
    history, total, largest = [], 0.0, 0.0

    def watch(module, inputs, output):
        nonlocal largest
        largest = max(largest, output.detach().abs().max().item())

    handle = model.register_forward_hook(watch)
    try:
        for x, y in batches:
            optimizer.zero_grad()
            loss = loss_fn(model(x), y)
            loss.backward()
            optimizer.step()
            total += loss.item()
            history.append(total / (len(history) + 1))
    finally:
        handle.remove()
    return history, largest


def adamw_bytes_starter(model):
    # YOUR TURN: two moments of four bytes for every value in the model
    return sum(2 * 4 * value.numel() for value in model.state_dict().values())


def adamw_bytes_solution(model):
    trainable = [parameter for parameter in model.parameters() if parameter.requires_grad]
    return sum(2 * parameter.numel() * parameter.element_size() + 4 for parameter in trainable)


EXERCISES = {
    exercise.id: exercise
    for exercise in (
        Exercise(
            id="3.1",
            title="who holds the memory",
            minutes=5,
            difficulty=1,
            checked="the module and its bytes at the peak, on small traces and on fresh random ones",
            starter=largest_holder_starter,
            solution=largest_holder_solution,
            why=(
                "Out of memory happens at the peak, so only what is alive there matters: born <= index < died. A "
                "module holds several blocks of several kinds, and only their sum says who is the largest."
            ),
            hints=(
                "trace.peak_at is the index of the peak. A block whose died is None lives to the end.",
                "Add up the sizes per module, over all kinds, of the blocks alive at that index.",
                'The module "" is what belongs to none: leave it out before you take the maximum.',
            ),
            check=checks.check_largest_holder,
        ),
        Exercise(
            id="3.2",
            title="a third of the memory, and not one FLOP more",
            minutes=10,
            difficulty=3,
            checked="loss and gradients on a fresh model, then bytes held beside the gradients, then FLOPs",
            starter=train_step_starter,
            solution=train_step_solution,
            why=(
                "Gradients of a sum are sums of gradients, and backward() adds them up. So the samples can pass in "
                "parts, and only the activations of one part are alive at a time. Nothing is computed twice, as "
                "checkpointing would. Each part counts by its share of the samples: the last one is smaller."
            ),
            hints=(
                "What a step holds for a while are mostly activations: they grow with the samples in flight.",
                "Split the batch, and call backward() on each part before the next one runs. loss_fn returns the mean "
                "of the part, not of the batch.",
                "For parts from x.split(32): scale the loss by len(part) / len(x), backward, add up loss.item().",
            ),
            check=step_checks.check_train_step,
        ),
        Exercise(
            id="3.3",
            title="two leaks",
            minutes=10,
            difficulty=3,
            checked="history, largest output and weights, then that 9 steps need as much memory as 4",
            starter=train_starter,
            solution=train_solution,
            why=(
                "A loss holds the graph of its step, and a sum of losses holds all their graphs: add numbers instead. "
                "(After backward() these are only nodes and the losses, little enough to be missed for days.) "
                "A hook that stores outputs stores their graphs too: keep the number you want of them. And a hook is "
                "part of the model until its handle is removed."
            ),
            hints=(
                "Ask of every list and every sum in the function: does it hold a tensor after the step is over?",
                "loss.item() is a number without a graph. What of each output do you need in the end?",
                "Let the hook keep a running maximum as a float, and remove it by the handle that "
                "register_forward_hook returns, in a finally.",
            ),
            check=step_checks.check_train,
        ),
        Exercise(
            id="3.4",
            title="AdamW's bill, before it comes",
            minutes=5,
            difficulty=2,
            checked="the bytes of the state after one step, on special and on random models; without running AdamW",
            starter=adamw_bytes_starter,
            solution=adamw_bytes_solution,
            why=(
                "For each trainable parameter AdamW keeps two moments of its shape and dtype, and a step counter of 4 "
                "bytes (float32). Buffers and frozen parameters have no gradient and no state; a tied weight is one "
                "parameter, which model.parameters() returns once and state_dict() twice."
            ),
            hints=(
                "Which of the values in a model does an optimiser get? Not the running statistics of batch norm.",
                "Each parameter that requires a gradient has two moments in its own dtype, once, however many "
                "modules use it.",
                "And one float32 number that counts the steps: 4 bytes for each such parameter.",
            ),
            check=checks.check_adamw_bytes,
        ),
    )
}
