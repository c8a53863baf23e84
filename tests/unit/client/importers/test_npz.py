"""Format "npz": arrays as MedMNIST and Keras save them."""

from __future__ import annotations

import io
import tracemalloc
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tests.unit.client.importers.made_files import opened, pixels, values_of

from genaug.client.importers.stream import Streams
from genaug.shared.errors import InvalidArgument

SIDES = ("train", "val", "test")


def save(path: Path, *, compressed: bool = True, **arrays: Any) -> Path:
    (np.savez_compressed if compressed else np.savez)(path, **arrays)
    return path


def refused(path: Path, **options: Any) -> InvalidArgument:
    with pytest.raises(InvalidArgument) as caught:
        opened("npz", path, **options)
    return caught.value


@pytest.mark.parametrize("compressed", [True, False])
def test_medmnist(tmp_path, compressed: bool) -> None:
    arrays = {
        side: np.stack([pixels(number, channels=3) for number in range(3)]) + place for place, side in enumerate(SIDES)
    }
    labels = np.array([[0], [10], [0]], "u1")
    path = save(
        tmp_path / "pathmnist.npz",
        compressed=compressed,
        **{f"{side}_images": arrays[side] for side in SIDES},
        **{f"{side}_labels": labels for side in SIDES},
    )
    images = opened("npz", path).images
    assert [image.class_name for image in images] == ["0", "10", "0"] * 3
    assert {image.split for image in images} == {"train", "validation", "test"}
    # As an import does: all once, then some again, in order.
    for image in (*images, images[0], *images[2:]):
        array, _, number = image.name.partition("[")
        assert (values_of(image) == arrays[array.removesuffix("_images")][int(number[0])]).all()
    assert opened("npz", tmp_path).images[0].read() == images[0].read()


def test_keras_arrays_have_no_validation(tmp_path) -> None:
    deep = np.stack([pixels(number, top=4096, dtype="u2") for number in range(4)])
    path = save(tmp_path / "x.npz", x_train=deep, y_train=np.arange(4.0), x_test=deep, y_test=np.arange(4))
    assert refused(path).reason == "EMPTY_SIDE"
    images = opened("npz", path, ignore_split=True).images
    assert [image.class_name for image in images] == ["0", "1", "2", "3"] * 2
    assert (values_of(images[1]) == deep[1]).all()


def test_words_channels_first_and_files_of_their_own(tmp_path) -> None:
    colors = np.stack([pixels(number, channels=3) for number in range(2)])
    np.save(tmp_path / "images.npy", colors.transpose(0, 3, 1, 2).copy())
    np.save(tmp_path / "labels.npy", np.array(["cat", "dog"]))
    np.save(tmp_path / "spacing.npy", np.array([1]))
    source = opened("npz", tmp_path)
    assert [image.class_name for image in source.images] == ["cat", "dog"]
    assert (values_of(source.images[1]) == colors[1]).all()
    assert "arrays that are not read: spacing" in source.report.notes


def test_a_refused_archive_is_closed(tmp_path, monkeypatch) -> None:
    archives: list[zipfile.ZipFile] = []

    class Recorded(zipfile.ZipFile):
        def __init__(self, *args: Any) -> None:
            super().__init__(*args)
            archives.append(self)

    path = save(tmp_path / "x.npz", images=np.zeros((2, 8, 8), "u1"), labels=np.array([[0, 1, 1], [1, 0, 0]]))
    monkeypatch.setattr(zipfile, "ZipFile", Recorded)
    refused(path)
    assert archives
    assert all(archive.fp is None for archive in archives)


def test_several_labels_need_to_be_allowed(tmp_path) -> None:
    path = save(tmp_path / "x.npz", images=np.zeros((2, 8, 8), "u1"), labels=np.array([[0, 1, 1], [1, 0, 0]]))
    assert "--multi-label" in refused(path).message
    first, second = opened("npz", path, multi_label=True).images
    assert (first.class_name, first.attributes) == (
        "1",
        {"multi_disease": "true", "primary_class": "1", "labels": "1; 2"},
    )
    assert (second.class_name, second.attributes["multi_disease"]) == ("0", "false")
    path = save(tmp_path / "x.npz", images=np.zeros((2, 8, 8), "u1"), labels=np.array([[0, 0], [1, 0]]))
    assert "1 images have no label (labels[0])" in (message := refused(path, multi_label=True).message)
    assert "add a column for them" in message


