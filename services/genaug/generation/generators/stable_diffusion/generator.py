"""Stable Diffusion 1 or 2 with a fine-tuned adapter, or with weights of its own."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any, cast

import safetensors.torch
import torch
from safetensors import SafetensorError
from torch import Tensor

from genaug.generation.artifacts import Artifact, ArtifactConfig, broken, check_tensors
from genaug.generation.diffusion.denoise import Rows, Start
from genaug.generation.generators.pixels import to_pixels
from genaug.generation.generators.stable_diffusion.adapters import MergedAdapter, expected_shapes
from genaug.generation.generators.stable_diffusion.base_models import Base, open_base
from genaug.generation.sampling.parents import parent_of
from genaug.generation.sampling.receipts import ImageRequest
from genaug.schema.common import Precision
from genaug.schema.generators import TrainedWeights
from genaug.schema.sampling import Sampler
from genaug.shared.digests import seed_of
from genaug.shared.errors import InvalidArgument
from genaug.vision.images.pixels import Pixels

if TYPE_CHECKING:
    from genaug.generation.generators import Loader

LATENTS = "latents"
"""Name of the training images' latents among the weights, if they are part of the artifact."""
ALL_CLASSES = "all"
"""The part of the weights that draws every class."""

# Rows of a batch on an accelerator, and on a CPU: there fewer for larger images, which keep it busy as they are, and a
# single image of 512 pixels is not padded to a large batch.
_ROWS, _ROWS_CPU, _PLACES_CPU = 32, (2, 16), 4096
_DTYPES = {Precision.FLOAT32: torch.float32, Precision.BFLOAT16: torch.bfloat16}
# Cached embeddings of captions: callers may send any number of negative prompts.
_MAX_EMBEDDINGS = 256


class Config(ArtifactConfig):
    """config.json of a Stable Diffusion generator.

    Weights are named "{part}/{network}.{tensor}": the part is `ALL_CLASSES`, or the class's number if each class has
    weights of its own; the network is "unet" or "text_encoder".
    """

    kind: str = "KIND_STABLE_DIFFUSION"
    base: str
    """ "bases/{digest}"."""
    weights: TrainedWeights
    captions: dict[str, str]
    """Caption of each class."""
    rank: int = 0
    """Rank of the adapter; 0 if there is none."""
    alpha: float = 0.0
    """The adapter's scale is alpha / rank."""
    per_class: bool = False
    """Whether each class has weights of its own."""
    sources: tuple[tuple[str, str], ...] = ()
    """Class and image id of each of the training latents in the artifact."""

    def part(self, class_name: str) -> str:
        """The part of the weights that draws a class."""
        return str(self.classes.index(class_name)) if self.per_class else ALL_CLASSES

    @property
    def parts(self) -> tuple[str, ...]:
        """All parts of the weights."""
        return tuple(map(str, range(len(self.classes)))) if self.per_class else (ALL_CLASSES,)


class Pipeline:
    """A base's networks on a device, with one adapter at a time.

    Args:
        base: The base.
        dtype: Number format of the weights.
        device: The device.
    """

    def __init__(self, base: Base, *, dtype: torch.dtype, device: torch.device) -> None:
        self.dtype = dtype
        unet = cast(Any, base.unet(dtype))
        self.unet = unet.to(device, memory_format=torch.channels_last)
        self.autoencoder = cast(Any, base.autoencoder(dtype)).to(device, memory_format=torch.channels_last)
        self.text_encoder = base.text_encoder(dtype).to(device)
        self._adapters = {"unet": MergedAdapter(self.unet), "text_encoder": MergedAdapter(self.text_encoder.network)}
        self._merged: Hashable = None
        """Key of the adapter that is merged."""

    @property
    def nbytes(self) -> int:
        """Bytes of its networks."""
        networks = (self.unet, self.autoencoder, self.text_encoder)
        own = sum(p.numel() * p.element_size() for network in networks for p in network.parameters())
        return int(own) + sum(adapter.nbytes for adapter in self._adapters.values())

    def merge(self, key: Hashable, tensors: Mapping[str, Tensor], *, scale: float) -> None:
        """Merge the adapter `key`, unless it is merged; its tensors are named "unet.…" and "text_encoder.…"."""
        if key == self._merged:
            return
        self._merged = None
        for network, adapter in self._adapters.items():
            adapter.merge(_below(tensors, f"{network}."), scale=scale)
        self._merged = key

    def load_weights(self, tensors: Mapping[str, Tensor]) -> None:
        """Replace the networks' own weights by tensors named "unet.…" and "text_encoder.…"."""
        for network, module in (("unet", self.unet), ("text_encoder", self.text_encoder.network)):
            if weights := _below(tensors, f"{network}."):
                module.load_state_dict(weights)


