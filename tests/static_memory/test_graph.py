import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from labs_lib.errors import LabError
from labs_lib.static_memory.graph import REGIMES, Graph, Operator, lifetimes, read_json
from labs_lib.static_memory.lifetimes import lower_bound

UNIT = 64


def bounds(graph):
    return [lower_bound(lifetimes(graph, reuse).buffers) for reuse in REGIMES]


def spans(graph, reuse="fresh"):
    return [(b.id, b.lower, b.upper, b.size) for b in lifetimes(graph, reuse).buffers]


def test_a_value_lives_from_its_producer_to_its_last_reader_and_outputs_to_the_end():
    graph = Graph(
        operators=(
            Operator("linear", (0,), (1,)),
            Operator("topk", (1,), (2, 3)),
            Operator("linear", (2,), (4,)),
            Operator("linear", (4,), (5,)),
        ),
        sizes=(999, 64, 128, 192, 256, 0),
        outputs=(2,),
        inputs=(0,),
    )
    assert spans(graph) == [
        ("linear.1", 0, 2, 64),
        ("topk.2", 1, 4, 128),  # an output
        ("topk.3", 1, 2, 192),  # read by nobody
        ("linear.4", 2, 4, 256),
    ]
    assert set(lifetimes(graph).home) == {1, 2, 3, 4}  # not the input, not the empty value


def test_in_place_merges_a_chain_and_keeps_what_is_still_read():
    chain = [Operator("conv", (), (0,)), *(Operator("relu", (i,), (i + 1,)) for i in range(4))]
    assert spans(Graph(tuple(chain), (64,) * 5, (4,)), "in_place") == [("conv.0", 0, 5, 64)]
    # When value 0 is read at the end, its relu needs a buffer of its own; the sum takes over value 0.
    chain.append(Operator("add", (0, 4), (5,)))
    graph = Graph(tuple(chain), (64,) * 6, (5,))
    assert spans(graph, "in_place") == [("conv.0", 0, 6, 64), ("relu.1", 1, 6, 64)]


@pytest.mark.parametrize(
    "operator",
    [
        Operator("matmul", (0,), (1,)),  # reads each input many times
        Operator("relu", (0,), (1,), shares=()),  # forbidden, for instance because the input is broadcast
        Operator("relu", (0,), (1, 2)),  # several results
        Operator("cat", (0,), (1,)),  # copies, in this regime
    ],
)
def test_in_place_needs_one_result_of_an_element_wise_operator(operator):
    sizes = (64, 64, 64)
    graph = Graph((Operator("conv", (), (0,)), operator), sizes, operator.outputs)
    assert bounds(graph)[1] == bounds(graph)[0]


def test_in_place_needs_an_input_of_the_same_size_made_here_that_is_no_output():
    relu = Operator("relu", (0,), (1,))
    made = Operator("conv", (), (0,))
    assert bounds(Graph((made, relu), (64, 64), (1,)))[:2] == [128, 64]
    assert bounds(Graph((made, relu), (64, 128), (1,)))[:2] == [192, 192]
    assert bounds(Graph((made, relu), (64, 64), (0, 1)))[:2] == [128, 128]
    assert bounds(Graph((relu,), (64, 64), (1,), inputs=(0,)))[:2] == [64, 64]


def test_the_last_step_may_not_overwrite_an_output_that_it_reads():
    graph = Graph((Operator("conv", (), (0,)), Operator("relu", (0,), (1,))), (64, 64), (1, 0))
    assert len(lifetimes(graph, "in_place").buffers) == 2


def test_concat_lays_operands_at_their_offsets():
    operators = (
        Operator("a", (), (0,)),
        Operator("b", (), (1,)),
        Operator("cat", (1, 0), (2,)),
        Operator("c", (2,), (3,)),
    )
    graph = Graph(operators, (64, 128, 192, 64), (3,))
    life = lifetimes(graph, "concat")
    assert spans(graph, "concat") == [("cat.2", 0, 4, 192), ("c.3", 3, 4, 64)]
    assert life.home == {1: (0, 0), 0: (0, 128), 2: (0, 0), 3: (1, 0)}
    assert bounds(graph) == [384, 384, 256]


