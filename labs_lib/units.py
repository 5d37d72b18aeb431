"""Numbers with their units, as text."""

from __future__ import annotations


def size_text(size: float) -> str:
    """Bytes in KiB below 1 MiB, in MiB below 1 GiB, in GiB above.

    >>> [size_text(size) for size in (1536, 2**20, 3 * 2**30)]
    ['1.5 KiB', '1.00 MiB', '3.00 GiB']
    """
    for unit, bytes_of in (("GiB", 2**30), ("MiB", 2**20)):
        if abs(size) >= bytes_of:
            return f"{size / bytes_of:,.2f} {unit}"
    return f"{size / 2**10:,.1f} KiB"


def time_text(seconds: float) -> str:
    """Seconds to three digits, in the unit that suits them.

    >>> [time_text(seconds) for seconds in (2.5, 0.00314, 0.9996e-3, 3e-8)]
    ['2.5 s', '3.14 ms', '1 ms', '30 ns']
    """
    for unit, size in (("s", 1), ("ms", 1e-3), ("us", 1e-6)):
        if seconds >= 0.9995 * size:  # else three digits would round up to 1000 of the smaller unit
            return f"{seconds / size:.3g} {unit}"
    return f"{seconds * 1e9:.0f} ns"
