"""A model of PyTorch's caching allocator for CUDA: why more is reserved than allocated, and what can go back.

Asking the driver for memory (`cudaMalloc`) is slow and waits for the GPU. So PyTorch takes *segments*, cuts
*spans* out of them for tensors, and keeps a span when its tensor dies. Three numbers follow, each at least as
large as the one before:

    requested   what tensors asked for
    allocated   what they got: rounded up, and the whole span where the rest is too small to be cut off
    reserved    the segments, used or not; what `nvidia-smi` sees, beside the CUDA context

Everything here is *modelled*, after PyTorch's source (see `segments`). Left out: streams, CUDA graphs' private
pools, and the options of `PYTORCH_ALLOC_CONF` but one.
"""

from __future__ import annotations

from bisect import insort
from collections.abc import Iterable
from dataclasses import dataclass

from labs_lib.errors import LabError
from labs_lib.gpu_memory.segments import (
    GIB,
    MIN_BLOCK,
    SMALL,
    Segment,
    Span,
    pages,
    rounded,
    segment_size,
    whole_pages,
)
from labs_lib.gpu_memory.trace import Trace
from labs_lib.units import size_text


class OutOfMemory(LabError):
    """The modelled device has not enough memory left, even after the allocator gave back all it could."""


@dataclass(frozen=True)
class Request:
    """One call to the allocator: action "allocate", "free" or "empty_cache"."""

    action: str
    name: str = ""
    size: int = 0  # bytes asked for; only of "allocate"

    def __str__(self) -> str:
        size = f" {size_text(self.size)}" if self.size else ""
        return f"{self.action} {self.name}{size}".rstrip()


