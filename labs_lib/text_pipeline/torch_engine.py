"""The same array operations in torch, on the CPU or on a GPU.

torch has few operations on unsigned integers of 32 and 64 bits, so all numbers are int64: a product that overflows
wraps, which leaves its bits right, and masks take the halves.
"""

from __future__ import annotations

import numpy as np
import torch

from labs_lib.errors import LabError
from labs_lib.text_pipeline.corpus import Corpus
from labs_lib.text_pipeline.numpy_engine import SPACE, table_of
from labs_lib.text_pipeline.philox import CHARACTERS, MASK, MULTIPLIERS, ROUNDS, SHUFFLE, WEYL, WORDS, key_of
from labs_lib.text_pipeline.rates import LETTERS, PARTS, Rates
from labs_lib.text_pipeline.reference import PADDING


def augment(corpus: Corpus, seed: int, rates: Rates, first: int = 0, device: str = "cpu") -> Corpus:
    """Shuffles words, then misspells characters, on the device; copied there and back."""
    codes, offsets = on_device(corpus, device)
    codes = _shuffle(codes, offsets, seed, rates, first)
    codes, offsets = _misspell(codes, offsets, seed, rates, first)
    return Corpus(codes.cpu().numpy().astype(corpus.codes.dtype, copy=False), offsets.cpu().numpy())


def encode(corpus: Corpus, vocabulary: str, length: int, device: str = "cpu") -> np.ndarray:
    """Each row gathers its part of the indices."""
    codes, offsets = on_device(corpus, device)
    table = torch.from_numpy(table_of(vocabulary).astype(np.int32)).to(device)
    indices = table[codes.int().clamp(max=len(table) - 1)]
    places = offsets[:-1, None] + torch.arange(length, device=device)
    inside = places < offsets[1:, None]
    if not len(codes):
        return np.full((len(corpus), length), PADDING, table_of(vocabulary).dtype)
    rows = indices[places.clamp(max=len(codes) - 1)].where(inside, PADDING)
    return rows.cpu().numpy().astype(table_of(vocabulary).dtype)


def on_device(corpus: Corpus, device: str) -> tuple[torch.Tensor, torch.Tensor]:
    """uint8 or int32 code points, and int64 offsets. Raises LabError where there is no such device."""
    codes = corpus.codes if corpus.codes.dtype == np.uint8 else corpus.codes.astype(np.int32)
    try:
        return torch.tensor(codes, device=device), torch.tensor(corpus.offsets, device=device)
    except torch.OutOfMemoryError:
        raise
    except (RuntimeError, AssertionError, TypeError) as error:  # AssertionError: torch was built without CUDA
        why = str(error).splitlines()[0].rstrip(".")
        raise LabError(f"torch can't use the device {device!r} here.", f"{why}.", 'Take device="cpu".') from error


def _philox_blocks(blocks: torch.Tensor, sentences: torch.Tensor, seed: int, stream: int) -> torch.Tensor:
    """int64 (n,) counters give int64 (n, 4) numbers below 2**32; see `labs_lib.text_pipeline.philox`."""
    multipliers = torch.tensor(MULTIPLIERS[::-1], device=blocks.device)[:, None]
    keys, weyl = (torch.tensor(pair, device=blocks.device)[:, None] for pair in (key_of(seed), WEYL))
    even = torch.stack([blocks, sentences >> 32])
    odd = torch.stack([sentences & MASK, torch.full_like(blocks, stream)])
    for _ in range(ROUNDS):
        product = even.flip(0) * multipliers
        even, odd = (product >> 32 & MASK) ^ odd ^ keys, product & MASK
        keys = keys + weyl & MASK
    return torch.stack([even[0], odd[0], even[1], odd[1]], 1)


def _rows(seed: int, sentences: torch.Tensor, lengths: torch.Tensor, stream: int) -> tuple[torch.Tensor, torch.Tensor]:
    """`labs_lib.text_pipeline.philox.rows`."""
    counts = lengths + 3 >> 2
    begins = counts.cumsum(0) - counts
    owners = torch.repeat_interleave(counts)
    blocks = torch.arange(len(owners), device=lengths.device) - begins[owners]
    return _philox_blocks(blocks, sentences[owners], seed, stream).flatten(), begins * 4


def _shuffle(codes: torch.Tensor, offsets: torch.Tensor, seed: int, rates: Rates, first: int) -> torch.Tensor:
    sentences = torch.arange(first, first + len(offsets) - 1, device=codes.device)
    decisions = _philox_blocks(torch.zeros_like(sentences), sentences, seed, SHUFFLE)[:, 0]
    chosen = torch.nonzero(decisions < rates.shuffle_edge).flatten()
    if not len(chosen) or not len(codes):
        return codes
    lengths = offsets.diff()[chosen] + 1
    ends = lengths.cumsum(0)
    owners = torch.repeat_interleave(lengths)
    places = torch.arange(len(owners), device=codes.device) + (offsets[chosen] - (ends - lengths))[owners]
    text = codes[places.clamp(max=len(codes) - 1)]
    text[ends - 1] = SPACE
    word_ends = torch.nonzero(text == SPACE).flatten() + 1
    word_starts = torch.cat([word_ends.new_zeros(1), word_ends[:-1]])
    string = owners[word_ends - 1]
    counts = torch.bincount(string, minlength=len(chosen))
    numbers, starts = _rows(seed, first + chosen, counts, WORDS)
    inside = torch.arange(len(string), device=codes.device) - (counts.cumsum(0) - counts)[string]
    order = torch.argsort(string << 32 | numbers[starts[string] + inside], stable=True)

    sizes = (word_ends - word_starts)[order]
    moved = (word_starts[order] - (sizes.cumsum(0) - sizes)).repeat_interleave(sizes)
    text = text[torch.arange(len(text), device=codes.device) + moved]
    keep = torch.ones_like(text, dtype=torch.bool)
    keep[ends - 1] = False
    codes = codes.clone()
    codes[places[keep]] = text[keep]
    return codes


def _misspell(
    codes: torch.Tensor, offsets: torch.Tensor, seed: int, rates: Rates, first: int
) -> tuple[torch.Tensor, torch.Tensor]:
    lengths = offsets.diff()
    sentences = torch.arange(first, first + len(lengths), device=codes.device)
    numbers, starts = _rows(seed, sentences, lengths, CHARACTERS)
    edges = torch.tensor([0, *rates.edges], device=codes.device)
    hits = torch.nonzero(numbers < edges[-1]).flatten()
    string = torch.searchsorted(starts, hits, right=True) - 1
    position = hits - starts[string]
    real = position < lengths[string]
    places, number = (offsets[string] + position)[real], numbers[hits[real]]
    kind = torch.searchsorted(edges[1:], number, right=True)
    removed, substituted, inserted = (torch.nonzero(kind == k).flatten() for k in range(3))
    letter_codes = torch.tensor(list(LETTERS.encode()), dtype=codes.dtype, device=codes.device)
    letters = letter_codes[(number - edges[kind]) * PARTS // edges.diff()[kind]]

    codes = codes.clone()
    codes[places[substituted]] = letters[substituted]
    copies = torch.ones(len(codes), dtype=torch.int64, device=codes.device)
    copies[places[removed]], copies[places[inserted]] = 0, 2
    codes = codes.repeat_interleave(copies)
    grown = (kind // 2 - (kind == 0).long()).cumsum(0)
    codes[(places + grown)[inserted]] = letters[inserted]
    moved = torch.cat([grown.new_zeros(1), grown])[torch.searchsorted(places, offsets)]
    return codes, offsets + moved
