"""Instances for the planner's tests: small random ones, and an oracle that decides them exactly."""

import random

from hypothesis import strategies as st
from ortools.sat.python import cp_model

from labs_lib.static_memory.lifetimes import Buffer


def buffers(most: int = 9, steps: int = 8, size: int = 6) -> st.SearchStrategy[list[Buffer]]:
    """Lists of up to `most` buffers within `steps` steps, sizes 1 to `size`."""
    life = st.tuples(st.integers(0, steps - 1), st.integers(1, steps), st.integers(1, size))
    return st.lists(life, max_size=most).map(
        lambda lives: [Buffer(f"b{i}", lower, lower + length, s) for i, (lower, length, s) in enumerate(lives)]
    )


def fits(buffers: list[Buffer], capacity: int) -> bool:
    """Whether a plan within `capacity` exists, by OR-Tools CP-SAT: rectangles that must not overlap."""
    model = cp_model.CpModel()
    times, places = [], []
    for buffer in buffers:
        if buffer.size > capacity:
            return False
        start = model.new_int_var(0, capacity - buffer.size, buffer.id)
        places.append(model.new_fixed_size_interval_var(start, buffer.size, buffer.id))
        times.append(model.new_fixed_size_interval_var(buffer.lower, buffer.steps, buffer.id))
    model.add_no_overlap_2d(times, places)
    solver = cp_model.CpSolver()
    solver.parameters.num_workers = 1
    status = solver.solve(model)
    assert status in (cp_model.OPTIMAL, cp_model.FEASIBLE, cp_model.INFEASIBLE)
    return status != cp_model.INFEASIBLE


def full_at_every_step(rng: random.Random, height: int, steps: int) -> list[Buffer]:
    """What dies is replaced by buffers of the same size in all: the bound is `height` at each step."""
    alive: list[tuple[int, int]] = []  # (birth, size)
    done: list[tuple[int, int, int]] = []
    for step in range(steps):
        for life in [life for life in alive if rng.random() < 0.25]:
            alive.remove(life)
            done.append((life[0], step, life[1]))
        while free := height - sum(size for _, size in alive):
            alive.append((step, rng.randint(1, min(free, 4))))
    done += [(birth, steps, size) for birth, size in alive]
    return [Buffer(f"b{i}", *life) for i, life in enumerate(done)]


def nearly_full(rng: random.Random, height: int, steps: int) -> list[Buffer]:
    """Buffers of 2 to 5 bytes where there is room, the emptiest step first, until little slack is left."""
    load, lives = [0] * steps, []
    while room := [step for step in range(steps) if load[step] + 2 <= height]:
        lower = min(room, key=lambda step: load[step] + rng.random())
        size, upper = rng.randint(2, min(5, height - load[lower])), lower
        while upper < steps and load[upper] + size <= height and (upper == lower or rng.random() < 0.85):
            load[upper] += size
            upper += 1
        lives.append((lower, upper, size))
    return [Buffer(f"b{i}", *life) for i, life in enumerate(lives)]
