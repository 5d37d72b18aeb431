import tracemalloc

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import labs_lib.text_pipeline as text
from labs_lib.errors import LabError
from labs_lib.text_pipeline import corpus as corpora

ANY = st.lists(st.text(st.characters(), max_size=20), max_size=8)


@given(ANY)
def test_the_strings_come_back(strings):
    corpus = text.Corpus.from_strings(strings)
    assert corpus.strings() == strings
    assert len(corpus) == len(strings)
    assert corpus.lengths.tolist() == [len(s) for s in strings]
    assert (corpus.codes.dtype == np.uint8) == all(ord(c) < 256 for s in strings for c in s)
    assert [code for s in strings for code in map(ord, s)] == corpus.codes.tolist()


@given(ANY, st.integers(-3, 9), st.integers(-3, 9))
def test_a_slice_is_the_slice_of_the_strings(strings, start, stop):
    corpus = text.Corpus.from_strings(strings)
    part = corpus[start:stop]
    assert part.strings() == strings[start:stop]
    assert not len(part.codes) or np.shares_memory(part.codes, corpus.codes)


@given(ANY, st.integers(1, 30))
def test_blocks_are_the_whole_in_order(strings, characters):
    found = []
    for first, part in text.Corpus.from_strings(strings).blocks(characters):
        assert first == len(found)
        found += part.strings()
    assert found == strings


@pytest.mark.parametrize("block", [1, 7, 2**22])
@pytest.mark.parametrize(
    ("data", "lines"),
    [
        ("a\nb\n", ["a", "b"]),
        ("a\r\n\r\nb", ["a", "", "b"]),
        ("", []),
        ("\n", [""]),
        ("één\u2028π\x0b🙂\rx\n", ["één\u2028π\x0b🙂\rx"]),
        ("x" * 20 + "\n" + "y" * 3, ["x" * 20, "y" * 3]),
        ("\ufeffa\n\ufeffb", ["a", "\ufeffb"]),
        ("\ufeff", []),
        ("\ufeff\r\n", [""]),
    ],
)
def test_a_file_is_its_lines(tmp_path, monkeypatch, block, data, lines):
    monkeypatch.setattr(corpora, "BLOCK", block)
    path = tmp_path / "a.txt"
    path.write_bytes(data.encode())
    assert text.Corpus.from_file(path).strings() == lines


def test_a_large_file_is_mapped_and_not_held(tmp_path, monkeypatch):
    monkeypatch.setattr(corpora, "LARGE", 2**20)
    monkeypatch.setattr(corpora, "BLOCK", 2**16)
    path = tmp_path / "large.txt"
    line = "The quick brown fox jumps over the lazy dog, again and again and again, until the line is long.\n"
    path.write_text(line * 12_000)
    tracemalloc.start()
    try:
        corpus = text.Corpus.from_file(path)
        held, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert isinstance(corpus.codes, np.memmap)
    assert held < path.stat().st_size / 4
    assert corpus[11_999:].strings() == [line[:-1]]
    small = text.augment(corpus[1000:1010], 0, engine="numba", first=1000)
    assert small.same(text.augment(corpus[1000:1010], 0, engine="numpy", first=1000))


def test_what_cannot_be_read_is_said(tmp_path):
    path = tmp_path / "latin.txt"
    path.write_bytes("naïve".encode("latin-1"))
    with pytest.raises(LabError, match="not UTF-8: byte 0xef"):
        text.Corpus.from_file(path)
    with pytest.raises(LabError, match="Can't read"):
        text.Corpus.from_file(tmp_path / "none.txt")


@pytest.mark.parametrize("again", ["a\nb\n", "a\nb\nc\nd\n", "a\nb\ncd", "a\nb\n\n", ""])
def test_a_file_that_changes_between_its_two_readings_is_no_corpus(tmp_path, monkeypatch, again):
    """`codes` would end in whatever was in memory, or in what did not fit."""
    path = tmp_path / "a.txt"
    path.write_text("a\nb\nc\n")
    room = corpora._room

    def rewritten(*size):
        path.write_text(again)
        return room(*size)

    monkeypatch.setattr(corpora, "_room", rewritten)
    with pytest.raises(LabError, match="not the same"):
        text.Corpus.from_file(path)


@pytest.mark.parametrize("strings", ["abc", b"abc", [1, 2], [b"a"], [None], None, 5])
def test_only_strings_make_a_corpus(strings):
    with pytest.raises(LabError, match="list of strings"):
        text.Corpus.from_strings(strings)


def test_a_generator_of_strings_is_fine():
    assert text.Corpus.from_strings(s for s in ("a", "", "b")).strings() == ["a", "", "b"]


@pytest.mark.parametrize("part", [0, -1, slice(None, None, 2), slice(None, None, -1), "a", [0, 1]])
def test_a_part_is_some_strings_in_a_row(part):
    with pytest.raises(LabError, match="in a row"):
        text.Corpus.from_strings(["a", "b", "c"])[part]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [((-1,), "n=-1"), ((2.5,), "n=2.5"), (("5",), "n='5'"), ((5, -1), "seed=-1"), ((5, 0.5), "seed=0.5")],
)
def test_sentences_are_counted_in_whole_numbers(arguments, message):
    with pytest.raises(LabError, match=message):
        text.sentences(*arguments)


def test_sentences_are_real_different_and_the_same_each_time():
    found = text.sentences(20_000)
    assert len(found) == 20_000
    assert len(set(found)) > 19_000
    assert all(s[0].isupper() and s[-1] in ".!?" for s in found)
    assert sum(map(len, found)) > 10**6
    assert found == text.sentences(20_000)
    assert found != text.sentences(20_000, seed=1)
    assert text.sentences(0) == []


def test_a_corpus_says_what_it_holds():
    assert repr(text.Corpus.from_strings(["ab", "c"])) == "Corpus of 2 strings, 3 characters, 0.0 KiB"
