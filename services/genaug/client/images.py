"""Drawn images, and requests for them built from plain Python values."""

from __future__ import annotations

import io
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any

from google.protobuf import json_format

from genaug.shared.errors import FailedPrecondition, InvalidArgument
from genaug.v1 import common_pb2, generation_service_pb2, generator_pb2, sampler_pb2

if TYPE_CHECKING:
    import PIL.Image

_Request = generation_service_pb2.GenerateImagesRequest


@dataclass(frozen=True)
class DrawnImage:
    """Drawn image with its receipt."""

    data: bytes = field(repr=False)
    """Encoded image, with its receipt in the metadata."""
    receipt: generator_pb2.Receipt
    """Everything needed to draw the image again."""
    format: str = "PNG"
    """Encoding of `data`: PNG or JPEG."""

    @cached_property
    def image(self) -> PIL.Image.Image:
        """Decoded image; needs Pillow. A copy saved by Pillow lacks the receipt that `data` carries.

        Raises:
            FailedPrecondition: reason NO_PILLOW; Pillow is not installed.
        """
        try:
            from PIL import Image
        except ImportError:
            raise FailedPrecondition(
                "decoding an image needs Pillow: pip install genaug[images]; `data` is the file as it is",
                reason="NO_PILLOW",
            ) from None
        image = Image.open(io.BytesIO(self.data), formats=(self.format,))
        image.load()
        return image


def images_request(
    generator: str,
    counts: Mapping[str, int],
    *,
    seed: int,
    first_index: int,
    format: str,
    sampler: sampler_pb2.SamplerSettings,
) -> _Request:
    """Return a request for images of some classes, to be sent in the response stream.

    Args:
        generator: "generators/{digest}".
        counts: Number of images per class.
        seed: Seed of the noise.
        first_index: Index of the first image of each class.
        format: PNG or JPEG.
        sampler: From `sampler_settings`.

    Raises:
        InvalidArgument: reason BAD_NUMBER or BAD_FORMAT.
    """
    try:
        request = _Request(
            generator=generator,
            counts=[common_pb2.ClassCount(class_name=name, count=count) for name, count in counts.items()],
            seed=seed,
            first_index=first_index,
            output=_Request.OUTPUT_INLINE,
        )
    except ValueError as error:
        raise InvalidArgument(
            f"counts, seed, first_index: whole numbers of 64 bits ({error})", reason="BAD_NUMBER"
        ) from None
    request.format = _value(_Request.Format, format, field="format", names=("PNG", "JPEG"))
    if sampler.ByteSize():
        request.sampler.CopyFrom(sampler)
    return request


def sampler_settings(
    *,
    steps: int = 0,
    guidance_scale: float = 0.0,
    scheduler: str = "",
    negative_prompt: str = "",
    image_size: int = 0,
    strength: float = 0.0,
    profile: str = "",
    precision: str = "",
) -> sampler_pb2.SamplerSettings:
    """Return the message `SamplerSettings`; the server has defaults for settings that are 0 or empty.

    Raises:
        InvalidArgument: reason BAD_NUMBER, BAD_PROFILE or BAD_PRECISION.
    """
    try:
        settings = sampler_pb2.SamplerSettings(
            steps=steps,
            guidance_scale=guidance_scale,
            scheduler=scheduler,
            negative_prompt=negative_prompt,
            image_size=image_size,
            strength=strength,
        )
    except ValueError as error:
        raise InvalidArgument(f"steps, image_size: whole numbers of 32 bits ({error})", reason="BAD_NUMBER") from None
    settings.profile = _value(sampler_pb2.SamplerSettings.Profile, profile, field="profile", names=("FULL", "TURBO"))
    settings.precision = _value(common_pb2.Precision, precision, field="precision", names=("FLOAT32", "BFLOAT16"))
    return settings


def receipt_message(receipt: generator_pb2.Receipt | Mapping[str, Any]) -> generator_pb2.Receipt:
    """Return a receipt as a message, from a message or from JSON.

    Raises:
        InvalidArgument: reason BAD_RECEIPT.
    """
    if isinstance(receipt, generator_pb2.Receipt):
        return receipt
    try:
        return json_format.ParseDict(dict(receipt), generator_pb2.Receipt())
    except json_format.ParseError as error:
        raise InvalidArgument(f"receipt: is none ({str(error).splitlines()[0]})", reason="BAD_RECEIPT") from None


def _value(enum: Any, name: str, *, field: str, names: Iterable[str]) -> Any:
    """Return the number of an enum value named without its prefix; 0 for the empty name."""
    if not name:
        return 0
    if name not in names:
        raise InvalidArgument(f"{field}: {name!r} is none of {', '.join(names)}", reason=f"BAD_{field.upper()}")
    return enum.Value(f"{field.upper()}_{name}")