def test_concat_chains_whose_operands_come_again():
    # As in DenseNet: f0; cat(f0, f1); cat(f0, f1, f2), each read once by what makes the next f.
    operators = (
        Operator("conv", (), (0,)),
        Operator("conv", (0,), (1,)),
        Operator("cat", (0, 1), (2,)),
        Operator("conv", (2,), (3,)),
        Operator("cat", (0, 1, 3), (4,)),
        Operator("pool", (4,), (5,)),
    )
    graph = Graph(operators, (256, 64, 320, 64, 384, 64), (5,))
    life = lifetimes(graph, "concat")
    assert {value: life.home[value][1] for value in range(5)} == {0: 0, 1: 256, 2: 0, 3: 320, 4: 0}
    assert len({life.home[value][0] for value in range(5)}) == 1
    assert bounds(graph) == [768, 768, 448]


def test_an_operand_is_laid_into_one_concatenation_only_and_once():
    graph = Graph(
        (
            Operator("a", (), (0,)),
            Operator("cat", (0, 0), (1,)),
            Operator("b", (), (2,)),
            Operator("cat", (2, 0), (3,)),
            Operator("c", (1, 3), (4,)),
        ),
        sizes=(64, 128, 64, 128, 64),
        outputs=(4,),
    )
    home = lifetimes(graph, "concat").home
    assert home[0] == home[1]
    assert home[2] == home[3]
    assert home[0][0] != home[3][0]


def test_a_concatenation_that_would_cost_memory_copies():
    # Operand 0 is small and early. Laid inside, all of the result would have to live at the peak in step 1.
    operators = (
        Operator("a", (), (0,)),
        Operator("big", (), (1,)),
        Operator("reduce", (1,), (2,)),
        Operator("b", (2,), (3,)),
        Operator("cat", (0, 3), (4,)),
    )
    graph = Graph(operators, (64, 2048, 64, 1024, 1088), (4,))
    life = lifetimes(graph, "concat")
    assert bounds(graph) == [2176, 2176, 2176]
    assert life.home[0][0] != life.home[4][0]


def test_an_operand_changed_later_is_copied():
    def graph(*writes):
        operators = (
            Operator("a", (), (0,)),
            Operator("b", (), (1,)),
            Operator("cat", (0, 1), (2,)),
            Operator("relu_", (0,), (), writes=writes),
            Operator("c", (0, 2), (3,)),
        )
        return lifetimes(Graph(operators, (64, 64, 128, 64), (3,)), "concat")

    assert graph().home[0] == graph().home[2]
    assert graph(0).home[0] != graph(0).home[2]


def test_a_result_changed_in_place_leaves_living_operands_alone():
    operators = (
        Operator("a", (), (0,)),
        Operator("b", (), (1,)),
        Operator("cat", (0, 1), (2,)),
        Operator("relu_", (2,), (), writes=(2,)),
        Operator("c", (0, 2), (3,)),
    )
    home = lifetimes(Graph(operators, (64, 64, 128, 64), (3,)), "concat").home
    assert home[0] != home[2]
    assert home[1] == (home[2][0], 64)  # is dead by then


def test_a_concatenation_is_not_overwritten_by_a_step_that_also_reads_an_operand_inside_it():
    # The sum reads operand 0 once for each half of its result: the first half would destroy it.
    operators = (
        Operator("a", (), (0,)),
        Operator("b", (), (1,)),
        Operator("cat", (0, 1), (2,)),
        Operator("add", (2, 0), (3,)),
    )
    home = lifetimes(Graph(operators, (64, 64, 128, 128), (3,)), "concat").home
    assert home[0] == home[2]
    assert home[3][0] != home[2][0]


