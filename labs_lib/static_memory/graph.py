"""A computation as operators and values, and how long each of its buffers has to live.

Step i runs operator i. A value is alive from the step that produces it to the step that reads it last,
both included; the graph's outputs are alive to the end. Which values may share one buffer is decided
here, in three regimes; where the buffers lie is decided afterwards, by a planner.

"fresh"      every value has a buffer of its own, as in eager execution
"in_place"   an element-wise operator may write its result over an input that nobody reads later
"concat"     in addition, the operands of a concatenation are laid inside its result, so that it copies
             nothing. The result's buffer then lives from the first operand on, and an operand that is
             read later protects its bytes in the result. So this can cost memory: it is done for one
             concatenation after the other, each time only if the lower bound does not rise.
"""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterator, Set
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from labs_lib.errors import LabError
from labs_lib.static_memory.lifetimes import Buffer, lower_bound

Reuse = Literal["fresh", "in_place", "concat"]
ALIGNMENT = 64  # bytes: a cache line, and the width of the widest vector registers
REGIMES: tuple[Reuse, ...] = ("fresh", "in_place", "concat")

# Operators whose result at a place depends on their inputs at the same place only, by ATen's names.
# batch_norm belongs here at inference only, where its statistics are constants.
# fmt: off
ELEMENT_WISE = frozenset({
    "abs", "add", "addcdiv", "addcmul", "batch_norm", "bitwise_and", "bitwise_not", "bitwise_or", "clamp",
    "clamp_max", "clamp_min", "cos", "div", "dropout", "elu", "erf", "exp", "gelu", "gelu_backward",
    "hardsigmoid", "hardswish", "hardtanh", "leaky_relu", "log", "logical_and", "logical_not",
    "logical_or", "masked_fill", "maximum", "minimum", "mish", "mul", "neg", "pow", "reciprocal", "relu",
    "relu6", "rsqrt", "rsub", "sigmoid", "sigmoid_backward", "sign", "silu", "silu_backward", "sin",
    "softplus", "sqrt", "sub", "tanh", "tanh_backward", "threshold", "threshold_backward", "where",
})
# fmt: on
CONCATENATION = "cat"


