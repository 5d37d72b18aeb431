"""The lab's model: a multilayer perceptron in NumPy, once as anybody would write it, once as a program."""

from __future__ import annotations

from functools import partial

import numpy as np

from labs_lib.errors import LabError
from labs_lib.static_memory.arena import Program, Step


class MLP:
    """`layers` layers of `features` features each, with ReLU between them, float32, weights from `seed`.

    >>> mlp = MLP(features=8, layers=2)
    >>> mlp.naive(np.ones((3, 8), np.float32)).shape
    (3, 8)

    Raises LabError unless `features` and `layers` are at least 1.
    """

    def __init__(self, features: int = 1024, layers: int = 3, seed: int = 0) -> None:
        if features < 1 or layers < 1:
            raise LabError(
                f"An MLP of {layers} layers of {features} features can't be built.",
                "Both numbers must be at least 1.",
                "Give larger numbers.",
            )
        self.features = features
        draw = partial(np.random.default_rng(seed).standard_normal, dtype=np.float32)
        scale = np.float32((2 / features) ** 0.5)  # keeps the variance from layer to layer (He et al., 2015)
        self.weights = [
            (draw((features, features)) * scale, draw(features) * scale) for _ in range(layers)
        ]

    def naive(self, x: np.ndarray) -> np.ndarray:
        """The forward pass as one writes it: each operation makes a new array, and Python frees dead ones.

        `x` and the result have the shape (batch, features) and dtype float32. Each operation has a line of
        its own: in `x = x @ weight + bias` the name x would keep the layer's input alive during the sum.
        """
        for layer, (weight, bias) in enumerate(self.weights):
            if layer:
                x = np.maximum(x, 0)
            x = x @ weight
            x = x + bias
        return x

    def naive_keeping(self, x: np.ndarray) -> list[np.ndarray]:
        """The forward pass that keeps every value, as training has to; the last one is the result."""
        values = [x]
        for layer, (weight, bias) in enumerate(self.weights):
            if layer:
                values.append(np.maximum(values[-1], 0))
            values.append(values[-1] @ weight)
            values.append(values[-1] + bias)
        return values[1:]

    def program(self, batch: int) -> Program:
        """The same forward pass for a fixed batch size, as steps that write where they are told to.

        >>> [step.name for step in MLP(features=8, layers=2).program(batch=4).steps]
        ['matmul', 'add', 'relu', 'matmul', 'add']
        """
        steps: list[Step] = []

        def then(name: str, kernel: partial[object], in_place: bool) -> None:
            value = len(steps)  # value 0 is the input, and step i computes value i + 1
            steps.append(Step(name, kernel, (value,), value + 1, over=(value,) if in_place else ()))

        for layer, (weight, bias) in enumerate(self.weights):
            if layer:
                then("relu", relu, in_place=True)
            then("matmul", partial(matmul, weight=weight), in_place=False)
            then("add", partial(add, bias=bias), in_place=True)
        shapes = ((batch, self.features),) * (len(steps) + 1)
        return Program(shapes, tuple(steps), inputs=(0,), outputs=(len(steps),))


def matmul(x: np.ndarray, out: np.ndarray, weight: np.ndarray) -> None:
    np.matmul(x, weight, out=out)


def add(x: np.ndarray, out: np.ndarray, bias: np.ndarray) -> None:
    np.add(x, bias, out=out)


def relu(x: np.ndarray, out: np.ndarray) -> None:
    np.maximum(x, 0, out=out)
