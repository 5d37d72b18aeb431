"""Page faults: how often a function made the operating system bring in memory."""

from __future__ import annotations

from collections.abc import Callable


def page_faults(fn: Callable[..., object], *inputs: object) -> int | None:
    """Minor page faults of this process during one call of `fn(*inputs)`, after a first call.

    Memory that is new to a process is mapped to a real page at its first touch, by a trip into the kernel.
    A page has 4 KiB on most machines; where the system gives huge pages, one fault brings in 2 MiB. None
    where the system does not count them (Windows).

    >>> page_faults(lambda: None) in (None, 0)
    True
    """
    try:
        from resource import RUSAGE_SELF, getrusage
    except ImportError:
        return None
    fn(*inputs)
    before = getrusage(RUSAGE_SELF).ru_minflt
    fn(*inputs)
    return getrusage(RUSAGE_SELF).ru_minflt - before
