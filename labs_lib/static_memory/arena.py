"""A small engine: it runs a program in one block of memory, at the addresses a planner chose.

Planning happens once, before the first call. A call then moves no pointers and allocates no arrays: each
kernel writes its result through `out=` into a view that was made when the arena was built.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from math import prod

import numpy as np

from labs_lib.errors import LabError
from labs_lib.static_memory.graph import ALIGNMENT, Graph, Lifetimes, Operator, aligned, lifetimes
from labs_lib.static_memory.lifetimes import verify
from labs_lib.static_memory.planning import Plan

FLOAT32 = np.dtype(np.float32)

@dataclass(frozen=True)
class Step:
    """One operator of a program: `kernel(*inputs, out=array)` computes the value `output`.

    The kernel writes every element of `out` and reads nothing from it, so that it works in memory that
    holds anything. `over` names the inputs over which the result may be written, which is right for an
    element-wise kernel and an input of the output's shape, and wrong for a matrix product.
    """

    name: str
    kernel: Callable[..., object]
    inputs: tuple[int, ...]
    output: int
    over: tuple[int, ...] = ()


@dataclass(frozen=True)
class Program:
    """Steps in the order in which they run, over numbered values: `shapes[v]` is the shape of value v.

    All values have one dtype. The values `inputs` come from the caller. Constants such as weights belong
    to the kernels.

    >>> double = Step("add", lambda x, out: np.add(x, x, out=out), inputs=(0,), output=1)
    >>> halve = Step("mul", lambda x, out: np.multiply(x, 0.5, out=out), inputs=(1,), output=2, over=(1,))
    >>> program = Program(((4,), (4,), (4,)), (double, halve), inputs=(0,), outputs=(2,))
    >>> program.run(np.arange(4, dtype=np.float32))
    array([0., 1., 2., 3.], dtype=float32)

    Raises LabError when a step reads a value that no step before it and no input provides.
    """

    shapes: tuple[tuple[int, ...], ...]
    steps: tuple[Step, ...]
    inputs: tuple[int, ...]
    outputs: tuple[int, ...]
    dtype: np.dtype = FLOAT32

    def __post_init__(self) -> None:
        _ = self.graph  # building it checks the steps

    @cached_property
    def graph(self) -> Graph:
        """The program without its kernels; sizes are bytes, aligned."""
        operators = tuple(Operator(s.name, s.inputs, (s.output,), shares=s.over) for s in self.steps)
        sizes = tuple(aligned(prod(shape) * self.dtype.itemsize) for shape in self.shapes)
        return Graph(operators, sizes, self.outputs, self.inputs)

    def run(self, *inputs: np.ndarray) -> np.ndarray | tuple[np.ndarray, ...]:
        """The result with each value in an array of its own: the reference for every plan.

        Raises LabError when the inputs do not have the program's shapes and dtype.
        """
        self.check(inputs)
        values = dict(zip(self.inputs, inputs, strict=True))
        for step in self.steps:
            out = np.empty(self.shapes[step.output], self.dtype)
            step.kernel(*(values[v] for v in step.inputs), out=out)
            values[step.output] = out
        return _unpacked([values[v] for v in self.outputs])

    def check(self, inputs: tuple[np.ndarray, ...]) -> None:
        """Raises LabError unless there is an array of the right shape and dtype for each input."""
        expected = [(self.shapes[v], self.dtype) for v in self.inputs]
        given = [(getattr(x, "shape", type(x).__name__), getattr(x, "dtype", "no dtype")) for x in inputs]
        if given != expected:
            raise LabError(
                f"The program takes {_described(expected)}, but was given {_described(given)}.",
                "It was planned for these shapes and this dtype, and a plan holds for nothing else.",
                "Convert the input, or make a program for its shape.",
            )


class Arena:
    """Runs `program` in one block of `plan.height` bytes.

    >>> from labs_lib.static_memory.mlp import MLP
    >>> from labs_lib.static_memory.planning import plan
    >>> mlp = MLP(features=64)
    >>> program = mlp.program(batch=2)
    >>> arena = Arena(program, plan(lifetimes(program.graph, "in_place").buffers))
    >>> x = np.ones((2, 64), np.float32)
    >>> bool((arena(x) == mlp.naive(x)).all()), arena.block.nbytes
    (True, 1024)

    The result is a view of the block, valid until the next call; copy it to keep it. One arena serves one
    caller at a time. `life` says which buffer each value lives in, and must be what `plan` was made from;
    left out, it is `lifetimes(program.graph, "in_place")`. Lifetimes of your own are believed: if they end
    too early, results are wrong. With `poison`, memory that holds no live value holds NaN (bytes 0xFF), so
    that a read of such memory can be seen in the result.

    Raises LabError when the plan was made for other buffers, or when `verify` refuses it.
    """

    def __init__(
        self, program: Program, plan: Plan, life: Lifetimes | None = None, poison: bool = False
    ) -> None:
        life = lifetimes(program.graph, "in_place") if life is None else life
        if list(plan.buffers) != list(life.buffers):
            raise LabError(
                "The plan was made for other buffers than this program's.",
                "A plan holds for one program, one batch size and one regime of reuse.",
                "Pass the lifetimes whose buffers you planned as the third argument.",
            )
        verify(plan.buffers, plan.offsets, alignment=program.dtype.itemsize, capacity=plan.height)
        self.program = program
        self.block = _aligned_block(plan.height)
        self._memory = [
            self.block[offset : offset + buffer.size]
            for buffer, offset in zip(plan.buffers, plan.offsets, strict=True)
        ]
        self._values: list[np.ndarray | None] = [None] * len(program.shapes)
        for step in program.steps:
            self._values[step.output] = self._view(step.output, life)
        self._calls = [(step.kernel, step.inputs, self._values[step.output]) for step in program.steps]
        self._dying: list[list[np.ndarray]] = [[] for _ in program.steps]
        if poison:
            for buffer, memory in zip(plan.buffers, self._memory, strict=True):
                if buffer.upper < len(program.steps):  # what lives to the end is the result
                    self._dying[buffer.upper - 1].append(memory)
        self._poison = poison

    def _view(self, value: int, life: Lifetimes) -> np.ndarray:
        shape = self.program.shapes[value]
        if value not in life.home:
            return np.empty(shape, self.program.dtype)  # of size 0
        index, offset = life.home[value]
        size = prod(shape) * self.program.dtype.itemsize
        return self._memory[index][offset : offset + size].view(self.program.dtype).reshape(shape)

    def __call__(self, *inputs: np.ndarray) -> np.ndarray | tuple[np.ndarray, ...]:
        """The program's outputs, as views that the next call overwrites.

        Raises LabError when the inputs do not have the program's shapes and dtype.
        """
        self.program.check(inputs)
        values = self._values.copy()
        for value, array in zip(self.program.inputs, inputs, strict=True):
            values[value] = array
        if self._poison:
            self.block.fill(0xFF)
        for (kernel, sources, out), dying in zip(self._calls, self._dying, strict=True):
            kernel(*[values[source] for source in sources], out=out)
            for memory in dying:
                memory.fill(0xFF)
        return _unpacked([values[value] for value in self.program.outputs])


def _aligned_block(size: int) -> np.ndarray:
    raw = np.empty(size + ALIGNMENT - 1, np.uint8)
    start = -raw.ctypes.data % ALIGNMENT
    return raw[start : start + size]


def _unpacked(results: list[np.ndarray]) -> np.ndarray | tuple[np.ndarray, ...]:
    return results[0] if len(results) == 1 else tuple(results)


def _described(arrays: list[tuple[object, object]]) -> str:
    return " and ".join(f"{shape} of {dtype}" for shape, dtype in arrays) or "nothing"
