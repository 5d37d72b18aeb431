"""Buffers with lifetimes: the input of every planner, what bounds every plan, and what checks one.

A buffer is a rectangle of which one side is fixed: it occupies `size` bytes during the steps [lower, upper).
A plan gives each one an offset in a single arena. Two buffers may share addresses only if they are never
alive at the same step. The file format is that of MiniMalloc (Moffitt, ASPLOS 2023).
"""

import csv
import operator
import re
from bisect import bisect_left, insort
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

from labs_lib.errors import LabError

COLUMNS = ("id", "lower", "upper", "size")
MAX_BUFFERS = 50_000
WHOLE_NUMBER = re.compile(r"[+-]?[0-9]+", re.ASCII)


@dataclass(frozen=True, slots=True)
class Buffer:
    """A block of `size` bytes that is alive at the steps lower, lower + 1, ..., upper - 1.

    Raises LabError if it would live for no step or have a negative size.

    >>> Buffer("activation", lower=2, upper=5, size=4096).steps
    3
    """

    id: str
    lower: int
    upper: int
    size: int

    def __post_init__(self) -> None:
        if self.upper <= self.lower:
            raise LabError(
                f"Buffer {self.id} has upper {self.upper} and lower {self.lower}.",
                "A lifetime is [lower, upper), so upper must be the larger.",
                "Let upper be the first step at which the buffer is no longer needed.",
            )
        if self.size < 0:
            raise LabError(
                f"Buffer {self.id} has size {self.size}.",
                "A size is a number of bytes and cannot be negative.",
                "Give the size in bytes.",
            )

    @property
    def steps(self) -> int:
        """How many steps the buffer lives."""
        return self.upper - self.lower


def live_bytes(buffers: Sequence[Buffer]) -> list[tuple[int, int]]:
    """The profile of live memory: pairs (step, bytes alive from that step on), one for each change.

    >>> live_bytes([Buffer("a", 0, 3, 10), Buffer("b", 2, 5, 20)])
    [(0, 10), (2, 30), (3, 20), (5, 0)]
    """
    change: dict[int, int] = {}
    for buffer in buffers:
        change[buffer.lower] = change.get(buffer.lower, 0) + buffer.size
        change[buffer.upper] = change.get(buffer.upper, 0) - buffer.size
    profile, alive = [], 0
    for step in sorted(change):
        if change[step]:
            alive += change[step]
            profile.append((step, alive))
    return profile


def lower_bound(buffers: Sequence[Buffer]) -> int:
    """Bytes that no plan can go below: the largest sum of sizes alive at one step.

    >>> lower_bound([Buffer("a", 0, 3, 10), Buffer("b", 2, 5, 20), Buffer("c", 4, 6, 10)])
    30
    """
    return max((alive for _, alive in live_bytes(buffers)), default=0)


def sections(buffers: Sequence[Buffer]) -> tuple[list[int], list[int]]:
    """Time reduced to the live sets that matter: the maximal ones, here called sections.

    A live set is maximal when no other contains it; it ends with the first death after a birth. Two buffers
    meet in time exactly if they meet in a section, so a planner need look at no other steps.

    Returns two lists `first` and `last`: buffer i lives in the sections first[i], ..., last[i] - 1.

    >>> sections([Buffer("a", 0, 3, 1), Buffer("b", 1, 5, 1), Buffer("c", 4, 6, 1)])
    ([0, 0, 1], [1, 2, 2])
    """
    first, last = [0] * len(buffers), [0] * len(buffers)
    # At one step deaths (0) come before births (1): a lifetime excludes its upper end.
    events = [(buffer.upper, 0, i) for i, buffer in enumerate(buffers)]
    events += [(buffer.lower, 1, i) for i, buffer in enumerate(buffers)]
    section, grows = 0, False
    for _, is_birth, i in sorted(events):
        if is_birth:
            first[i], grows = section, True
        else:
            section, grows = section + grows, False
            last[i] = section
    return first, last


def verify(buffers: Sequence[Buffer], offsets: Sequence[int], alignment: int = 1, capacity: int | None = None) -> None:
    """Check a plan: `offsets[i]` is the address of `buffers[i]` in bytes from the arena's start.

    Raises LabError, naming the buffers, if the lengths differ, an offset is no whole number, is negative or
    no multiple of `alignment`, if a buffer ends above `capacity`, or if two buffers that are alive at one
    step share an address. Of several overlaps it names the first in time.
    """
    if len(buffers) != len(offsets):
        raise LabError(
            f"There are {len(buffers)} buffers but {len(offsets)} offsets.",
            "A plan has exactly one offset for each buffer, in the same order.",
            "Return a list as long as the list of buffers.",
        )
    for buffer, offset in zip(buffers, offsets, strict=True):
        _verify_one(buffer, offset, alignment, capacity)

    # Sweep over time. What is alive lies sorted by address and apart, so a newcomer that overlaps anything
    # overlaps one of its two neighbours. Deaths (0) come before births (1).
    occupied = [i for i, buffer in enumerate(buffers) if buffer.size]
    events = [(buffers[i].upper, 0, i) for i in occupied] + [(buffers[i].lower, 1, i) for i in occupied]
    alive: list[tuple[int, int]] = []
    for _, is_birth, i in sorted(events):
        if not is_birth:
            del alive[bisect_left(alive, (offsets[i], i))]
            continue
        insort(alive, (offsets[i], i))
        at = bisect_left(alive, (offsets[i], i))
        for (_, low), (start, high) in pairwise(alive[max(at - 1, 0) : at + 2]):
            if offsets[low] + buffers[low].size > start:
                raise LabError(
                    f"Buffers {_place(buffers[low], offsets[low])} and {_place(buffers[high], start)} overlap.",
                    f"Both are alive at step {max(buffers[low].lower, buffers[high].lower)}.",
                    "Move one of them to other addresses.",
                )


