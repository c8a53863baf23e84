"""Decoding of untrusted images, pixel arrays, PNG. Without torch: assembly uses it."""

from __future__ import annotations

import hashlib
import io
import struct
import warnings

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps, UnidentifiedImageError

from genaug.shared.errors import InvalidArgument

Pixels = NDArray[np.uint8]
"""Decoded image, uint8 [height, width, channels], channels 1 (grey) or 3 (RGB)."""

MAX_PIXELS = 64_000_000
MIN_SIDE = 4
FORMATS = ("JPEG", "PNG", "BMP", "TIFF", "WEBP")

# Pillow's check of decompression bombs only warns; `decode` has a stricter one, before any pixel is decoded.
Image.MAX_IMAGE_PIXELS = None


def decode(data: bytes) -> Pixels:
    """Decode an encoded image: first frame, EXIF orientation applied, 8 bits, grey or RGB.

    16-bit images are scaled to 8 bits by their range; transparency is put on black; CMYK and others become RGB.

    Raises:
        InvalidArgument: reason UNREADABLE (not an image of `FORMATS`, or damaged), TOO_LARGE (more than `MAX_PIXELS`)
            or TOO_SMALL (a side below `MIN_SIDE`).
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            with Image.open(io.BytesIO(data), formats=FORMATS) as image:
                width, height = image.size
                if width * height > MAX_PIXELS:
                    raise InvalidArgument(
                        f"{width}×{height} pixels are more than {MAX_PIXELS}; scale it down", reason="TOO_LARGE"
                    )
                if min(width, height) < MIN_SIDE:
                    raise InvalidArgument(f"{width}×{height} pixels: a side is below {MIN_SIDE}", reason="TOO_SMALL")
                image.load()
                return _to_pixels(ImageOps.exif_transpose(image))
    except InvalidArgument:
        raise
    except UnidentifiedImageError:
        raise InvalidArgument(f"not a {', '.join(FORMATS)} image", reason="UNREADABLE") from None
    # Decoders of damaged files raise almost any exception, and each means the same.
    except Exception as error:
        raise InvalidArgument(f"damaged image ({type(error).__name__})", reason="UNREADABLE") from None


def _to_pixels(image: Image.Image) -> Pixels:
    if image.mode.startswith("I") or image.mode == "F":
        values = np.asarray(image, dtype=np.float64)
        top = 255.0 if values.max() <= 255 else 65535.0
        return np.clip(values * (255.0 / top), 0, 255).round().astype(np.uint8)[:, :, None]
    if image.mode in ("1", "L"):
        return np.asarray(image.convert("L"))[:, :, None]
    if "A" in image.mode or "transparency" in image.info:
        rgba = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", rgba.size, (0, 0, 0, 255)), rgba)
    return np.asarray(image.convert("RGB"))


def is_constant(pixels: Pixels) -> bool:
    """Whether all pixels are one color, within 2 grey levels: no photograph."""
    # Channel by channel: numpy's reduction along a short last axis is ten times slower.
    return all(int(channel.max()) - int(channel.min()) <= 2 for channel in pixels.transpose(2, 0, 1))


def pixel_sha256(pixels: Pixels) -> str:
    """sha256 of height, width, channels (big-endian uint32) and the pixels, row by row."""
    digest = hashlib.sha256(struct.pack(">3I", *pixels.shape))
    digest.update(np.ascontiguousarray(pixels).tobytes())
    return digest.hexdigest()


def encode_png(pixels: Pixels) -> bytes:
    """Encode `pixels` as PNG, fast rather than small."""
    image = Image.fromarray(pixels[:, :, 0] if pixels.shape[2] == 1 else pixels)
    sink = io.BytesIO()
    image.save(sink, "PNG", compress_level=1)
    return sink.getvalue()


def with_channels(pixels: Pixels, channels: int) -> Pixels:
    """Convert between grey and RGB (ITU-R 601 luma), so that the last axis is `channels` (1 or 3)."""
    if pixels.shape[2] == channels:
        return pixels
    if channels == 3:
        return np.repeat(pixels, 3, axis=2)
    return np.asarray(Image.fromarray(pixels).convert("L"))[:, :, None]


def fitted(pixels: Pixels, *, image_size: int, channels: int, pre_resize: int = 0) -> Pixels:
    """Crop an image to the centred square and resize it for a network, first to `pre_resize` pixels unless that is 0.

    After the pre-resize, photographs have no finer detail than images generated at that size.

    Returns:
        uint8 [image_size, image_size, channels].
    """
    return with_channels(resize(resize(pixels, pre_resize) if pre_resize else pixels, image_size), channels)


def resize(pixels: Pixels, size: int) -> Pixels:
    """Crop the centred square and scale it to `size`×`size` (Pillow's BILINEAR: area-weighted when reducing)."""
    height, width, channels = pixels.shape
    if (height, width) == (size, size):
        return pixels
    side = min(height, width)
    top, left = (height - side) // 2, (width - side) // 2
    square = pixels[top : top + side, left : left + side]
    image = Image.fromarray(square[:, :, 0] if channels == 1 else square)
    scaled = np.asarray(image.resize((size, size), Image.Resampling.BILINEAR))
    return scaled[:, :, None] if channels == 1 else scaled
