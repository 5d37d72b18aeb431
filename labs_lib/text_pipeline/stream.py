"""A text file of any size, some MiB at a time: what is written does not depend on where the file was cut."""

from __future__ import annotations

import os
import shutil
from contextlib import suppress
from dataclasses import asdict, astuple, dataclass
from pathlib import Path

from labs_lib.errors import LabError
from labs_lib.text_pipeline.corpus import Corpus, line_blocks
from labs_lib.text_pipeline.engines import augment, clean_corpus
from labs_lib.text_pipeline.rates import Rates


@dataclass(frozen=True)
class Streamed:
    """What went in and came out; counted, in lines and in characters without the lines' ends."""

    lines: int
    characters_in: int
    characters_out: int

    def __add__(self, other: Streamed) -> Streamed:
        return Streamed(*(mine + its for mine, its in zip(astuple(self), astuple(other), strict=True)))

    def as_dict(self) -> dict[str, int]:
        return asdict(self)

    def __str__(self) -> str:
        return f"{self.lines:,} lines: {self.characters_in:,} characters in, {self.characters_out:,} out."


def augment_file(
    source: str | Path,
    target: str | Path,
    seed: int,
    rates: Rates | None = None,
    engine: str = "numpy",
    clean: bool = False,
    progress: bool = True,
) -> Streamed:
    """Augments each line of `source` into `target`; line ends stay as they are. Line i is sentence i.

    The target appears when it is complete, and is left alone if anything fails before. Until then the lines are in a
    hidden file beside it, which is all that a killed run leaves behind.

    Raises LabError where a file can't be read or written, or the source is not UTF-8.
    """
    from tqdm.auto import tqdm

    target = Path(os.path.realpath(target))
    if target.exists() and not target.is_file():
        raise LabError(f"{target} is no file.", "", "Name a file for the output.")
    unfinished = target.with_name(f".{target.name}.{os.getpid()}.part")  # a run beside this one has its own
    size = os.path.getsize(source) if os.path.exists(source) else 0
    found = Streamed(0, 0, 0)
    try:
        with (
            open(unfinished, "wb") as out,
            tqdm(total=size, unit="B", unit_scale=True, desc="augmenting", leave=False, disable=not progress) as bar,
        ):
            for lines, ends, read in line_blocks(source):
                corpus = Corpus.from_strings(lines)
                if clean:
                    corpus = clean_corpus(corpus)
                misspelt = augment(corpus, seed, rates, engine, first=found.lines)
                written = "".join([s + end for s, end in zip(misspelt.strings(), ends, strict=True)])
                out.write(written.encode("utf-8"))
                found += Streamed(len(lines), len(corpus.codes), len(misspelt.codes))
                bar.update(read)
            out.flush()
            os.fsync(out.fileno())  # else a crash of the machine could leave the name without the bytes
        if target.exists():
            shutil.copymode(target, unfinished)  # what only its owner may read stays so
        os.replace(unfinished, target)
    except OSError as error:
        raise LabError(f"Can't write {target}: {error.strerror}.", "", "Check its folder, and its room.") from error
    finally:
        with suppress(OSError):
            unfinished.unlink()
    return found
