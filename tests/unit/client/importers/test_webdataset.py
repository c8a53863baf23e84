"""Format "webdataset": tar archives, read in place."""

from __future__ import annotations

import io
import json
import tarfile
import tracemalloc

import pytest
from tests.unit.client.importers.made_files import encoded, opened, pixels, put, put_dicom, put_tar

from genaug.shared.errors import InvalidArgument


def refused(path, **options) -> InvalidArgument:
    with pytest.raises(InvalidArgument) as caught:
        opened("webdataset", path, **options)
    return caught.value


def test_samples_have_an_image_and_a_class(tmp_path) -> None:
    record = {"label": "cat", "age": 7, "who": "p1", "box": [1, 2], "note": None}
    put_tar(
        tmp_path / "data.tar",
        {
            "a/0001.jpg": encoded(1, "JPEG"),
            "a/0001.cls": b"3\n",
            "a/0002.JSON": json.dumps(record).encode(),
            "a/0002.png": encoded(2),
            "a/0003.txt": b"dog",
            "a/0003.png": encoded(3),
            "a/0003.xml": b"<x/>",
            "a/0004.cls": b"3",
            "README": b"text",
        },
    )
    source = opened("webdataset", tmp_path / "data.tar")
    first, second, third = source.images
    assert [image.class_name for image in source.images] == ["3", "cat", "dog"]
    assert (second.name, second.attributes) == ("data.tar/a/0002", {"age": "7", "who": "p1"})
    assert [first.read(), second.read(), third.read()] == [encoded(1, "JPEG"), encoded(2), encoded(3)]
    assert "classes are those of 1 .cls, 1 .json, 1 .txt files" in source.report.notes
    assert source.report.passed_over == {
        ".xml: no image": 1,
        "without suffix: no image": 1,
        "samples without an image": 2,
    }


def test_sides_are_in_the_archives_names(tmp_path) -> None:
    for number, side in enumerate(("train-000", "train-001", "val", "test_0")):
        put_tar(tmp_path / f"{side}.tar", {"1.png": encoded(number), "1.cls": b"0"})
    put(tmp_path / "README.md", b"text")
    source = opened("webdataset", tmp_path)
    assert [image.split for image in source.images] == ["test", "train", "train", "validation"]
    assert source.report.passed_over == {".md: no .tar file": 1}
    (tmp_path / "val.tar").rename(tmp_path / "more.tar")
    assert refused(tmp_path).reason == "SPLIT_INCOMPLETE"
    assert {image.split for image in opened("webdataset", tmp_path, ignore_split=True).images} == {""}


def test_subjects_are_in_json_names_or_headers(tmp_path) -> None:
    dicom = put_dicom(tmp_path / "x.dcm", pixels(1)).read_bytes()
    (tmp_path / "x.dcm").unlink()
    put_tar(tmp_path / "x.tar", {"7_1.dcm": dicom, "7_1.json": b'{"label": "a", "who": "anna"}'})
    (image,) = opened("webdataset", tmp_path).images
    assert len(image.subject) == 32, "a digest of the PatientID"
    assert b"Doe" not in image.read()
    assert opened("webdataset", tmp_path, subject_column="who").images[0].subject == "anna"
    assert opened("webdataset", tmp_path, subject_regex=r"^(\d)_").images[0].subject == "7"
    assert "images have no nobody" in refused(tmp_path, subject_column="nobody").message


def test_captions_are_no_classes(tmp_path) -> None:
    texts = [b"a cat on a mat", b"a dog"] * 6
    for unique in (False, True):
        members = {}
        for number, text in enumerate(texts):
            members[f"{number}.png"] = encoded(number)
            members[f"{number}.txt"] = text + (b" %d" % number if unique else b"")
        put_tar(tmp_path / "x.tar", members)
        if unique:
            assert "12 different texts for 12 images" in refused(tmp_path).message
        else:
            assert len(opened("webdataset", tmp_path).images) == 12


def test_several_labels(tmp_path) -> None:
    put_tar(tmp_path / "x.tar", {"1.png": encoded(1), "1.json": b'{"label": ["a", "b"]}'})
    assert "--multi-label" in refused(tmp_path).message
    (image,) = opened("webdataset", tmp_path, multi_label=True).images
    assert (image.class_name, image.attributes["labels"]) == ("a", "a; b")


@pytest.mark.parametrize(
    ("members", "reason"),
    [
        ({"1.png": b"x"}, "BAD_ROWS"),
        ({"1.png": b"x", "1.jpg": b"y", "1.cls": b"0"}, "BAD_ROWS"),
        ({"1.png": b"x", "1.json": b"[]"}, "BAD_ARCHIVE"),
        ({"1.png": b"x", "1.cls": b"0" * 2_000_000}, "BAD_ARCHIVE"),
        ({"1.cls": b"0"}, "NO_IMAGES"),
    ],
)
def test_samples_that_are_none_are_refused(tmp_path, members: dict[str, bytes], reason: str) -> None:
    put_tar(tmp_path / "x.tar", members)
    assert refused(tmp_path).reason == reason


