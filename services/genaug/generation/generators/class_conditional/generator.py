"""Class-conditional diffusion model of small images: one network for all classes, with classifier-free guidance."""

from __future__ import annotations

from collections.abc import Hashable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, cast

import safetensors.torch
import torch
from diffusers import UNet2DModel
from pydantic import JsonValue
from safetensors import SafetensorError
from torch import Tensor, nn
from torch.nn import functional

from genaug.generation.artifacts import Artifact, ArtifactConfig, broken, check_tensors
from genaug.generation.diffusion.denoise import Rows, Start
from genaug.generation.generators.class_conditional.autoencoder import Autoencoder, build_autoencoder
from genaug.generation.generators.pixels import to_pixels
from genaug.generation.sampling.receipts import ImageRequest
from genaug.schema.common import Precision
from genaug.schema.generators import ClassConditionalSpec, Prediction
from genaug.schema.model import Model
from genaug.schema.sampling import Sampler
from genaug.shared.digests import seed_of
from genaug.shared.errors import InvalidArgument
from genaug.vision.images.pixels import Pixels

DECODER = "decoder."
"""Prefix of the autoencoder's tensors among the weights."""

# A square patch of pixels is one place of the network's grid, with as many times the channels: less work for the same
# image. By default patches have 2×2 pixels; of larger images, so many that the grid has at most `_MAX_GRID` places a
# side. In latents a place is one latent.
_MIN_PATCH, _MAX_PATCH = 2, 4
_MAX_GRID = 16
# Grid sides with self-attention: larger than a convolution's reach, and small enough for a CPU.
_ATTENTION_SIZES = range(4, 17)
_MIN_SIZE = 2
_GROUPS = 8
_BUCKET = 32
# Images of at most this side are computed with one thread.
_ONE_THREAD_SIZE = 16
# diffusers' names.
_PREDICTIONS = {Prediction.V: "v_prediction", Prediction.EPSILON: "epsilon", Prediction.IMAGE: "sample"}


class Moments(Model):
    """Mean and standard deviation of each latent channel over the training images."""

    mean: tuple[float, ...]
    std: tuple[float, ...]

    def tensors(self, device: torch.device) -> tuple[Tensor, Tensor]:
        """Both, [channels, 1, 1]."""
        mean, std = (torch.tensor(values, device=device)[:, None, None] for values in (self.mean, self.std))
        return mean, std


class Config(ArtifactConfig):
    """config.json of a class-conditional generator."""

    kind: str = "KIND_CLASS_CONDITIONAL"
    patch: int
    """Side of the square of pixels (or of latents) that is one place of the network's grid."""
    schedule: dict[str, JsonValue]
    """Noise schedule: arguments of diffusers' schedulers."""
    network: dict[str, Any]
    """Arguments of diffusers' UNet2DModel. Its labels: the classes, the classes of jittered images, and no class.

    Jittered images teach the network invariance, and labels of their own keep their blur out of samples (non-leaking
    augmentation: Karras et al. 2022, arXiv:2206.00364, appendix F.2).
    """
    latents: Moments | None = None
    """None if pixels are drawn, as is `autoencoder`."""
    autoencoder: dict[str, JsonValue] | None = None
    """Argument of `build_autoencoder`."""
    factor: int = 8
    """Pixels per side of one latent."""

    @property
    def shape(self) -> tuple[int, int, int]:
        """Channels, height and width of samples before they are cut into patches, or decoded."""
        if self.latents is None:
            return self.channels, self.image_size, self.image_size
        side = self.image_size // self.factor
        return len(self.latents.mean), side, side

    @property
    def jittered(self) -> int:
        """Offset from a class's label to the label of its jittered images."""
        return len(self.classes)

    @property
    def null_class(self) -> int:
        """Label for no class, for classifier-free guidance."""
        return 2 * len(self.classes)


