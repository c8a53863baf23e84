"""Kinds of files: recognition, conversion, and what is said of the others."""

from __future__ import annotations

import io
import os
import sys

import numpy as np
import pytest
from PIL import Image
from tests.unit.client.importers.made_files import encoded, opened, pixels, put, put_dicom, values_of

from genaug.client.importers.arrays import to_tiff
from genaug.client.importers.escape import readable
from genaug.client.importers.files import encoded as to_server
from genaug.shared.errors import FailedPrecondition
from genaug.v1.assembly_service_pb2 import ImportDatasetRequest
from genaug.vision.images.pixels import decode


def test_files_are_known_by_suffix_or_first_bytes(tmp_path) -> None:
    jpeg, png = encoded(1, "JPEG"), encoded(2)
    for name in ("1.jfif", "2.PGM", "3.ppm", "4.tga", "5.avif", "6.jp2", "7.gif", "8.bmp"):
        put(tmp_path / "a" / name, name.encode())
    put(tmp_path / "a/noend", png)
    put(tmp_path / "a/photo.JPG.txt", jpeg)
    put(tmp_path / "a/notes.txt", b"text")
    put(tmp_path / "a/LICENSE", b"text")
    put(tmp_path / "a/scan.smith", b"text")
    put(tmp_path / "a/x.psd", b"8BPS")
    put(tmp_path / "a/brain.nii.gz", b"volume")
    source = opened("folder", tmp_path)
    assert [image.name for image in source.images] == [
        *(f"a/{name}" for name in ("1.jfif", "2.PGM", "3.ppm", "4.tga", "5.avif", "6.jp2", "7.gif", "8.bmp")),
        "a/noend",
        "a/photo.JPG.txt",
    ]
    # Files are sent as they are.
    assert [image.read() for image in source.images[-2:]] == [png, jpeg]
    assert source.images[0].read() == b"1.jfif"
    assert "2 files are images by their first bytes: 1 .txt, 1 without suffix" in source.report.notes
    # A suffix that may be a name is not sent to the server.
    assert source.report.passed_over == {
        ".txt: no image": 1,
        "without suffix: no image": 1,
        "other suffix: no image": 1,
        ".psd: no image": 1,
        ".nii.gz: no image": 1,
    }
    assert source.report.passed_over_text().startswith("5 files passed over: 1 ")


def test_a_folder_without_images_says_what_it_holds(tmp_path) -> None:
    put(tmp_path / "a/1.psd", b"8BPS")
    with pytest.raises(Exception, match=r"no images below .*\(1 file passed over: 1 .psd: no image\)"):
        opened("folder", tmp_path)


@pytest.mark.parametrize("dtype", ["u1", "u2", "i2", "i4", "f4"])
def test_tiffs_of_arrays_are_exact(dtype: str) -> None:
    values = pixels(3, side=20, top=200, dtype=dtype) - (100 if dtype[0] != "u" else 0)
    values = values.astype(dtype)[:12]
    with Image.open(io.BytesIO(to_tiff(values))) as image:
        assert (np.asarray(image) == values).all()


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        (np.arange(64, dtype="i8").reshape(8, 8) * 1000 - 7, np.arange(64).reshape(8, 8) * 1000 - 7),
        (np.eye(8, dtype=bool), np.eye(8) * 255),
        (np.eye(8, dtype=">u2") * 4095, np.eye(8) * 4095),
        (np.asfortranarray(np.arange(63).reshape(7, 9)), np.arange(63).reshape(7, 9)),
        (np.eye(8)[:, :, None], np.eye(8)),
        (pixels(1, channels=3), pixels(1, channels=3)),
        (pixels(1, channels=3).transpose(2, 0, 1), pixels(1, channels=3)),
    ],
)
def test_npy_files_keep_their_values(tmp_path, values, expected) -> None:
    (tmp_path / "a").mkdir()
    np.save(tmp_path / "a/1.npy", values)
    (image,) = opened("folder", tmp_path).images
    assert (values_of(image) == expected).all()


