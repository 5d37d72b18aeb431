"""Data and models that start equal on every machine; padding counted, and without effect on the answer."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from labs_lib import batched_eval as ev
from labs_lib.errors import LabError

lengths_and_size = st.tuples(st.lists(st.integers(1, 60), min_size=1, max_size=40), st.integers(1, 12))


def test_digits_are_split_the_same_way_each_time():
    data, again = ev.digits(), ev.digits()
    assert torch.equal(data.test_images, again.test_images)
    assert (data.test_images.dtype, data.test_labels.dtype) == (torch.float32, torch.int64)
    assert data.test_images.min() >= 0
    assert data.test_images.max() == 1
    assert data.test_labels.unique().tolist() == list(range(10))
    assert all(len(data.test_images) % size for size in (8, 16, 32, 64, 128))  # the last batch is a short one
    assert not torch.equal(ev.digits(seed=1).test_labels, data.test_labels)


def test_weights_come_from_the_seed_and_not_from_torch():
    for make in (ev.digits_cnn, ev.text_encoder):
        torch.manual_seed(1)
        one = make(seed=3).state_dict()
        torch.manual_seed(2)
        other, third = make(seed=3).state_dict(), make(seed=4).state_dict()
        assert all(torch.equal(one[name], other[name]) for name in one)
        assert not all(torch.equal(one[name], third[name]) for name in one)


def test_training_makes_a_good_model_in_seconds():
    data = ev.digits()
    model = ev.train(ev.digits_cnn(), data.train_images, data.train_labels)
    assert not model.training
    with torch.inference_mode():
        right = model(data.test_images).argmax(1) == data.test_labels
    assert right.double().mean() > 0.95


def test_the_large_network_tells_images_apart():
    with torch.inference_mode():
        assert len(ev.resnet18()(ev.large_images(16)).argmax(1).unique()) > 1


def test_padding_changes_no_answer():
    sentences, encoder = ev.sentences(24, seed=1), ev.text_encoder()
    with torch.inference_mode():
        together = encoder(ev.pad(sentences))
        alone = torch.cat([encoder(torch.from_numpy(sentence[None])) for sentence in sentences])
    assert ev.agreement(alone, together).explained
    torch.testing.assert_close(alone, together)
    assert len(together.argmax(1).unique()) > 1


def test_sentences_are_unequal_and_their_spread_can_be_chosen():
    lengths = [len(sentence) for sentence in ev.sentences(400)]
    assert min(lengths) >= 3
    assert max(lengths) <= 128
    assert max(lengths) > 4 * np.median(lengths)
    assert np.std([len(sentence) for sentence in ev.sentences(400, spread=0.2)]) < np.std(lengths)
    assert all(sentence.min() >= 1 for sentence in ev.sentences(20))


@given(lengths_and_size)
def test_counted_padding_is_what_pad_makes(case):
    lengths, size = case
    rows = [np.ones(length, np.int64) for length in lengths]
    for batches in (ev.in_order(len(lengths), size), ev.bucketed(lengths, size)):
        tensors = [ev.pad([rows[i] for i in batch]) for batch in batches]
        found = ev.count_padding(lengths, batches)
        assert found.computed == sum(tensor.numel() for tensor in tensors)
        assert found.real == sum(int((tensor != 0).sum()) for tensor in tensors)
        assert found.batches == -(-len(lengths) // size)
        assert found.share == pytest.approx(1 - 1 / found.factor)


@given(lengths_and_size)
def test_buckets_take_each_row_once_longest_first_and_pad_least_in_full_batches(case):
    lengths, size = case
    batches = ev.bucketed(lengths, size)
    assert sorted(np.concatenate(batches).tolist()) == list(range(len(lengths)))
    taken = [lengths[i] for batch in batches for i in batch]
    assert taken == sorted(lengths, reverse=True)
    full = lengths[: len(lengths) // size * size]
    if full:
        best = ev.count_padding(full, ev.bucketed(full, size)).computed
        assert best <= ev.pad_batches(full, size).computed


def test_what_is_no_division_is_refused():
    for batches in ([[0, 1]], [[0, 1], [1, 2]], [[0, 1, 2, 3]], []):
        with pytest.raises(LabError, match="no division of 3 rows"):
            ev.count_padding([4, 5, 6], batches)
    with pytest.raises(LabError, match="no sentence to pad"):
        ev.pad([])
    with pytest.raises(LabError, match="no token"):
        ev.count_padding([4, 0], [[0, 1]])
    with pytest.raises(LabError, match="batch size of 0"):
        ev.in_order(3, 0)