def aligned(size: int) -> int:
    """`size` in bytes, rounded up to a multiple of ALIGNMENT.

    >>> aligned(100)
    128
    """
    return -(-size // ALIGNMENT) * ALIGNMENT


@dataclass(frozen=True, slots=True)
class Operator:
    """One step: reads the values `inputs`, produces the values `outputs`.

    `shares` names the inputs whose memory the result may use: overwritten by an element-wise operator,
    laid inside by a concatenation. None leaves that to the operator's name and the sizes, which cannot
    see an input that is broadcast, transposed or a part of a larger value; () forbids it.
    `writes` names the inputs that the operator itself changes in place, as torch's `relu_` does.
    """

    name: str
    inputs: tuple[int, ...]
    outputs: tuple[int, ...]
    shares: tuple[int, ...] | None = None
    writes: tuple[int, ...] = ()


@dataclass(frozen=True)
class Graph:
    """Operators in the order in which they run. Values are numbered; `sizes` gives the bytes of each.

    `inputs` are the values that come from outside. They need no buffer here, nor do values of size 0.

    >>> linear, relu = Operator("linear", (0,), (1,)), Operator("relu", (1,), (2,))
    >>> chain = Graph((linear, relu), sizes=(64, 128, 128), outputs=(2,), inputs=(0,))
    >>> len(lifetimes(chain).buffers), len(lifetimes(chain, "in_place").buffers)
    (2, 1)

    Raises LabError when a value is unknown, is produced twice, or is read before it exists.
    """

    operators: tuple[Operator, ...]
    sizes: tuple[int, ...]
    outputs: tuple[int, ...]
    inputs: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        known = set(self.inputs)
        for step, operator in enumerate(self.operators):
            place = f"Operator {step} ({operator.name})"
            for value in operator.inputs:
                if value not in known:
                    raise _invalid(f"{place} reads value {value}, which nothing has produced before.")
            for value in operator.outputs:
                if value in known or not 0 <= value < len(self.sizes):
                    raise _invalid(f"{place} produces value {value}, which exists already or has no size.")
                known.add(value)
        for value in self.outputs:
            if value not in known:
                raise _invalid(f"Value {value} is an output, but nothing produces it.")


@dataclass(frozen=True)
class Lifetimes:
    """The buffers a graph needs, and the home of each value: (index of its buffer, offset inside it)."""

    buffers: list[Buffer]
    home: dict[int, tuple[int, int]]


def lifetimes(graph: Graph, reuse: Reuse = "fresh") -> Lifetimes:
    """The buffers of `graph` with their lifetimes in steps, and where in them each value lives.

    Values share memory only where that cannot be seen: two values that overlap are never alive together
    unless the bytes they have in common are the same. Values from outside and values of size 0 have no home.

    >>> relu_read_twice = Graph(
    ...     (Operator("conv", (), (0,)), Operator("relu", (0,), (1,)), Operator("add", (0, 1), (2,))),
    ...     sizes=(64, 64, 64), outputs=(2,))
    >>> [(b.id, b.lower, b.upper) for b in lifetimes(relu_read_twice, "in_place").buffers]
    [('conv.0', 0, 3), ('relu.1', 1, 3)]

    Raises LabError for an unknown regime.
    """
    if reuse not in REGIMES:
        raise LabError(f"There is no regime {reuse!r}.", f"There are {', '.join(REGIMES)}.", "Choose one.")
    if reuse == "fresh":
        return _share(graph, in_place=False)
    best, laid = _share(graph), set()
    for step, operator in enumerate(graph.operators if reuse == "concat" else ()):
        if operator.name == CONCATENATION:
            trial = _share(graph, laid=laid | {step})
            if lower_bound(trial.buffers) <= lower_bound(best.buffers):
                best = trial
                laid.add(step)
    return best


def _share(graph: Graph, in_place: bool = True, laid: Set[int] = frozenset()) -> Lifetimes:
    """Lifetimes when the concatenations of the steps `laid` hold their operands."""
    sharing = _Sharing(graph)
    for step, operator in enumerate(graph.operators):
        sharing.give_birth(operator)
        if step in laid:
            sharing.lay_inside(operator)
        elif in_place:
            sharing.overwrite(step, operator)
    return sharing.lifetimes()


def read_json(path: str | Path) -> Graph:
    """Reads a graph from a file of the form

    {"ops": [{"op": "conv2d", "ins": [0], "out": 1}, ...], "size": [4096, ...], "outputs": [1]}

    in which an operator with several results lists them under "outs".
    """
    data = json.loads(Path(path).read_text(encoding="utf-8"))
    operators = tuple(
        Operator(op["op"], tuple(op["ins"]), tuple(op.get("outs", [op["out"]]))) for op in data["ops"]
    )
    return Graph(operators, tuple(data["size"]), tuple(data["outputs"]))


def _invalid(why: str) -> LabError:
    return LabError("This graph cannot run.", why, "Give the operators in the order in which they run.")


def _by_name(operator: Operator) -> tuple[int, ...]:
    return operator.inputs if operator.name in ELEMENT_WISE else ()


class _Sharing:
    """The state of `lifetimes`: buffers, each named after one value, and the values that live in them."""

    def __init__(self, graph: Graph) -> None:
        self.graph = graph
        self.sizes = graph.sizes
        self.birth: dict[int, int] = {}
        self.last: dict[int, int] = {}  # the step that reads the value last
        self.written: defaultdict[int, list[int]] = defaultdict(list)  # steps that change it in place
        for step, operator in enumerate(graph.operators):
            self.birth.update(dict.fromkeys(operator.outputs, step))
            self.last.update(dict.fromkeys(operator.outputs + operator.inputs, step))
            for value in operator.writes:
                self.written[value].append(step)
        self.last.update(dict.fromkeys(graph.outputs, len(graph.operators)))
        self.home: dict[int, tuple[int, int]] = {}  # value -> (the value its buffer is named after, offset)
        self.members: dict[int, list[int]] = {}  # buffer -> the values inside it

    def give_birth(self, operator: Operator) -> None:
        """Every output starts in a buffer of its own."""
        for value in operator.outputs:
            if self.sizes[value]:
                self.home[value] = (value, 0)
                self.members[value] = [value]

    def overwrite(self, step: int, operator: Operator) -> None:
        """Lets an element-wise operator's result take over an input that dies here."""
        if len(operator.outputs) != 1 or operator.name == CONCATENATION:
            return
        (result,) = operator.outputs
        for value in operator.shares if operator.shares is not None else _by_name(operator):
            if self.sizes[value] == self.sizes[result] and self._dead_after(step, value):
                self._move(result, *self.home[value])
                return

    def lay_inside(self, operator: Operator) -> None:
        """Moves the buffers of a concatenation's operands into the buffer of its result.

        A buffer moves when the operands that live in it fill it without a gap, at their right places: a lone
        operand does, and so does the whole of an earlier concatenation whose operands come again as a run.
        """
        (result,) = operator.outputs
        if sum(self.sizes[value] for value in operator.inputs) != self.sizes[result]:
            return
        may_share = operator.inputs if operator.shares is None else operator.shares
        shift: dict[int, int] = {}
        filled: defaultdict[int, int] = defaultdict(int)
        place = 0
        for value in operator.inputs:
            if value in self.home and value in may_share:
                buffer, offset = self.home[value]
                if shift.setdefault(buffer, place - offset) == place - offset:
                    filled[buffer] += self.sizes[value]
            place += self.sizes[value]
        for buffer, by in shift.items():
            if filled[buffer] == self.sizes[buffer] and not self._torn_by_writes(buffer, result):
                self._move(buffer, result, by)

    def _move(self, buffer: int, into: int, by: int) -> None:
        for value in self.members.pop(buffer):
            self.home[value] = (into, self.home[value][1] + by)
            self.members[into].append(value)

    def _sharers(self, value: int) -> Iterator[int]:
        """The other values that have bytes in common with `value`."""
        buffer, start = self.home[value]
        for other in self.members[buffer]:
            offset = self.home[other][1]
            if other != value and offset < start + self.sizes[value] and start < offset + self.sizes[other]:
                yield other

    def _dead_after(self, step: int, value: int) -> bool:
        """Is `step` the last to read the bytes of `value`, and does it read them as `value` only?"""
        return value in self.home and self.last[value] == step and all(
            self.last[other] < step for other in self._sharers(value)
        )

    def _torn_by_writes(self, buffer: int, result: int) -> bool:
        """Would an operator that changes a value of `buffer`, or `result`, in place change the other too?"""
        birth = self.birth[result]
        if any(step > birth for value in self.members[buffer] for step in self.written[value]):
            return True
        return bool(self.written[result]) and any(self.last[value] > birth for value in self.members[buffer])

    def lifetimes(self) -> Lifetimes:
        steps = len(self.graph.operators)
        buffers, index = [], {}
        for buffer, values in self.members.items():
            index[buffer] = len(buffers)
            lower = min(self.birth[value] for value in values)
            upper = min(max(self.last[value] for value in values) + 1, steps)
            maker = self.graph.operators[self.birth[buffer]].name
            buffers.append(Buffer(f"{maker}.{buffer}", lower, upper, self.sizes[buffer]))
        home = {value: (index[buffer], offset) for value, (buffer, offset) in self.home.items()}
        return Lifetimes(buffers, home)