def new_config(
    settings: ClassConditionalSpec,
    *,
    classes: Sequence[str],
    image_size: int,
    channels: int,
    latents: Moments | None = None,
    encoder: Autoencoder | None = None,
) -> Config:
    """Choose the network and noise schedule for images of a size.

    Args:
        settings: Settings of the kind.
        classes: The label map.
        image_size: A multiple of 8, at most 64; with an autoencoder a multiple of 16.
        channels: 1 or 3.
        latents: Moments of the training images' latents.
        encoder: The autoencoder of the latents.

    Raises:
        InvalidArgument: `patch_size` does not divide the image.
    """
    factor = encoder.factor if encoder else 8
    side, depth = (image_size, channels) if latents is None else (image_size // factor, len(latents.mean))
    patch = _patch(side, settings.patch_size, latent=latents is not None)
    sizes = [side // patch]
    while sizes[-1] % 2 == 0 and sizes[-1] // 2 >= _MIN_SIZE and len(sizes) < 4:
        sizes.append(sizes[-1] // 2)
    attention = [level > 0 and size in _ATTENTION_SIZES for level, size in enumerate(sizes)]
    # Tiny images have two levels, of 4×4 and 2×2 places: doubling the second costs a third more time without effect.
    widths = [settings.base_channels * (1, 1 if len(sizes) == 2 else 2, 2, 4)[level] for level in range(len(sizes))]
    return Config(
        classes=tuple(classes),
        image_size=image_size,
        channels=channels,
        patch=patch,
        # The cosine schedule ends in pure noise; predicting it says nothing about the image: so velocity by default.
        schedule={
            "num_train_timesteps": 1000,
            "beta_schedule": "squaredcos_cap_v2",
            "prediction_type": _PREDICTIONS[settings.prediction or Prediction.V],
        },
        network={
            "sample_size": sizes[0],
            "in_channels": depth * patch**2,
            "out_channels": depth * patch**2,
            "layers_per_block": 1,
            "block_out_channels": widths,
            "down_block_types": ["AttnDownBlock2D" if attend else "DownBlock2D" for attend in attention],
            "up_block_types": ["AttnUpBlock2D" if attend else "UpBlock2D" for attend in reversed(attention)],
            "norm_num_groups": _GROUPS,
            "mid_block_type": "UNetMidBlock2D" if any(attention) else None,
            "attention_head_dim": settings.base_channels,
            "num_class_embeds": 2 * len(classes) + 1,
        },
        latents=latents,
        autoencoder=encoder.config if encoder else None,
        factor=factor,
    )


def _patch(side: int, patch_size: int, *, latent: bool) -> int:
    smallest = 1 if latent else _MIN_PATCH
    fitting = next((p for p in (1, 2, 4) if p >= smallest and side // p <= _MAX_GRID), _MAX_PATCH)
    patch = patch_size or fitting
    if side % patch or side // patch < 2 * _MIN_SIZE:
        raise InvalidArgument(
            f"generator.class_conditional.patch_size: {patch} does not cut {side} places a side into 1, 2 or 4; 0 "
            "takes what fits",
            reason="BAD_PATCH",
        )
    return patch


def build_network(config: Config) -> nn.Module:
    """The network with random weights. Its arguments are (sample, times, class_labels=labels)."""
    return cast(nn.Module, UNet2DModel(**config.network))


def to_places(config: Config, images: Tensor) -> Tensor:
    """Cut images [n, channels, side, side] into the network's shape [n, channels·patch², side/patch, side/patch]."""
    return functional.pixel_unshuffle(images, config.patch)


def from_places(config: Config, places: Tensor) -> Tensor:
    """Undo `to_places`; the result is float32."""
    return functional.pixel_shuffle(places.float(), config.patch)


@contextmanager
def fitting_threads(config: Config) -> Iterator[None]:
    """Compute a small network with one CPU thread: several would wait for each other longer than they compute."""
    before = torch.get_num_threads()
    if config.network["sample_size"] <= _ONE_THREAD_SIZE // _MIN_PATCH:
        torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def noise_of(config: Config, request: ImageRequest) -> Tensor:
    """Standard normal noise of one image, in the network's shape; made on the CPU, so the same on every device."""
    random = torch.Generator().manual_seed(seed_of("noise/1", request.seed, request.class_name, request.index))
    return to_places(config, torch.randn(config.shape, generator=random))


class ClassConditional:
    """A loaded class-conditional generator.

    Args:
        name: "generators/{digest}".
        config: Its configuration.
        network: The network; grids are drawn while it is trained, so its parameters are not frozen.
        device: Device of the networks.
        decoder: Decoder of the latents, if there are any.
    """

    def __init__(
        self,
        name: str,
        config: Config,
        network: nn.Module,
        *,
        device: torch.device,
        decoder: Autoencoder | None = None,
    ) -> None:
        self.name = name
        self.classes = config.classes
        self.bucket = _BUCKET
        self.device = device
        self.schedule: dict[str, object] = {**config.schedule}
        self.clipped = config.latents is None
        self._config = config
        self._network = network.to(device).eval()
        self._decoder = decoder.to(device) if decoder else None

    @classmethod
    def load(cls, artifact: Artifact, *, device: torch.device) -> ClassConditional:
        """Load a generator.

        Raises:
            FailedPrecondition: the weights cannot be read, or do not fit the configuration.
        """
        config = artifact.parse_config(Config)
        network = build_network(config)
        decoder = None
        expected = dict(network.state_dict())
        if config.latents is not None:
            # Artifacts from before other autoencoders could be chosen do not name theirs.
            decoder = build_autoencoder(config.autoencoder or {"_class_name": "Taef2"})
            expected |= {DECODER + key: value for key, value in decoder.decoder_tensors().items()}
        try:
            weights = safetensors.torch.load(artifact.weights)
        except SafetensorError as error:
            raise broken(artifact.name, f"model.safetensors cannot be read ({error})") from None
        check_tensors(artifact.name, actual=weights, expected=expected)
        network.load_state_dict({key: value for key, value in weights.items() if not key.startswith(DECODER)})
        if decoder:
            decoder.load_decoder(
                {key.removeprefix(DECODER): value for key, value in weights.items() if key.startswith(DECODER)}
            )
        return cls(artifact.name, config, network, device=device, decoder=decoder)

    @property
    def nbytes(self) -> int:
        """Bytes of its networks."""
        networks = [self._network, *([self._decoder] if self._decoder else [])]
        return sum(p.numel() * p.element_size() for network in networks for p in network.parameters())

    def bucket_at(self, image_size: int) -> int:
        """The bucket; it draws one size."""
        return self.bucket

    def check(self, sampler: Sampler) -> None:
        """Accept every sampler: the request's validation knows the kind's limits."""

    def variant(self, class_name: str, sampler: Sampler) -> Hashable:
        """Key of images that share a batch: one network draws all classes."""
        return sampler.precision

    def begin(self, requests: Sequence[ImageRequest], sampler: Sampler) -> Start:
        """Noise and label of each image, and the label for no class."""
        noise = torch.stack([noise_of(self._config, request) for request in requests]).to(self.device)
        labels = torch.tensor([self.classes.index(request.class_name) for request in requests], device=self.device)
        return Start(noise, labels, torch.full_like(labels, self._config.null_class))

    def predict(self, rows: Rows, sampler: Sampler) -> Tensor:
        """The network's prediction."""
        bfloat16 = sampler.precision == Precision.BFLOAT16
        with fitting_threads(self._config), torch.autocast(self.device.type, torch.bfloat16, enabled=bfloat16):
            prediction: Tensor = self._network(rows.samples, rows.times, class_labels=rows.conditions).sample
        return prediction.float()

    def pixels(self, samples: Tensor, sampler: Sampler) -> list[Pixels]:
        """Decode samples."""
        images = from_places(self._config, samples)
        if self._decoder is not None and self._config.latents is not None:
            mean, std = self._config.latents.tensors(self.device)
            # One by one: an image's pixels do not depend on the number of images that are decoded.
            images = torch.cat([self._decoder.decode(latents[None]) for latents in images * std + mean])
        return list(to_pixels(images, channels=self._config.channels))
