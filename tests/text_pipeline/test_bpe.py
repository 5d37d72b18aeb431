import pytest
from hypothesis import given
from hypothesis import strategies as st

import labs_lib.text_pipeline as text
from labs_lib.text_pipeline.bpe import PythonBPE, train_bpe


@pytest.fixture(scope="module")
def trained():
    return train_bpe([text.clean(s) for s in text.sentences(500)], size=600)


@pytest.mark.parametrize("remember", [False, True])
def test_python_and_tokenizers_give_the_same_ids(trained, remember):
    strings = [text.clean(s) for s in text.sentences(1500)]
    python = PythonBPE(trained, remember)
    assert python.encode_batch(strings) == [found.ids for found in trained.encode_batch(strings)]


@given(st.lists(st.text(alphabet="abcdethisn .,π🙂", max_size=30), max_size=5))
def test_on_any_text(trained, strings):
    for remember in (False, True):
        python = PythonBPE(trained, remember)
        assert python.encode_batch(strings) == [found.ids for found in trained.encode_batch(strings)]


def test_what_is_remembered_is_not_handed_out(trained):
    python = PythonBPE(trained, remember=True)
    first = python.encode("statement")
    first.append(-1)
    assert python.encode("statement") == trained.encode("statement").ids


def test_training_gives_the_same_each_time(trained):
    assert train_bpe([text.clean(s) for s in text.sentences(500)], size=600).get_vocab() == trained.get_vocab()
    assert trained.get_vocab_size() == 600
