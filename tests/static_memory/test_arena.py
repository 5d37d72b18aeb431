from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from labs_lib.errors import LabError
from labs_lib.ledger import ledger
from labs_lib.static_memory.arena import Arena, Program, Step
from labs_lib.static_memory.graph import REGIMES, Lifetimes, lifetimes
from labs_lib.static_memory.mlp import MLP
from labs_lib.static_memory.planners import PLANNERS, height, keep_all
from labs_lib.static_memory.planning import plan

COLUMNS = 16  # of float32: each row is 64 bytes, so rounding up to 64 changes nothing


def affine(x, out):
    np.multiply(x, 2, out=out)
    np.add(out, 1, out=out)


def subtract(x, y, out):
    np.subtract(x, y, out=out)


def prefix_sums(x, out):
    """No element-wise kernel: each row of the result needs all rows above."""
    for row in range(len(out)):
        np.add.reduce(x[: row + 1], axis=0, out=out[row])


def concatenate(*parts, out):
    np.concatenate(parts, axis=0, out=out)


@st.composite
def programs(draw):
    """Random DAGs over arrays of shape (rows, 16): element-wise, broadcast, reducing and joining steps."""
    rows, steps = [draw(st.integers(1, 3))], []
    for _ in range(draw(st.integers(1, 12))):
        kind = draw(st.sampled_from(["affine", "affine", "subtract", "prefix_sums", "cat", "cat"]))
        values = st.integers(0, len(rows) - 1)
        if kind == "cat":
            inputs = tuple(draw(st.lists(values, min_size=1, max_size=3)))
            size, kernel, over = sum(rows[v] for v in inputs), concatenate, inputs
        elif kind == "subtract":
            x = draw(values)
            y = draw(st.sampled_from([v for v in range(len(rows)) if rows[v] in (1, rows[x])]))
            inputs, size, kernel = (x, y), rows[x], subtract
            over = tuple(v for v in inputs if rows[v] == rows[x])
        else:
            inputs = (draw(values),)
            size, kernel = rows[inputs[0]], affine if kind == "affine" else prefix_sums
            over = inputs if kind == "affine" else ()
        steps.append(Step(kind, kernel, inputs, len(rows), over))
        rows.append(size)
    outputs = draw(st.lists(st.integers(1, len(rows) - 1), min_size=1, max_size=2, unique=True))
    return Program(tuple((size, COLUMNS) for size in rows), tuple(steps), (0,), tuple(outputs))


def packed(program, reuse, planner):
    life = lifetimes(program.graph, reuse)
    best = plan(life.buffers, time_limit_s=1)
    if planner:
        offsets = PLANNERS[planner](life.buffers)
        best = replace(best, offsets=offsets, height=height(life.buffers, offsets))
    return best, life


def numbers(program, seed=0):
    return np.random.default_rng(seed).standard_normal(program.shapes[0], dtype=np.float32)


@given(programs(), st.sampled_from(REGIMES), st.sampled_from([None, *PLANNERS]))
def test_every_plan_of_every_program_gives_the_very_same_bits(program, reuse, planner):
    arena = Arena(program, *packed(program, reuse, planner), poison=True)
    for seed in range(2):
        x = numbers(program, seed)
        results, expected = arena(x), program.run(x)
        np.testing.assert_array_equal(np.concatenate(results), np.concatenate(expected))
        np.testing.assert_array_equal(x, numbers(program, seed))


@given(programs(), st.data())
def test_a_plan_that_lays_two_living_buffers_over_each_other_is_refused(program, data):
    best, life = packed(program, "in_place", None)
    meet = [
        (i, j)
        for i, a in enumerate(life.buffers)
        for j, b in enumerate(life.buffers)
        if i != j and a.lower < b.upper and b.lower < a.upper
    ]
    if meet:
        i, j = data.draw(st.sampled_from(meet))
        offsets = [best.offsets[i] if k == j else offset for k, offset in enumerate(best.offsets)]
        with pytest.raises(LabError, match="overlap"):
            Arena(program, replace(best, offsets=offsets, height=best.height * 2), life)


@pytest.fixture
def residual():
    """y = 2x + 1; z = the prefix sums of y; w = those of z; the result is w - y."""
    steps = (
        Step("affine", affine, (0,), 1),
        Step("prefix_sums", prefix_sums, (1,), 2),
        Step("prefix_sums", prefix_sums, (2,), 3),
        Step("subtract", subtract, (3, 1), 4, over=(3,)),
    )
    return Program(((2, COLUMNS),) * 5, steps, (0,), (4,))


def test_a_lifetime_that_ends_too_early_shows_in_the_result(residual):
    life = lifetimes(residual.graph, "in_place")
    wrong = Lifetimes([replace(life.buffers[0], upper=2), *life.buffers[1:]], life.home)
    tight, x = plan(wrong.buffers), numbers(residual)
    assert tight.height < plan(life.buffers).height
    assert not np.array_equal(Arena(residual, tight, wrong)(x), residual.run(x))
    # Poison shows it even where, by luck, nothing was put into the place.
    loose = replace(tight, offsets=keep_all(wrong.buffers), height=sum(b.size for b in wrong.buffers))
    assert np.array_equal(Arena(residual, loose, wrong)(x), residual.run(x))
    assert np.isnan(Arena(residual, loose, wrong, poison=True)(x)).all()
    with pytest.raises(LabError, match="other buffers"):
        Arena(residual, tight)


def test_writing_over_a_value_that_is_read_later_shows_in_the_result(residual):
    life = lifetimes(residual.graph, "in_place")
    wrong = Lifetimes(life.buffers, {**life.home, 2: life.home[1]})
    x = numbers(residual)
    assert not np.array_equal(Arena(residual, plan(life.buffers), wrong)(x), residual.run(x))


