import re
from itertools import pairwise
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from labs_lib.errors import LabError
from labs_lib.gpu_memory import segments as model
from labs_lib.gpu_memory.caching_allocator import CachingAllocator, OutOfMemory, Request, requests_of, serve
from labs_lib.gpu_memory.segments import KIB, MIB
from labs_lib.gpu_memory.trace import Block, Trace

HEADER = Path(torch.__file__).parent / "include/c10/core/AllocatorConfig.h"


def spans(allocator):
    """(segment, start, size, name) of every span, sizes in MiB."""
    return [
        (number, span.start / MIB, span.size / MIB, span.name)
        for number, segment in enumerate(allocator.segments)
        for span in segment.spans
    ]


def allocated(*sizes, capacity=1000 * MIB, expandable=False):
    """An allocator that holds tensors a, b, c, ... of these sizes in bytes."""
    requests = [Request("allocate", name, size) for name, size in zip("abcdefghijklmnop", sizes, strict=False)]
    return serve(requests, capacity, expandable)


@pytest.mark.skipif(not HEADER.exists(), reason="PyTorch 2.8 has the constants in its source alone, in no header")
def test_the_constants_are_those_of_the_installed_pytorch():
    text = HEADER.read_text()
    found = {name: int(value) for name, value in re.findall(r"constexpr size_t (k\w+) = (\d+);", text)}
    assert found["kMinBlockSize"] == model.MIN_BLOCK
    assert found["kSmallSize"] == model.SMALL
    assert found["kSmallBuffer"] == model.SMALL_SEGMENT
    assert found["kMinLargeAlloc"] == model.MIN_LARGE
    assert found["kRoundLarge"] == model.ROUND_LARGE


def test_small_tensors_share_a_segment_of_2_mib():
    gpu = allocated(100, 1000, MIB)
    assert (gpu.requested, gpu.allocated, gpu.reserved) == (1100 + MIB, 512 + 1024 + MIB, 2 * MIB)
    assert [span.size for span in gpu.segments[0].spans] == [512, 1024, MIB, MIB - 1536]


def test_a_tensor_of_1_to_10_mib_takes_20_and_the_rest_serves_others():
    gpu = allocated(9 * MIB, 9 * MIB)
    assert spans(gpu) == [(0, 0, 9, "a"), (0, 9, 9, "b"), (0, 18, 2, "")]


def test_a_rest_of_1_mib_or_less_is_not_cut_off_but_counts_as_allocated():
    gpu = allocated(11 * MIB)
    assert spans(gpu) == [(0, 0, 12, "a")]
    assert (gpu.requested, gpu.allocated) == (11 * MIB, 12 * MIB)


def test_small_and_large_tensors_never_share_a_segment():
    gpu = allocated(3 * MIB, MIB)
    assert [segment.pool for segment in gpu.segments] == ["large", "small"]


def test_the_smallest_span_that_is_enough_is_taken():
    gpu = allocated(30 * MIB, 20 * MIB)
    gpu.free("a")
    gpu.free("b")
    gpu.allocate("c", 15 * MIB)
    assert spans(gpu) == [(0, 0, 30, ""), (1, 0, 15, "c"), (1, 15, 5, "")]


def test_free_neighbours_are_joined():
    gpu = allocated(5 * MIB, 5 * MIB, 5 * MIB, 5 * MIB)
    for name in "ac":
        gpu.free(name)
    assert gpu.largest_free == 5 * MIB
    gpu.free("b")
    assert spans(gpu) == [(0, 0, 15, ""), (0, 15, 5, "d")]


def test_empty_cache_gives_back_whole_segments_only():
    gpu = allocated(5 * MIB, 5 * MIB, 40 * MIB)
    gpu.free("a")
    gpu.free("c")
    assert (gpu.reserved, gpu.stuck) == (60 * MIB, 15 * MIB)
    assert gpu.empty_cache() == 40 * MIB
    assert (gpu.allocated, gpu.reserved, gpu.stuck) == (5 * MIB, 20 * MIB, 15 * MIB)
    assert gpu.empty_cache() == 0


