"""Class-conditional diffusion from scratch, in pixels or latents."""

from __future__ import annotations

from genaug.generation.artifacts import Artifact
from genaug.generation.generators import Kind, Loader
from genaug.generation.generators.class_conditional.generator import ClassConditional
from genaug.generation.generators.class_conditional.train import train_class_conditional


class ClassConditionalKind:
    """Class-conditional diffusion."""

    train = staticmethod(train_class_conditional)

    def load(self, artifact: Artifact, loader: Loader) -> ClassConditional:
        """Load a generator."""
        return ClassConditional.load(artifact, device=loader.device)


KIND: Kind = ClassConditionalKind()
