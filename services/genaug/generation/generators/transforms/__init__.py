"""Traditional data augmentation by label-preserving transforms."""

from __future__ import annotations

from genaug.generation.artifacts import Artifact
from genaug.generation.generators import Kind, Loader
from genaug.generation.generators.transforms.generator import Transforms, pack_images


class TransformsKind:
    """Transforms of training images, which are part of the artifact."""

    train = staticmethod(pack_images)

    def load(self, artifact: Artifact, loader: Loader) -> Transforms:
        """Load a generator."""
        return Transforms.load(artifact)


KIND: Kind = TransformsKind()
