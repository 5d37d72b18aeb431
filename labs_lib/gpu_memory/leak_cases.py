"""Six loops that run out of memory, as cases for detectives.

A case shows its symptom and hands out evidence card by card. Its source is sealed until somebody is accused.
The proof is a replay: one line is changed, the loop runs again, and leaves nothing behind. The factories at
the end make the steps of the loops, in code as people write it, with one mistake in each.
"""

from __future__ import annotations

import inspect
import linecache
import weakref
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property
from typing import NamedTuple

import torch
from torch import nn

from labs_lib.errors import LabError
from labs_lib.gpu_memory.leaks import CULPRITS, Leak, find_leak

WOULD_SHOW = {
    "graph": "one tensor would reach, through its graph, what several steps have saved",
    "list": "the way up from a survivor would lead through a list with an entry for each step",
    "hook": "the way up from a survivor would lead to a function that some module calls as its hook",
    "cycle": "no name would lead to the survivors, and the cycle collector would give them back",
    "traceback": "the way up from a survivor would lead through the frames of a traceback",
    "cache": "the way up from a survivor would lead through a dictionary with a key for each step",
}


class Change(NamedTuple):
    """One line of a source, and what stands there instead."""

    old: str
    new: str

    def __str__(self) -> str:
        return f"- {self.old}\n+ {self.new}"


@dataclass
class Case:
    """One loop that grows. `evidence`, `accuse` and `source` print, and never raise.

    >>> case = leak_case("5")
    >>> case.evidence()
    Card 1 of 4, the growth: it grows by 262,144 bytes a step...
    >>> case.source()
    The source is sealed. Read the evidence, then accuse somebody.
    >>> case.accuse("list")
    No. With a list, the way up from a survivor would lead through a list with an entry for each step. But...
    >>> print(case.replay(fixed=True))
    grows by 0 bytes a step: nothing that an early step made is left.
    """

    number: str
    symptom: str
    factory: Callable[[], Callable[[], object]]
    change: Change  # what mends it
    accused: bool = field(default=False, init=False)
    shown: int = field(default=0, init=False)  # evidence cards that were asked for in their order

    @cached_property
    def found(self) -> Leak:
        """What the leak finder alone makes of the case."""
        return self.replay()

    def __str__(self) -> str:
        return f"Case {self.number}: {self.symptom}"

    def evidence(self, card: int | None = None) -> None:
        """Prints the next card, or that of a number."""
        if card is None:
            self.shown = min(self.shown + 1, 4)
            card = self.shown
        if card not in range(1, 5):
            print("There are the cards 1 to 4.")
            return
        left = sum(self.found.left)
        cards = {
            "the growth": f"it {str(self.found).partition(';')[0].partition(' (')[0].rstrip('.')}.",
            "what is left of one step": "".join(f"\n  {survivor}" for survivor in self.found.survivors),
            "the collector": f"of {left:,} bytes left behind, the cycle collector gives back {self.found.collected:,}.",
            "who refers to it": f"{self.found.holders[0][0]}.",
        }
        name = list(cards)[card - 1]
        print(f"Card {card} of 4, {name}: {cards[name]}")

    def accuse(self, culprit: str) -> None:
        """Prints whether the evidence fits. Afterwards the source is open."""
        if culprit not in CULPRITS:
            print(f"Nobody here is called {culprit!r}. Accuse one of: {', '.join(CULPRITS)}.")
            return
        self.accused = True
        if culprit == self.found.culprit:
            print(f"Yes: {CULPRITS[culprit]}. Evidence: it {self.found}")
            return
        fact = f"the way is: {self.found.holders[0][0]}."
        if "cycle" in (culprit, self.found.culprit):
            fact = f"the collector gives back {self.found.collected:,} of {sum(self.found.left):,} bytes."
        if f"{culprit} of" in fact:
            print(f"Nearly: there is a {culprit} on the way, but read the whole of it. {fact[0].upper()}{fact[1:]}")
            return
        article = "an" if culprit[0] in "aeiou" else "a"
        print(f"No. With {article} {culprit}, {WOULD_SHOW[culprit]}. But {fact}")

    def source(self) -> None:
        """Prints the source, once somebody has been accused."""
        print(self._text() if self.accused else "The source is sealed. Read the evidence, then accuse somebody.")

    def replay(self, change: tuple[str, str] | None = None, *, fixed: bool = False) -> Leak:
        """Runs the loop again with one change: yours, as (old, new), or with `fixed` the one that mends it.

        Raises LabError where the old text does not stand exactly once in the source.
        """
        text = self._text()
        if fixed:
            change = self.change
        if change is not None:
            old, new = change
            if text.count(old) != 1:
                raise LabError(
                    f"{old!r} stands {text.count(old)} times in the source of case {self.number}.",
                    "A replay makes one change and no other.",
                    "Give a piece of the source that stands there once.",
                )
            text = text.replace(old, new)
        file = f"case_{self.number}.py"
        linecache.cache[file] = (len(text), None, text.splitlines(True), file)
        names = {**globals(), "weakref": weakref}
        exec(compile(text, file, "exec"), names)
        return find_leak(names[self.factory.__name__]())

    def _text(self) -> str:
        return inspect.getsource(self.factory)


