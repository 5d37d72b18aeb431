import contextlib
import dataclasses
import getpass
import json
import os
import platform
import subprocess
import sys

import pytest

from labs_lib import catalogue, hardware, machine
from labs_lib.errors import LabError


def tree(root, files):
    """Writes a small machine below `root`: {"proc/cpuinfo": text, ...}."""
    for name, text in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return root


@pytest.fixture
def linux(monkeypatch):
    monkeypatch.setattr(sys, "platform", "linux")


# What the probes read.


@pytest.mark.parametrize(
    ("files", "quota"),
    [
        ({"proc/self/cgroup": "0::/\n"}, None),
        ({}, None),  # no control groups at all
        ({"proc/self/cgroup": "0::/a\n", "sys/fs/cgroup/a/cpu.max": "150000 100000\n"}, 1.5),
        ({"proc/self/cgroup": "0::/a\n", "sys/fs/cgroup/a/cpu.max": "max 100000\n"}, None),
        # A group above is tighter than the process's own.
        (
            {
                "proc/self/cgroup": "0::/a/b\n",
                "sys/fs/cgroup/a/b/cpu.max": "400000 100000\n",
                "sys/fs/cgroup/a/cpu.max": "50000 100000\n",
            },
            0.5,
        ),
        # Version 1 in a container: the path is the host's, the limit stands at the mount.
        (
            {
                "proc/self/cgroup": "4:cpu,cpuacct:/docker/1234\n3:memory:/docker/1234\n",
                "sys/fs/cgroup/cpu/cpu.cfs_quota_us": "250000\n",
                "sys/fs/cgroup/cpu/cpu.cfs_period_us": "100000\n",
            },
            2.5,
        ),
        ({"proc/self/cgroup": "4:cpu:/\n", "sys/fs/cgroup/cpu/cpu.cfs_quota_us": "-1\n"}, None),
    ],
)
def test_cpu_quota(tmp_path, files, quota):
    assert hardware.cpu_quota(tree(tmp_path, files)) == quota


def test_memory_is_the_groups_where_that_is_tighter(tmp_path):
    group = {
        "proc/self/cgroup": "0::/a\n",
        "sys/fs/cgroup/a/memory.max": "1000000\n",
        "sys/fs/cgroup/a/memory.current": "700000\n",
        "sys/fs/cgroup/a/memory.stat": "anon 600000\ninactive_file 100000\n",
    }
    assert hardware.memory(tree(tmp_path, group)) == (1000000, 400000)


def test_memory_without_a_limit_is_the_machines(tmp_path):
    unlimited = {
        "proc/self/cgroup": "4:memory:/\n",
        "sys/fs/cgroup/memory/memory.limit_in_bytes": "9223372036854771712\n",
        "sys/fs/cgroup/memory/memory.usage_in_bytes": "12345\n",
    }
    total, available = hardware.memory(tree(tmp_path, unlimited))
    assert 0 < available <= total < 2**60


@pytest.mark.parametrize(
    ("cpuinfo", "simd", "matrix_units"),
    [
        (
            "processor : 0\nflags\t\t: fpu avx2 avx512f avx512_vnni amx_tile amx_int8\n",
            ["AVX2", "AVX-512", "AVX-512 VNNI"],
            ["AMX", "AMX INT8"],
        ),
        ("Features\t: fp asimd sve\n", ["NEON", "SVE"], []),
        ("flags : fpu sse2\n", [], []),
    ],
)
def test_instruction_sets(tmp_path, linux, cpuinfo, simd, matrix_units):
    root = tree(tmp_path, {"proc/cpuinfo": cpuinfo})
    assert hardware.instruction_sets(hardware.SIMD, root) == simd
    assert hardware.instruction_sets(hardware.MATRIX_UNITS, root) == matrix_units


def test_instruction_sets_of_a_mac(monkeypatch):
    monkeypatch.setattr(sys, "platform", "darwin")
    answer = "hw.optional.arm.FEAT_SME: 1\nhw.optional.neon: 1\nhw.optional.avx512f: 0"
    monkeypatch.setattr(hardware, "_output", lambda *command: answer)
    assert hardware.instruction_sets(hardware.SIMD) == ["NEON"]
    assert hardware.instruction_sets(hardware.MATRIX_UNITS) == ["SME"]


def test_cpu_model(tmp_path, linux):
    root = tree(tmp_path, {"proc/cpuinfo": "vendor_id : X\nmodel name\t: Some CPU @ 2 GHz\n"})
    assert hardware.cpu_model(root) == "Some CPU @ 2 GHz"


