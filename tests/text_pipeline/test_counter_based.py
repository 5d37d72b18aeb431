"""Philox against the published vectors; plain Python against NumPy; what `Rates` accepts."""

from itertools import product

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from labs_lib.errors import LabError
from labs_lib.text_pipeline.philox import key_of, philox, philox_blocks, rows, uniform, uniforms, word, words, words_of
from labs_lib.text_pipeline.rates import Rates

# Known answers of Random123's kat_vectors for philox4x32 with 10 rounds: counter, key, result.
VECTORS = [
    ("00000000 00000000 00000000 00000000", "00000000 00000000", "6627e8d5 e169c58d bc57ac4c 9b00dbd8"),
    ("ffffffff ffffffff ffffffff ffffffff", "ffffffff ffffffff", "408f276d 41c83b0e a20bc7c6 6d5451fd"),
    ("243f6a88 85a308d3 13198a2e 03707344", "a4093822 299f31d0", "d16cfe09 94fdcceb 5001e420 24126ea1"),
]


def numbers(text):
    return tuple(int(number, 16) for number in text.split())


@pytest.mark.parametrize(("counter", "key", "result"), VECTORS)
def test_the_published_vectors(counter, key, result):
    assert philox(numbers(counter), numbers(key)) == numbers(result)


@pytest.mark.parametrize(("counter", "key", "result"), VECTORS)
def test_the_published_vectors_over_arrays(counter, key, result):
    block, low, high, stream = numbers(counter)
    k, m = numbers(key)
    sentence = np.array([high << 32 | low], np.uint64)
    found = philox_blocks(np.array([block], np.uint64), sentence, m << 32 | k, stream)
    assert tuple(found[0].tolist()) == numbers(result)


WIDE = st.integers(0, 2**64 - 1)


@given(WIDE, st.lists(st.tuples(WIDE, st.integers(0, 2**34 - 1)), min_size=1, max_size=9), st.integers(0, 2))
def test_arrays_and_plain_python_have_the_same_bits(seed, places, stream):
    sentences, positions = (np.array(column, np.uint64) for column in zip(*places, strict=True))
    expected = [word(seed, sentence, position, stream) for sentence, position in places]
    assert words(seed, sentences, positions, stream).tolist() == expected
    assert uniforms(seed, sentences, positions, stream).tolist() == [
        uniform(seed, sentence, position, stream) for sentence, position in places
    ]


@given(WIDE, st.lists(st.integers(0, 9), max_size=9), st.integers(0, 2**40))
def test_rows_hold_the_numbers_of_each_position(seed, lengths, first):
    sentences = np.arange(first, first + len(lengths))
    found, starts = rows(seed, sentences, np.array(lengths, np.int64), 1)
    for sentence, start, length in zip(sentences.tolist(), starts.tolist(), lengths, strict=True):
        expected = [word(seed, sentence, position, 1) for position in range(length)]
        assert found[start : start + length].tolist() == expected
        assert [number for number, _ in zip(words_of(seed, sentence, 1), range(length), strict=False)] == expected


def test_streams_sentences_and_seeds_do_not_share_numbers():
    places = list(product((0, 1, 2**32), (0, 1, 2**32), range(8), range(3)))
    assert len({word(*place) for place in places}) == len(places)


def test_the_numbers_are_uniform():
    found = uniforms(5, np.arange(200)[:, None], np.arange(500))
    counts, _ = np.histogram(found, bins=100, range=(0, 1))
    assert ((counts - 1000) ** 2 / 1000).sum() < 99 + 6 * (2 * 99) ** 0.5  # chi-squared, six standard deviations
    assert found.min() >= 0
    assert found.max() < 1


@pytest.mark.parametrize("seed", [-1, 2**64, 0.5, "0", None])
def test_a_seed_is_a_whole_number_of_64_bits(seed):
    with pytest.raises(LabError, match="no seed"):
        key_of(seed)


def test_numpy_integers_are_seeds():
    assert key_of(np.int64(2**32 + 5)) == (5, 1)


@pytest.mark.parametrize(
    ("rates", "message"),
    [
        ({"remove": -0.1}, "no probability"),
        ({"shuffle": 1.5}, "no probability"),
        ({"insert": float("nan")}, "insert="),
        ({"remove": "0.1"}, "remove='0.1'"),
        ({"shuffle": None}, "shuffle=None"),
        ({"remove": 0.5, "substitute": 0.4, "insert": 0.2}, "more than 1"),
    ],
)
def test_rates_are_probabilities(rates, message):
    with pytest.raises(LabError, match=message):
        Rates(**rates)


@pytest.mark.parametrize(
    ("sentence", "position", "stream"),
    [(-1, 0, 0), (2**64, 0, 0), (0, -1, 0), (0, 2**34, 0), (0, 0, -1), (0, 0, 2**32), (0.5, 0, 0), (0, 1.0, 0)],
)
def test_a_place_beyond_the_counter_has_no_number(sentence, position, stream):
    """It would share the number of another place, or have one outside of 32 bits."""
    with pytest.raises(LabError, match="whole number"):
        word(0, sentence, position, stream)
    with pytest.raises(LabError, match="whole number"):
        words(0, np.array([sentence]), np.array([position]), stream)


def test_arrays_without_places_have_no_numbers():
    assert uniforms(0, [], []).shape == (0,)
    assert words(0, np.zeros((2, 0), int), np.zeros((1, 0)), 0).shape == (2, 0)


def test_edges_reach_both_ends():
    assert Rates(0, 0, 0, 0).edges == (0, 0, 0)
    assert Rates(0.2, 0.3, 0.5, 1).edges[-1] == Rates(0.2, 0.3, 0.5, 1).shuffle_edge == 2**32
    assert Rates(0.7, 0.2, 0.1).edges[-1] <= 2**32  # though the floats add up to a little less or more than 1
