"""What the tests of lab 09 share: a cache folder of their own, and the limits of a machine that does not exist."""

import pytest

from labs_lib.roofline import Rate, Roof


@pytest.fixture(autouse=True)
def own_cache(tmp_path, monkeypatch):
    """No test reads or writes what was measured for the person who runs it."""
    monkeypatch.setenv("LABS_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture(scope="session")
def limits():
    """Round numbers: 1 TFLOP/s, in memory 10 GB/s, in a cache 100 GB/s, a call 1 us; each at least 80 % of it."""
    return Roof(
        device="cpu",
        threads=1,
        peaks={"float32": Rate(0.8e12, 1e12), "bfloat16": Rate(1.6e12, 2e12)},
        bandwidths={2**18: Rate(80e9, 100e9), 2**28: Rate(8e9, 10e9)},
        call_s=1e-6,
        when="2026-01-01 00:00",
    )
