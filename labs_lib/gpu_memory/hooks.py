"""Which functions are hooks of modules: what stands in their registries, with the objects behind methods."""

from __future__ import annotations

import functools
import types
from collections.abc import Iterable

import torch


class Hooks:
    """What is registered as a hook of any of these modules."""

    def __init__(self, modules: Iterable[torch.nn.Module]) -> None:
        self.known: dict[int, str] = {}
        self.functions: list[types.FunctionType] = []
        for module in modules:
            for registry, hooks in list(vars(module).items()):
                if registry.endswith("_hooks") and isinstance(hooks, dict):
                    kind = registry.strip("_").removesuffix("s").replace("_", " ")
                    for hook in hooks.values():
                        self.add(hook, f"{kind} of {type(module).__name__}")

    def add(self, hook: object, what: str) -> None:
        """The hook itself, what a partial wraps, and the object whose method it is."""
        while isinstance(hook, functools.partial):
            self.known[id(hook)] = what
            hook = hook.func
        owner = getattr(hook, "__self__", None)
        for thing in (hook, owner):
            if thing is not None and not isinstance(thing, torch.nn.Module):
                self.known[id(thing)] = what
        function = getattr(hook, "__func__", hook)
        if isinstance(function, types.FunctionType):
            self.functions.append(function)

    def of(self, thing: object) -> str:
        """What hook it is, such as "forward hook of Linear"; "" for others."""
        return self.known.get(id(thing), "")

    def naming(self, variable: str | None, namespace: dict) -> str:
        """A hook whose code names this global variable."""
        for function in self.functions:
            if function.__globals__ is namespace and variable in function.__code__.co_names:
                return self.known.get(id(function), "hook")
        return ""
