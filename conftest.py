"""What every test and doctest shares: its own journal and cache, the small preset, one thread, no window.

It stands at the root, not in tests/, because the doctests of labs_lib need it as well.
"""

import atexit
import os
import shutil
import tempfile

# Before NumPy or torch is imported, which read these once. Two workers with two threads each on two cores
# are many times slower than one thread each.
os.environ.update(LABS_PRESET="ci", OMP_NUM_THREADS="1", OPENBLAS_NUM_THREADS="1", MKL_NUM_THREADS="1")

import hypothesis
import matplotlib
import pytest

from tools.find_browser import find_browser

# No test, and no notebook in a test, reads or writes the measured limits of the person who runs it.
os.environ["LABS_CACHE"] = tempfile.mkdtemp(prefix="labs-cache-")
atexit.register(shutil.rmtree, os.environ["LABS_CACHE"], ignore_errors=True)

# Chosen here and not through MPLBACKEND, which notebook kernels started by a test would inherit.
matplotlib.use("Agg")

# A busy machine must not turn a slow example into a failure.
hypothesis.settings.register_profile("labs", deadline=None, print_blob=True)
hypothesis.settings.load_profile("labs")


@pytest.fixture(autouse=True)
def own_journal(tmp_path, monkeypatch):
    """No test reads or writes the journal of the person who runs it."""
    monkeypatch.setenv("LABS_JOURNAL", str(tmp_path / "journal.jsonl"))


@pytest.fixture(scope="session")
def browser_path():
    """Path of a Chromium or Chrome; without one the test is skipped, or fails if LABS_REQUIRE_BROWSER=1."""
    path = find_browser()
    if path is None:
        if os.environ.get("LABS_REQUIRE_BROWSER") == "1":
            pytest.fail("no Chromium or Chrome found, and LABS_REQUIRE_BROWSER=1")
        pytest.skip("no Chromium or Chrome found")
    return path
