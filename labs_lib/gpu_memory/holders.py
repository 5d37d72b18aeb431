"""Who holds a tensor: the way from it up to a name, and the kind of mistake that such a way betrays.

Python's collector knows which object refers to which, so a search from a tensor upwards ends at a name: a
global variable, a variable that a function closes over, an attribute of a module. What autograd saves for
the backward pass stands in no Python object: it hangs on the tensor whose graph reaches the node that saved it.
"""

from __future__ import annotations

import functools
import gc
import inspect
import sys
import types
from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import torch
from torch.utils._python_dispatch import _disable_current_modes

from labs_lib.gpu_memory.hooks import Hooks

GRAPH, LIST, HOOK, CYCLE, TRACEBACK, CACHE = "graph", "list", "hook", "cycle", "traceback", "cache"
OTHER = "other"
NOBODY = "nothing that Python's collector knows"
WIDTH = 20_000  # after so many objects a search gives up
CONTAINERS = list | dict | set | deque


@dataclass(frozen=True)
class Holder:
    """The way from a name down to a tensor, and the mistake that it betrays."""

    culprit: str  # GRAPH, LIST, HOOK, CYCLE, TRACEBACK, CACHE, or OTHER
    root: str  # such as "variable `history` of `step`"
    way: tuple[str, ...]  # from the root down, such as ("list of 12", "tensor")

    def __str__(self) -> str:
        return " -> ".join((self.root, *self.way))


def living(*kinds: type) -> list[list]:
    """All objects of each class that the collector knows. (`isinstance` would wake up lazy objects.)"""
    things = gc.get_objects()
    known = set(map(type, things))
    wanted = [{some for some in known if issubclass(some, kind)} for kind in kinds]
    either = set().union(*wanted)
    found = [thing for thing in things if type(thing) in either]
    return [[thing for thing in found if type(thing) in some] for some in wanted]


def storage_of(tensor: torch.Tensor) -> int | None:
    """The number of the storage behind a tensor; None where it has not exactly one, as sparse tensors."""
    return tensor.untyped_storage()._cdata if tensor.layout is torch.strided else None


def saved_below(tensor: torch.Tensor) -> dict[int, str]:
    """Storages that the graph below a tensor holds for the backward pass, with the node that saved each."""
    found: dict[int, str] = {}
    seen: set[object] = set()
    nodes = [tensor.grad_fn]
    while nodes:
        node = nodes.pop()
        if node is None or node in seen:
            continue
        seen.add(node)
        for saved in _saved(node):
            found.setdefault(storage_of(saved), type(node).__name__)
        nodes += [parent for parent, _ in node.next_functions]
    return found


def _saved(node: object) -> Iterator[torch.Tensor]:
    for name in dir(node):
        if name == "saved_tensors" or name.startswith("_saved_"):
            try:
                with _disable_current_modes():  # to unpack may run operators, on tensors that a mode can't take
                    value = getattr(node, name)
            except RuntimeError:  # freed by a backward pass, or changed since
                continue
            values = value if isinstance(value, tuple | list) else (value,)
            yield from (item for item in values if isinstance(item, torch.Tensor))


class Search:
    """Searches for holders; what one search has found shortens the next."""

    def __init__(self, modules: Iterable[torch.nn.Module]) -> None:
        self.hooks = Hooks(modules)
        self.known: dict[int, Holder] = {}  # objects on the ways found so far

    def holder_of(self, target: object, below: tuple[str, ...] = ()) -> Holder:
        """The shortest way from a name to the object; of equally short ones, the one from a hook.

        `below` says what hangs below the object. Nobody but the caller's one variable may hold the object for
        the sake of this search: a list of candidates would be found as its holder.
        """
        things, child = [target], [-1]  # what was found, and for each the position of what it refers to
        seen = {id(target)}
        first = 0
        while level := things[first:]:
            own = {id(things), id(level), *_frames_of_this_search()}
            position = {id(thing): first + i for i, thing in enumerate(level)}
            if number := next((number for number in position if number in self.known), None):
                return self.known[number]
            roots = []
            for above in gc.get_referrers(*level):
                if id(above) in own or id(above) in seen:
                    continue
                at = next((position[id(link)] for link in gc.get_referents(above) if id(link) in position), None)
                if at is None:
                    continue
                seen.add(id(above))
                things.append(above)
                child.append(at)
                # No name for this chain: as a list of what was found, the search would find it too.
                if root := _root(_chain(things, child, len(things) - 1), self.hooks):
                    roots.append((len(things) - 1, *root))
            if roots:
                place, name, betrays = min(roots, key=lambda root: root[2] != HOOK)
                chain = _chain(things, child, place)
                holder = Holder(betrays or betrayed(chain), name, (*labels(chain)[1:], *below))
                self.known |= {id(thing): holder for thing in chain[1:]}
                return holder
            first += len(level)
            if first > WIDTH:
                break
        return Holder(OTHER, NOBODY, below)


def _frames_of_this_search() -> set[int]:
    """They refer to what is looked at, and the search must not find itself."""
    found, frame = set(), sys._getframe(1)
    while frame is not None and frame.f_globals.get("__package__") == __package__:
        found.add(id(frame))
        frame = frame.f_back
    return found


def _chain(things: list[object], child: list[int], place: int) -> list[object]:
    chain = []
    while place >= 0:
        chain.append(things[place])
        place = child[place]
    return chain


