"""A whole corpus as two arrays: the code points of all strings in a row, and where each string begins."""

from __future__ import annotations

import tempfile
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import numpy as np

from labs_lib.errors import LabError
from labs_lib.units import size_text

BLOCK = 2**22  # bytes of a file read at a time
LARGE = 2**28  # bytes of code points from which on they lie in a file instead of in memory


@dataclass(frozen=True, eq=False)
class Corpus:
    """`codes[offsets[i]:offsets[i + 1]]` are the code points of string i.

    codes: uint8 (characters,) where all code points are below 256, else uint32. offsets: int64 (strings + 1,).
    """

    codes: np.ndarray
    offsets: np.ndarray

    @classmethod
    def from_strings(cls, strings: Iterable[str]) -> Corpus:
        """
        >>> Corpus.from_strings(["ab", "", "c"]).offsets.tolist()
        [0, 2, 2, 3]
        >>> Corpus.from_strings(["déjà vu"]).codes.dtype, Corpus.from_strings(["π"]).codes.tolist()
        (dtype('uint8'), [960])

        Raises LabError for anything but strings, and for a single string, which would be taken letter by letter.
        """
        if isinstance(strings, str):
            raise LabError("One string is no list of strings.", "Each of its letters would be one.", "Write [string].")
        try:
            strings = list(strings)
            joined = "".join(strings)
        except TypeError as error:
            raise LabError("A corpus is made of a list of strings.", f"Here, {error}.", "Give such a list.") from error
        offsets = np.zeros(len(strings) + 1, np.int64)
        np.cumsum(np.fromiter(map(len, strings), np.int64, len(strings)), out=offsets[1:])
        return cls(_codes(joined), offsets)

    @classmethod
    def from_file(cls, path: str | Path) -> Corpus:
        """The lines of a text file in UTF-8, without their ends.

        A file whose code points take 256 MiB or more is read piece by piece into a temporary file, and `codes` is
        a memory map of that.

        It is read twice. Raises LabError where it cannot be read, is not UTF-8, or is another the second time.
        """
        characters, count, highest = 0, 0, 0
        for lines, _, _ in line_blocks(path):
            part = cls.from_strings(lines)
            characters, count = characters + len(part.codes), count + len(part)
            highest = max(highest, int(part.codes.max(initial=0)))
        dtype = np.dtype(np.uint8 if highest < 256 else np.uint32)
        codes, offsets = _room(characters, dtype), np.zeros(count + 1, np.int64)
        start, done = 0, 0
        for lines, _, _ in line_blocks(path):
            part = cls.from_strings(lines)
            if start + len(part.codes) > characters or done + len(part) > count:
                raise _changed(path)
            codes[start : start + len(part.codes)] = part.codes
            offsets[done : done + len(part) + 1] = part.offsets + start
            start, done = start + len(part.codes), done + len(part)
        if (start, done) != (characters, count):
            raise _changed(path)
        return cls(codes, offsets)

    @property
    def lengths(self) -> np.ndarray:
        """Characters of each string, int64 (strings,)."""
        return np.diff(self.offsets)

    def __len__(self) -> int:
        return len(self.offsets) - 1

    def __getitem__(self, part: slice) -> Corpus:
        """Strings in a row, as a corpus that shares the code points. Raises LabError for any other part."""
        if not isinstance(part, slice) or part.step not in (None, 1):
            raise LabError("A part of a corpus is some strings in a row.", "", "Write corpus[a:b] or corpus.strings().")
        start, stop, _ = part.indices(len(self))
        offsets = self.offsets[start : max(start, stop) + 1]
        return Corpus(self.codes[offsets[0] : offsets[-1]], offsets - offsets[0])

    def strings(self) -> list[str]:
        """The strings again.

        >>> Corpus.from_strings(["naïve", "", "π"]).strings()
        ['naïve', '', 'π']
        """
        joined = text_of(self.codes)
        ends = self.offsets.tolist()
        return [joined[start:end] for start, end in pairwise(ends)]

    def same(self, other: Corpus) -> bool:
        """Whether both hold the same strings, code point for code point."""
        return np.array_equal(self.offsets, other.offsets) and np.array_equal(self.codes, other.codes)

    def blocks(self, characters: int) -> Iterator[tuple[int, Corpus]]:
        """(index of its first string, corpus) of parts of about so many characters, which stay in the cache."""
        ends = np.searchsorted(self.offsets, np.arange(characters, len(self.codes), characters), "left")
        edges = np.unique([0, *ends, len(self)]).tolist()
        for start, stop in pairwise(edges):
            yield start, self[start:stop]

    def __repr__(self) -> str:
        return f"Corpus of {len(self):,} strings, {len(self.codes):,} characters, {size_text(self.codes.nbytes)}"