def test_archives_that_are_none_are_refused(tmp_path) -> None:
    put(tmp_path / "x.tar", b"no archive" * 100)
    assert refused(tmp_path).reason == "BAD_ARCHIVE"
    (tmp_path / "x.tar").rename(tmp_path / "x.tar.gz")
    error = refused(tmp_path)
    assert error.reason == "COMPRESSED_ARCHIVE"
    assert "gunzip" in error.message
    assert refused(tmp_path / "none.tar").reason == "NO_SUCH_FILE"


def test_hostile_members_touch_no_file(tmp_path) -> None:
    put(tmp_path / "secret.png", b"secret")
    with tarfile.open(tmp_path / "x.tar", "w") as tar:
        for name, kind, target in (
            ("../../evil.png", tarfile.REGTYPE, ""),
            ("/abs/evil.png", tarfile.REGTYPE, ""),
            ("link.png", tarfile.SYMTYPE, str(tmp_path / "secret.png")),
            ("hard.png", tarfile.LNKTYPE, "/etc/passwd"),
            ("pipe.png", tarfile.FIFOTYPE, ""),
        ):
            entry = tarfile.TarInfo(name)
            entry.type, entry.linkname = kind, target
            entry.size = 5 if kind == tarfile.REGTYPE else 0
            tar.addfile(entry, io.BytesIO(b"image"))
        for key in ("../../evil", "/abs/evil"):
            entry = tarfile.TarInfo(f"{key}.cls")
            entry.size = 1
            tar.addfile(entry, io.BytesIO(b"0"))
    source = opened("webdataset", tmp_path / "x.tar")
    assert [image.read() for image in source.images] == [b"image", b"image"]
    assert source.report.passed_over["in archives, links and other special files"] == 3
    assert sorted(path.name for path in tmp_path.iterdir()) == ["secret.png", "x.tar"]
    # A member that claims more than the archive holds is not read.
    data = bytearray((tmp_path / "x.tar").read_bytes())
    put(tmp_path / "short.tar", bytes(data[: 512 + 100]))
    refused(tmp_path / "short.tar")


def header(name: str, size: int, kind: bytes) -> bytes:
    """Return the header of a member, of a size that tarfile does not write."""
    entry = tarfile.TarInfo(name)
    entry.type = kind
    data = bytearray(entry.tobuf(tarfile.USTAR_FORMAT))
    data[124:136] = b"\xff" + size.to_bytes(11, "big", signed=True) if size < 0 else b"%011o\0" % size
    data[148:156] = b" " * 8
    data[148:156] = b"%06o\0 " % sum(data)
    return bytes(data)


@pytest.mark.parametrize("kind", [tarfile.REGTYPE, tarfile.XHDTYPE, tarfile.GNUTYPE_LONGNAME, tarfile.GNUTYPE_SPARSE])
def test_a_member_of_negative_size_leads_nowhere(tmp_path, kind) -> None:
    put(tmp_path / "x.tar", header("a.cls", 1, tarfile.REGTYPE) + b"0".ljust(512) + header("b.png", -512, kind))
    assert "negative" in refused(tmp_path / "x.tar").message


def test_an_archive_that_ends_within_a_member_is_refused(tmp_path) -> None:
    put_tar(tmp_path / "x.tar", {"1.cls": b"0", "1.png": encoded(1), "2.cls": b"1", "2.png": encoded(2)})
    data = (tmp_path / "x.tar").read_bytes()
    put(tmp_path / "x.tar", data[: data.index(b"2.png") + 512 + 10])
    assert "ends within a member" in refused(tmp_path / "x.tar").message


def test_labels_that_are_no_utf8_stay_different(tmp_path) -> None:
    put_tar(
        tmp_path / "x.tar",
        {"1.cls": "Gr\xfcn".encode("latin-1"), "1.png": b"1", "2.cls": "Gr\xe4n".encode("latin-1"), "2.png": b"2"},
    )
    assert [image.class_name for image in opened("webdataset", tmp_path / "x.tar").images] == ["Gr\\xfcn", "Gr\\xe4n"]


def test_large_members_that_are_no_images_are_not_read(tmp_path) -> None:
    size = 1 << 26
    put(
        tmp_path / "x.tar",
        header("1.cls", 1, tarfile.REGTYPE) + b"0".ljust(512) + header("1.png", 5, tarfile.REGTYPE)
        + b"image".ljust(512) + header("1.mp4", size, tarfile.REGTYPE),
    )  # fmt: skip
    with (tmp_path / "x.tar").open("r+b") as file:
        file.truncate(file.seek(0, io.SEEK_END) + size + 1024)
    tracemalloc.start()
    (image,) = opened("webdataset", tmp_path / "x.tar").images
    assert tracemalloc.get_traced_memory()[1] < size / 4
    tracemalloc.stop()
    assert image.read() == b"image"