def test_before_it_gives_up_it_gives_back_and_asks_again():
    gpu = allocated(40 * MIB, capacity=64 * MIB)
    gpu.free("a")
    gpu.allocate("b", 60 * MIB)
    assert (gpu.allocated, gpu.reserved, gpu.peak_reserved) == (60 * MIB, 60 * MIB, 60 * MIB)


# Four times a temporary, a result that is kept, a temporary; then the temporaries go.
SCATTERED = [
    Request("allocate", f"{name}{i}", size * MIB) for i in range(4) for name, size in (("t", 8), ("kept", 4), ("u", 8))
]
SCATTERED += [Request("free", f"{name}{i}") for i in range(4) for name in "tu"]


def test_enough_is_free_and_yet_out_of_memory():
    gpu = serve(SCATTERED, capacity=80 * MIB)
    with pytest.raises(OutOfMemory) as error:
        gpu.allocate("large", 16 * MIB)
    assert str(error.value).splitlines() == [
        "Out of memory: 16.00 MiB more do not fit into 80.00 MiB (modelled).",
        "16.00 MiB are allocated, 0.0 KiB not reserved, and 64.00 MiB reserved but free, in pieces of at most "
        "8.00 MiB.",
        "Free tensors; or where the free pieces would be enough together, try expandable segments.",
    ]
    assert (gpu.allocated, gpu.reserved, gpu.stuck) == (16 * MIB, 80 * MIB, 64 * MIB)  # nothing has changed


def test_expandable_segments_grow_in_one_piece_and_give_back_pages_from_the_middle():
    gpu = allocated(15 * MIB, 30 * MIB, 15 * MIB, capacity=80 * MIB, expandable=True)
    assert spans(gpu) == [(0, 0, 15, "a"), (0, 15, 30, "b"), (0, 45, 15, "c")]
    gpu.free("b")
    assert (gpu.reserved, gpu.stuck) == (60 * MIB, 10 * MIB)
    assert gpu.empty_cache() == 20 * MIB
    assert spans(gpu) == [(0, 0, 15, "a"), (0, 15, 5, ""), (0, 40, 5, ""), (0, 45, 15, "c")]
    gpu.allocate("d", 33 * MIB)
    assert spans(gpu)[-2:] == [(0, 60, 33, "d"), (0, 93, 7, "")]
    assert gpu.reserved == 80 * MIB
    gpu.free("c")
    assert spans(gpu)[1:3] == [(0, 15, 5, ""), (0, 40, 20, "")]  # the hole keeps them apart


def test_an_expandable_segment_uses_up_its_tail_and_cuts_off_every_rest():
    gpu = allocated(15 * MIB, 25 * MIB - 512, expandable=True)
    assert gpu.reserved == 40 * MIB
    assert [span.size for span in gpu.segments[0].spans] == [15 * MIB, 25 * MIB - 512, 512]


def test_expandable_segments_fit_where_fixed_ones_fail_but_not_everything():
    gpu = serve([*SCATTERED, Request("allocate", "large", 16 * MIB)], capacity=80 * MIB, expandable=True)
    assert (gpu.allocated, gpu.reserved) == (32 * MIB, 80 * MIB)
    with pytest.raises(OutOfMemory, match=r"in pieces of at most 16\.00 MiB"):
        gpu.allocate("larger", 24 * MIB)


def test_nothing_is_nothing():
    gpu = allocated(0)
    assert (gpu.allocated, gpu.reserved, gpu.largest_free, gpu.empty_cache()) == (0, 0, 0, 0)


@pytest.mark.parametrize(
    ("request_", "says"),
    [
        (Request("allocate", "a", 5), "Cannot allocate 5 bytes as 'a'."),
        (Request("allocate", "", 5), "Cannot allocate 5 bytes as ''."),
        (Request("allocate", "z", -1), "Cannot allocate -1 bytes as 'z'."),
        (Request("free", "z"), "There is no tensor 'z'."),
        (Request("lose", "a"), "'lose' is no action."),
    ],
)
def test_mistakes_are_named(request_, says):
    with pytest.raises(LabError) as error:
        allocated(100).do(request_)
    assert error.value.what == says