@pytest.mark.skipif(sys.platform == "win32", reason="writes a shell script")
def test_compiler_is_the_one_of_cxx_first(tmp_path, monkeypatch):
    for name in ("c++", "mine"):
        (tmp_path / name).write_text(f"#!/bin/sh\necho {name} 1.2\necho licence\n")
        (tmp_path / name).chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=os.pathsep)
    monkeypatch.delenv("CXX", raising=False)
    assert hardware.compiler() == "c++ 1.2"
    monkeypatch.setenv("CXX", "mine -std=c++17")
    assert hardware.compiler() == "mine 1.2"


def test_no_compiler(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.delenv("CXX", raising=False)
    assert hardware.compiler() is None


# The report.


@pytest.fixture(scope="module")
def report():
    return machine.doctor()


def test_report_is_strict_json(report):
    read = json.loads(json.dumps(report.as_dict(), allow_nan=False))
    assert read["labs"].keys() == {lab.number for lab in catalogue.LABS}
    assert read["versions"]["python"] == platform.python_version()
    assert read["cores"] == hardware.usable_cores()


def test_report_reads_as_text_and_as_a_table(report):
    rows = report.rows()
    assert {label for label, _ in rows} >= {"processor", "memory", "GPU", "C++ compiler", "lab 01"}
    for _, text in rows:
        assert text in str(report)
    assert report._repr_html_().count("<tr>") == len(rows)
    assert repr(report) == str(report)


def test_memory_is_in_gib(report):
    sized = machine.Report(**{**vars(report), "memory_bytes": (3 * 2**30, 2**29)})
    assert dict(sized.rows())["memory"] == "3.0 GiB, 0.5 GiB available"


def test_a_busy_machine_is_told(report, monkeypatch):
    monkeypatch.setattr(os, "cpu_count", lambda: 4)
    loads = {load: machine.Report(**{**vars(report), "load": load}) for load in (2.0, 2.1)}
    assert "busy" not in str(loads[2.0])
    assert "The machine is busy" in str(loads[2.1])


def test_probes_that_cannot_tell_say_unknown(monkeypatch):
    def broken(*arguments):
        raise OSError("no such\nprobe")

    names = ["cpu_model", "usable_cores", "cpu_quota", "load_average", "memory", "compiler", "gpu"]
    for name in [*names, "instruction_sets", "torch_settings"]:
        monkeypatch.setattr(hardware, name, broken)
    report = machine.doctor()
    unknown = "unknown (OSError: no such probe)"
    assert report.cores == report.memory_bytes == report.gpu == report.simd == report.cpu == unknown
    assert str(report).count(unknown) >= len(names) + 2
    assert [state for state, _ in report.labs.values()] == ["reduced"] * len(catalogue.LABS)
    json.dumps(report.as_dict(), allow_nan=False)


CUDA = {"kind": "CUDA", "name": "H200", "memory_bytes": 139 * 2**30}
MPS = {"kind": "MPS", "name": "M4", "memory_bytes": 2**34}


@pytest.mark.parametrize(
    ("needs", "gpu", "free", "preset", "state", "why"),
    [
        ("none", None, 2**34, "lab", "full", "needs no GPU"),
        ("optional", CUDA, 2**34, "lab", "full", "H200"),
        ("optional", None, 2**34, "lab", "without a GPU", "needs a CUDA GPU"),
        ("optional", MPS, 2**34, "lab", "without a GPU", "needs a CUDA GPU"),
        ("none", None, 2**30, "lab", "reduced", "1.0 GiB"),
        ("none", CUDA, 2**34, "ci", "reduced", "LABS_PRESET=ci"),
        ("none", None, 2**34, "big", "reduced", "LABS_PRESET is 'big'"),
    ],
)
def test_how_far_a_lab_runs(monkeypatch, needs, gpu, free, preset, state, why):
    lab = dataclasses.replace(catalogue.LABS[0], number="42", gpu=needs)
    monkeypatch.setattr(machine, "LABS", (lab,))
    monkeypatch.setattr(hardware, "gpu", lambda: gpu)
    monkeypatch.setattr(hardware, "memory", lambda: (2**35, free))
    monkeypatch.setenv("LABS_PRESET", preset)
    assert machine.doctor().labs["42"][0] == state
    assert why in machine.doctor().labs["42"][1]


def test_a_lab_that_compiles_is_reduced_without_a_compiler(monkeypatch):
    lab = dataclasses.replace(catalogue.LABS[0], number="42", compiler=True)
    monkeypatch.setattr(machine, "LABS", (lab,))
    monkeypatch.setenv("LABS_PRESET", "lab")
    for compiler, state in (("g++ 14", "full"), (None, "reduced")):
        monkeypatch.setattr(hardware, "compiler", lambda found=compiler: found)
        assert machine.doctor().labs["42"][0] == state


def python(code):
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120)


