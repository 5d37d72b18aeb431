"""Photographs are the same from the same seed, survive pickling, and are the same when decoded ahead."""

import os
import pickle

import numpy as np
import pytest
import torch

from labs_lib.data_loading import Photos, Rows, write_photos
from labs_lib.data_loading.photos import PHOTOGRAPH, _originals
from labs_lib.errors import LabError


@pytest.fixture
def folder(tmp_path):
    return write_photos(tmp_path / "photos", count=6, size=(40, 56), seed=4)


def test_files_come_from_the_seed(folder, tmp_path):
    again = write_photos(tmp_path / "again", count=6, size=(40, 56), seed=4)
    other = write_photos(tmp_path / "other", count=6, size=(40, 56), seed=5)
    contents = [{path.name: path.read_bytes() for path in where.iterdir()} for where in (folder, again, other)]
    assert contents[0] == contents[1] != contents[2]


def test_what_cannot_be_cut_is_refused_before_the_photographs_are_loaded(monkeypatch):
    def loads():
        raise AssertionError("loaded")

    monkeypatch.setattr("labs_lib.data_loading.photos._originals", loads)
    for wrong in ({"count": 0}, {"size": (428, 10)}, {"size": (10, 641)}):
        with pytest.raises(LabError, match="can't be cut"):
            write_photos(**wrong)


def test_the_photographs_are_as_large_as_they_are_said_to_be():
    assert {image.shape for image in _originals()} == {(*PHOTOGRAPH, 3)}


def test_pieces(folder):
    photos = Photos(folder, augment=False, size=32)
    pixels = photos.decode(photos.read(2))
    assert (pixels.shape, pixels.dtype) == ((40, 56, 3), np.uint8)
    image, label = photos[2]
    assert torch.equal(image, torch.from_numpy(pixels[4:36, 12:44].transpose(2, 0, 1).copy()))
    assert label == int(photos.paths[2][-5])
    assert photos.counted == {"decodes": 2, "bytes_read": 2 * os.path.getsize(photos.paths[2])}


def test_augmentation_is_new_each_time_and_repeats_from_a_seed(folder):
    photos = Photos(folder, size=32)
    torch.manual_seed(0)
    first, second = photos[0][0], photos[0][0]
    assert not torch.equal(first, second)
    torch.manual_seed(0)
    assert torch.equal(first, photos[0][0])


def test_predecoded_gives_the_same_items(folder, tmp_path):
    photos = Photos(folder, size=32)
    decoded = pickle.loads(pickle.dumps(photos.predecoded(tmp_path / "pixels.npy")))
    torch.manual_seed(0)
    expected = [photos[index] for index in range(len(photos))]
    torch.manual_seed(0)
    found = [decoded[index] for index in range(len(decoded))]
    assert all(torch.equal(a[0], b[0]) and a[1] == b[1] for a, b in zip(expected, found, strict=True))
    assert decoded.counted["decodes"] == 0


def test_what_cannot_be(folder, tmp_path):
    with pytest.raises(LabError, match="can't be cut"):
        write_photos(size=(5000, 10))
    with pytest.raises(LabError, match="No JPEG files"):
        Photos(tmp_path / "nowhere")
    write_photos(folder, count=1, size=(30, 30))
    with pytest.raises(LabError, match="one size"):
        Photos(folder).predecoded(tmp_path / "pixels.npy")


def test_rows():
    rows = Rows(10, 4)
    assert len(rows) == 10
    assert rows[3][0].shape == (4,)
