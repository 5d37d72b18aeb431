import subprocess
import sys
import threading
import tracemalloc

import numpy as np
import pytest
import torch

from labs_lib.ledger import ledger, traced_peak

X = np.ones((32, 1024), np.float32)
SIZE = X.nbytes


def test_temporaries_with_names_are_all_alive_at_once():
    def named(x):
        a = x + 1
        b = a * 2
        return b - 3

    count = ledger(named, X)
    assert (count.allocations, count.bytes_allocated, count.peak_bytes) == (3, 3 * SIZE, 3 * SIZE)


def test_dead_arrays_leave_the_peak():
    def rebinding(x):
        for _ in range(5):
            x = np.add(x, 1)
        return x

    count = ledger(rebinding, X)
    assert (count.allocations, count.peak_bytes) == (5, 2 * SIZE)


def test_out_allocates_nothing_and_small_blocks_are_not_counted():
    out = X.copy()
    assert ledger(lambda: np.add(X, 1, out=out)).allocations == 0
    assert ledger(lambda: np.zeros(8)).allocations == 0


def test_zeros_empty_and_resize_are_seen():
    assert ledger(lambda: np.zeros(1000)).bytes_allocated == 8000
    assert ledger(lambda: np.empty(1000)).bytes_allocated == 8000

    def grow():
        a = np.empty(1000)
        a.resize(2000, refcheck=False)
        return a

    assert ledger(grow).peak_bytes == 16000


def test_arrays_from_before_are_not_subtracted():
    kept = [np.ones(1000), np.ones(1000), np.ones(1000)]
    ledger(lambda: kept.append(np.ones(1000)))
    count = ledger(kept.pop)
    assert count.peak_bytes == 0
    assert ledger(lambda: (kept.clear(), np.ones(1000))[1]).peak_bytes == 8000


def test_an_error_in_the_function_ends_the_counting():
    with pytest.raises(ZeroDivisionError):
        ledger(lambda: 1 / 0)
    assert ledger(lambda: np.ones(1000)).allocations == 1


def test_another_thread_is_not_counted():
    def in_a_thread():
        thread = threading.Thread(target=lambda: np.ones(10_000))
        thread.start()
        thread.join()

    assert ledger(in_a_thread).allocations == 0


def test_arrays_may_outlive_the_counting_and_the_interpreter():
    """Freed during shutdown, when Python functions can no longer be called from C."""
    program = (
        "import numpy as np\n"
        "from labs_lib.ledger import ledger\n"
        "kept = []\n"
        "ledger(lambda: kept.append(np.ones(10_000)))\n"
        "np.keep_me_to_the_very_end = kept\n"
    )
    for _ in range(3):
        assert subprocess.run([sys.executable, "-c", program]).returncode == 0


def test_torch_is_counted_below_autograd():
    model = torch.nn.Linear(1024, 1024)
    x = torch.ones(32, 1024)
    with torch.inference_mode():
        inference = ledger(model, x)
    assert inference.flops == 2 * 32 * 1024 * 1024
    assert (inference.allocations, inference.peak_bytes) == (1, SIZE)
    training = ledger(lambda x: model(x).sum().backward(), x)
    assert training.flops == 2 * inference.flops  # the input needs no gradient
    assert training.operators > inference.operators


def test_torch_views_and_in_place_operators_allocate_nothing():
    x = torch.ones(32, 1024)
    count = ledger(lambda x: x.view(-1)[::2].t().relu_(), x)
    assert count.allocations == 0
    assert count.operators > 0


def test_traced_peak_sees_the_buffer_of_a_broadcast_add():
    """NumPy's ufuncs work on a broadcast operand through a buffer of 8192 elements."""
    bias = np.ones(1024, np.float32)
    out = X.copy()
    assert ledger(lambda: np.add(out, bias, out=out)).peak_bytes == 0
    assert 8192 * 4 <= traced_peak(lambda: np.add(out, bias, out=out)) < 8192 * 4 + 4096


def test_traced_peak_refuses_a_second_tracer():
    tracemalloc.start()
    try:
        with pytest.raises(RuntimeError, match="already running"):
            traced_peak(lambda: None)
    finally:
        tracemalloc.stop()


def test_compiled_code_is_counted_as_it_runs_not_as_it_would_run_eagerly(capfd):
    """Under a dispatch mode a compiled function runs eagerly: its allocations come from the profiler instead."""
    import torch

    def three_results(x):
        return torch.tanh(torch.sin(x) + 1)

    x = torch.ones(64, 1024)
    compiled = torch.compile(three_results, backend="aot_eager")
    with torch.no_grad():
        eager, found = ledger(three_results, x), ledger(compiled, x)
        inside = ledger(lambda x: compiled(x), x)
    assert (eager.operators, eager.allocations) == (3, 3)
    assert found == inside
    assert (found.operators, found.flops) == (None, None)
    assert (found.allocations, found.bytes_allocated) == (3, 3 * x.nbytes)
    assert found.peak_bytes == 2 * x.nbytes
    assert "not counted" in str(found)
    assert capfd.readouterr().err == ""


def test_what_keeps_the_compiler_out_is_not_compiled():
    """Checkpointing passes through the compiler's own module, and is counted by the dispatch mode like all else."""
    import torch
    from torch.utils.checkpoint import checkpoint

    layer, x = torch.nn.Linear(64, 64), torch.ones(64, 64, requires_grad=True)
    torch.compile(layer, backend="eager")  # the compiler is there, and is not used
    found = ledger(lambda x: checkpoint(layer, x, use_reentrant=False).sum().backward(), x)
    assert found.operators
    assert found.flops == 3 * 2 * 64**3  # what a lone linear layer saves is its input: nothing to compute again
