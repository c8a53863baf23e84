"""Traditional augmentation: small flips, rotations, shifts, scalings and colour changes of training images."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import safetensors.numpy
from numpy.typing import NDArray
from PIL import Image
from safetensors import SafetensorError

from genaug.generation.artifacts import Artefact, broken, check_tensors
from genaug.generation.sampling.parents import parent_of
from genaug.generation.sampling.receipts import Drawn, Wanted
from genaug.shared.digests import seed_of
from genaug.vision.images.augment import Ranges
from genaug.vision.images.pixels import Pixels

KIND = "KIND_TRANSFORMS"

# On tiny images small parameters can round to nothing; so many are tried before that is accepted.
_ATTEMPTS = 16


def transform(pixels: Pixels, ranges: Ranges, *, rng: np.random.Generator) -> Pixels:
    """One change of `pixels` drawn from `ranges`, never the identity.

    Parameters are uniform within their ranges. Where no range but the flip is open, the image is flipped. Pixels that
    move in from outside repeat the border. Should rounding leave every pixel as it was, other parameters are drawn.

    Args:
        pixels: uint8 [height, width, channels].
    """
    changed = pixels
    for _ in range(_ATTEMPTS):
        changed = _colour(_move(_flip(pixels, ranges, rng), ranges, rng), ranges, rng)
        if not np.array_equal(changed, pixels):
            break
    return changed


def _flip(pixels: Pixels, ranges: Ranges, rng: np.random.Generator) -> Pixels:
    heads = rng.random() < 0.5
    alone = not (ranges.rotate_degrees or ranges.shift or ranges.scale or ranges.colour)
    return pixels[:, ::-1] if ranges.horizontal_flip and (heads or alone) else pixels


def _move(pixels: Pixels, ranges: Ranges, rng: np.random.Generator) -> Pixels:
    """Rotate about the centre, scale and shift in one resampling (bicubic)."""
    angle = math.radians(rng.uniform(-1, 1) * ranges.rotate_degrees)
    scale = 1 + rng.uniform(-1, 1) * ranges.scale
    height, width, channels = pixels.shape
    down, right = rng.uniform(-1, 1) * ranges.shift * height, rng.uniform(-1, 1) * ranges.shift * width
    if not (angle or scale != 1 or down or right):
        return pixels
    # A border as wide as the image: no allowed change looks beyond it.
    border = max(height, width)
    padded = np.pad(pixels, ((border, border), (border, border), (0, 0)), mode="edge")
    cos, sin = math.cos(angle) / scale, math.sin(angle) / scale
    # Pillow asks where each pixel of the result comes from; it counts from the corner, we turn about the centre.
    x, y = width / 2 + right, height / 2 + down
    matrix = (
        *(cos, sin, border + width / 2 - cos * x - sin * y),
        *(-sin, cos, border + height / 2 + sin * x - cos * y),
    )
    image = Image.fromarray(padded[:, :, 0] if channels == 1 else padded)
    moved = np.asarray(image.transform((width, height), Image.Transform.AFFINE, matrix, Image.Resampling.BICUBIC))
    return moved[:, :, None] if channels == 1 else moved


def _colour(pixels: Pixels, ranges: Ranges, rng: np.random.Generator) -> Pixels:
    """Brightness as a factor of all values, contrast as a factor of their distance from the mean."""
    brightness, contrast = 1 + rng.uniform(-1, 1, 2) * ranges.colour
    if brightness == 1 and contrast == 1:
        return pixels
    values = pixels.astype(np.float64) * brightness
    mean = values.mean()
    changed: Pixels = np.clip((values - mean) * contrast + mean, 0, 255).round().astype(np.uint8)
    return changed


class Transforms:
    """A loaded set of training images and the ranges in which they may change."""

    def __init__(
        self, name: str, ranges: Ranges, *, classes: Sequence[str], pixels: NDArray[np.uint8], ids: list[str],
        labels: NDArray[np.int64],
    ) -> None:  # fmt: skip
        self.name = name
        self.classes = tuple(classes)
        self._ranges = ranges
        self._pixels = pixels
        self._ids = ids
        self._of_class = {name: np.flatnonzero(labels == index) for index, name in enumerate(self.classes)}

    @classmethod
    def load(cls, artefact: Artefact) -> Transforms:
        """The generator in `artefact`.

        Raises:
            FailedPrecondition: its images cannot be read, or are not what the configuration says.
        """
        config = artefact.config
        try:
            found = safetensors.numpy.load(artefact.weights)
        except SafetensorError as error:
            raise broken(artefact.name, f"model.safetensors cannot be read ({error})") from None
        n, side = int(config["images"]), int(config["image_size"])
        expected = {
            "pixels": np.empty((n, side, side, config["channels"]), np.uint8),
            "ids": np.empty((n, 16), np.uint8),
            "labels": np.empty(n, np.int64),
        }
        check_tensors(artefact.name, found=found, expected=expected)
        return cls(
            artefact.name,
            Ranges(**config["transforms"]),
            classes=config["classes"],
            pixels=found["pixels"],
            ids=[row.tobytes().hex() for row in found["ids"]],
            labels=found["labels"],
        )

    @property
    def nbytes(self) -> int:
        """Bytes of its images."""
        return self._pixels.nbytes

    def make(self, wanted: Wanted) -> Drawn:
        """Transform one training image."""
        rng = np.random.default_rng(seed_of("transform/1", wanted.seed, wanted.class_name, wanted.index))
        parent = self._parent(wanted)
        pixels = transform(self._pixels[parent], self._ranges, rng=rng)
        return Drawn(wanted, np.ascontiguousarray(pixels), 1, (self._ids[parent],))

    def _parent(self, wanted: Wanted) -> int:
        images = self._of_class[wanted.class_name]
        return int(images[parent_of(wanted, len(images))])


def pack(pixels: NDArray[np.uint8], *, ids: Sequence[str], labels: Sequence[int]) -> bytes:
    """Training images as safetensors.

    Args:
        pixels: uint8 [n, side, side, channels].
        ids: 32 hex digits each.
        labels: Index of each image's class.
    """
    return safetensors.numpy.save(
        {
            "pixels": np.ascontiguousarray(pixels),
            "ids": np.frombuffer(bytes.fromhex("".join(ids)), np.uint8).reshape(len(ids), 16).copy(),
            "labels": np.asarray(labels, np.int64),
        }
    )


def config_json(
    ranges: Ranges, *, classes: Sequence[str], image_size: int, channels: int, images: int
) -> dict[str, Any]:
    """config.json."""
    return {
        "kind": KIND,
        "classes": list(classes),
        "image_size": image_size,
        "channels": channels,
        "images": images,
        "transforms": ranges.__dict__,
    }