def leak_case(number: str) -> Case:
    """A fresh case, "1" to "6". Raises LabError for others."""
    if str(number) not in CASES:
        raise LabError(f"There is no case {number!r}.", f"The cases are {', '.join(CASES)}.", "Take one of these.")
    symptom, factory, *change = CASES[str(number)]
    return Case(str(number), symptom, factory, Change(*change))


def small_model() -> nn.Sequential:
    """64 features in, 10 classes out; 150,568 bytes of parameters in float32."""
    return nn.Sequential(nn.Linear(64, 128), nn.ReLU(), nn.Linear(128, 10))


def validate():
    model = small_model()
    total = torch.zeros(())

    def step():
        nonlocal total
        x, y = torch.ones(256, 64), torch.zeros(256, dtype=torch.long)
        loss = nn.functional.cross_entropy(model(x), y)
        total += loss

    return step


def confusion():
    model = small_model()
    predictions = []

    def step():
        x = torch.ones(256, 64)
        logits = model(x)
        predictions.append(logits)

    return step


def watched():
    model = small_model()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
    norms = []

    def watch(module, inputs, output):
        norms.append(output)

    model[1].register_forward_hook(watch)

    def step():
        x, y = torch.ones(256, 64), torch.zeros(256, dtype=torch.long)
        optimizer.zero_grad()
        nn.functional.cross_entropy(model(x), y).backward()
        optimizer.step()

    return step


def linked():
    model = small_model()

    class Sample:
        def __init__(self, x):
            self.x = x
            self.view = View(self)

    class View:
        def __init__(self, sample):
            self.sample = sample
            self.features = model(sample.x)

    def step():
        x, y = torch.ones(256, 64), torch.zeros(256, dtype=torch.long)
        sample = Sample(x)
        nn.functional.cross_entropy(sample.view.features, y).backward()

    return step


def guarded():
    model = small_model()
    failures = []
    number = 0

    def train(x, y):
        loss = nn.functional.cross_entropy(model(x), y)
        if number % 2:
            raise FloatingPointError(f"loss is not finite in batch {number}")
        loss.backward()

    def step():
        nonlocal number
        number += 1
        try:
            train(torch.ones(256, 64), torch.zeros(256, dtype=torch.long))
        except FloatingPointError as error:
            failures.append(error)

    return step


def masked():
    model = small_model()
    masks = {}
    start = 0

    def causal_mask(length, start):
        key = (length, start)
        if key not in masks:
            masks[key] = torch.ones(length, length).tril()
        return masks[key]

    def step():
        nonlocal start
        x = torch.ones(256, 64)
        start += len(x)
        with torch.no_grad():
            return model(causal_mask(len(x), start) @ x).sum().item()

    return step


CASES = {
    "1": (
        "training runs for days; then somebody plots the norms of the activations, and it dies within the hour.",
        watched,
        "norms.append(output)",
        "norms.append(output.norm().item())",
    ),
    "2": (
        "validation dies after some thousand batches, though training needs far more memory and does not.",
        validate,
        "total += loss",
        "total += loss.item()",
    ),
    "3": (
        "a service survives bad batches, as it should; but after a day of bad data it runs out of memory.",
        guarded,
        "failures.append(error)",
        "failures.append(str(error))",
    ),
    "4": (
        "the evaluation collects predictions for a confusion matrix and dies before it has them all.",
        confusion,
        "predictions.append(logits)",
        "predictions.append(logits.argmax(1).tolist())",
    ),
    "5": (
        "a model that reads on in a long text is fine for the first pages and dies at some later one.",
        masked,
        "key = (length, start)",
        "key = length",
    ),
    "6": (
        "memory climbs for a while, falls back, climbs again; on some days it dies at the top.",
        linked,
        "self.sample = sample",
        "self.sample = weakref.proxy(sample)",
    ),
}
