"""Segments and spans: how PyTorch's caching allocator cuts up the memory that it takes from the driver.

The constants are those of `c10/core/AllocatorConfig.h`, the rules those of `c10/cuda/CUDACachingAllocator.cpp`
(PyTorch 2.15). A test compares the constants with the header of the installed PyTorch.
"""

from __future__ import annotations

from dataclasses import dataclass, field

KIB, MIB, GIB = 2**10, 2**20, 2**30
MIN_BLOCK = 512  # kMinBlockSize: sizes are rounded up to a multiple of it
SMALL = MIB  # kSmallSize: requests up to here share small segments
SMALL_SEGMENT = 2 * MIB  # kSmallBuffer
LARGE_SEGMENT = 20 * MIB  # large_segment_size: what a large request below MIN_LARGE takes from the driver
MIN_LARGE = 10 * MIB  # kMinLargeAlloc: from here on a request gets a segment of its own size
ROUND_LARGE = 2 * MIB  # kRoundLarge: rounded up to a multiple of this


@dataclass(order=True)
class Span:
    """A piece of a segment. Without a name it is free."""

    start: int  # bytes from the segment's start
    size: int
    name: str = field(default="", compare=False)
    requested: int = field(default=0, compare=False)

    @property
    def end(self) -> int:
        return self.start + self.size


@dataclass
class Segment:
    """Memory that one `cudaMalloc` returned; its spans in order of address. An expandable one may have holes."""

    pool: str  # "small" or "large"
    spans: list[Span]

    @property
    def size(self) -> int:
        return sum(span.size for span in self.spans)

    @property
    def free(self) -> int:
        return sum(span.size for span in self.spans if not span.name)

    @property
    def idle(self) -> bool:
        """Whether no tensor lies in it: only such a segment can go back to the driver."""
        return self.free == self.size

    def free_span(self, span: Span) -> None:
        """Frees the span and joins it with its free neighbours."""
        span.name, span.requested = "", 0
        joined: list[Span] = []
        for piece in self.spans:
            if joined and not piece.name and not joined[-1].name and joined[-1].end == piece.start:
                joined[-1].size += piece.size
            else:
                joined.append(piece)
        self.spans = joined


def rounded(size: int) -> int:
    """Bytes that a request is rounded up to.

    >>> [rounded(size) for size in (1, 512, 513)]
    [512, 512, 1024]
    """
    return _up(size, MIN_BLOCK)


def segment_size(need: int) -> int:
    """Bytes taken from the driver when no free span is enough for `need` bytes.

    >>> [segment_size(need * MIB) // MIB for need in (1, 2, 9, 10, 11)]
    [2, 20, 20, 10, 12]
    """
    if need <= SMALL:
        return SMALL_SEGMENT
    return LARGE_SEGMENT if need < MIN_LARGE else _up(need, ROUND_LARGE)


def _up(size: int, unit: int) -> int:
    return -(-size // unit) * unit


def _page(pool: str) -> int:
    return SMALL_SEGMENT if pool == "small" else LARGE_SEGMENT


def pages(pool: str, size: int) -> int:
    """Bytes rounded up to whole pages of an expandable segment."""
    return _up(size, _page(pool))


def whole_pages(segment: Segment, span: Span) -> tuple[int, int]:
    """Start and size of the whole pages inside a span of an expandable segment."""
    start = pages(segment.pool, span.start)
    return start, max(0, span.end // _page(segment.pool) * _page(segment.pool) - start)