def test_npy_files_that_are_no_image_are_counted(tmp_path) -> None:
    put(tmp_path / "a/0.png", encoded(0))
    np.save(tmp_path / "a/1.npy", np.zeros((5, 8, 8)))
    np.save(tmp_path / "a/2.npy", np.zeros((8, 8, 3), "u2"))
    np.save(tmp_path / "a/3.npy", np.array([print]), allow_pickle=True)
    np.save(tmp_path / "a/4.npy", np.zeros((0, 8)))
    put(tmp_path / "a/5.npy", b"nothing")
    # A header that promises an array of 80 GB.
    np.lib.format.write_array_header_1_0(
        sink := io.BytesIO(), {"descr": "<f8", "fortran_order": False, "shape": (10**5, 10**5)}
    )
    put(tmp_path / "a/6.npy", sink.getvalue())
    assert opened("folder", tmp_path).report.passed_over == {
        ".npy: several frames or channels": 1,
        ".npy: color of more than 8 bits; save uint8": 1,
        ".npy: no numbers": 1,
        ".npy: empty": 1,
        ".npy: damaged": 1,
        ".npy: more than 64000000 pixels": 1,
    }


def test_damaged_arrays_are_unreadable_not_fatal(tmp_path) -> None:
    (tmp_path / "a").mkdir()
    np.save(tmp_path / "a/1.npy", np.zeros((8, 8)))
    data = (tmp_path / "a/1.npy").read_bytes()
    put(tmp_path / "a/2.npy", data[:-10])
    np.save(tmp_path / "a/3.npy", np.full((8, 8), 1 << 40))
    assert [len(image.read()) > 0 for image in opened("folder", tmp_path).images] == [True, False, False]


def test_heic_becomes_png_or_is_named(tmp_path, monkeypatch) -> None:
    pillow_heif = pytest.importorskip("pillow_heif")
    image = pillow_heif.from_pillow(Image.fromarray(pixels(1, side=64, channels=3)))
    (tmp_path / "a").mkdir()
    image.save(tmp_path / "a/1.HEIC", quality=100)
    put(tmp_path / "a/2.png", encoded(2))
    source = opened("folder", tmp_path)
    assert decode(source.images[0].read()).shape == (64, 64, 3)
    monkeypatch.setattr("genaug.client.importers.files.find_spec", lambda name: None)
    source = opened("folder", tmp_path)
    assert [image.name for image in source.images] == ["a/2.png"]
    assert source.report.passed_over == {".heic: needs genaug[heic]": 1}


def test_dicom_without_pydicom_says_what_to_install(tmp_path, monkeypatch) -> None:
    put_dicom(tmp_path / "a/1.dcm", pixels(1))
    monkeypatch.setitem(sys.modules, "pydicom", None)
    with pytest.raises(FailedPrecondition, match=r"pip install 'genaug\[dicom\]'"):
        opened("folder", tmp_path)


def test_a_dicom_file_under_another_name_never_leaves_with_its_header(tmp_path) -> None:
    values = pixels(1, top=4096, dtype="u2")
    path = put_dicom(tmp_path / "a/1.jpg", values, bits=12)
    put(tmp_path / "a/2.png", path.read_bytes()[:400])
    first, damaged = opened("folder", tmp_path).images
    assert b"Doe" not in first.read()
    assert (values_of(first) == values).all()
    assert damaged.read() == b""
    assert b"Doe" not in to_server(path.read_bytes())


@pytest.mark.skipif(sys.platform != "linux", reason="other systems refuse such names")
def test_names_that_are_no_utf8_are_escaped_and_sent(tmp_path) -> None:
    folder = os.fsencode(tmp_path) + b"/gr\xfcn"
    os.mkdir(folder)
    with open(folder + b"/caf\xe9.png", "wb") as file:
        file.write(encoded(1))
    (image,) = opened("folder", tmp_path).images
    assert (image.name, image.class_name) == ("gr\\xfcn/caf\\xe9.png", "gr\\xfcn")
    assert image.read() == encoded(1)
    ImportDatasetRequest.File(source_name=image.name, class_name=image.class_name)
    assert readable("\ud800 half of a pair") == "\\ud800 half of a pair"
    assert readable("grün") == "grün"
