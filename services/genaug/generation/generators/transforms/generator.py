"""Traditional augmentation: small flips, rotations, shifts, scalings and color changes of training images."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Annotated

import numpy as np
import safetensors.numpy
from numpy.typing import NDArray
from PIL import Image
from pydantic import BeforeValidator
from safetensors import SafetensorError

from genaug.generation.artifacts import Artifact, ArtifactConfig, HasShape, broken, check_tensors
from genaug.generation.sampling.parents import parent_of
from genaug.generation.sampling.receipts import DrawnImage, ImageRequest
from genaug.generation.training.diffusion_data import TrainingSet
from genaug.generation.training.finetune_context import FinetuneContext, FinetuneResult
from genaug.schema.common import TransformSpec
from genaug.schema.generators import GeneratorSpec
from genaug.shared.digests import seed_of
from genaug.vision.images.pixels import Pixels

# Small parameters can round to no change on tiny images: number of draws of parameters until that is accepted.
_ATTEMPTS = 16


def _american(value: object) -> object:
    """Ranges as config.json spells them, in the schema's spelling."""
    renamed = {"colour": "color"}
    return {renamed.get(key, key): entry for key, entry in value.items()} if isinstance(value, Mapping) else value


class Config(ArtifactConfig):
    """config.json of transforms."""

    kind: str = "KIND_TRANSFORMS"
    images: int
    """Number of training images."""
    transforms: Annotated[TransformSpec, BeforeValidator(_american)]


def transform(pixels: Pixels, ranges: TransformSpec, *, rng: np.random.Generator) -> Pixels:
    """Return a random transform of `pixels` within `ranges`, never the identity.

    Parameters are uniform within their ranges. If only the flip is allowed, the image is flipped. Pixels that move in
    from outside repeat the border. If rounding leaves every pixel as it was, other parameters are drawn.

    Args:
        pixels: uint8 [height, width, channels].
    """
    changed = pixels
    for _ in range(_ATTEMPTS):
        changed = _adjust_color(_move(_flip(pixels, ranges, rng), ranges, rng), ranges, rng)
        if not np.array_equal(changed, pixels):
            break
    return changed


def _flip(pixels: Pixels, ranges: TransformSpec, rng: np.random.Generator) -> Pixels:
    chosen = rng.random() < 0.5
    only_flip = not (ranges.rotate_degrees or ranges.shift or ranges.scale or ranges.color)
    return pixels[:, ::-1] if ranges.horizontal_flip and (chosen or only_flip) else pixels


def _move(pixels: Pixels, ranges: TransformSpec, rng: np.random.Generator) -> Pixels:
    """Rotate about the center, scale and shift in one resampling (bicubic)."""
    angle = math.radians(rng.uniform(-1, 1) * ranges.rotate_degrees)
    scale = 1 + rng.uniform(-1, 1) * ranges.scale
    height, width, channels = pixels.shape
    down, right = rng.uniform(-1, 1) * ranges.shift * height, rng.uniform(-1, 1) * ranges.shift * width
    if not (angle or scale != 1 or down or right):
        return pixels
    # A border as wide as the image: no parameters within their ranges reach beyond it.
    border = max(height, width)
    padded = np.pad(pixels, ((border, border), (border, border), (0, 0)), mode="edge")
    cos, sin = math.cos(angle) / scale, math.sin(angle) / scale
    # Pillow's matrix maps a pixel of the result to its origin, counted from the corner; we rotate about the center.
    x, y = width / 2 + right, height / 2 + down
    matrix = (
        *(cos, sin, border + width / 2 - cos * x - sin * y),
        *(-sin, cos, border + height / 2 + sin * x - cos * y),
    )
    image = Image.fromarray(padded[:, :, 0] if channels == 1 else padded)
    moved = np.asarray(image.transform((width, height), Image.Transform.AFFINE, matrix, Image.Resampling.BICUBIC))
    return moved[:, :, None] if channels == 1 else moved


def _adjust_color(pixels: Pixels, ranges: TransformSpec, rng: np.random.Generator) -> Pixels:
    """Scale brightness (all values) and contrast (their distance from the mean)."""
    brightness, contrast = 1 + rng.uniform(-1, 1, 2) * ranges.color
    if brightness == 1 and contrast == 1:
        return pixels
    values = pixels.astype(np.float64) * brightness
    mean = values.mean()
    changed: Pixels = np.clip((values - mean) * contrast + mean, 0, 255).round().astype(np.uint8)
    return changed


class Transforms:
    """A loaded set of training images with the ranges of their transforms."""

    def __init__(
        self, name: str, ranges: TransformSpec, *, classes: Sequence[str], pixels: NDArray[np.uint8], ids: list[str],
        labels: NDArray[np.int64],
    ) -> None:  # fmt: skip
        self.name = name
        self.classes = tuple(classes)
        self._ranges = ranges
        self._pixels = pixels
        self._ids = ids
        self._by_class = {name: np.flatnonzero(labels == index) for index, name in enumerate(self.classes)}

    @classmethod
    def load(cls, artifact: Artifact) -> Transforms:
        """Load a generator.

        Raises:
            FailedPrecondition: reason BROKEN_GENERATOR; its images cannot be read, or contradict the configuration.
        """
        config = artifact.parse_config(Config)
        try:
            arrays = safetensors.numpy.load(artifact.weights)
        except SafetensorError as error:
            raise broken(artifact.name, f"model.safetensors cannot be read ({error})") from None
        count, side = config.images, config.image_size
        expected: dict[str, HasShape] = {
            "pixels": np.empty((count, side, side, config.channels), np.uint8),
            "ids": np.empty((count, 16), np.uint8),
            "labels": np.empty(count, np.int64),
        }
        check_tensors(artifact.name, actual=arrays, expected=expected)
        return cls(
            artifact.name,
            config.transforms,
            classes=config.classes,
            pixels=arrays["pixels"],
            ids=[row.tobytes().hex() for row in arrays["ids"]],
            labels=arrays["labels"],
        )

    @property
    def nbytes(self) -> int:
        """Bytes of the images."""
        return self._pixels.nbytes

    def make(self, request: ImageRequest) -> DrawnImage:
        """Transform one training image."""
        rng = np.random.default_rng(seed_of("transform/1", request.seed, request.class_name, request.index))
        images = self._by_class[request.class_name]
        parent = int(images[parent_of(request, len(images))])
        pixels = transform(self._pixels[parent], self._ranges, rng=rng)
        return DrawnImage(request, np.ascontiguousarray(pixels), 1, (self._ids[parent],))


def pack_images(
    spec: GeneratorSpec,
    classes: Sequence[str],
    training: TrainingSet,
    held_out: TrainingSet,
    context: FinetuneContext,
) -> FinetuneResult:
    """Pack training images and transform ranges into an artifact; nothing is learned."""
    total = len(training.ids)
    weights = safetensors.numpy.save(
        {
            "pixels": np.ascontiguousarray(training.pixels),
            # 32 hex digits each.
            "ids": np.frombuffer(bytes.fromhex("".join(training.ids)), np.uint8).reshape(total, 16).copy(),
            "labels": training.labels,
        }
    )
    config = Config(
        classes=tuple(classes),
        image_size=training.image_size,
        channels=training.channels,
        images=total,
        transforms=spec.transforms or TransformSpec(),
    )
    context.report(total, total, "images")
    return FinetuneResult(config, weights)
