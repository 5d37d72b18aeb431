"""What builds compiled kernels on this machine, and caches of a lab's own, so that "cold" is cold.

torch.compile ends in a C++ compiler on a CPU and in Triton, which needs one too, on a GPU. Everything
before that (capture, ATen graph, fusion, the text of the code) is Python and works without.
"""

from __future__ import annotations

import atexit
import logging
import os
import shutil
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from labs_lib import hardware

CACHE = "TORCHINDUCTOR_CACHE_DIR"
NOISY = ("torch._dynamo", "torch._inductor", "torch.utils.cpp_extension")


@dataclass(frozen=True)
class Toolchain:
    """What `prepare` found. `backend` is the name to give to torch.compile."""

    compiler: str | None
    backend: str
    seconds: float | None  # what the first kernel of this process took

    def __str__(self) -> str:
        if self.compiler is None:
            return (
                "No C++ compiler here. The graphs below are captured, fused and written as code all the same; "
                "only the compiled functions run unfused, so their times say nothing."
            )
        return f"Kernels are built by {self.compiler}. The first one took {self.seconds:.1f} s (measured)."


def prepare() -> Toolchain:
    """Gives this process a compile cache of its own, removed at its end, and builds a first kernel in it.

    That takes long once per user and machine: torch finds out what the compiler can do and precompiles its
    headers. After it, the first call of a compiled function costs only what that function needs. Where there
    is no C++ compiler, `backend` is "aot_eager": the captured graphs run operator by operator.
    """
    import torch

    start = time.perf_counter()
    _find_vector_instructions()
    folder = tempfile.mkdtemp(prefix="labs-compile-")
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    os.environ[CACHE] = folder
    forget_in_memory()
    compiler = hardware.compiler()
    if compiler is None:
        return Toolchain(None, "aot_eager", None)
    with quiet(), one_compile_thread(), torch.no_grad():
        torch.compile(torch.cos)(torch.ones(64))
    return Toolchain(compiler, "inductor", time.perf_counter() - start)


def _find_vector_instructions() -> None:
    """Builds what torch tries the compiler with, in the user's own cache: else each new cache takes seconds for it."""
    if hardware.compiler() is not None:
        from torch._inductor.cpu_vec_isa import valid_vec_isa_list  # remembers its answer while the process lives

        with quiet():
            valid_vec_isa_list()


@contextmanager
def cold_cache() -> Iterator[None]:
    """Within the block nothing that was compiled before is known, in memory or on disk."""
    before = os.environ.get(CACHE)
    _find_vector_instructions()  # where CACHE is not set, torch sets it
    with tempfile.TemporaryDirectory(prefix="labs-compile-", ignore_cleanup_errors=True) as folder:
        os.environ[CACHE] = folder
        forget_in_memory()
        try:
            yield
        finally:
            if before is None:
                del os.environ[CACHE]
            else:
                os.environ[CACHE] = before
            forget_in_memory()


def forget_in_memory() -> None:
    """Drops what this process knows of compiled functions; what is on disk stays, so the next call is warm."""
    import torch._inductor.utils

    torch._dynamo.reset()
    torch._inductor.utils.clear_caches()


@contextmanager
def one_compile_thread() -> Iterator[None]:
    """Kernels are built one after the other in this process: no workers are started that outlive the call."""
    from torch._inductor import config

    with config.patch(compile_threads=1):
        yield


@contextmanager
def quiet() -> Iterator[None]:
    """The logs of the compiler are kept from stderr: what matters of them a lab says in words."""
    levels = [(log, log.level) for log in map(logging.getLogger, NOISY)]
    for log, _ in levels:
        log.setLevel(logging.CRITICAL + 1)
    try:
        yield
    finally:
        for log, level in levels:
            log.setLevel(level)