@pytest.mark.parametrize(
    ("arrays", "said"),
    [
        ({"images": np.zeros((2, 8, 8)), "labels": np.zeros(3, int)}, "has 2 images, labels has 3 labels"),
        ({"images": np.zeros((2, 8, 8, 8)), "labels": np.zeros(2, int)}, "several frames or channels"),
        ({"images": np.zeros((2, 64)), "labels": np.zeros(2, int)}, "no image"),
        ({"images": np.zeros((2, 8, 8, 3)), "labels": np.zeros(2, int)}, "color of more than 8 bits"),
        ({"images": np.zeros((2, 8, 8)), "labels": np.array([0.5, 1])}, "holds no labels"),
        ({"images": np.zeros((2, 8, 8)), "labels": np.array([print, 1])}, "not unpickled"),
        ({"images": np.asfortranarray(np.zeros((2, 8, 8))), "labels": np.zeros(2, int)}, "ascontiguousarray"),
        ({"images": np.zeros((2, 8, 8))}, "arrays in pairs"),
        ({"images": np.zeros((2, 8, 8)), "imgs": np.zeros((2, 8, 8)), "labels": np.zeros(2)}, "the same thing"),
    ],
)
def test_arrays_that_do_not_fit_are_refused(tmp_path, arrays: dict[str, Any], said: str) -> None:
    assert said in refused(save(tmp_path / "x.npz", **arrays)).message


def test_files_that_are_no_archive_are_refused(tmp_path) -> None:
    (tmp_path / "x.npz").write_bytes(b"no zip")
    assert refused(tmp_path / "x.npz").reason == "BAD_ARCHIVE"
    assert refused(tmp_path / "y.npz").reason == "NO_SUCH_FILE"


def test_a_header_that_promises_too_much_takes_no_memory(tmp_path) -> None:
    def header(shape: tuple[int, ...]) -> bytes:
        sink = io.BytesIO()
        np.lib.format.write_array_header_1_0(sink, {"descr": "|u1", "fortran_order": False, "shape": shape})
        return sink.getvalue()

    for images, labels in (((10**9, 8, 8), (10**9,)), ((2, 8, 8), (10**12,)), ((2, 10**6, 10**6), (2,))):
        with zipfile.ZipFile(tmp_path / "x.npz", "w") as archive:
            archive.writestr("images.npy", header(images))
            archive.writestr("labels.npy", header(labels) + b"\0\1")
        tracemalloc.start()
        assert refused(tmp_path / "x.npz").reason == "BAD_ARRAY"
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert peak < 50_000_000
    # One that ends early is found when it is read.
    with zipfile.ZipFile(tmp_path / "x.npz", "w") as archive:
        archive.writestr("images.npy", header((2, 8, 8)) + bytes(100))
        archive.writestr("labels.npy", header((2,)) + b"\0\1")
    first, second = opened("npz", tmp_path / "x.npz").images
    assert first.read()
    with pytest.raises(InvalidArgument, match="cannot be read"):
        second.read()


def test_a_stream_is_begun_anew_only_beyond_its_window() -> None:
    begun: list[str] = []

    def start(key: str):
        begun.append(key)
        return (f"{key}{number}".encode() for number in range(10))

    streams = Streams(start, window_bytes=6)
    assert [streams.item("a", number) for number in (0, 1, 2, 0, 5, 3)] == [b"a0", b"a1", b"a2", b"a0", b"a5", b"a3"]
    assert begun == ["a"]
    assert streams.item("a", 0) == b"a0"
    assert streams.item("b", 9) == b"b9"
    assert begun == ["a", "a", "b"]
    with pytest.raises(IndexError):
        streams.item("b", 10)
    assert streams.item("b", 1) == b"b1"


@pytest.mark.parametrize(
    ("shape", "dtype", "data"),
    [
        # NumPy takes a negative length, and would read to the end, whatever is there.
        ("(-1,)", "|u1", bytes(3)),
        ("(3,)", "<f4", np.full(3, np.inf, "<f4").tobytes()),
        ("(3,)", "<U1", np.full(3, 0x7FFFFFFF, "<u4").tobytes()),
    ],
)
def test_labels_of_damaged_arrays_are_refused(tmp_path, shape, dtype, data) -> None:
    header = f"{{'descr': '{dtype}', 'fortran_order': False, 'shape': {shape}, }}".encode().ljust(117) + b"\n"
    save(tmp_path / "x.npz", images=np.stack([pixels(number) for number in range(3)]))
    with zipfile.ZipFile(tmp_path / "x.npz", "a") as archive:
        archive.writestr("labels.npy", b"\x93NUMPY\1\0" + len(header).to_bytes(2, "little") + header + data)
    assert refused(tmp_path / "x.npz").reason == "BAD_ARRAY"
