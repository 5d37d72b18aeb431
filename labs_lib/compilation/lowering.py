"""From a captured graph to the text of its kernels, without building them.

Inductor is stopped at the moment at which it has written the code and would hand it to the compiler. So what it
fuses can be read and counted on any machine, with or without a compiler.
"""

from __future__ import annotations

import copy
import re
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from math import prod
from typing import TYPE_CHECKING
from unittest import mock

from labs_lib import hardware

if TYPE_CHECKING:
    import torch

# In the body of the generated `call`: kernels that Inductor wrote, and calls into libraries.
WRITTEN = re.compile(r"^\s+(?:\w+ = )?((?:cpp|triton)_\w+)(?:\.run)?\(", re.MULTILINE)
LIBRARY = re.compile(r"^\s+(?:\w+ = )?((?:extern_kernels|torch\.ops|aten)\.[\w.]+)\(", re.MULTILINE)
SOURCE = re.compile(r"^{name} = async_compile\.\w+\(.*?r?'''\n(.*?)'''", re.MULTILINE | re.DOTALL)


@dataclass(frozen=True)
class Lowered:
    """One graph on its way through the compiler."""

    operations: tuple[str, ...]  # of the graph as Dynamo captured it
    captured: str  # that graph as Python code
    aten: tuple[str, ...]  # of the functional ATen graph that Inductor works on
    functional: str  # that graph as Python code
    kernels: tuple[str, ...]  # that Inductor wrote, one name for each launch
    library_calls: tuple[str, ...]  # into kernels that somebody else wrote, such as a matrix product
    bytes: int  # read and written after fusion, as Inductor counts them
    least_bytes: int  # each input that is used read once, each output written once
    code: str  # the whole generated module

    def source(self, kernel: str) -> str:
        """The text of one kernel: C++ with OpenMP on a CPU, Triton on a GPU."""
        pattern = SOURCE.pattern.replace("{name}", re.escape(kernel))
        found = re.search(pattern, self.code, SOURCE.flags)
        return found[1] if found else ""


class _CodeIsWritten(Exception):
    """Carries the finished GraphLowering out of Inductor."""


def lower(graph: torch.fx.GraphModule, inputs: list[object], mode: str | None = None) -> Lowered:
    """What Inductor makes of a graph that Dynamo has captured, called as a backend with the same arguments.

    `mode` is torch.compile's, such as "reduce-overhead".
    Raises whatever Inductor raises for a graph that it can't lower.
    """
    import torch
    from torch._inductor.compile_fx import compile_fx
    from torch._inductor.graph import GraphLowering

    stopped: list[tuple[GraphLowering, str, int]] = []

    def stop(lowering: GraphLowering) -> None:
        code = lowering.codegen()[0]
        stopped.append((lowering, getattr(code, "value", code), lowering.count_bytes()[0]))
        raise _CodeIsWritten

    with _no_build(mode), mock.patch.object(GraphLowering, "compile_to_module", stop):
        try:
            compile_fx(copy.deepcopy(graph), list(inputs))
        except Exception:
            if not stopped:
                raise
    operations = tuple(_called(node) for node in graph.graph.nodes if _computes(node))
    if not stopped:  # Inductor has nothing to do where nothing is computed
        return Lowered(operations, graph.code, (), "", (), (), 0, 0, "")
    lowering, code, size = stopped[0]
    nodes = list(lowering.module.graph.nodes)
    body = code[code.index("def call(") :].partition("\ndef ")[0]
    outputs = torch.utils._pytree.tree_leaves(nodes[-1].args)
    used = [node for node in nodes if node.op in ("placeholder", "get_attr") and node.users]
    made = [node for node in outputs if isinstance(node, torch.fx.Node) and node.op == "call_function"]
    return Lowered(
        operations,
        captured=graph.code,
        aten=tuple(_called(node) for node in nodes if _computes(node)),
        functional=lowering.module.code,
        kernels=tuple(WRITTEN.findall(body)),
        library_calls=tuple(LIBRARY.findall(body)),
        bytes=int(size),
        least_bytes=_bytes(used) + _bytes(made),
        code=code,
    )


@contextmanager
def _no_build(mode: str | None) -> Iterator[None]:
    """No cache answers in place of the compiler, and without a compiler Inductor does not look for one."""
    from torch._functorch import config as autograd_config
    from torch._inductor import config, list_mode_options

    options: dict[str, object] = list_mode_options(mode) if mode else {}
    options |= {"fx_graph_cache": False, "compile_threads": 1}
    if hardware.compiler() is None:
        # Inductor asks the compiler's version before it writes C++; any program that answers will do.
        options |= {"cpp.cxx": (sys.executable,), "cpp.vec_isa_ok": True}
    with ExitStack() as patches:
        patches.enter_context(config.patch(options))
        patches.enter_context(autograd_config.patch(enable_autograd_cache=False))
        yield


def _computes(node: torch.fx.Node) -> bool:
    return node.op in ("call_function", "call_method", "call_module")


def _called(node: torch.fx.Node) -> str:
    return node.target if isinstance(node.target, str) else getattr(node.target, "__name__", str(node.target))


def _bytes(nodes: list[torch.fx.Node]) -> int:
    """Bytes of the tensors that the nodes stand for; a size that may vary counts as it was in this call."""
    import torch

    total = 0
    for value in (node.meta.get("val") for node in nodes):
        if isinstance(value, torch.Tensor):
            sizes = (size.node.hint if isinstance(size, torch.SymInt) else size for size in value.shape)
            total += prod(sizes) * value.element_size()
    return total