def test_poison_shows_memory_that_was_never_written():
    lazy = Step("lazy", lambda x, out: np.copyto(out[:1], x[:1]), (0,), 1)
    program = Program(((2, COLUMNS),) * 2, (lazy,), (0,), (1,))
    result = Arena(program, plan(lifetimes(program.graph).buffers), poison=True)(numbers(program))
    assert np.isnan(result[1]).all()


def test_the_loop_allocates_nothing_and_its_result_is_a_view_of_the_block():
    mlp = MLP(features=256)
    program = mlp.program(batch=8)
    arena = Arena(program, plan(lifetimes(program.graph, "in_place").buffers))
    x = numbers(program)
    assert ledger(arena, x).allocations == 0
    assert ledger(mlp.naive, x).allocations == 8
    first = arena(x)
    kept = first.copy()
    assert np.shares_memory(first, arena.block)
    assert np.shares_memory(first, arena(-x))
    assert not np.array_equal(first, kept)


def test_the_arena_is_one_aligned_block_of_the_plans_height():
    program = MLP(features=256).program(batch=8)
    best = plan(lifetimes(program.graph, "in_place").buffers)
    arena = Arena(program, best)
    assert best.height == best.lower_bound == 2 * 8 * 256 * 4
    assert arena.block.nbytes == best.height
    assert arena.block.ctypes.data % 64 == 0


def test_an_arena_forgets_its_input():
    program = MLP(features=16).program(batch=2)
    arena = Arena(program, plan(lifetimes(program.graph, "in_place").buffers))
    x = numbers(program)
    arena(x)
    assert not any(np.shares_memory(x, value) for value in arena._values if value is not None)


def test_several_inputs_and_empty_values():
    steps = (Step("subtract", subtract, (0, 1), 2), Step("affine", affine, (3,), 4))
    program = Program(((1, 4), (1, 4), (1, 4), (0, 4), (0, 4)), steps, (0, 1, 3), (2, 4))
    arena = Arena(program, plan(lifetimes(program.graph).buffers), lifetimes(program.graph), poison=True)
    one, empty = np.ones((1, 4), np.float32), np.ones((0, 4), np.float32)
    difference, nothing = arena(one * 3, one, empty)
    np.testing.assert_array_equal(difference, one * 2)
    assert nothing.shape == (0, 4)


@pytest.mark.parametrize(
    ("inputs", "message"),
    [
        ((np.ones((3, 16), np.float32),), r"\(2, 16\) of float32, but was given \(3, 16\) of float32"),
        ((np.ones((2, 16)),), r"given \(2, 16\) of float64"),
        (([[1.0] * 16] * 2,), "given list of no dtype"),
        ((), "given nothing"),
    ],
)
def test_other_inputs_than_planned_for_are_refused(inputs, message):
    program = MLP(features=16).program(batch=2)
    for run in (program.run, Arena(program, plan(lifetimes(program.graph, "in_place").buffers))):
        with pytest.raises(LabError, match=message):
            run(*inputs)


def test_a_plan_for_another_batch_or_regime_is_refused():
    mlp = MLP(features=16)
    for program, reuse in ((mlp.program(batch=3), "in_place"), (mlp.program(batch=2), "fresh")):
        with pytest.raises(LabError, match="other buffers"):
            Arena(mlp.program(batch=2), plan(lifetimes(program.graph, reuse).buffers))


def test_an_offset_that_splits_a_number_is_refused():
    program = Program(((1, 3), (1, 3)), (Step("affine", affine, (0,), 1),), (0,), (1,))
    best = plan(lifetimes(program.graph).buffers)
    with pytest.raises(LabError, match="not aligned"):
        Arena(program, replace(best, offsets=[2], height=best.height + 2))


def test_a_block_that_is_too_small_is_refused():
    program = MLP(features=16).program(batch=2)
    best = plan(lifetimes(program.graph, "in_place").buffers)
    with pytest.raises(LabError, match="does not fit"):
        Arena(program, replace(best, height=best.height - 1))


def test_a_program_out_of_order_is_refused():
    with pytest.raises(LabError, match="reads value 2"):
        Program(((1, 4),) * 3, (Step("affine", affine, (2,), 1), Step("affine", affine, (0,), 2)), (0,), (1,))


@pytest.mark.parametrize("batch", [1, 4])
def test_the_mlp_program_is_the_naive_forward_pass(batch):
    mlp = MLP(features=32, layers=4, seed=3)
    program = mlp.program(batch)
    x = numbers(program)
    values = mlp.naive_keeping(x)
    np.testing.assert_array_equal(program.run(x), mlp.naive(x))
    np.testing.assert_array_equal(values[-1], mlp.naive(x))
    assert len(values) == len(program.steps) == 11
    assert [value.nbytes for value in values] == [batch * 32 * 4] * 11
    assert mlp.naive(x).dtype == np.float32
    assert np.isfinite(mlp.naive(x)).all()
    assert not np.array_equal(mlp.naive(x), MLP(features=32, layers=4, seed=4).naive(x))


def test_an_mlp_without_layers_is_refused():
    with pytest.raises(LabError, match="0 layers"):
        MLP(layers=0)


def test_graph_of_a_program_has_its_bytes_and_permissions():
    program = MLP(features=8, layers=2).program(batch=1)
    assert program.graph.sizes == (64,) * 6  # 32 bytes each, rounded up
    assert [operator.shares for operator in program.graph.operators] == [(), (1,), (2,), (), (4,)]
