"""Every engine gives the reference's bytes, on the whole corpus and on whatever Unicode Hypothesis makes."""

import importlib
import pkgutil
import sys

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import labs_lib.text_pipeline as text
from labs_lib.errors import LabError
from labs_lib.text_pipeline import engines, numpy_engine
from labs_lib.text_pipeline.better_python import better_python, numpy_per_string
from labs_lib.text_pipeline.numba_engine import compile_kernels

ENGINES = [*text.ENGINES]
DEVICES = [("numpy", "cpu"), ("numba", "cpu"), ("torch", "cpu")] + [("torch", "cuda")] * torch.cuda.is_available()
# Letters that lower-case oddly, marks, spaces, signs beyond 16 bits, a NUL, half a pair of surrogates.
ODD = "aB z,.'-?\t\n\x00\x85\xa0éÀßŸ\u0301ΣσςİıΑπ中🙂\U0001d400\ud800"
STRINGS = st.lists(st.one_of(st.text(max_size=30), st.text(alphabet=ODD, max_size=30)), max_size=8)
RATES = st.sampled_from(
    [
        text.Rates(),
        text.Rates(0.3, 0.3, 0.3, 1),
        text.Rates(0, 0, 0, 1),
        text.Rates(1, 0, 0, 0.5),
        text.Rates(0, 1, 0, 0.5),
        text.Rates(0, 0, 1, 0.5),
        text.Rates(0, 0, 0, 0),
        text.Rates(1e-12, 0.5, 1e-12, 1e-12),
    ]
)
VOCABULARIES = st.sampled_from(["ab", text.VOCABULARY, "zéπ🙂", "".join(map(chr, range(32, 700)))])
SEEDS = st.one_of(st.integers(0, 9), st.integers(0, 2**64 - 1))
FIRST = st.one_of(st.just(0), st.integers(0, 2**40))


@pytest.fixture(scope="module", autouse=True)
def compiled():
    """So that no Hypothesis example pays for compiling."""
    compile_kernels()
    compile_kernels(wide=True)


@given(STRINGS)
def test_cleaning_a_corpus_is_cleaning_each_string(strings):
    cleaned = text.clean_corpus(text.Corpus.from_strings(strings))
    assert cleaned.strings() == [text.clean(s) for s in strings]


def test_every_code_point_is_cleaned_as_the_reference_has_it():
    characters = [chr(code) for code in range(sys.maxunicode + 1)]
    with_table = [character for character in characters if character not in "Σİ"]
    joined = text.clean_corpus(text.Corpus.from_strings(with_table))
    assert joined.strings() == [text.clean(character) for character in with_table]


def test_the_two_capitals_without_a_table_are_the_only_ones():
    """A Python with a newer Unicode may know more; then `NO_TABLE` must."""
    longer = {code for code in range(sys.maxunicode + 1) if len(chr(code).lower()) > 1}
    by_context = {code for code in range(sys.maxunicode + 1) if ("a" + chr(code)).lower() != "a" + chr(code).lower()}
    assert longer | by_context == numpy_engine.NO_TABLE


@pytest.mark.parametrize(("engine", "device"), DEVICES)
@given(STRINGS, SEEDS, RATES, FIRST)
def test_augmenting_gives_the_references_bytes(engine, device, strings, seed, rates, first):
    corpus = text.Corpus.from_strings(strings)
    before = corpus.codes.copy()
    found = text.augment(corpus, seed, rates, engine, first, device)
    expected = [text.augment_by_characters(s, index, seed, rates) for index, s in enumerate(strings, first)]
    assert found.strings() == expected
    assert found.codes.dtype == corpus.codes.dtype
    assert np.array_equal(corpus.codes, before)


@pytest.mark.parametrize(("engine", "device"), DEVICES)
@given(STRINGS, VOCABULARIES, st.integers(1, 20))
def test_encoding_gives_the_references_indices(engine, device, strings, vocabulary, length):
    found = text.encode(text.Corpus.from_strings(strings), vocabulary, length, engine, device)
    assert found.shape == (len(strings), length)
    assert found.tolist() == [text.encode_by_characters(s, vocabulary, length) for s in strings]


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("size", [253, 254, 255, 65_533, 65_534, 65_535, 70_000])
def test_indices_have_room_for_the_vocabulary(engine, size):
    """0 and 1 are padding and unknown, so 254 characters fill one byte, and 65,534 fill two."""
    vocabulary = "".join(map(chr, range(0xE000, 0xE000 + size)))
    found = text.encode(text.Corpus.from_strings([vocabulary[-3:] + "a"]), vocabulary, 5, engine)
    assert found.tolist() == [[size - 1, size, size + 1, 1, 0]]
    assert found.dtype == (np.uint8 if size <= 254 else np.uint16 if size <= 65_534 else np.uint32)


