"""Stable Diffusion 1 or 2 with a fine-tuned adapter, or with weights of its own."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from typing import Any, Literal, cast

import safetensors.torch
import torch
from safetensors import SafetensorError
from torch import Tensor

from genaug.generation.artifacts import Artefact, broken, check_tensors
from genaug.generation.diffusion.denoise import Rows, Start
from genaug.generation.generators.class_conditional.generator import images_to_pixels
from genaug.generation.generators.stable_diffusion.adapters import Merged, expected_shapes
from genaug.generation.generators.stable_diffusion.base_models import Base
from genaug.generation.sampling.parents import parent_of
from genaug.generation.sampling.receipts import Sampler, Wanted
from genaug.shared.digests import seed_of
from genaug.shared.errors import InvalidArgument
from genaug.vision.images.pixels import Pixels

KIND = "KIND_STABLE_DIFFUSION"
LATENTS = "latents"
"""Name of the training images' latents among the weights, where they travel with the generator."""

# Rows of the network that an accelerator is asked at once; and a CPU, which has enough to do with fewer of larger
# images: a single one of 512 pixels does not wait for company that is not there.
_ROWS, _ROWS_CPU, _PLACES_CPU = 32, (2, 16), 4096
_DTYPES = {"PRECISION_FLOAT32": torch.float32, "PRECISION_BFLOAT16": torch.bfloat16}
# Captions whose embeddings are kept: callers may send negative prompts of their own.
_CAPTIONS = 256


@dataclass(frozen=True)
class Config:
    """What the weights do not say; config.json.

    Weights are named "{part}/{network}.{tensor}": the part is `ALL_CLASSES`, or the class's number where each class has
    weights of its own; the network "unet" or "text_encoder".
    """

    kind: str
    classes: tuple[str, ...]
    image_size: int
    channels: int
    base: str
    """ "bases/{digest}"."""
    weights: Literal["WEIGHTS_ADAPTER", "WEIGHTS_ALL"]
    captions: dict[str, str]
    """What each class is drawn with."""
    rank: int = 0
    """Of the adapter; 0 where there is none."""
    alpha: float = 0.0
    """Its scale is alpha / rank."""
    per_class: bool = False
    """Whether each class has weights of its own."""
    sources: tuple[tuple[str, str], ...] = ()
    """Class and image id of each of the latents that travel along."""

    @classmethod
    def read(cls, config: Mapping[str, Any]) -> Config:
        """From config.json."""
        return cls(
            **{
                **config,
                "classes": tuple(config["classes"]),
                "sources": tuple((name, image) for name, image in config.get("sources", ())),
            }
        )

    def json(self) -> dict[str, Any]:
        """config.json."""
        return {**asdict(self), "classes": list(self.classes), "sources": [list(one) for one in self.sources]}

    def part(self, class_name: str) -> str:
        """Which part of the weights draws a class."""
        return str(self.classes.index(class_name)) if self.per_class else ALL_CLASSES

    @property
    def parts(self) -> tuple[str, ...]:
        """All parts of the weights."""
        return tuple(map(str, range(len(self.classes)))) if self.per_class else (ALL_CLASSES,)


ALL_CLASSES = "all"
"""The part of the weights that draws every class."""


class Pipeline:
    """A base's networks on a device, which one adapter at a time may change.

    Args:
        base: The base.
        dtype: What they compute in.
        device: Where.
    """

    def __init__(self, base: Base, *, dtype: torch.dtype, device: torch.device) -> None:
        self.dtype = dtype
        self.schedule = base.schedule
        unet = cast(Any, base.unet(dtype))
        self.unet = unet.to(device, memory_format=torch.channels_last)
        self.autoencoder = cast(Any, base.autoencoder(dtype)).to(device, memory_format=torch.channels_last)
        self.text_encoder = base.text_encoder(dtype).to(device)
        self._merged = {"unet": Merged(self.unet), "text_encoder": Merged(self.text_encoder.network)}
        self._in_place: Hashable = None

    @property
    def nbytes(self) -> int:
        """Bytes of its networks."""
        networks = (self.unet, self.autoencoder, self.text_encoder)
        own = sum(one.numel() * one.element_size() for network in networks for one in network.parameters())
        return int(own) + sum(one.nbytes for one in self._merged.values())

    def put_in(self, key: Hashable, tensors: Mapping[str, Tensor], *, scale: float) -> None:
        """Have the adapter `key` in place; its tensors are named "unet.…" and "text_encoder.…"."""
        if key == self._in_place:
            return
        self._in_place = None
        for network, merged in self._merged.items():
            merged.put_in(_below(tensors, f"{network}."), scale=scale)
        self._in_place = key

    def fill(self, tensors: Mapping[str, Tensor]) -> None:
        """Replace the networks' own weights by those named "unet.…" and "text_encoder.…"."""
        for network, module in (("unet", self.unet), ("text_encoder", self.text_encoder.network)):
            if found := _below(tensors, f"{network}."):
                module.load_state_dict(found)