def betrayed(chain: list[object]) -> str:
    """The mistake, by the objects on a way: a traceback, or else the fullest container."""
    if any(isinstance(thing, types.TracebackType) for thing in chain):
        return TRACEBACK
    containers = [thing for thing in _without_links(chain)[1:] if isinstance(thing, CONTAINERS)]
    if not containers:
        return OTHER
    return CACHE if isinstance(max(containers, key=len), dict) else LIST


def _without_links(chain: list[object]) -> list[object]:
    """The way without what only links: cells, closures, the dictionaries in which objects keep attributes."""
    kept = chain[:1]
    for thing in chain[1:]:
        links = (getattr(kept[-1], name, None) for name in ("__dict__", "__closure__", "__defaults__"))
        if not isinstance(thing, types.CellType) and not any(link is thing for link in links):
            kept.append(thing)
    return kept


def labels(chain: list[object]) -> list[str]:
    """The objects of a way in words, each with the name under which it leads to the next."""
    chain = _without_links(chain)
    return [_label(thing, below) for thing, below in zip(chain, [*chain[1:], None], strict=True)]


def _label(thing: object, below: object) -> str:
    if isinstance(thing, torch.Tensor):
        return "tensor"
    if isinstance(thing, CONTAINERS | tuple):
        return f"{type(thing).__name__} of {len(thing)}"
    if isinstance(thing, types.FrameType):
        name = _name_of(below, thing.f_locals)
        return f"frame of `{thing.f_code.co_name}`" + (f", its variable `{name}`" if name else "")
    if isinstance(thing, types.FunctionType | types.MethodType):
        return f"function `{thing.__name__}`"
    name = _name_of(below, getattr(thing, "__dict__", {}))
    return type(thing).__name__ + (f".{name}" if name else "")


def _name_of(value: object, names: dict[str, object]) -> str | None:
    return next((name for name, item in list(names.items()) if item is value), None)


def _root(chain: list[object], hooks: Hooks) -> tuple[str, str] | None:
    """(name, the mistake where the name alone tells) if the search may end at the first object of the chain."""
    thing, below = _without_links(chain)[:2]
    if isinstance(thing, types.FunctionType):
        name = f"{_variable(thing, below)} of `{thing.__name__}`"
        return (f"{name}, a {hooks.of(thing)}", HOOK) if hooks.of(thing) else (name, "")
    if hooks.of(thing):
        return f"{type(thing).__name__}, a {hooks.of(thing)}", HOOK
    if type(thing) is functools._lru_cache_wrapper:
        return f"the lru_cache of `{thing.__name__}`", CACHE
    if _is_globals(thing):
        name = _name_of(below, thing)
        where = "" if thing["__name__"] == "__main__" else f" of the module {thing['__name__']}"
        user = hooks.naming(name, thing)
        return f"global variable `{name}`{where}" + (f", named in a {user}" if user else ""), HOOK if user else ""
    if isinstance(thing, torch.nn.Module | type):
        kind = "class" if isinstance(thing, type) else "module"
        name = _name_of(below, vars(thing))
        return (f"attribute `{name}`" if name else "an attribute") + f" of the {kind} {_title(thing)}", ""
    return None


def _is_globals(thing: object) -> bool:
    """Whether it is the namespace of a module, or one that `exec` runs code in."""
    if not isinstance(thing, dict) or "__name__" not in thing:
        return False
    return "__builtins__" in thing or vars(sys.modules.get(thing["__name__"], type)) is thing


def _title(thing: object) -> str:
    return thing.__name__ if isinstance(thing, type) else type(thing).__name__


def _variable(function: types.FunctionType, below: object) -> str:
    for name, cell in zip(function.__code__.co_freevars, function.__closure__ or (), strict=True):
        if _content(cell) is below:
            return f"variable `{name}`"
    defaults = inspect.signature(function).parameters.values()
    name = next((parameter.name for parameter in defaults if parameter.default is below), None)
    return f"default argument `{name}`" if name else "an attribute"


def _content(cell: types.CellType) -> object:
    try:
        return cell.cell_contents
    except ValueError:  # a variable that has no value yet
        return None


def loop_above(tensor: torch.Tensor, garbage: Iterable[object]) -> tuple[str, ...]:
    """The first loop of references met on the way up from a tensor through unreachable objects, in words."""
    things = {id(thing): thing for thing in garbage}
    below = {number: [id(link) for link in gc.get_referents(thing)] for number, thing in things.items()}
    above: dict[int, list[int]] = {}
    for number, links in below.items():
        for link in links:
            above.setdefault(link, []).append(number)
    for start in _reached(id(tensor), above):
        ways = _reached(start, below)
        back = next((number for number in ways if start in below.get(number, ())), None)
        if back is None or start not in things:
            continue
        chain = [things[start]]
        while back != start:
            chain.insert(1, things[back])
            back = ways[back]
        return (*labels([*chain, things[start]])[:-1], type(things[start]).__name__)
    return ()


def _reached(start: int, links: dict[int, list[int]]) -> dict[int, int | None]:
    """What is reached from `start`, nearest first, each with the one it was reached from."""
    found: dict[int, int | None] = {start: None}
    queue = deque(found)
    while queue:
        number = queue.popleft()
        for link in links.get(number, ()):
            if link not in found:
                found[link] = number
                queue.append(link)
    return found
