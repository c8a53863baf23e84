"""DICOM files: values, subjects, windows, and no word of their headers."""

from __future__ import annotations

import re

import numpy as np
import pydicom
import pytest
from tests.unit.client.importers.made_files import encoded, opened, pixels, put, put_dicom, values_of

DEEP = pixels(1, top=4096, dtype="u2")


def only(root, **options):
    (image,) = opened("folder", root, **options).images
    return image


@pytest.mark.parametrize(
    ("values", "tags", "expected"),
    [
        (DEEP, {"bits": 12}, DEEP),
        # Hounsfield units.
        (DEEP, {"bits": 12, "RescaleSlope": 1, "RescaleIntercept": -1024}, DEEP.astype(int) - 1024),
        (DEEP, {"bits": 12, "RescaleSlope": 0.5, "RescaleIntercept": 3}, DEEP * 0.5 + 3),
        (DEEP, {"bits": 12, "PhotometricInterpretation": "MONOCHROME1"}, 4095 - DEEP.astype(int)),
        (DEEP.astype("i2") - 2000, {}, DEEP.astype(int) - 2000),
        (DEEP.astype("i2") - 2000, {"PhotometricInterpretation": "MONOCHROME1"}, 1999 - DEEP.astype(int)),
        (pixels(2), {}, pixels(2)),
        (pixels(2, channels=3), {}, pixels(2, channels=3)),
    ],
)
def test_values_are_those_of_the_modality(tmp_path, values, tags, expected) -> None:
    path = put_dicom(tmp_path / "a/1.dcm", values, **tags)
    sent = only(tmp_path).read()
    assert (values_of(only(tmp_path)) == expected).all()
    # The suffix is not needed.
    path.rename(tmp_path / "a/IM0001")
    assert only(tmp_path).read() == sent


def test_color_of_other_kinds_becomes_rgb(tmp_path) -> None:
    rgb = np.full((16, 16, 3), (200, 80, 40), "u1")
    ybr = pydicom.pixels.convert_color_space(rgb, "RGB", "YBR_FULL")
    put_dicom(tmp_path / "a/1.dcm", ybr, PhotometricInterpretation="YBR_FULL")
    assert np.abs(values_of(only(tmp_path)).astype(int) - rgb).max() <= 2
    palette = np.arange(256, dtype="<u2") << 8
    table = {
        f"{color}PaletteColorLookupTable{part}": value
        for color in ("Red", "Green", "Blue")
        for part, value in (("Descriptor", [256, 0, 16]), ("Data", palette.tobytes()))
    }
    put_dicom(tmp_path / "a/1.dcm", pixels(3), PhotometricInterpretation="PALETTE COLOR", **table)
    assert (values_of(only(tmp_path)) == pixels(3)[:, :, None]).all()


def test_a_compressed_file_is_decoded(tmp_path) -> None:
    path = put_dicom(tmp_path / "a/1.dcm", DEEP, bits=12)
    data = pydicom.dcmread(path)
    data.compress(pydicom.uid.RLELossless)
    data.save_as(path)
    assert (values_of(only(tmp_path)) == DEEP).all()


def test_a_lookup_table_of_the_modality_is_applied(tmp_path) -> None:
    item = pydicom.Dataset()
    item.LUTDescriptor, item.ModalityLUTType = [256, 0, 16], "US"
    item.add_new("LUTData", "OW", (np.arange(256, dtype="<u2") * 10).tobytes())
    put_dicom(tmp_path / "a/1.dcm", pixels(3), ModalityLUTSequence=[item])
    assert (values_of(only(tmp_path)) == pixels(3).astype(int) * 10).all()


def test_nothing_of_the_header_is_sent_and_the_patient_is_the_subject(tmp_path) -> None:
    put_dicom(tmp_path / "a/1.dcm", DEEP, bits=12, patient="MRN-4711")
    put_dicom(tmp_path / "a/2.dcm", DEEP, bits=12, patient="MRN-4711", AccessionNumber="77")
    put(tmp_path / "a/3.png", encoded(1))
    source = opened("folder", tmp_path)
    first, second, other = source.images
    # Equal pixels are equal contents, whatever the headers say.
    assert first.read() == second.read()
    for word in (b"MRN", b"Doe", b"1901", b"DICM"):
        assert word not in first.read()
    assert first.subject == second.subject != other.subject == ""
    assert re.fullmatch("[0-9a-f]{32}", first.subject)
    assert any(
        note.startswith("subjects are the PatientID of 2 DICOM files, 1 different") for note in source.report.notes
    )
    assert only_subjects(tmp_path) == ["1", "2", "3"]


