"""The journal's file: JSON lines, only ever appended to, by one writer at a time.

One event is one line, written at once and synced to the disk. A process killed in the middle leaves half
a line: the next append ends it, and readers report and skip it. Nothing is deleted.
"""

from __future__ import annotations

import errno
import json
import os
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from labs_lib.errors import LabError

LOCK_SECONDS = 5.0


def location() -> Path:
    """Where the journal is: LABS_JOURNAL, or journal.jsonl in the user's data folder for labs_lib."""
    if chosen := os.environ.get("LABS_JOURNAL"):
        return Path(chosen).expanduser()
    return _data_folder() / "labs_lib" / "journal.jsonl"


def _data_folder() -> Path:
    try:
        if sys.platform == "win32":
            return Path(os.environ.get("APPDATA") or Path.home() / "AppData/Roaming")
        if sys.platform == "darwin":
            return Path.home() / "Library/Application Support"
        given = os.environ.get("XDG_DATA_HOME", "")  # a relative one does not count: XDG Base Directory 0.8
        return Path(given) if os.path.isabs(given) else Path.home() / ".local/share"
    except RuntimeError:  # an account without a home folder, as some containers have
        import tempfile

        return Path(tempfile.gettempdir())


@contextmanager
def opened(path: Path) -> Iterator[int]:
    """The file, open for `append` and locked against every other writer, in this process or another.

    Raises OSError where it cannot be opened, LabError where another writer holds it for LOCK_SECONDS.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND | getattr(os, "O_BINARY", 0), 0o600)
    try:
        deadline = time.monotonic() + LOCK_SECONDS
        while not _try_lock(file):
            if time.monotonic() > deadline:
                raise LabError(
                    f"The journal {path} is locked.",
                    f"Another process has held it for {LOCK_SECONDS:g} s.",
                    "End that process, or set LABS_JOURNAL to another file.",
                )
            time.sleep(0.01)
        yield file
    finally:
        os.close(file)  # and with it the lock


def _try_lock(file: int) -> bool:
    try:
        if sys.platform == "win32":
            import msvcrt

            os.lseek(file, 2**30, os.SEEK_SET)  # past the content: on Windows a locked byte cannot be read
            msvcrt.locking(file, msvcrt.LK_NBLCK, 1)
        else:
            import fcntl

            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except (BlockingIOError, PermissionError):
        return False
    return True


def append(file: int, events: list[dict]) -> None:
    """One write and one sync for all events, after ending the half line of a process that was killed."""
    data = to_lines(events)
    size = os.fstat(file).st_size
    if size:
        os.lseek(file, size - 1, os.SEEK_SET)
        if os.read(file, 1) != b"\n":
            data = b"\n" + data
    if os.write(file, data) < len(data):  # what has been written is half a line, and treated as one
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    os.fsync(file)


def to_lines(events: list[dict]) -> bytes:
    """One line of strict JSON for each event.

    >>> to_lines([{"kind": "hint"}, {"kind": "truth", "truth": 417}])
    b'{"kind": "hint"}\\n{"kind": "truth", "truth": 417}\\n'

    Raises TypeError for what JSON has no form for, ValueError for NaN and infinity.
    """
    return b"".join(json.dumps(event, allow_nan=False).encode() + b"\n" for event in events)


def from_lines(data: bytes) -> tuple[list[dict], list[tuple[int, str]]]:
    """The events, each id once, and the broken lines as (line number, what it is).

    >>> good = b'{"time": "2026-01-01", "id": "a", "kind": "hint"}'
    >>> events, broken = from_lines(good + b"\\n" + good[:20] + b"\\n" + good)
    >>> len(events), broken
    (1, [(2, 'no JSON')])
    """
    events: dict[str, dict] = {}
    broken = []
    for number, line in enumerate(data.split(b"\n"), start=1):
        if not line.strip():
            continue
        try:
            event = json.loads(line, parse_constant=_refuse)
        except (ValueError, RecursionError):  # ValueError also where the bytes are no UTF-8
            broken.append((number, "no JSON"))
            continue
        required = ("time", "id", "kind")
        if isinstance(event, dict) and all(isinstance(event.get(name), str) for name in required):
            events.setdefault(event["id"], event)
        else:
            broken.append((number, "no event"))
    return list(events.values()), broken


def _refuse(constant: str) -> None:
    """json calls this for NaN and Infinity, which it reads by default."""
    raise ValueError(f"{constant} is not JSON")