@pytest.mark.parametrize("engine", ENGINES)
def test_the_last_sentences_that_can_be_numbered(engine):
    corpus = text.Corpus.from_strings(["one two three", "four five six"])
    first = 2**63 - len(corpus) - 1
    found = text.augment(corpus, 2**64 - 1, text.Rates(shuffle=1), engine, first).strings()
    assert found == [
        text.augment_by_characters(s, i, 2**64 - 1, text.Rates(shuffle=1))
        for i, s in enumerate(corpus.strings(), first)
    ]


@given(STRINGS, SEEDS, RATES)
@settings(max_examples=50)
def test_all_ways_through_python_agree_too(strings, seed, rates):
    expected = text.by_characters(strings, seed, rates, length=16)
    assert better_python(strings, seed, rates, length=16).tolist() == expected
    assert numpy_per_string(strings, seed, rates, length=16).tolist() == expected
    assert text.pipeline(strings, seed, rates, length=16).tolist() == expected


def test_the_whole_corpus_gives_the_same_bytes_from_every_engine():
    strings, rates = text.sentences(20_000), text.Rates()
    cleaned = text.clean_corpus(text.Corpus.from_strings(strings))
    found = {engine: text.augment(cleaned, 0, rates, engine) for engine in ENGINES}
    lines = found["numpy"].strings()
    for index in range(0, len(strings), 7):
        assert lines[index] == text.augment_by_characters(text.clean(strings[index]), index, 0, rates)
    assert all(corpus.same(found["numpy"]) for corpus in found.values())
    rows = text.encode(found["numpy"])
    assert all(np.array_equal(text.encode(found["numpy"], engine=engine), rows) for engine in ENGINES)
    assert np.array_equal(better_python(strings, 0, rates), rows)


@pytest.mark.parametrize("engine", ENGINES)
def test_parts_augmented_apart_are_the_parts_of_the_whole(engine):
    corpus = text.clean_corpus(text.Corpus.from_strings(text.sentences(400)))
    whole = text.augment(corpus, 3, engine=engine)
    for start, stop in ((0, 1), (123, 300), (399, 400)):
        assert text.augment(corpus[start:stop], 3, engine=engine, first=start).same(whole[start:stop])


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("above", [0, 1])
@pytest.mark.parametrize("kind", ["remove", "substitute", "insert", "shuffle"])
def test_an_edge_itself_is_not_below_the_edge(engine, above, kind):
    """Random inputs meet an edge once in four thousand million numbers, so the rates are made to meet a number."""
    stream, s = (text.SHUFFLE, "a b c d e f") if kind == "shuffle" else (text.CHARACTERS, "#")
    edge = text.word(0, 0, 0, stream) + above
    rates = text.Rates(**{"remove": 0, "substitute": 0, "insert": 0, "shuffle": 0, kind: edge / 2**32})
    misspelt = {"remove": "", "substitute": "z", "insert": "#z"}.get(kind)
    found = text.augment(text.Corpus.from_strings([s]), 0, rates, engine).strings()
    assert found == [text.augment_by_characters(s, 0, 0, rates)]
    assert found[0] != s if above and kind == "shuffle" else found == [misspelt if above else s]


def test_blocks_leave_no_trace(monkeypatch):
    corpus = text.clean_corpus(text.Corpus.from_strings(["", *text.sentences(50), "", ""]))
    whole = text.augment(corpus, 1)
    for block in (1, 50, 333, 10**6):
        monkeypatch.setattr(engines, "BLOCK", block)
        assert text.augment(corpus, 1).same(whole)


def test_another_seed_gives_other_misspellings():
    corpus = text.clean_corpus(text.Corpus.from_strings(text.sentences(20)))
    assert not text.augment(corpus, 0).same(text.augment(corpus, 1))
    assert text.augment(corpus, 0).same(text.augment(corpus, 0))


def test_the_rates_are_kept():
    """Five standard deviations, on 200,000 characters that can be told apart afterwards."""
    n, length = 2000, 100
    corpus = text.Corpus.from_strings(["#" * length] * n)
    total, rates = n * length, (0.02, 0.07, 0.11)

    def near(count, rate, of=total):
        return abs(count - rate * of) < 5 * (of * rate * (1 - rate)) ** 0.5

    joined = "".join(text.augment(corpus, 0, text.Rates(*rates, shuffle=0)).strings())
    letters = len(joined) - joined.count("#")
    assert near(total - joined.count("#"), rates[0] + rates[1])
    assert near(letters, rates[1] + rates[2])
    counts = np.bincount(np.frombuffer("".join(c for c in joined if c != "#").encode(), np.uint8) - ord("a"))
    assert len(counts) == 26
    assert all(near(count, 1 / 26, letters) for count in counts)
    words = " ".join("abcdefghij")
    moved = text.augment(text.Corpus.from_strings([words] * 5000), 0, text.Rates(0, 0, 0, 0.3)).strings()
    assert near(sum(s != words for s in moved), 0.3, 5000)
    assert all(sorted(s) == sorted(words) for s in moved)
    first = [s[0] for s in moved if s != words]
    assert all(near(first.count(letter), 0.1, len(first)) for letter in "abcdefghij")


