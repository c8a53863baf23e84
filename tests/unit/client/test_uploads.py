from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from hashlib import sha256

import pytest

from genaug.client import uploads
from genaug.shared.errors import FailedPrecondition, InvalidArgument
from genaug.v1.assembly_service_pb2 import ImportDatasetRequest

HEADER = ImportDatasetRequest.Header(name="datasets/d")


@dataclass(frozen=True)
class Image:
    name: str
    read: Callable[[], bytes]
    class_name: str = "c"
    subject: str = ""
    split: str = ""
    attributes: dict[str, str] = field(default_factory=dict)


def image(number: int, size: int = 10) -> Image:
    content = str(number).encode().ljust(size, b".")
    return Image(f"patient-{number}.png", lambda: content)


def sent(images: list[Image], *, held: frozenset[str] = frozenset()) -> list[ImportDatasetRequest]:
    return list(uploads.import_requests(HEADER, images, find_missing=lambda digests: digests - held))


def files(requests: list[ImportDatasetRequest]) -> list[ImportDatasetRequest.File]:
    return [file for request in requests for file in request.files.files]


def test_the_header_comes_first_and_each_image_once_in_order() -> None:
    images = [image(number) for number in range(1200)]
    requests = sent(images)
    assert requests[0].header == HEADER
    assert [file.source_name for file in files(requests)] == [image.name for image in images]
    assert all(file.content_sha256 == sha256(file.content).hexdigest() for file in files(requests))


def test_a_content_is_sent_only_if_it_is_missing_and_once() -> None:
    same, held = image(1), image(2)
    requests = sent([same, same, held], held=frozenset({sha256(held.read()).hexdigest()}))
    assert [bool(file.content) for file in files(requests)] == [True, False, False]


def test_messages_keep_to_their_size() -> None:
    requests = sent([image(number, 700_000) for number in range(9)])
    assert len(files(requests)) == 9
    assert max(request.ByteSize() for request in requests) < 2_100_000


def test_long_attributes_count_too() -> None:
    images = [Image(str(n), image(n).read, attributes={"keywords": "x" * 100_000}) for n in range(60)]
    assert max(request.ByteSize() for request in sent(images)) < 2_100_000


def test_an_image_that_cannot_be_read_is_named_by_its_row_alone() -> None:
    def fail() -> bytes:
        raise FileNotFoundError(2, "No such file or directory", "/patients/4711.png")

    with pytest.raises(FailedPrecondition, match="image 1 of the source") as caught:
        sent([image(0), Image("4711.png", fail)])
    assert "4711" not in str(caught.value)


def test_an_image_that_fits_no_message_is_named_by_its_row_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(uploads, "LARGEST_BYTES", 1000)
    with pytest.raises(InvalidArgument, match="image 2 of the source") as caught:
        sent([image(0), image(1), image(2, 1001)])
    assert "patient" not in str(caught.value)


@pytest.mark.parametrize("error", [ValueError("patient-7.png"), IndexError(3), OSError("patient-7.png")])
def test_a_library_s_error_is_told_without_the_file_s_name(error) -> None:
    def read() -> bytes:
        raise error

    with pytest.raises(FailedPrecondition, match="image 0") as caught:
        sent([Image("patient-7.png", read)])
    assert caught.value.reason == "UNREADABLE_SOURCE"
    assert "patient" not in caught.value.message
