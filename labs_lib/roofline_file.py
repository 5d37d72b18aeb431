"""Where the measured limits of this machine are kept between sessions: one small JSON file in the cache folder."""

from __future__ import annotations

import hashlib
import json
import os
import sys
from datetime import datetime
from pathlib import Path

from labs_lib import hardware
from labs_lib.machine import fingerprint, preset

LARGEST = 2**20  # bytes: what is larger was not written here
FOREIGN = "is no measurement of a machine, so it was measured anew."


def location(device: str, threads: int) -> Path:
    """One file for each machine, device, number of threads and preset."""
    name = f"{fingerprint()}-{device}-{threads}-{preset()}"
    if device == "cuda":
        name += "-" + hashlib.sha256(repr(hardware.gpu()).encode()).hexdigest()[:6]
    return folder() / f"roof-{name}.json"


def folder() -> Path:
    """LABS_CACHE, or labs_lib in the user's cache folder; without a home folder, in that for temporary files."""
    if chosen := os.environ.get("LABS_CACHE"):
        return Path(chosen).expanduser()
    try:
        if sys.platform == "win32":
            return Path(os.environ.get("LOCALAPPDATA") or Path.home() / "AppData/Local") / "labs_lib" / "Cache"
        if sys.platform == "darwin":
            return Path.home() / "Library/Caches/labs_lib"
        given = os.environ.get("XDG_CACHE_HOME", "")  # a relative one does not count: XDG Base Directory 0.8
        return (Path(given) if os.path.isabs(given) else Path.home() / ".cache") / "labs_lib"
    except RuntimeError:  # an account without a home folder, as some containers have
        import tempfile

        return Path(tempfile.gettempdir()) / "labs_lib"


def read(path: Path) -> tuple[dict | None, str]:
    """(what the file holds, ""); (None, why) where it cannot be used; (None, "") where there is none."""
    try:
        small = path.stat().st_size <= LARGEST
        data = json.loads(path.read_text(encoding="utf-8")) if small else None
        return (data, "") if isinstance(data, dict) else (None, f"{path} {FOREIGN}")
    except FileNotFoundError:
        return None, ""
    except OSError as error:
        return None, f"{path} can't be read ({error.strerror}), so the machine was measured anew."
    except (ValueError, RecursionError):  # ValueError also where the bytes are no UTF-8
        return None, f"{path} is damaged, so the machine was measured anew."


def write(path: Path, data: object) -> str:
    """Writes the file whole or not at all. Returns why it could not, or nothing."""
    draft = path.with_name(f"{path.name}.{os.getpid()}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        draft.write_text(json.dumps(data, allow_nan=False), encoding="utf-8")
        os.replace(draft, path)
    except OSError as error:
        return f"{path} can't be written ({error.strerror}), so the next session measures again."
    return ""


def now() -> str:
    return datetime.now().isoformat(sep=" ", timespec="minutes")
