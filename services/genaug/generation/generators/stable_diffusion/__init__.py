"""Stable Diffusion 1 or 2, fine-tuned on captioned images."""

from __future__ import annotations

from genaug.generation.artifacts import Artifact
from genaug.generation.generators import Kind, Loader
from genaug.generation.generators.stable_diffusion.base_models import open_base
from genaug.generation.generators.stable_diffusion.generator import Config, PipelineResource, StableDiffusion
from genaug.generation.generators.stable_diffusion.train import train_stable_diffusion


class StableDiffusionKind:
    """Stable Diffusion with an adapter, or with weights of its own."""

    train = staticmethod(train_stable_diffusion)

    def load(self, artifact: Artifact, loader: Loader) -> StableDiffusion:
        """Load a generator; its base's networks are loaded when it draws."""
        base = open_base(loader.store, artifact.parse_config(Config).base)
        return StableDiffusion(
            artifact,
            pipelines=lambda base_name, dtype: loader.resource(PipelineResource(base_name, dtype)),
            base=base,
            device=loader.device,
        )


KIND: Kind = StableDiffusionKind()
