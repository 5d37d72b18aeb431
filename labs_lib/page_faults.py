"""Page faults: how often the operating system had to bring memory in.

Memory that is new to a process gets a real page at its first touch, by a trip into the kernel: a minor
fault. A page has 4 KiB on most machines; where the system gives huge pages, one fault brings 2 MiB.
Faults are measured, not counted: they depend on what the heap went through before.
"""

from __future__ import annotations

from collections.abc import Callable


def faults_so_far() -> int | None:
    """Minor page faults of this process since it started; None where the system does not tell (Windows)."""
    try:
        from resource import RUSAGE_SELF, getrusage
    except ImportError:
        return None
    return getrusage(RUSAGE_SELF).ru_minflt


def page_faults(fn: Callable[..., object], *inputs: object) -> int | None:
    """Minor page faults of the process during one call of `fn(*inputs)`, after a first call; None on Windows.

    Those of other threads are among them.

    >>> faults = page_faults(lambda: None)
    >>> faults is None or faults >= 0
    True
    """
    fn(*inputs)
    before = faults_so_far()
    fn(*inputs)
    after = faults_so_far()
    return None if before is None or after is None else after - before