def test_doctor_is_silent_on_stderr():
    """A CUDA build of torch without a driver has much to say; none of it reaches the learner."""
    done = python("import labs_lib.machine as m; print(m.doctor())")
    assert (done.returncode, done.stderr) == (0, "")
    assert "lab 01" in done.stdout


def test_core_modules_import_nothing_heavy():
    modules = ["machine", "hardware", "journal", "journal_file", "predict", "cli", "headless"]
    heavy = ["torch", "matplotlib", "ipywidgets", "IPython", "nbclient", "tqdm", "psutil", "subprocess"]
    code = f"""import sys
before = set(sys.modules)
import {", ".join(f"labs_lib.{name}" for name in modules)}
print(sorted((set(sys.modules) - before) & set({heavy})))"""
    assert python(code).stdout.strip() == "[]"


# What measuring code asks.


def test_fingerprint_changes_with_the_machine_and_nothing_else(monkeypatch):
    here = machine.fingerprint()
    assert machine.fingerprint() == here
    assert len(here) == 12
    monkeypatch.setattr(platform, "node", lambda: "another-host")
    monkeypatch.setenv("USER", "somebody")
    monkeypatch.setattr(getpass, "getuser", lambda: "somebody")
    assert machine.fingerprint() == here
    for name, answer in [
        ("cpu_model", lambda: "Other CPU"),
        ("usable_cores", lambda: 999),
        ("version", lambda name: "0.0"),
    ]:
        with monkeypatch.context() as changed:
            changed.setattr(hardware, name, answer)
            assert machine.fingerprint() != here


def test_preset(monkeypatch):
    for value in machine.PRESETS:
        monkeypatch.setenv("LABS_PRESET", value)
        assert machine.preset() == value
    for unset in (lambda: monkeypatch.setenv("LABS_PRESET", ""), lambda: monkeypatch.delenv("LABS_PRESET")):
        unset()
        assert machine.preset() == "lab"
    monkeypatch.setenv("LABS_PRESET", "CI")
    with pytest.raises(LabError, match="'CI'"):
        machine.preset()


def blas_threads():
    import numpy  # noqa: F401 - loads the BLAS that is asked
    from threadpoolctl import threadpool_info

    return [pool["num_threads"] for pool in threadpool_info() if pool["user_api"] == "blas"]


def test_threads_are_pinned_and_restored():
    import torch
    from threadpoolctl import threadpool_limits

    outside = torch.get_num_threads()
    try:
        with threadpool_limits(3, user_api="blas"):
            torch.set_num_threads(3)
            before = blas_threads()
            with machine.pinned_threads(2):
                assert torch.get_num_threads() == 2
                assert blas_threads() == [min(2, threads) for threads in before]
            assert torch.get_num_threads() == 3
            assert blas_threads() == before
            with pytest.raises(ZeroDivisionError), machine.pinned_threads(1):
                _ = 1 / 0
            assert torch.get_num_threads() == 3
            assert blas_threads() == before
    finally:
        torch.set_num_threads(outside)


def test_torch_is_restored_where_its_threads_follow_the_limits(monkeypatch):
    import threadpoolctl
    import torch

    @contextlib.contextmanager
    def limits(n):
        torch.set_num_threads(n)
        yield

    monkeypatch.setattr(threadpoolctl, "threadpool_limits", limits)
    outside = torch.get_num_threads()
    try:
        torch.set_num_threads(3)
        with machine.pinned_threads(2):
            assert torch.get_num_threads() == 2
        assert torch.get_num_threads() == 3
    finally:
        torch.set_num_threads(outside)


@pytest.mark.parametrize("n", [0, -1, 1.5, None])
def test_threads_must_be_a_number_of_threads(n):
    with pytest.raises(LabError), machine.pinned_threads(n):
        pass


def test_synchronize_waits_for_an_accelerator_only(monkeypatch):
    class Accelerator:
        available, waited = False, 0

        def is_available(self):
            return self.available

        def synchronize(self):
            self.waited += 1

    accelerator = Accelerator()
    monkeypatch.setitem(sys.modules, "torch", type("torch", (), {"accelerator": accelerator}))
    machine.synchronize()
    assert accelerator.waited == 0
    accelerator.available = True
    machine.synchronize()
    assert accelerator.waited == 1
    monkeypatch.delitem(sys.modules, "torch")
    machine.synchronize()
    assert accelerator.waited == 1
    assert "torch" not in sys.modules