@dataclass(frozen=True)
class PipelineResource:
    """A base's networks, which the loader shares between generators."""

    base: str
    """ "bases/{digest}"."""
    dtype: torch.dtype

    def load(self, loader: Loader) -> Pipeline:
        """Load the networks."""
        return Pipeline(open_base(loader.store, self.base), dtype=self.dtype, device=loader.device)


PipelineSource = Callable[[str, torch.dtype], Pipeline]
"""Returns the networks of a base in a number format: source("bases/{digest}", dtype)."""


class StableDiffusion:
    """A loaded Stable Diffusion generator. Its base's networks are shared with other generators.

    Args:
        artifact: The artifact.
        pipelines: Source of the base's networks, called whenever they are needed: they may have left the cache.
        base: The base.
        device: The device.

    Raises:
        FailedPrecondition: the weights cannot be read, or contradict the configuration.
    """

    def __init__(self, artifact: Artifact, *, pipelines: PipelineSource, base: Base, device: torch.device) -> None:
        self.name = artifact.name
        self.config = artifact.parse_config(Config)
        self.classes = self.config.classes
        self.device = device
        self.bucket = self.bucket_at(0)
        self.clipped = False
        self.schedule: dict[str, object] = {**base.schedule}
        self._pipelines = pipelines
        self._base = base
        try:
            self._tensors = safetensors.torch.load(artifact.weights)
        except SafetensorError as error:
            raise broken(artifact.name, f"model.safetensors cannot be read ({error})") from None
        self._latents = self._tensors.pop(LATENTS, None)
        self._own: dict[Hashable, Pipeline] = {}
        self._embeddings: OrderedDict[Hashable, Tensor] = OrderedDict()
        self._checked: set[Hashable] = set()
        self._current: Pipeline | None = None
        """Networks with the adapter of the images in progress."""
        if (self._latents is None) != (not self.config.sources):
            raise broken(artifact.name, "config.json and model.safetensors disagree on whether latents travel along")

    @property
    def nbytes(self) -> int:
        """Bytes of its own tensors and networks, without the shared ones."""
        tensors = [
            *self._tensors.values(),
            *self._embeddings.values(),
            *([] if self._latents is None else [self._latents]),
        ]
        own = sum(pipeline.nbytes for pipeline in list(self._own.values()))
        return own + sum(tensor.numel() * tensor.element_size() for tensor in tensors)

    def variant(self, class_name: str, sampler: Sampler) -> Hashable:
        """Key of images that share a batch: weights of the class, number format, shape."""
        return self.config.part(class_name), sampler.precision, sampler.image_size

    def begin(self, requests: Sequence[ImageRequest], sampler: Sampler) -> Start:
        """Merge the adapter; noise and caption of each image, and the training image that it starts from."""
        pipeline = self._load_variant(requests[0].class_name, sampler)
        side = (sampler.image_size or self.config.image_size) // pipeline.autoencoder.factor
        shape = (pipeline.autoencoder.channels, side, side)
        noise = torch.stack([_noise(request, shape) for request in requests]).to(self.device)
        names = [request.class_name for request in requests]
        captions = self.config.captions
        conditions = torch.cat([self._embedding(captions[name], name, sampler, pipeline) for name in names])
        without = self._embedding(sampler.negative_prompt, names[0], sampler, pipeline)
        start = Start(noise, conditions, without.expand_as(conditions))
        if not sampler.strength or self._latents is None:
            return start
        sources = [self._source(request) for request in requests]
        images = self._latents[sources].float().to(self.device)
        return replace(start, images=images, parents=tuple((self.config.sources[source][1],) for source in sources))

    def predict(self, rows: Rows, sampler: Sampler) -> Tensor:
        """The network's prediction."""
        pipeline = cast(Pipeline, self._current)
        samples = rows.samples.to(pipeline.dtype, memory_format=torch.channels_last)
        conditions = rows.conditions.to(pipeline.dtype)
        prediction: Tensor = pipeline.unet(samples, rows.times, conditions, return_dict=False)[0]
        return prediction.float()

    def pixels(self, samples: Tensor, sampler: Sampler) -> list[Pixels]:
        """Decode samples one by one: an image's pixels do not depend on the number of images that are decoded."""
        pipeline = cast(Pipeline, self._current)
        latents = (sample[None].to(pipeline.dtype, memory_format=torch.channels_last) for sample in samples)
        images = (pipeline.autoencoder.decode(latent).float() for latent in latents)
        return [to_pixels(image, channels=self.config.channels)[0] for image in images]

    def bucket_at(self, image_size: int) -> int:
        """Bucket for images of this size, pixels; 0 for its own size."""
        side = image_size or self.config.image_size
        if self.device.type != "cpu":
            # For larger images, as many places as in a batch of its own size.
            return max(2, min(_ROWS, _ROWS * self.config.image_size**2 // side**2))
        fewest, most = _ROWS_CPU
        return max(fewest, min(most, _PLACES_CPU // (side // 8) ** 2))

    def check(self, sampler: Sampler) -> None:
        """Refuse settings that this generator cannot draw with.

        Raises:
            InvalidArgument: reason BAD_SAMPLER.
        """
        if sampler.strength and self._latents is None:
            raise InvalidArgument(
                f"sampler.strength: {self.name} carries no training latents to start from; fine-tune one with "
                "generator.stable_diffusion.keep_latents",
                reason="BAD_SAMPLER",
            )
        if sampler.strength and sampler.image_size not in (0, self.config.image_size):
            raise InvalidArgument(
                f"sampler.image_size: training latents are those of {self.config.image_size} pixels; leave it out",
                reason="BAD_SAMPLER",
            )
        side, step = sampler.image_size or self.config.image_size, self._size_multiple
        if side % step:
            raise InvalidArgument(
                f"sampler.image_size: {side} is not a multiple of {step}, which {self.config.base} needs",
                reason="BAD_SAMPLER",
            )

    @cached_property
    def _size_multiple(self) -> int:
        return size_multiple(self._base)

    def _load_variant(self, class_name: str, sampler: Sampler) -> Pipeline:
        part, dtype = self.config.part(class_name), _DTYPES[sampler.precision]
        # Dropped first: networks that leave the cache must not stay in memory while others are loaded.
        self._current = None
        tensors = _below(self._tensors, f"{part}/")
        if self.config.weights == TrainedWeights.ALL:
            pipeline = self._own_pipeline(part, dtype, tensors)
        else:
            pipeline = self._pipelines(self.config.base, dtype)
            self._check_adapter(part, tensors, pipeline)
            pipeline.merge((self.name, part), tensors, scale=self.config.alpha / self.config.rank)
        self._current = pipeline
        return pipeline

    def _own_pipeline(self, part: str, dtype: torch.dtype, tensors: Mapping[str, Tensor]) -> Pipeline:
        """Networks with this generator's own weights; those used last are kept."""
        key = (part, dtype)
        if key not in self._own:
            self._own.clear()
            pipeline = Pipeline(self._base, dtype=dtype, device=self.device)
            expected = {f"unet.{name}": value for name, value in pipeline.unet.state_dict().items()}
            if any(name.startswith("text_encoder.") for name in tensors):
                text = pipeline.text_encoder.network.state_dict()
                expected |= {f"text_encoder.{name}": value for name, value in text.items()}
            check_tensors(self.name, actual=tensors, expected=expected)
            pipeline.load_weights(tensors)
            self._own[key] = pipeline
        return self._own[key]

    def _check_adapter(self, part: str, tensors: Mapping[str, Tensor], pipeline: Pipeline) -> None:
        if part in self._checked:
            return
        networks = {"unet": pipeline.unet, "text_encoder": pipeline.text_encoder.network}
        expected: dict[str, Tensor] = {}
        for network, module in networks.items():
            shapes = expected_shapes(module, _below(tensors, f"{network}."), rank=self.config.rank)
            expected |= {f"{network}.{key}": value for key, value in shapes.items()}
        check_tensors(self.name, actual=tensors, expected=expected)
        self._checked.add(part)

    def _embedding(self, caption: str, class_name: str, sampler: Sampler, pipeline: Pipeline) -> Tensor:
        """Embedding of a caption by the class's text encoder, [1, length, width]."""
        key = (caption, self.config.part(class_name), sampler.precision)
        if key not in self._embeddings:
            self._embeddings[key] = pipeline.text_encoder.embed([caption]).float()
            while len(self._embeddings) > _MAX_EMBEDDINGS:
                self._embeddings.popitem(last=False)
        self._embeddings.move_to_end(key)
        return self._embeddings[key]

    def _source(self, request: ImageRequest) -> int:
        """Index of the training latents that a draw starts from."""
        images = [index for index, (name, _) in enumerate(self.config.sources) if name == request.class_name]
        return images[parent_of(request, len(images))]


def size_multiple(base: Base) -> int:
    """Number that divides the sides of a base's images: its autoencoder's factor times its network's."""
    vae, unet = base.config("vae/config.json"), base.config("unet/config.json")
    blocks = vae.get("decoder_block_out_channels") or vae["block_out_channels"]
    levels = len(cast(list[int], blocks)) - 1 + len(cast(list[int], unet["block_out_channels"])) - 1
    return 1 << levels


def _below(tensors: Mapping[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {key.removeprefix(prefix): value for key, value in tensors.items() if key.startswith(prefix)}


def _noise(request: ImageRequest, shape: tuple[int, int, int]) -> Tensor:
    """Standard normal noise of one image; made on the CPU, so the same on every device."""
    random = torch.Generator().manual_seed(seed_of("noise/1", request.seed, request.class_name, request.index))
    return torch.randn(shape, generator=random)
