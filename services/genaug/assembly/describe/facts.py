"""Properties of one image and of its file that may tell its class without showing the disease."""

from __future__ import annotations

import io
from contextlib import suppress
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image, JpegImagePlugin

from genaug.assembly.describe.quality import Luma, Quality, quality
from genaug.shared.digests import canonical_json, sha256
from genaug.vision.images.pixels import Pixels

BINS = 32
"""Bins of a histogram of luma."""

# Grey levels within which a line counts as one color: JPEG changes a flat border by a few.
_FLAT = 8
# EXIF tags of the camera.
_MAKE, _MODEL = 271, 272
# Formats with EXIF in front of the pixels. In a PNG it may follow them, and Pillow would decode the pixels to reach it.
_EXIF_FORMATS = frozenset({"JPEG", "TIFF", "WEBP", "MPO"})


@dataclass(frozen=True)
class Border:
    """Uniform lines along the sides of an image."""

    top: float
    """Share of the height."""
    bottom: float
    """Share of the height."""
    left: float
    """Share of the width."""
    right: float
    """Share of the width."""
    luma: float
    """Mean luma of the outermost uniform lines, 0 to 255; -1 without a border."""


@dataclass(frozen=True)
class ImageFacts:
    """Properties of one image and of its file. None of them identifies a person."""

    quality: Quality
    format: str
    """Format of the file, such as "JPEG"."""
    encoder: str
    """Digest of format, color mode, JPEG quantization tables and subsampling, and EXIF's make and model."""
    size_bytes: int
    mean_color: tuple[float, float, float]
    """Mean red, green and blue, 0 to 255."""
    border: Border
    histogram: NDArray[np.float32]
    """Share of pixels per bin of luma, float32 [BINS]."""


def image_facts(data: bytes, pixels: Pixels) -> ImageFacts:
    """Collect the facts of an image.

    Args:
        data: The encoded image.
        pixels: The same, decoded.
    """
    image = Image.fromarray(pixels if pixels.shape[2] == 3 else pixels[:, :, 0])
    grey = image.convert("L")
    luma = np.asarray(grey)
    # Pillow counts in place; numpy's bincount would first copy the pixels to eight bytes each.
    counts = np.asarray(grey.histogram(), dtype=np.int64)
    format, encoder = _encoding(data)
    return ImageFacts(
        quality=quality(luma, counts),
        format=format,
        encoder=encoder,
        size_bytes=len(data),
        mean_color=_mean_color(image),
        border=_border(luma),
        histogram=(counts.reshape(BINS, -1).sum(axis=1) / luma.size).astype(np.float32),
    )


def _mean_color(image: Image.Image) -> tuple[float, float, float]:
    counts = np.asarray(image.histogram(), dtype=np.int64).reshape(-1, 256)
    means = [float(channel @ np.arange(256)) / (image.width * image.height) for channel in counts]
    red, green, blue = means if len(means) == 3 else means * 3
    return red, green, blue


def _border(luma: Luma) -> Border:
    height, width = luma.shape
    rows = luma.min(axis=1).astype(np.int16), luma.max(axis=1).astype(np.int16)
    columns = luma.min(axis=0).astype(np.int16), luma.max(axis=0).astype(np.int16)
    lines = (
        _flat_lines(*rows), _flat_lines(rows[0][::-1], rows[1][::-1]),
        _flat_lines(*columns), _flat_lines(columns[0][::-1], columns[1][::-1]),
    )  # fmt: skip
    outermost = (luma[0], luma[-1], luma[:, 0], luma[:, -1])
    means = [float(line.mean()) for line, count in zip(outermost, lines, strict=True) if count]
    top, bottom, left, right = lines
    return Border(
        top / height, bottom / height, left / width, right / width, sum(means) / len(means) if means else -1.0
    )


def _flat_lines(lowest: NDArray[np.int16], highest: NDArray[np.int16]) -> int:
    """Number of leading lines of one color, from their lowest and highest values."""
    flat = (highest - lowest <= _FLAT) & (np.abs(lowest - lowest[0]) <= _FLAT)
    return len(flat) if flat.all() else int(flat.argmin())


def _encoding(data: bytes) -> tuple[str, str]:
    """Return the format and the digest of the encoder's traces; empty where Pillow cannot say."""
    format, traces = "", list[object]()
    # Headers of odd files raise almost any exception; the pixels were decoded, so that this is no damage to report.
    with suppress(Exception), Image.open(io.BytesIO(data)) as image:
        format = image.format or ""
        traces += [image.mode]
        if isinstance(image, JpegImagePlugin.JpegImageFile):
            traces += [sorted(image.quantization.items()), JpegImagePlugin.get_sampling(image)]
        if format in _EXIF_FORMATS:
            exif = image.getexif()
            traces += [str(exif.get(_MAKE, "")), str(exif.get(_MODEL, ""))]
    return format, sha256(canonical_json([format, *traces]))[:16]
