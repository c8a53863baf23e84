"""Original row, name and subject of an image, from the records under `restricted/`."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from genaug.assembly.datasets import get_dataset, origins_key
from genaug.shared.digests import ID_LENGTH
from genaug.shared.errors import InvalidArgument, NotFound
from genaug.shared.manifest import read_table
from genaug.shared.seal_log import record_opening
from genaug.shared.store import Store

_IMAGE = re.compile(r"[0-9a-f]{32}|[0-9a-f]{64}")
_MOST = 1000


@dataclass(frozen=True)
class Origin:
    """Where an image comes from."""

    image_id: str
    row: int
    """Index in the source, from 0."""
    source_name: str
    subject: str
    """As the source names it; empty when the image is its own."""


def trace_images(store: Store, dataset: str, images: Sequence[str]) -> list[Origin]:
    """Return the origin of each image, in order. The reading is recorded beside the openings of the seal.

    Args:
        store: The store, as "assembly".
        dataset: Id of the dataset.
        images: Image ids, or sha256 of contents; 1 to 1,000.

    Raises:
        NotFound: there is no such dataset, or it has no such image.
        InvalidArgument: an image is named in another way, or there are none or too many.
    """
    if not 0 < len(images) <= _MOST:
        raise InvalidArgument(f"images: {len(images)} of them; name 1 to {_MOST}", reason="TOO_MANY")
    for image in images:
        if not _IMAGE.fullmatch(image):
            raise InvalidArgument(
                f"images: {image!r} is neither an image id (32 hex digits) nor a sha256 (64)", reason="BAD_DIGEST"
            )
    get_dataset(store, dataset)
    record_opening(store, f"datasets/{dataset}", purpose="TraceImages")
    lines = read_table(store, origins_key(dataset)).to_pylist()
    origins = {line["image_id"]: Origin(**line) for line in lines}
    unknown = [image for image in images if image[:ID_LENGTH] not in origins]
    if unknown:
        raise NotFound(
            f"datasets/{dataset} has no image {unknown[0]}"
            + (f", nor {len(unknown) - 1} others of those named" if len(unknown) > 1 else "")
            + "; ids stand in its manifests",
            reason="IMAGE_NOT_FOUND",
        )
    return [origins[image[:ID_LENGTH]] for image in images]