def only_subjects(root) -> list[str]:
    return [image.subject for image in opened("folder", root, subject_regex=r"(\d)\.").images]


def test_files_that_are_not_read_are_counted_by_reason(tmp_path) -> None:
    put_dicom(tmp_path / "a/0.dcm", DEEP, bits=12)
    put_dicom(tmp_path / "a/1.dcm", DEEP, NumberOfFrames=30)
    put_dicom(tmp_path / "a/2.dcm", DEEP).write_bytes(b"\0" * 128 + b"DICM" + bytes(range(256)) * 8)
    lossless = put_dicom(tmp_path / "a/3.dcm", DEEP)
    data = lossless.read_bytes()
    assert data.count(b"1.2.840.10008.1.2.1\0") == 1
    lossless.write_bytes(data.replace(b"1.2.840.10008.1.2.1\0", b"1.2.840.10008.1.2.5\0"))
    put_dicom(tmp_path / "a/4.dcm", DEEP, Rows=60000, Columns=60000)
    put_dicom(tmp_path / "a/5.dcm", pixels(2, channels=3).astype("u2"))
    source = opened("folder", tmp_path)
    passed_over = dict(source.report.passed_over)
    assert passed_over == {
        ".dcm: several frames": 1,
        ".dcm: no pixels": 1,
        ".dcm: more than 64000000 pixels": 1,
        ".dcm: color of more than 8 bits": 1,
    }
    # RLE that is none: unreadable, found when it is decoded.
    assert [len(image.read()) > 0 for image in source.images] == [True, False]


@pytest.mark.parametrize(
    ("syntax", "problem"),
    [
        ("1.2.840.10008.1.2.4.103", "MPEG-4 AVC/H.264 BD-compatible"),
        ("1.2.840.10008.1.2.1.99", "deflated"),
    ],
)
def test_transfer_syntaxes_that_are_not_decoded_are_named(tmp_path, syntax: str, problem: str) -> None:
    put(tmp_path / "a/0.png", encoded(0))
    path = put_dicom(tmp_path / "a/1.dcm", DEEP)
    # The length stands before the UID.
    old = b"\x14\x001.2.840.10008.1.2.1\0"
    padded = syntax.encode() + b"\0" * (len(syntax) % 2)
    path.write_bytes(path.read_bytes().replace(old, len(padded).to_bytes(2, "little") + padded))
    (reason,) = opened("folder", tmp_path).report.passed_over
    assert problem in reason


def notes_on_windows(source) -> list[str]:
    return [note for note in source.report.notes if "window" in note]


def test_a_window_that_all_files_propose_is_named_not_applied(tmp_path) -> None:
    tags = {"bits": 12, "RescaleIntercept": -1024, "RescaleSlope": 1, "WindowWidth": 400}
    for number in range(3):
        put_dicom(tmp_path / f"a/{number}.dcm", DEEP, WindowCenter=40, **tags)
    (note,) = notes_on_windows(opened("folder", tmp_path))
    assert note.startswith("all 3 DICOM files propose one window")
    assert "--window=-160,239" in note
    assert not notes_on_windows(opened("folder", tmp_path, window=(0, 9)))
    assert not notes_on_windows(opened("folder", tmp_path, bits=12))
    put_dicom(tmp_path / "a/3.dcm", DEEP, WindowCenter=[50, 60], **tags)
    (note,) = notes_on_windows(opened("folder", tmp_path))
    assert "2 different windows" in note


def test_the_window_of_inverted_files_is_inverted(tmp_path) -> None:
    put_dicom(
        tmp_path / "a/1.dcm",
        DEEP,
        bits=12,
        PhotometricInterpretation="MONOCHROME1",
        WindowCenter=1000,
        WindowWidth=100,
    )
    (note,) = notes_on_windows(opened("folder", tmp_path))
    # 950 to 1049 of the stored values.
    assert "--window=3046,3145" in note


def test_names_in_the_pixels_are_warned_of(tmp_path) -> None:
    put_dicom(tmp_path / "a/1.dcm", DEEP, bits=12, BurnedInAnnotation="YES")
    assert any("BurnedInAnnotation" in note for note in opened("folder", tmp_path).report.notes)
