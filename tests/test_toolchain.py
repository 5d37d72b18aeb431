"""The compile cache of a lab: its own, cold when asked to be, and put back."""

import io
import logging
import os
import subprocess
import sys

import pytest

from labs_lib import toolchain


@pytest.fixture
def cache(monkeypatch, tmp_path):
    """The learner's own cache folder, and no first kernel built."""
    monkeypatch.setenv(toolchain.CACHE, str(tmp_path))
    monkeypatch.setattr(toolchain.hardware, "compiler", lambda: None)
    return str(tmp_path)


def test_prepare_gives_the_process_a_cache_of_its_own(cache):
    found = toolchain.prepare()
    assert os.environ[toolchain.CACHE] != cache
    assert os.path.isdir(os.environ[toolchain.CACHE])
    assert found.backend == "aot_eager"
    assert "No C++ compiler here" in str(found)


def test_a_cold_cache_is_empty_and_the_one_before_comes_back_also_after_an_error(cache):
    seen = []

    def compile_and_fail():
        with toolchain.cold_cache():
            seen.append(os.environ[toolchain.CACHE])
            assert os.listdir(seen[0]) == []
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        compile_and_fail()
    assert os.environ[toolchain.CACHE] == cache
    assert not os.path.exists(seen[0])


def test_a_cold_cache_where_none_was_set_leaves_none(monkeypatch):
    monkeypatch.delenv(toolchain.CACHE, raising=False)
    with toolchain.cold_cache():
        assert toolchain.CACHE in os.environ
    assert toolchain.CACHE not in os.environ


def test_the_compilers_logs_are_quiet_within_the_block_only(monkeypatch):
    log, written = logging.getLogger("torch._inductor"), io.StringIO()
    # One of ours: which other handlers hear torch's loggers depends on the versions of torch and pytest.
    monkeypatch.setattr(log, "handlers", [logging.StreamHandler(written)])
    with toolchain.quiet():
        log.error("unheard")
    log.error("heard")
    assert written.getvalue() == "heard\n"


@pytest.mark.skipif(toolchain.hardware.compiler() is None, reason="needs a C++ compiler")
def test_what_the_compiler_can_do_is_found_out_once_for_all_cold_caches(tmp_path):
    """torch tries the compiler out in the cache of the moment: eight seconds for every process that starts cold."""
    program = """
import os, torch
from labs_lib.toolchain import CACHE, cold_cache, one_compile_thread
with cold_cache(), one_compile_thread(), torch.no_grad():
    torch.compile(torch.cos)(torch.ones(64))
    built = [name for _, _, names in os.walk(os.environ[CACHE]) for name in names if name.endswith(".cpp")]
print(len([name for name in built if "header" not in name]))
"""
    env = os.environ | {toolchain.CACHE: str(tmp_path)}
    done = subprocess.run([sys.executable, "-c", program], env=env, capture_output=True, text=True, check=True)
    assert done.stdout == "1\n"