class CachingAllocator:
    """The state of one GPU's allocator, named tensors instead of pointers.

    >>> gpu = CachingAllocator(capacity=64 * 2**20)
    >>> gpu.allocate("a", 3 * 2**20)
    >>> size_text(gpu.allocated), size_text(gpu.reserved)
    ('3.00 MiB', '20.00 MiB')
    >>> gpu.free("a")
    >>> size_text(gpu.allocated), size_text(gpu.reserved)
    ('0.0 KiB', '20.00 MiB')
    >>> size_text(gpu.empty_cache()), size_text(gpu.reserved)
    ('20.00 MiB', '0.0 KiB')

    With `expandable` each pool is one segment that grows at its end, page by page, as with
    `PYTORCH_ALLOC_CONF=expandable_segments:True`: free pages can go back from the middle of it. (The model
    does not map pages again where they were; addresses are plenty.)
    """

    def __init__(self, capacity: int = 16 * GIB, expandable: bool = False) -> None:
        self.capacity, self.expandable = capacity, expandable
        self.segments: list[Segment] = []
        self.requested = self.allocated = self.reserved = 0
        self.peak_allocated = self.peak_reserved = 0
        self._places: dict[str, tuple[Segment, Span]] = {}

    @property
    def largest_free(self) -> int:
        """The largest free span: what one request of the right pool could get without the driver."""
        return max((span.size for _, span in self._free_spans()), default=0)

    @property
    def stuck(self) -> int:
        """Free bytes that `empty_cache` cannot give back, because a tensor lies in the same segment (or page)."""
        if self.expandable:
            return sum(span.size - whole_pages(segment, span)[1] for segment, span in self._free_spans())
        return sum(segment.free for segment in self.segments if not segment.idle)

    def allocate(self, name: str, size: int) -> None:
        """Finds room for a tensor of `size` bytes: the smallest free span that is enough, else a new segment.

        Where the driver has no room for that, whole free segments go back to it and it is asked once more.
        Raises OutOfMemory when even that fails, and LabError for a name in use or a negative size.
        """
        if not name or size < 0 or name in self._places:
            raise LabError(
                f"Cannot allocate {size} bytes as {name!r}.",
                "A tensor needs a name that no living one has, and a size.",
                "Free the other one first, or take another name.",
            )
        if size == 0:
            return
        need = rounded(size)
        pool = "small" if need <= SMALL else "large"
        segment, span = self._best_fit(pool, need) or self._grow(pool, need)
        self._cut(segment, span, need)
        span.name, span.requested = name, size
        self._places[name] = segment, span
        self.requested += size
        self.allocated += span.size
        self.peak_allocated = max(self.peak_allocated, self.allocated)

    def free(self, name: str) -> None:
        """Frees the tensor's span; the segment stays reserved. Raises LabError for an unknown name."""
        if name not in self._places:
            raise LabError(f"There is no tensor {name!r}.", "It was never allocated, or freed before.", "Check it.")
        segment, span = self._places.pop(name)
        self.requested -= span.requested
        self.allocated -= span.size
        segment.free_span(span)

    def empty_cache(self) -> int:
        """Gives back to the driver what no tensor uses: whole segments, or whole pages. Returns the bytes."""
        before = self.reserved
        if self.expandable:
            for segment, span in list(self._free_spans()):
                start, size = whole_pages(segment, span)
                rests = [Span(span.start, start - span.start), Span(start + size, span.end - start - size)]
                segment.spans.remove(span)
                for rest in rests if size else [span]:
                    if rest.size:
                        insort(segment.spans, rest)
            self.segments = [segment for segment in self.segments if segment.spans]
        else:
            self.segments = [segment for segment in self.segments if not segment.idle]
        self.reserved = sum(segment.size for segment in self.segments)
        return before - self.reserved

    def do(self, request: Request) -> None:
        """Carries out one request. Raises as the method of that name does."""
        if request.action == "allocate":
            self.allocate(request.name, request.size)
        elif request.action == "free":
            self.free(request.name)
        elif request.action == "empty_cache":
            self.empty_cache()
        else:
            raise LabError(f"{request.action!r} is no action.", "", "Take allocate, free or empty_cache.")

    def _free_spans(self) -> Iterable[tuple[Segment, Span]]:
        return ((segment, span) for segment in self.segments for span in segment.spans if not span.name)

    def _best_fit(self, pool: str, need: int) -> tuple[Segment, Span] | None:
        """The smallest free span of the pool that is enough; of equals, the one that was reserved first."""
        fitting = [pair for pair in self._free_spans() if pair[0].pool == pool and pair[1].size >= need]
        return min(fitting, key=lambda pair: pair[1].size, default=None)

    def _grow(self, pool: str, need: int) -> tuple[Segment, Span]:
        """A new segment, or new pages at the end of the expandable one."""
        segment = next((s for s in self.segments if s.pool == pool), None) if self.expandable else None
        tail = segment.spans[-1] if segment and not segment.spans[-1].name else None
        more = pages(pool, need - (tail.size if tail else 0)) if self.expandable else segment_size(need)
        if self.reserved + more > self.capacity:
            if self.empty_cache():
                return self._grow(pool, need)
            raise self._out_of_memory(more)
        if segment is None:
            segment = Segment(pool, [Span(0, more)])
            self.segments.append(segment)
        elif tail:
            tail.size += more
        else:
            segment.spans.append(Span(segment.spans[-1].end, more))
        self.reserved += more
        self.peak_reserved = max(self.peak_reserved, self.reserved)
        return segment, segment.spans[-1]

    def _cut(self, segment: Segment, span: Span, need: int) -> None:
        """Cuts the rest off a span, if it is large enough to be of use to somebody."""
        rest = span.size - need
        if rest >= MIN_BLOCK if segment.pool == "small" or self.expandable else rest > SMALL:
            span.size = need
            insort(segment.spans, Span(span.end, rest))

    def _out_of_memory(self, more: int) -> OutOfMemory:
        unused = self.reserved - self.allocated
        return OutOfMemory(
            f"Out of memory: {size_text(more)} more do not fit into {size_text(self.capacity)} (modelled).",
            f"{size_text(self.allocated)} are allocated, {size_text(self.capacity - self.reserved)} not reserved, and "
            f"{size_text(unused)} reserved but free, in pieces of at most {size_text(self.largest_free)}.",
            "Free tensors; or where the free pieces would be enough together, try expandable segments.",
        )


def serve(requests: Iterable[Request], capacity: int = 16 * GIB, expandable: bool = False) -> CachingAllocator:
    """An allocator after all the requests. Raises OutOfMemory where they do not fit.

    >>> serve([Request("allocate", "a", 5), Request("allocate", "b", 600), Request("free", "a")]).allocated
    1024
    """
    allocator = CachingAllocator(capacity, expandable)
    for request in requests:
        allocator.do(request)
    return allocator


def requests_of(trace: Trace, again: bool = False) -> list[Request]:
    """What a traced step asks of an allocator: its blocks, each under the number that it has in the trace.

    With `again`, what the step asks for when it is run once more: first everything is freed that it left behind,
    and what had been there before and stayed is not asked for.
    """
    blocks, lasting, left = trace.blocks, set(), []
    for i, block in enumerate(blocks):
        if again and block.died is None:
            lasting |= {i} if block.born == 0 else set()
            left += [i] if block.born else []
    events = [(block.born, 1, i) for i, block in enumerate(blocks)]
    events += [(block.died, 0, i) for i, block in enumerate(blocks) if block.died is not None]
    # What dies before an operator is freed before its results are born: 0 is less than 1.
    return [Request("free", str(i)) for i in left if blocks[i].size] + [
        Request("allocate", str(i), blocks[i].size) if birth else Request("free", str(i))
        for _, birth, i in sorted(events)
        if blocks[i].size and i not in lasting
    ]
