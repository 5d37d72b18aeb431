"""Where a program names what it did not make in setup(): globals, closures, classes and their attributes.

Only code of yours is looked at, and only names that it uses. Found there, a lock of the program can be replaced
for the time of a run, wherever it was made and however it was imported.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from functools import cached_property, partial
from types import CellType, CodeType, FunctionType, MethodType, ModuleType

from labs_lib.race_conditions.visible import is_yours

MOST_ITEMS = 1000  # of a list or dictionary that is looked through
Place = tuple[object, Callable[[object], None] | None]  # a value, and what puts another one there


def places(roots: Iterable[object]) -> Iterator[Place]:
    """Each place that the roots lead to and that can be set, once."""
    waiting, seen = list(roots), {}
    while waiting:
        holder = waiting.pop()
        if id(holder) in seen:
            continue
        seen[id(holder)] = holder  # keeps it, so that its id is not given to another one
        for value, put in _held_by(holder):
            if put is not None:
                yield value, put
            waiting.append(value)


def _held_by(holder: object) -> list[Place]:
    match holder:
        case FunctionType():
            return _named_in(holder) if is_yours(holder.__code__) else []
        case MethodType():
            return [(holder.__func__, None), (holder.__self__, None)]
        case partial():
            return [(value, None) for value in (holder.func, *holder.args, *holder.keywords.values())]
        case staticmethod() | classmethod():
            return [(holder.__func__, None)]
        case property():
            return [(holder.fget, None)]
        case cached_property():  # up to Python 3.11 it holds a lock
            return _items(vars(holder))
        case type():
            values = [(value, partial(setattr, holder, name)) for name, value in list(vars(holder).items())]
            return [*values, *((base, None) for base in holder.__bases__)] if _is_your_class(holder) else []
        case dict():
            return _items(holder) if len(holder) <= MOST_ITEMS else []
        case list():
            return [(value, partial(holder.__setitem__, i)) for i, value in enumerate(holder[:MOST_ITEMS])]
        case tuple():
            return [(value, None) for value in holder[:MOST_ITEMS]]
    if hasattr(holder, "__dict__") and _is_your_class(type(holder)):
        return [*_items(vars(holder)), (type(holder), None)]
    return []


def _named_in(function: FunctionType) -> list[Place]:
    """The globals, attributes of your modules, variables from around it and defaults that a function uses."""
    names = set(_names(function.__code__))
    modules = [function.__globals__]
    modules += [vars(value) for name in names if isinstance(value := modules[0].get(name), ModuleType)]
    found = [
        (module[name], partial(module.__setitem__, name)) for module in modules for name in names if name in module
    ]
    found += [
        (cell.cell_contents, partial(setattr, cell, "cell_contents"))
        for cell in function.__closure__ or ()
        if _is_bound(cell)
    ]
    return [*found, *((value, None) for value in function.__defaults__ or ())]


def _names(code: CodeType) -> Iterator[str]:
    yield from code.co_names
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            yield from _names(constant)


def _items(names: dict) -> list[Place]:
    return [(value, partial(names.__setitem__, name)) for name, value in list(names.items())]


def _is_your_class(kind: type) -> bool:
    return any(isinstance(value, FunctionType) and is_yours(value.__code__) for value in vars(kind).values())


def _is_bound(cell: CellType) -> bool:
    try:
        cell.cell_contents  # noqa: B018
    except ValueError:
        return False
    return True
