"""Requested and drawn images, their digests, and their receipts."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from genaug.schema.generators import Generator, Receipt
from genaug.schema.sampling import Sampler
from genaug.shared.digests import digest_of
from genaug.shared.provenance import revision
from genaug.vision.images.pixels import Pixels, pixel_sha256

RECIPE = "draw/2"


@dataclass(frozen=True)
class ImageRequest:
    """One requested image. Its noise is a function of these three fields."""

    class_name: str
    seed: int
    index: int


@dataclass(frozen=True)
class DrawnImage:
    """One drawn image."""

    request: ImageRequest
    pixels: Pixels
    bucket: int
    """Rows of the network's batch; decoded pixels may depend on its shape."""
    parent_ids: tuple[str, ...] = ()
    """Real images that it was transformed from."""
    finite: bool = True
    """Whether the network's numbers stayed finite; if not, the pixels are meaningless."""


@dataclass(frozen=True)
class DrawProgress:
    """Progress of a caller's request."""

    steps: int = 0
    """Denoising steps done, summed over its images."""
    steps_total: int = 0
    queue_position: int = 0
    """Earlier requests that have not started; 0 once this one has."""


def draw_digest(generator: str, request: ImageRequest, sampler: Sampler | None) -> str:
    """Name of one image: 32 hex digits over everything that determines it.

    Args:
        generator: "generators/{digest}".
        request: The image.
        sampler: None for a generator that does not sample.
    """
    return digest_of(
        RECIPE,
        {
            "generator": generator,
            "class": request.class_name,
            "seed": request.seed,
            "index": request.index,
            "sampler": sampler_json(sampler),
        },
    )


def draw_key(digest: str) -> str:
    """Store key of a draw's PNG."""
    return f"draws/{digest[:2]}/{digest}"


def sampler_json(sampler: Sampler | None) -> dict[str, Any]:
    """Sampler settings in the form that digests contain; empty for a generator that does not sample."""
    return sampler.json_value() if sampler else {}


def receipt_of(record: Generator, image: DrawnImage, *, sampler: Sampler | None, device: str) -> Receipt:
    """Return everything needed to draw an image again.

    Args:
        record: The generator's record.
        image: The image, drawn by that generator.
        sampler: None for a generator that does not sample.
        device: Description of the device that drew it.
    """
    request = image.request
    return Receipt(
        generator=record.name,
        class_name=request.class_name,
        seed=request.seed,
        index=request.index,
        sampler=sampler,
        bucket=image.bucket,
        pixel_sha256=pixel_sha256(image.pixels),
        parent_ids=image.parent_ids,
        draw=draw_digest(record.name, request, sampler),
        prompt=record.captions.get(request.class_name, ""),
        base=record.base,
        weights_sha256=record.weights_sha256,
        image_size=image.pixels.shape[0],
        revision=revision(),
        device=device,
    )


def receipt_json(receipt: Receipt) -> dict[str, Any]:
    """JSON of a receipt as manifests and images carry it: without empty texts and lists."""
    return {key: value for key, value in receipt.json_value().items() if value not in ("", [])}