@pytest.mark.parametrize("engine", ENGINES)
def test_a_string_of_many_words_is_shuffled_too(engine):
    s = "x ".join(map(str, range(5000)))
    rates = text.Rates(0, 0, 0, 1)
    found = text.augment(text.Corpus.from_strings([s]), 0, rates, engine).strings()
    assert found == [text.augment_by_characters(s, 0, 0, rates)] != [s]


def test_the_case_has_the_same_rates_and_other_numbers():
    strings, rates = text.sentences(300), text.Rates(shuffle=0)
    rows = [tensor.tolist() for tensor in text.the_case(strings, 0, rates, length=512)]
    reference = text.by_characters(strings, 0, rates, length=512)
    assert rows != reference
    assert abs(sum(map(np.count_nonzero, rows)) / sum(map(np.count_nonzero, reference)) - 1) < 0.02
    plain = text.Rates(0, 0, 0, 0)
    assert [tensor.tolist() for tensor in text.the_case(strings, 0, plain)] == text.by_characters(strings, 0, plain)


def test_a_dataset_gives_rows_and_batches_of_int64():
    data = text.dataset(text.pipeline(text.sentences(10), 0))
    loader = torch.utils.data.DataLoader(data, batch_size=4)
    batches = list(loader)
    assert [batch.shape for batch in batches] == [(4, 128), (4, 128), (2, 128)]
    assert batches[0].dtype == data[0].dtype == torch.int64
    assert torch.equal(torch.cat(batches)[5], data[5])
    assert len(data) == 10


def test_no_module_that_is_imported_later_hides_a_function():
    """`labs_lib.text_pipeline.x` becomes the module x when that is first imported."""
    for module in pkgutil.iter_modules(text.__path__):
        importlib.import_module(f"{text.__name__}.{module.name}")
    functions = ("dataset", "ladder", "philox", "sentences", "better_python", "pipeline", "augment", "encode", "clean")
    assert all(callable(getattr(text, name)) for name in functions)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda corpus: text.augment(corpus, 0, engine="cython"), "no engine 'cython'"),
        (lambda corpus: text.encode(corpus, engine="cython"), "no engine 'cython'"),
        (lambda corpus: text.augment(corpus, -1), "no seed"),
        (lambda corpus: text.augment(corpus, 0, first=-1), "first=-1 is no whole number"),
        (lambda corpus: text.augment(corpus, 0, first=1.5), "first=1.5"),
        (lambda corpus: text.augment(corpus, 0, first=2**63), "first=9223372036854775808"),
        (lambda corpus: text.augment(["a"], 0), "takes a Corpus, and got list"),
        (lambda corpus: text.clean_corpus("a"), "takes a Corpus, and got str"),
        (lambda corpus: text.encode(["a"]), "takes a Corpus, and got list"),
        (lambda corpus: text.pipeline("abc", 0), "One string is no list"),
        (lambda corpus: text.encode(corpus, length=2.5), "length=2.5"),
        (lambda corpus: text.encode(corpus, "aa"), "twice"),
        (lambda corpus: text.encode(corpus, length=0), "length=0 is no whole number"),
        (lambda corpus: text.encode(corpus, None), "The vocabulary is None"),
        (lambda corpus: text.encode(corpus, ["a"]), "The vocabulary is"),
        (lambda corpus: text.augment(corpus, 0, {"remove": 0.1}), "rates is {'remove': 0.1}"),
        (lambda corpus: text.augment(corpus, 0, 0.0), "rates is 0.0"),
        (lambda corpus: text.augment(corpus, 0, engine="torch", device="tpu"), "device 'tpu' here"),
        (lambda corpus: text.Corpus.from_file(None), "None is no path"),
        (lambda corpus: text.dataset([[1, 2]]), "made of an array of indices"),
        (lambda corpus: text.dataset(np.zeros(3, np.uint8)), "made of an array of indices"),
        (lambda corpus: text.dataset(np.zeros((3, 2))), "made of an array of indices"),
        (lambda corpus: text.PythonBPE(None), "takes a trained tokeniser, and got NoneType"),
        (lambda corpus: text.Workers("2"), "'2' workers can't be started"),
    ],
)
def test_what_cannot_be_done_is_said(call, message):
    with pytest.raises(LabError, match=message):
        call(text.Corpus.from_strings(["a"]))