def concatenated(parts: Sequence[Corpus], dtype: np.dtype) -> Corpus:
    """The strings of all parts in a row; `dtype` is that of the code points where there is no part."""
    lengths = np.concatenate([np.zeros(1, np.int64), *(part.lengths for part in parts)])
    return Corpus(np.concatenate([np.empty(0, dtype), *(part.codes for part in parts)]), np.cumsum(lengths))


def line_blocks(path: str | Path) -> Iterator[tuple[list[str], list[str], int]]:
    """(lines, their ends, bytes read) of a file in UTF-8, some MiB at a time.

    A line ends with a line feed, with or without a carriage return before it; the last one may end with nothing.
    Other signs that Unicode takes for line ends stay in the line. A byte order mark at the file's beginning, as
    some editors set it, is no part of the first line, and is left out.
    """
    encoding = "utf-8-sig"
    if not isinstance(path, str | Path):
        raise LabError(f"{path!r} is no path.", "", "Give the path of a text file.")
    try:
        with open(path, "rb") as file:
            while data := file.read(BLOCK) + file.readline():
                lines = data.decode(encoding).split("\n")
                encoding = "utf-8"
                ends = ["\n"] * (len(lines) - 1) + [""]
                if not lines[-1]:
                    del lines[-1], ends[-1]
                returns = [i for i, line in enumerate(lines) if line.endswith("\r") and ends[i]]
                for i in returns:
                    lines[i], ends[i] = lines[i][:-1], "\r\n"
                yield lines, ends, len(data)
    except UnicodeDecodeError as error:
        raise LabError(
            f"{path} is not UTF-8: byte {error.object[error.start]:#x} has no meaning there.",
            "",
            f"See what it is with: file {path}. Then convert it: iconv -f utf-16 -t utf-8, or -f latin1.",
        ) from error
    except OSError as error:
        raise LabError(f"Can't read {path}: {error.strerror}.", "", "Check the path.") from error


def _changed(path: str | Path) -> LabError:
    return LabError(f"{path} is not the same when it is read again.", "", "Give a file that nobody writes to.")


def text_of(codes: np.ndarray) -> str:
    """The code points as one string."""
    if codes.dtype == np.uint8:
        return codes.tobytes().decode("latin-1")
    return codes.astype("<u4", copy=False).tobytes().decode("utf-32-le", "surrogatepass")


def _codes(joined: str) -> np.ndarray:
    """Latin-1 is Unicode's first 256 code points, a byte each; UTF-32 takes four for any of them."""
    try:
        return np.frombuffer(joined.encode("latin-1"), np.uint8)
    except UnicodeEncodeError:
        return np.frombuffer(joined.encode("utf-32-le", "surrogatepass"), "<u4").astype(np.uint32, copy=False)


def _room(characters: int, dtype: np.dtype) -> np.ndarray:
    if characters * dtype.itemsize < LARGE:
        return np.empty(characters, dtype)
    with tempfile.TemporaryFile(prefix="labs-corpus-") as file:  # stays readable while the map is alive
        return np.memmap(file, dtype, "w+", shape=(characters,))
