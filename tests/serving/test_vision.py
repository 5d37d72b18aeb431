"""The model that is served, and what a batch of it takes."""

import pytest

import labs_lib.serving as serving
from labs_lib.errors import LabError


def test_a_batch_gives_each_the_label_it_has_alone():
    model = serving.small_vit()
    files = serving.photos(20)
    assert serving.classify(model, [serving.decode(file) for file in files]) == serving.right_answers(model, files)


def test_measure_service_gives_seconds_of_each_size():
    calls = []

    def model(pixels):
        calls.append(len(pixels))
        return pixels.flatten(1)

    found = serving.measure_service(model, (2, 1))
    assert list(found) == [2, 1]
    assert all(seconds > 0 for seconds in found.values())
    assert calls == [2, 1] * 16


@pytest.mark.parametrize("sizes", [(), (0,), (1.5,), (-1, 2)])
def test_what_is_no_batch_size(sizes):
    with pytest.raises(LabError, match="no batch sizes"):
        serving.measure_service(serving.small_vit(), sizes)
