"""Requests of an import: batches of files, with the contents that the server lacks."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from hashlib import sha256
from typing import Protocol

from genaug.shared.errors import FailedPrecondition, GenaugError, InvalidArgument
from genaug.v1.assembly_service_pb2 import ImportDatasetRequest

# Bytes of files in one message, unless one image alone has more.
_BATCH_BYTES = 2_000_000
_BATCH_FILES = 500
LARGEST_BYTES = 60_000_000
"""Bytes of the largest image that an import takes."""


class ImportImage(Protocol):
    """One image to import."""

    @property
    def name(self) -> str:
        """Name in the source; kept apart from manifests."""

    @property
    def class_name(self) -> str:
        """Class."""

    @property
    def subject(self) -> str:
        """Subject (patient) as the source names it; empty when each image is its own subject."""

    @property
    def split(self) -> str:
        """The user's own split, or empty."""

    @property
    def attributes(self) -> Mapping[str, str]:
        """Further properties, such as age and laterality."""

    @property
    def read(self) -> Callable[[], bytes]:
        """Function that returns the encoded image."""


def import_requests(
    header: ImportDatasetRequest.Header,
    images: Sequence[ImportImage],
    *,
    find_missing: Callable[[set[str]], set[str]],
) -> Iterator[ImportDatasetRequest]:
    """Yield the header, then batches of files, each with its content only if the server lacks it.

    Args:
        header: Name, format and split of the dataset.
        images: The images; each is read twice, so that contents need not be held in memory.
        find_missing: Returns the contents (sha256, hex) that the server lacks, of those it is given.

    Raises:
        FailedPrecondition: an image cannot be read.
        InvalidArgument: an image is larger than 60 MB.
    """
    yield ImportDatasetRequest(header=header)
    for start in range(0, len(images), _BATCH_FILES):
        batch = images[start : start + _BATCH_FILES]
        digests = [sha256(_read(image, row)).hexdigest() for row, image in enumerate(batch, start)]
        missing = find_missing(set(digests))
        files: list[ImportDatasetRequest.File] = []
        size = 0
        for row, (image, digest) in enumerate(zip(batch, digests, strict=True), start):
            content = _read(image, row) if digest in missing else b""
            missing.discard(digest)
            file = ImportDatasetRequest.File(
                content_sha256=digest,
                content=content,
                source_name=image.name,
                class_name=image.class_name,
                subject=image.subject,
                split=image.split,
                attributes=image.attributes,
            )
            if files and size + file.ByteSize() > _BATCH_BYTES:
                yield ImportDatasetRequest(files=ImportDatasetRequest.Files(files=files))
                files, size = [], 0
            size += file.ByteSize()
            files.append(file)
        yield ImportDatasetRequest(files=ImportDatasetRequest.Files(files=files))


def _read(image: ImportImage, row: int) -> bytes:
    """Read the content of an image. Errors give its row, not its name, which may hold a patient id."""
    try:
        content = image.read()
    except GenaugError:
        raise
    except Exception as error:
        # Libraries raise almost anything for a file that changed or is damaged; gRPC would swallow it. Their texts may
        # hold the file's name.
        number = error.errno if isinstance(error, OSError) else None
        raise FailedPrecondition(
            f"image {row} of the source (from 0) cannot be read "
            f"({os.strerror(number) if number else f'{type(error).__name__}: damaged, or changed meanwhile'}); the "
            "import goes on where it was",
            reason="UNREADABLE_SOURCE",
        ) from None
    if len(content) > LARGEST_BYTES:
        raise InvalidArgument(
            f"image {row} of the source (from 0) has more than {LARGEST_BYTES} bytes; scale it down",
            reason="TOO_LARGE",
        )
    return content
