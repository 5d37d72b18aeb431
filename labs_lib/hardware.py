"""Probes: what this machine has. Each returns what it found, or raises where it cannot tell.

Files are read below `root`, so that tests can show a probe any machine.
"""

from __future__ import annotations

import os
import shlex
import shutil
import sys
import warnings
from collections.abc import Iterator
from pathlib import Path

ROOT = Path("/")

# Our name of an instruction set: its names in /proc/cpuinfo (Linux) and in `sysctl hw.optional` (macOS).
SIMD = {
    "AVX2": ("avx2", "avx2_0"),
    "AVX-512": ("avx512f",),
    "AVX-512 VNNI": ("avx512_vnni",),
    "AVX-512 BF16": ("avx512_bf16",),
    "NEON": ("asimd", "neon"),
    "SVE": ("sve",),
    "SVE2": ("sve2",),
}
MATRIX_UNITS = {
    "AMX": ("amx_tile",),
    "AMX BF16": ("amx_bf16",),
    "AMX INT8": ("amx_int8",),
    "SME": ("sme", "feat_sme"),
}


def cpu_model(root: Path = ROOT) -> str:
    """The processor's name as it gives it, such as "AMD EPYC 9B14"."""
    if sys.platform == "linux":
        for line in (root / "proc/cpuinfo").read_text().splitlines():
            name, _, value = line.partition(":")
            if name.strip() == "model name":
                return value.strip()
    elif sys.platform == "darwin":
        return _output("sysctl", "-n", "machdep.cpu.brand_string")
    import platform  # ARM Linux gives no name in /proc/cpuinfo

    return platform.processor() or platform.machine()


def usable_cores() -> int:
    """Logical cores that this process may run on: its affinity, not what the machine has."""
    if sys.version_info >= (3, 13):
        return os.process_cpu_count()
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()


def cpu_quota(root: Path = ROOT) -> float | None:
    """CPUs' worth of time per second that the control groups allow; None where nothing limits it.

    Linux, "Control Group v2", cpu.max; and v1, cpu.cfs_quota_us. The tightest group on the way up holds.
    """
    quotas = []
    for folder in _control_groups(root, "cpu"):
        if text := _text(folder / "cpu.max"):
            quota, period = text.split()
        else:
            quota, period = _text(folder / "cpu.cfs_quota_us") or "-1", _text(folder / "cpu.cfs_period_us")
        if quota not in ("max", "-1"):
            quotas.append(int(quota) / int(period))
    return min(quotas, default=None)


def memory(root: Path = ROOT) -> tuple[int, int]:
    """(total, available) bytes for this process: the machine's, or the control group's where it is tighter.

    Page cache that a group can drop at once counts as available.
    """
    import psutil

    machine = psutil.virtual_memory()
    total, available = machine.total, machine.available
    for folder in _control_groups(root, "memory"):
        limit = _text(folder / "memory.max") or _text(folder / "memory.limit_in_bytes") or "max"
        used = _text(folder / "memory.current") or _text(folder / "memory.usage_in_bytes") or "0"
        if limit != "max":
            statistics = dict(line.split() for line in _text(folder / "memory.stat").splitlines())
            cache = statistics.get("total_inactive_file") or statistics.get("inactive_file", 0)
            total = min(total, int(limit))
            available = min(available, int(limit) - int(used) + int(cache))
    return total, max(available, 0)


def load_average() -> float:
    """Runnable processes, averaged over the last minute, on the whole machine. Not told on Windows."""
    return os.getloadavg()[0]


def instruction_sets(names: dict[str, tuple[str, ...]], root: Path = ROOT) -> list[str]:
    """Those of SIMD or MATRIX_UNITS that the processor has. Told on Linux and macOS."""
    flags = set()
    if sys.platform == "linux":
        for line in (root / "proc/cpuinfo").read_text().splitlines():
            name, _, value = line.partition(":")
            if name.strip() in ("flags", "Features"):
                flags.update(value.split())
                break
    elif sys.platform == "darwin":
        for line in _output("sysctl", "hw.optional").splitlines():
            name, _, value = line.partition(": ")
            if value == "1":
                flags.add(name.rpartition(".")[2].lower())
    else:
        raise OSError(f"{sys.platform} does not list them")
    return [ours for ours, theirs in names.items() if flags.intersection(theirs)]


def compiler() -> str | None:
    """First line of the C++ compiler's --version; None where there is no compiler. CXX goes first."""
    candidates = [*shlex.split(os.environ.get("CXX", ""))[:1], "c++", "g++", "clang++", "cl"]
    path = next(filter(None, map(shutil.which, candidates)), None)
    if path is None:
        return None
    if sys.platform == "darwin":
        _output("xcode-select", "-p")  # without the tools behind it, macOS's c++ opens a dialog instead
    if Path(path).stem.lower() == "cl":
        return "MSVC cl"  # has no --version
    return _output(path, "--version").splitlines()[0]


def torch_settings() -> dict[str, object]:
    """Threads that torch uses, and the instruction set that its kernels are chosen for."""
    import torch

    return {"threads": torch.get_num_threads(), "kernels": torch.backends.cpu.get_cpu_capability()}


def gpu() -> dict[str, object] | None:
    """{"kind", "name", "memory_bytes"} of the first GPU that torch can use; None where there is none."""
    import torch

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # a CUDA build without a driver warns; None says as much
        device = torch.accelerator.current_accelerator(check_available=True)
    if device is None:
        return None
    if device.type == "cuda":
        properties = torch.cuda.get_device_properties(0)
        return {"kind": "CUDA", "name": properties.name, "memory_bytes": properties.total_memory}
    if device.type == "mps":
        # It has no memory of its own: this is how much of the machine's Apple advises to use.
        return {"kind": "MPS", "name": cpu_model(), "memory_bytes": torch.mps.recommended_max_memory()}
    return {"kind": device.type.upper(), "name": device.type, "memory_bytes": None}


def version(distribution: str) -> str | None:
    """The version of an installed package, found without importing it; None where it is not installed."""
    import importlib.metadata

    try:
        return importlib.metadata.version(distribution)
    except importlib.metadata.PackageNotFoundError:
        return None


def _control_groups(root: Path, controller: str) -> Iterator[Path]:
    """Folders of the groups that limit this process, from its own up to the root; none off Linux."""
    for line in _text(root / "proc/self/cgroup").splitlines():
        _, controllers, group = line.split(":", 2)
        if controllers and controller not in controllers.split(","):
            continue
        mounted = root / "sys/fs/cgroup"
        top = mounted / controller if controllers else mounted
        # In a container the path may be the host's and absent here: then only the folders above it exist.
        folder = top / group.strip("/")
        while folder != top:
            yield folder
            folder = folder.parent
        yield top


def _text(path: Path) -> str:
    """The stripped text of a small file, empty where there is no such file."""
    try:
        return path.read_text().strip()
    except (FileNotFoundError, NotADirectoryError):
        return ""


def _output(*command: str) -> str:
    import subprocess

    done = subprocess.run(command, capture_output=True, text=True, timeout=5, check=True)
    return done.stdout.strip()