@pytest.mark.parametrize(
    ("graph", "message"),
    [
        (lambda: Graph((Operator("relu", (0,), (1,)),), (64, 64), (1,)), "reads value 0"),
        (lambda: Graph((Operator("a", (), (0,)), Operator("b", (), (0,))), (64,), (0,)), "produces value 0"),
        (lambda: Graph((Operator("a", (), (1,)),), (64,), (1,)), "has no size"),
        (lambda: Graph((), (64,), (0,)), "Value 0 is an output"),
        (lambda: lifetimes(Graph((), (), ()), "always"), "no regime 'always'"),
    ],
)
def test_what_cannot_run_is_refused(graph, message):
    with pytest.raises(LabError, match=message):
        graph()


def test_read_json(tmp_path):
    file = tmp_path / "net.json"
    split = {"i": 0, "op": "split", "ins": [], "out": 0, "outs": [0, 1]}
    add = {"i": 1, "op": "add", "ins": [0, 1], "out": 2}
    file.write_text(json.dumps({"ops": [split, add], "size": [64, 64, 64], "outputs": [2]}))
    graph = read_json(file)
    assert graph.operators == (Operator("split", (), (0, 1)), Operator("add", (0, 1), (2,)))
    assert bounds(graph) == [192, 128, 128]


@st.composite
def graphs(draw):
    """Random graphs with element-wise operators, others, changes in place and concatenations."""
    sizes, operators, made = [UNIT], [], [0]  # value 0 comes from outside
    for _ in range(draw(st.integers(1, 14))):
        kind = draw(st.sampled_from(["relu", "relu", "add", "conv", "cat", "cat", "write"]))
        count = {"relu": 1, "write": 1}.get(kind, draw(st.integers(1, 3)))
        inputs = tuple(draw(st.lists(st.sampled_from(made), min_size=count, max_size=count)))
        if kind == "write":
            operators.append(Operator("relu_", inputs, (), writes=inputs))
            continue
        size = {
            "relu": sizes[inputs[0]],
            "add": max(sizes[value] for value in inputs),
            "cat": sum(sizes[value] for value in inputs),
            "conv": UNIT * draw(st.integers(1, 4)),
        }[kind]
        operators.append(Operator(kind, inputs, (len(sizes),)))
        made.append(len(sizes))
        sizes.append(size)
    outputs = tuple(draw(st.lists(st.sampled_from(made), min_size=1, max_size=2, unique=True)))
    return Graph(tuple(operators), tuple(sizes), outputs, inputs=(0,))


def run_in_buffers(graph, life):
    """Runs a graph on tokens, one for 64 bytes, in the buffers of `life`: reads find what was written."""
    memory = [[None] * (buffer.size // UNIT) for buffer in life.buffers]
    outside = {value: [("outside", value)] * (graph.sizes[value] // UNIT) for value in graph.inputs}
    expected = dict(outside)

    def place(value):
        index, offset = life.home[value]
        return memory[index], offset // UNIT, offset // UNIT + graph.sizes[value] // UNIT

    def read(value):
        if value in outside:
            return outside[value]
        cells, start, end = place(value)
        return cells[start:end]

    def write(value, tokens):
        expected[value] = tokens
        if value in outside:
            outside[value] = tokens
        else:
            cells, start, end = place(value)
            cells[start:end] = tokens

    for step, operator in enumerate(graph.operators):
        for index, buffer in enumerate(life.buffers):
            if not buffer.lower <= step < buffer.upper:
                memory[index] = ["poison"] * len(memory[index])
        for value in operator.inputs:
            assert read(value) == expected[value], (step, operator, value)
        joined = [token for value in operator.inputs for token in expected[value]]
        for value in operator.outputs:
            fresh = [(step, cell) for cell in range(graph.sizes[value] // UNIT)]
            write(value, joined if operator.name == "cat" else fresh)
        for value in operator.writes:
            write(value, [(step, cell) for cell in range(graph.sizes[value] // UNIT)])
    for value in graph.outputs:
        assert read(value) == expected[value], value


@given(graphs())
def test_no_value_is_overwritten_while_somebody_still_reads_it(graph):
    for reuse in REGIMES:
        run_in_buffers(graph, lifetimes(graph, reuse))


@given(graphs())
def test_more_reuse_never_needs_more(graph):
    fresh, in_place, concat = bounds(graph)
    assert concat <= in_place <= fresh