def test_a_request_reads_as_a_line():
    lines = [str(r) for r in (Request("allocate", "a", 3 * MIB), Request("free", "a"), Request("empty_cache"))]
    assert lines == ["allocate a 3.00 MiB", "free a", "empty_cache"]


def block(size, born, died=None):
    return Block(size, "temporaries", "", "aten.add", "", born, died)


def test_a_trace_asks_for_its_blocks_in_order_and_frees_before_it_allocates():
    trace = Trace((block(3 * MIB, 0), block(9 * MIB, 1, 2), block(0, 1, 2), block(9 * MIB, 2, 3)), (), 0)
    assert [str(request) for request in requests_of(trace)] == [
        "allocate 0 3.00 MiB",
        "allocate 1 9.00 MiB",
        "free 1",
        "allocate 3 9.00 MiB",
        "free 3",
    ]
    gpu = serve(requests_of(trace))
    assert (gpu.peak_allocated, gpu.peak_reserved, gpu.allocated) == (12 * MIB, 20 * MIB, 3 * MIB)


def test_the_same_step_again_frees_what_it_left_and_keeps_what_was_there():
    trace = Trace((block(3 * MIB, 0), block(MIB, 0, 1), block(9 * MIB, 1, 2), block(MIB, 2)), (), 0)
    again = requests_of(trace, again=True)
    assert [str(request) for request in again] == [
        "free 3",
        "allocate 1 1.00 MiB",
        "free 1",
        "allocate 2 9.00 MiB",
        "free 2",
        "allocate 3 1.00 MiB",
    ]
    once, twice = serve(requests_of(trace)), serve([*requests_of(trace), *again])
    assert (once.allocated, once.reserved) == (twice.allocated, twice.reserved) == (4 * MIB, 22 * MIB)


SIZES = st.sampled_from([0, 1, 512, 100 * KIB, MIB, MIB + 1, 3 * MIB, 9 * MIB, 10 * MIB, 11 * MIB, 33 * MIB])
STEPS = st.lists(st.tuples(st.sampled_from(["allocate", "allocate", "free", "empty_cache"]), SIZES), max_size=60)


@given(steps=STEPS, expandable=st.booleans(), pick=st.randoms(use_true_random=False))
@settings(max_examples=150, deadline=None)
def test_whatever_happens_the_books_balance(steps, expandable, pick):
    gpu, alive = CachingAllocator(128 * MIB, expandable), {}
    for number, (action, size) in enumerate(steps):
        name = str(number)
        if action == "allocate":
            try:
                gpu.allocate(name, size)
                alive[name] = size
            except OutOfMemory:
                assert gpu.capacity - gpu.reserved < max(size + 20 * MIB, 2 * MIB)
        elif action == "free" and alive:
            name = pick.choice(sorted(alive))
            if alive.pop(name):
                gpu.free(name)
        elif action == "empty_cache":
            stuck = gpu.stuck
            gpu.empty_cache()
            assert gpu.reserved - gpu.allocated == stuck
        held = [span for segment in gpu.segments for span in segment.spans if span.name]
        assert {span.name: span.requested for span in held} == {n: s for n, s in alive.items() if s}
        assert all(span.size >= span.requested for span in held)
        assert sum(segment.size for segment in gpu.segments) == gpu.reserved
        assert sum(span.size for span in held) == gpu.allocated
        assert sum(alive.values()) == gpu.requested <= gpu.allocated <= gpu.reserved <= gpu.capacity
        assert gpu.reserved <= gpu.peak_reserved
        for segment in gpu.segments:
            ends = [(span.start, span.end) for span in segment.spans]
            assert all(a[1] <= b[0] for a, b in pairwise(ends))
            assert expandable or (ends[0][0], ends[-1][1]) == (0, segment.size)
            frees = [(a, b) for a, b in pairwise(segment.spans) if not a.name + b.name]
            assert all(a.end < b.start for a, b in frees)