Pipelines = Callable[[str, torch.dtype], Pipeline]
"""pipelines("bases/{digest}", dtype): the networks of a base, loaded if they are not."""


class StableDiffusion:
    """A loaded stable-diffusion generator. The base's networks are not its own: it borrows them.

    Args:
        artefact: What fine-tuning left.
        pipelines: Lends the networks of a base.
        base: The base it was made from.
        device: Where it draws.

    Raises:
        FailedPrecondition: the weights cannot be read, or do not fit the base.
    """

    def __init__(self, artefact: Artefact, *, pipelines: Pipelines, base: Base, device: torch.device) -> None:
        self.name = artefact.name
        self.config = Config.read(artefact.config)
        self.classes = self.config.classes
        self.device = device
        self.bucket = self.bucket_at(0)
        self.clipped = False
        self.schedule = base.schedule
        self._pipelines = pipelines
        self._base = base
        try:
            self._tensors = safetensors.torch.load(artefact.weights)
        except SafetensorError as error:
            raise broken(artefact.name, f"model.safetensors cannot be read ({error})") from None
        self._latents = self._tensors.pop(LATENTS, None)
        self._own: OrderedDict[Hashable, Pipeline] = OrderedDict()
        self._embeddings: OrderedDict[Hashable, Tensor] = OrderedDict()
        self._checked: set[Hashable] = set()
        self._current: Pipeline | None = None
        """The networks in place, with the adapter of the images that are under way."""
        if (self._latents is None) != (not self.config.sources):
            raise broken(artefact.name, "config.json and model.safetensors disagree on whether latents travel along")

    @property
    def nbytes(self) -> int:
        """Bytes of its own tensors, and of networks that are its own."""
        tensors = [
            *self._tensors.values(),
            *self._embeddings.values(),
            *([] if self._latents is None else [self._latents]),
        ]
        own = sum(one.nbytes for one in list(self._own.values()))
        return own + sum(one.numel() * one.element_size() for one in tensors)

    def variant(self, class_name: str, sampler: Sampler) -> Hashable:
        """The weights that draw a class, the number format, the shape."""
        return self.config.part(class_name), sampler.precision, sampler.image_size

    def begin(self, wanted: Sequence[Wanted], sampler: Sampler) -> Start:
        """Have the adapter in place; noise and captions of each image, and the training image it starts from."""
        pipeline = self._in_place(wanted[0].class_name, sampler)
        side = (sampler.image_size or self.config.image_size) // pipeline.autoencoder.factor
        shape = (pipeline.autoencoder.channels, side, side)
        noise = torch.stack([_noise(one, shape) for one in wanted]).to(self.device)
        names = [one.class_name for one in wanted]
        conditions = torch.cat([self._embedding(self.config.captions[one], one, sampler, pipeline) for one in names])
        without = self._embedding(sampler.negative_prompt, wanted[0].class_name, sampler, pipeline)
        start = Start(noise, conditions, without.expand_as(conditions))
        if not sampler.strength or self._latents is None:
            return start
        sources = [self._source(one) for one in wanted]
        images = self._latents[sources].float().to(self.device)
        return replace(start, images=images, parents=tuple((self.config.sources[one][1],) for one in sources))

    def predict(self, rows: Rows, sampler: Sampler) -> Tensor:
        """What the network says."""
        pipeline = cast(Pipeline, self._current)
        samples = rows.samples.to(pipeline.dtype, memory_format=torch.channels_last)
        said: Tensor = pipeline.unet(samples, rows.times, rows.conditions.to(pipeline.dtype), return_dict=False)[0]
        return said.float()

    def pixels(self, samples: Tensor, sampler: Sampler) -> list[Pixels]:
        """Decoded images, one by one: an image's pixels do not depend on how many are decoded."""
        pipeline = cast(Pipeline, self._current)
        latents = (one[None].to(pipeline.dtype, memory_format=torch.channels_last) for one in samples)
        images = (pipeline.autoencoder.decode(one).float() for one in latents)
        return [images_to_pixels(one, channels=self.config.channels)[0] for one in images]

    def bucket_at(self, image_size: int) -> int:
        """The bucket where images of another size are asked for; 0 for its own."""
        side = image_size or self.config.image_size
        if self.device.type != "cpu":
            # As many places as of the size it learnt, where larger images are asked for.
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
                "generator.keep_latents",
                reason="BAD_SAMPLER",
            )
        if sampler.strength and sampler.image_size not in (0, self.config.image_size):
            raise InvalidArgument(
                f"sampler.image_size: training latents are those of {self.config.image_size} pixels; leave it out",
                reason="BAD_SAMPLER",
            )
        side, step = sampler.image_size or self.config.image_size, self._smallest_side
        if side % step:
            raise InvalidArgument(
                f"sampler.image_size: {side} is not a multiple of {step}, which {self.config.base} needs",
                reason="BAD_SAMPLER",
            )

    @cached_property
    def _smallest_side(self) -> int:
        return smallest_side(self._base)

    def _in_place(self, class_name: str, sampler: Sampler) -> Pipeline:
        part, dtype = self.config.part(class_name), _DTYPES[sampler.precision]
        # What leaves memory must not be held by us while another is loaded.
        self._current = None
        tensors = _below(self._tensors, f"{part}/")
        if self.config.weights == "WEIGHTS_ALL":
            pipeline = self._own_pipeline(part, dtype, tensors)
        else:
            pipeline = self._pipelines(self.config.base, dtype)
            self._check_adapter(part, tensors, pipeline)
            pipeline.put_in((self.name, part), tensors, scale=self.config.alpha / self.config.rank)
        self._current = pipeline
        return pipeline

    def _own_pipeline(self, part: str, dtype: torch.dtype, tensors: Mapping[str, Tensor]) -> Pipeline:
        """Networks that are this generator's alone; one is kept."""
        key = (part, dtype)
        if key not in self._own:
            self._own.clear()
            pipeline = Pipeline(self._base, dtype=dtype, device=self.device)
            expected = {f"unet.{key}": value for key, value in pipeline.unet.state_dict().items()}
            if any(name.startswith("text_encoder.") for name in tensors):
                text = pipeline.text_encoder.network.state_dict()
                expected |= {f"text_encoder.{key}": value for key, value in text.items()}
            check_tensors(self.name, found=tensors, expected=expected)
            pipeline.fill(tensors)
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
        check_tensors(self.name, found=tensors, expected=expected)
        self._checked.add(part)

    def _embedding(self, caption: str, class_name: str, sampler: Sampler, pipeline: Pipeline) -> Tensor:
        """What the network is told for a caption, [1, length, width], by the text encoder in place."""
        key = (caption, self.config.part(class_name), sampler.precision)
        if key not in self._embeddings:
            self._embeddings[key] = pipeline.text_encoder.embed([caption]).float()
            while len(self._embeddings) > _CAPTIONS:
                self._embeddings.popitem(last=False)
        self._embeddings.move_to_end(key)
        return self._embeddings[key]

    def _source(self, wanted: Wanted) -> int:
        """Which of the latents that travel along a draw starts from."""
        images = [index for index, (name, _) in enumerate(self.config.sources) if name == wanted.class_name]
        return images[parent_of(wanted, len(images))]


def smallest_side(base: Base) -> int:
    """The pixels whose multiples a base can draw: its autoencoder's factor, halved by each level of its network."""
    vae, unet = base.config("vae/config.json"), base.config("unet/config.json")
    blocks = vae.get("decoder_block_out_channels") or vae["block_out_channels"]
    return int(2 ** (len(blocks) - 1) * 2 ** (len(unet["block_out_channels"]) - 1))


def _below(tensors: Mapping[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {key.removeprefix(prefix): value for key, value in tensors.items() if key.startswith(prefix)}


def _noise(wanted: Wanted, shape: tuple[int, int, int]) -> Tensor:
    """Standard normal noise of one image; made on the CPU, the same everywhere."""
    source = torch.Generator().manual_seed(seed_of("noise/1", wanted.seed, wanted.class_name, wanted.index))
    return torch.randn(shape, generator=source)
