"""Generator kind "mixup": weighted means of two training images of a class (Zhang et al. 2018, within a class)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated

import numpy as np
import safetensors.numpy

from genaug.schema.generators import GeneratorKind
from genaug.schema.model import Model, Within
from genaug.schema.sampling import Sampler


class MixupSpec(Model):
    """Settings in the run file: generator: {plugin: {name: mixup, settings: {weight: 0.5}}}."""

    weight: Annotated[float, Within(0.5, 0.95)] = 0.7
    """Weight of the first image."""


ENTRY = GeneratorKind(MixupSpec, "genaug_example.generator:KIND", Sampler(), learns=False)


class Mixup:
    """A loaded generator."""

    def __init__(self, classes: Sequence[str], images: dict[str, np.ndarray], weight: float) -> None:
        self.classes = tuple(classes)
        self._images, self._weight = images, weight

    @property
    def nbytes(self) -> int:
        return sum(images.nbytes for images in self._images.values())

    def make(self, request):
        from genaug.generation.sampling.receipts import DrawnImage

        rng = np.random.default_rng([request.seed, request.index, *request.class_name.encode()])
        first, second = rng.choice(self._images[request.class_name], 2, replace=False).astype(np.float64)
        mixed = self._weight * first + (1 - self._weight) * second
        return DrawnImage(request, mixed.round().astype(np.uint8), 1)


class MixupKind:
    """Trains (packs the images) and loads."""

    def train(self, spec, classes, training, held_out, context):
        from genaug.generation.artifacts import ArtifactConfig, kind_word
        from genaug.generation.training.finetune_context import FinetuneResult

        total = len(training.ids)
        config = ArtifactConfig(
            kind=kind_word(spec), classes=tuple(classes), image_size=spec.image_size, channels=training.channels
        )
        tensors = {"pixels": np.ascontiguousarray(training.pixels), "labels": np.asarray(training.labels)}
        context.report(total, total, "images")
        return FinetuneResult(config, safetensors.numpy.save(tensors))

    def load(self, artifact, loader):
        tensors = safetensors.numpy.load(artifact.weights)
        images = {
            name: tensors["pixels"][tensors["labels"] == index] for index, name in enumerate(artifact.record.classes)
        }
        return Mixup(artifact.record.classes, images, artifact.record.spec.settings.weight)


KIND = MixupKind()
