"""Drawn images as a caller meets them, and a request for them in friendly words."""

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
    """One image with its receipt."""

    data: bytes = field(repr=False)
    """The encoded image, which carries its receipt."""
    receipt: generator_pb2.Receipt
    """How to draw it again."""
    format: str = "PNG"
    """PNG or JPEG: how `data` is encoded."""

    @cached_property
    def image(self) -> PIL.Image.Image:
        """The decoded image, which needs Pillow. What Pillow saves of it carries no receipt; `data` does.

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
    """The request that has images of some classes in the stream.

    Args:
        generator: "generators/{digest}".
        counts: How many images of which class.
        seed: Seed of the noise.
        first_index: Index of the first image of each class.
        format: PNG or JPEG.
        sampler: From `sampler_settings`.

    Raises:
        InvalidArgument: a number fits no field, or `format` is none.
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
    request.format = _value(_Request.Format, format, field="format", words=("PNG", "JPEG"))
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
    """The message `SamplerSettings`; what is 0 or empty is left to the server.

    Raises:
        InvalidArgument: a number fits no field, or there is no such profile or precision.
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
    settings.profile = _value(sampler_pb2.SamplerSettings.Profile, profile, field="profile", words=("FULL", "TURBO"))
    settings.precision = _value(common_pb2.Precision, precision, field="precision", words=("FLOAT32", "BFLOAT16"))
    return settings


def receipt_message(receipt: generator_pb2.Receipt | Mapping[str, Any]) -> generator_pb2.Receipt:
    """A receipt as the message, from the message or the same as JSON.

    Raises:
        InvalidArgument: reason BAD_RECEIPT; it is no receipt.
    """
    if isinstance(receipt, generator_pb2.Receipt):
        return receipt
    try:
        return json_format.ParseDict(dict(receipt), generator_pb2.Receipt())
    except json_format.ParseError as error:
        raise InvalidArgument(f"receipt: is none ({str(error).splitlines()[0]})", reason="BAD_RECEIPT") from None


def _value(enum: Any, word: str, *, field: str, words: Iterable[str]) -> Any:
    """The value of an enum whose prefix `word` leaves out; 0 for none."""
    if not word:
        return 0
    if word not in words:
        raise InvalidArgument(f"{field}: {word!r} is none of {', '.join(words)}", reason=f"BAD_{field.upper()}")
    return enum.Value(f"{field.upper()}_{word}")
