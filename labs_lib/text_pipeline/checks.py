"""What exercises 8.2 and 8.3 demand: each check gets the learner's function and judges what it does.

Answers come first, on fresh corpora, then the Python steps, which may not grow with the number of strings. Nothing
is timed.
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise

import numpy as np

from labs_lib.exercises import NotYet
from labs_lib.text_pipeline.attempts import FEW, MANY, MARGIN, corpus_of, demand_own, described, steps_of, untouched
from labs_lib.text_pipeline.corpus import Corpus

FIRST_WORD = 10_000  # words are numbered from here on, so that none is a place


# --- 8.2 --------------------------------------------------------------------------------------------


def check_remove(attempt: Callable) -> str:
    rng, kept = np.random.default_rng(), []
    for wide in (False, True):
        for n, rate in ((30, 0.3), (int(rng.integers(5, 60)), 0.7), (8, 0.0), (8, 1.0)):
            corpus = corpus_of(rng, n, wide)
            codes = _demand_removed(attempt, corpus, rng.random(len(corpus.codes)) < rate)
            kept.append((codes, codes.copy()))
            demand_own(kept)
        one = Corpus(np.array([70000 if wide else 97, 98], np.uint32 if wide else np.uint8), np.array([0, 2]))
        _demand_removed(attempt, one, np.array([True, False]))
        _demand_removed(attempt, Corpus(one.codes[:0], np.array([0, 0, 0])), np.zeros(0, bool))  # two empty strings
        _demand_removed(attempt, Corpus(one.codes[:0], np.array([0])), np.zeros(0, bool))  # no string at all
    few, many = (
        steps_of(attempt, corpus.codes, corpus.offsets, rng.random(len(corpus.codes)) < 0.3)
        for corpus in (corpus_of(rng, FEW), corpus_of(rng, MANY))
    )
    _demand_no_loop(few, many, "strings")
    return f"right on 14 corpora; {few} Python steps for {FEW} strings, and {many} for {MANY} (counted)."


def _demand_removed(attempt: Callable, corpus: Corpus, drop: np.ndarray) -> np.ndarray:
    answer = untouched(attempt, corpus.codes, corpus.offsets, drop)
    if not (isinstance(answer, tuple) and len(answer) == 2 and all(isinstance(part, np.ndarray) for part in answer)):
        raise NotYet(f"return two arrays, codes and offsets; you return {described(answer)}.")
    codes, offsets = answer
    parts = [corpus.codes[start:end][~drop[start:end]] for start, end in pairwise(corpus.offsets)]
    kept = np.concatenate([corpus.codes[:0], *parts])
    begins = np.cumsum([0, *map(len, parts)])
    if codes.dtype != corpus.codes.dtype:
        raise NotYet(f"codes of {corpus.codes.dtype} stay {corpus.codes.dtype}; you return {codes.dtype}.")
    if not np.array_equal(codes, kept):
        share = f"{len(codes)} codes where {len(kept)} are kept" if len(codes) != len(kept) else "other codes"
        raise NotYet(f"`drop` is True where a character goes: you return {share}.")
    _demand_offsets(offsets, begins, corpus)
    return codes


def _demand_offsets(offsets: np.ndarray, begins: np.ndarray, corpus: Corpus) -> None:
    if offsets.dtype.kind not in "iu":
        raise NotYet(f"offsets are whole numbers; you return {offsets.dtype}.")
    if offsets.shape != begins.shape:
        raise NotYet(f"{len(begins) - 1} strings have {len(begins)} offsets, and you return {described(offsets)}.")
    if np.array_equal(offsets, begins):
        return
    if np.array_equal(offsets, corpus.offsets):
        raise NotYet("the codes are right, but each string still begins where it did before the removal.")
    empty = np.flatnonzero(np.diff(corpus.offsets) == 0)
    if len(empty) and np.any(np.diff(offsets)[empty]):
        raise NotYet("the codes are right, but a string that was empty is not empty any more.")
    place = int(np.flatnonzero(offsets != begins)[0])
    raise NotYet(
        f"the codes are right, but offsets[{place}] is {offsets[place]} where {begins[place]} characters are kept "
        "before it."
    )


def _demand_no_loop(few: int, many: int, what: str) -> None:
    if many > few + MARGIN:
        raise NotYet(
            f"the answer is right, but takes {few:,} Python steps for {FEW} {what} and {many:,} for {MANY} (lines and "
            f"calls, NumPy's own included). A loop over {what} is left."
        )


# --- 8.3 --------------------------------------------------------------------------------------------


def check_shuffle(attempt: Callable) -> str:
    rng, kept = np.random.default_rng(), []
    for dtype in (np.int64, np.uint16):
        for n, longest, kinds in ((30, 12, 2**32), (6, 300, 3), (int(rng.integers(200, 400)), 5, 2)):
            shuffled = _demand_shuffled(attempt, *_sentences(rng, n, longest, kinds, dtype))
            kept.append((shuffled, shuffled.copy()))
            demand_own(kept)
        for lengths in ([1], [0, 0], []):
            offsets = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)
            words = np.arange(offsets[-1]).astype(dtype)
            _demand_shuffled(attempt, words, offsets, np.zeros(len(words), np.uint32))
    few, many = (steps_of(attempt, *_sentences(rng, n, 12, 2**32, np.int64)) for n in (FEW, MANY))
    _demand_no_loop(few, many, "sentences")
    return f"right on 12 sets of sentences; {few} Python steps for {FEW} sentences, and {many} for {MANY} (counted)."


def _sentences(
    rng: np.random.Generator, n: int, longest: int, kinds: int, dtype: type
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Words, offsets and keys; `kinds` different keys, among them the smallest and the largest of 32 bits."""
    offsets = corpus_of(rng, n, longest=longest).offsets
    keys = rng.integers(0, 2**32, offsets[-1], np.uint32)
    if kinds < 2**32:
        keys = rng.choice(np.array([0, 2**32 - 1, 2**31][:kinds], np.uint32), offsets[-1])
    return (FIRST_WORD + rng.permutation(offsets[-1])).astype(dtype), offsets, keys


def _demand_shuffled(attempt: Callable, words: np.ndarray, offsets: np.ndarray, keys: np.ndarray) -> np.ndarray:
    answer = untouched(attempt, words, offsets, keys)
    if not isinstance(answer, np.ndarray) or answer.shape != words.shape or answer.dtype != words.dtype:
        raise NotYet(f"return {described(words)}, the words again; you return {described(answer)}.")
    expected, stays = words.copy(), True
    for start, end in pairwise(offsets):
        expected[start:end] = words[start:end][np.argsort(keys[start:end], kind="stable")]
        stays = stays and np.array_equal(np.sort(words[start:end]), np.sort(answer[start:end]))
    if np.array_equal(answer, expected):
        return answer
    if not np.array_equal(np.sort(answer), np.sort(words)):
        if len(words) and np.array_equal(words[np.clip(answer, 0, len(words) - 1)], expected):
            raise NotYet("you return the places where the words stood. words[order] gives the words.")
        raise NotYet("a word is lost, and another one stands there twice.")
    if not stays:
        raise NotYet("words have left their sentence. What must the sort compare before it compares keys?")
    place = {word: i for i, word in enumerate(words.tolist())}
    moved = keys[[place[word] for word in answer.tolist()]]
    if all(np.all(moved[start:end][:-1] <= moved[start:end][1:]) for start, end in pairwise(offsets)):
        raise NotYet("the keys are in order, but words with equal keys have changed places: the sort is not stable.")
    raise NotYet("each word is in its sentence, but not where its key puts it: the smallest key comes first.")