def _verify_one(buffer: Buffer, offset: int, alignment: int, capacity: int | None) -> None:
    try:
        operator.index(offset)
    except TypeError:
        raise LabError(
            f"Buffer {buffer.id} has offset {offset!r}.",
            "An offset is a whole number of bytes.",
            "Return integers.",
        ) from None
    if offset < 0:
        raise LabError(
            f"Buffer {_place(buffer, offset)} starts below the arena.",
            "Offsets count from the arena's start.",
            "Use offsets of at least 0.",
        )
    if offset % alignment:
        raise LabError(
            f"Buffer {_place(buffer, offset)} is not aligned.",
            f"{offset} is no multiple of {alignment}.",
            "Round sizes up to the alignment before placing.",
        )
    if capacity is not None and offset + buffer.size > capacity:
        raise LabError(
            f"Buffer {_place(buffer, offset)} does not fit.",
            f"It ends above the capacity of {capacity} bytes.",
            "Find a lower plan or raise the capacity.",
        )


def _place(buffer: Buffer, offset: int) -> str:
    return f"{buffer.id} at [{offset}, {offset + buffer.size})"


def read_csv(path: str | Path) -> list[Buffer]:
    """Read buffers from a CSV file with the columns id, lower, upper and size, in any order.

    Steps and bytes are whole numbers, lifetimes half-open; further columns are ignored.
    Raises LabError naming the file, the line and the reason if the file cannot be used.
    """
    buffers: list[Buffer] = []
    line_of: dict[str, int] = {}
    try:
        with open(path, "rb") as file:
            reader = csv.reader(_decoded(path, file))
            header = [name.strip() for name in next(reader, [])]
            _check_header(path, header)
            for row in reader:
                if not row:
                    continue
                line = reader.line_num
                if len(buffers) == MAX_BUFFERS:
                    raise _bad(path, line, f"there are more than {MAX_BUFFERS} buffers")
                if len(row) != len(header):
                    raise _bad(path, line, f"it has {len(row)} fields where the header has {len(header)}")
                buffer = _buffer(path, line, dict(zip(header, row, strict=True)))
                if buffer.id in line_of:
                    raise _bad(path, line, f"id {buffer.id!r} is already on line {line_of[buffer.id]}")
                line_of[buffer.id] = line
                buffers.append(buffer)
    except OSError as error:
        raise LabError(
            f"Cannot read {path}.", f"{error.strerror}.", "Give the path of a CSV file of buffers."
        ) from None
    except csv.Error as error:
        raise _bad(path, reader.line_num, str(error)) from None
    return buffers


def write_csv(path: str | Path, buffers: Sequence[Buffer], offsets: Sequence[int]) -> None:
    """Write a plan as CSV: id, lower, upper, size and offset of each buffer.

    Raises LabError if the file cannot be written.
    """
    try:
        with open(path, "w", encoding="utf-8", newline="") as file:
            writer = csv.writer(file, lineterminator="\n")
            writer.writerow((*COLUMNS, "offset"))
            for b, offset in zip(buffers, offsets, strict=True):
                writer.writerow((b.id, b.lower, b.upper, b.size, offset))
    except OSError as error:
        raise LabError(
            f"Cannot write {path}.", f"{error.strerror}.", "Give the path of a file that can be written."
        ) from None


def _decoded(path: str | Path, file: Iterator[bytes]) -> Iterator[str]:
    """Decode line by line, so that a bad byte is reported with its line and no big file is read whole."""
    for number, line in enumerate(file, start=1):
        try:
            yield line.decode("utf-8-sig" if number == 1 else "utf-8")
        except UnicodeDecodeError:
            raise _bad(path, number, "it is not UTF-8 text") from None


def _check_header(path: str | Path, header: list[str]) -> None:
    for name in COLUMNS:
        if header.count(name) != 1:
            found = "is missing" if name not in header else "appears more than once"
            raise _bad(path, 1, f"the column {name!r} {found} in the header")


def _buffer(path: str | Path, line: int, row: dict[str, str]) -> Buffer:
    if not row["id"].strip():
        raise _bad(path, line, "its id is empty")
    numbers = []
    for name in COLUMNS[1:]:
        text = row[name].strip()
        try:
            numbers.append(int(WHOLE_NUMBER.fullmatch(text).group()))
        except (AttributeError, ValueError):  # no match, or more digits than Python converts
            raise _bad(path, line, f"{name} {text[:40]!r} is not a whole number") from None
    lower, upper, size = numbers
    if upper <= lower:
        raise _bad(path, line, f"upper {upper} is not above lower {lower}")
    if size < 0:
        raise _bad(path, line, f"size {size} is negative")
    return Buffer(row["id"].strip(), lower, upper, size)


def _bad(path: str | Path, line: int, reason: str) -> LabError:
    return LabError(
        f"Cannot read {path}, line {line}: {reason}.",
        "",
        "Give a header id,lower,upper,size and one buffer per line, lifetimes half-open, sizes in bytes.",
    )
