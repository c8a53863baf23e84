"""A diffusion model of small images: one network for all classes, drawn by DPM-Solver++ with guidance."""

from __future__ import annotations

from collections.abc import Hashable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from typing import Any, cast

import safetensors.torch
import torch
from diffusers import UNet2DModel
from safetensors import SafetensorError
from torch import Tensor, nn
from torch.nn import functional

from genaug.generation.artifacts import Artefact, broken, check_tensors
from genaug.generation.diffusion.denoise import Rows, Start
from genaug.generation.generators.class_conditional import autoencoder
from genaug.generation.sampling.receipts import Sampler, Wanted
from genaug.shared.digests import seed_of
from genaug.shared.errors import InvalidArgument
from genaug.vision.images.pixels import Pixels

KIND = "KIND_CLASS_CONDITIONAL"
DECODER = "decoder."
"""Prefix of the autoencoder's tensors among the weights."""

# The network sees a square of pixels as one place with as many times the channels: less work for the same image. No
# fewer than 2×2 pixels; of larger images so many that the grid has `_LARGEST_GRID` places a side. A latent is a place.
_SMALLEST_PATCH, _LARGEST_PATCH = 2, 4
_LARGEST_GRID = 16
# Self-attention where a place has neighbours beyond a convolution's reach, and a CPU can afford it.
_ATTENTION_SIZES = range(4, 17)
_SMALLEST_SIZE = 2
_GROUPS = 8
_BUCKET = 32
_ONE_THREAD_SIZE = 16


@dataclass(frozen=True)
class Config:
    """What the weights do not say; config.json."""

    kind: str
    classes: tuple[str, ...]
    image_size: int
    channels: int
    patch: int
    """Side of the square of pixels (of latents, where there are some) that is one place for the network."""
    schedule: dict[str, Any]
    """Noise schedule, as diffusers' schedulers name its parts."""
    network: dict[str, Any]
    """Arguments of diffusers' UNet2DModel. Its labels: the classes, the classes with images moved, and no class.

    Moved images teach the network what stays the same, and telling it which are moved keeps their blur out of what it
    draws (non-leaking augmentation: Karras et al. 2022, arXiv:2206.00364, appendix F.2).
    """
    latents: dict[str, list[float]] | None = None
    """Mean and std of each channel of the training images' latents; None where pixels are drawn."""
    autoencoder: dict[str, Any] | None = None
    """What `genaug.generation.generators.class_conditional.autoencoder.build_autoencoder` makes the autoencoder of; None where pixels are drawn."""
    factor: int = 8
    """Pixels per side of one latent place."""

    @property
    def shape(self) -> tuple[int, int, int]:
        """Channels, height and width of what is drawn, before it is cut into patches or decoded."""
        if self.latents is None:
            return self.channels, self.image_size, self.image_size
        side = self.image_size // self.factor
        return len(self.latents["mean"]), side, side

    @property
    def moved(self) -> int:
        """What is added to a class's label when its image is moved."""
        return len(self.classes)

    @property
    def null_class(self) -> int:
        """The label that means no class, for classifier-free guidance."""
        return 2 * len(self.classes)


def new_config(
    *,
    classes: Sequence[str],
    image_size: int,
    channels: int,
    base_channels: int,
    patch_size: int = 0,
    prediction: str = "v_prediction",
    latents: dict[str, list[float]] | None = None,
    encoder: autoencoder.Autoencoder | None = None,
) -> Config:
    """The network and schedule for images of this size.

    Args:
        image_size: A multiple of 8, at most 64; in latents a multiple of 16.
        channels: 1 or 3.
        base_channels: Width at the finest resolution, a multiple of 8.
        patch_size: Pixels per side of one place; 0 for what fits.
        prediction: What the network predicts, as diffusers names it: "v_prediction", "epsilon" or "sample" (the image).
        latents: See `Config.latents`.
        encoder: Whose latents they are.

    Raises:
        InvalidArgument: `base_channels` or `patch_size` is no such number.
    """
    if base_channels % _GROUPS or base_channels < _GROUPS:
        raise InvalidArgument(
            f"generator.base_channels: {base_channels} is not a positive multiple of {_GROUPS}", reason="BAD_WIDTH"
        )
    factor = encoder.factor if encoder else 8
    side, depth = (image_size, channels) if latents is None else (image_size // factor, len(latents["mean"]))
    patch = _patch(side, patch_size, latent=latents is not None)
    sizes = [side // patch]
    while sizes[-1] % 2 == 0 and sizes[-1] // 2 >= _SMALLEST_SIZE and len(sizes) < 4:
        sizes.append(sizes[-1] // 2)
    attends = [level > 0 and size in _ATTENTION_SIZES for level, size in enumerate(sizes)]
    # Tiny images have two levels, of 4×4 and 2×2 places: doubling the second costs a third more time and shows nothing.
    widths = [base_channels * (1, 1 if len(sizes) == 2 else 2, 2, 4)[level] for level in range(len(sizes))]
    return Config(
        kind=KIND,
        classes=tuple(classes),
        image_size=image_size,
        channels=channels,
        patch=patch,
        # The cosine schedule ends in pure noise, where predicting the noise says nothing of the image: so v by default.
        schedule={
            "num_train_timesteps": 1000,
            "beta_schedule": "squaredcos_cap_v2",
            "prediction_type": prediction,
        },
        network={
            "sample_size": sizes[0],
            "in_channels": depth * patch**2,
            "out_channels": depth * patch**2,
            "layers_per_block": 1,
            "block_out_channels": widths,
            "down_block_types": ["AttnDownBlock2D" if attend else "DownBlock2D" for attend in attends],
            "up_block_types": ["AttnUpBlock2D" if attend else "UpBlock2D" for attend in reversed(attends)],
            "norm_num_groups": _GROUPS,
            "mid_block_type": "UNetMidBlock2D" if any(attends) else None,
            "attention_head_dim": base_channels,
            "num_class_embeds": 2 * len(classes) + 1,
        },
        latents=latents,
        autoencoder=encoder.config if encoder else None,
        factor=factor,
    )


def _patch(side: int, wanted: int, *, latent: bool) -> int:
    smallest = 1 if latent else _SMALLEST_PATCH
    fitting = next((p for p in (1, 2, 4) if p >= smallest and side // p <= _LARGEST_GRID), _LARGEST_PATCH)
    patch = wanted or fitting
    if patch not in (1, 2, 4) or side % patch or side // patch < 2 * _SMALLEST_SIZE:
        raise InvalidArgument(
            f"generator.patch_size: {patch} does not cut {side} places a side into 1, 2 or 4; 0 takes what fits",
            reason="BAD_PATCH",
        )
    return patch


def build_network(config: Config) -> nn.Module:
    """The network of `config`, its weights at random. It is called with (sample, times, class_labels=labels)."""
    return cast(nn.Module, UNet2DModel(**config.network))


def to_images(pixels: Pixels) -> Tensor:
    """uint8 [n, side, side, channels] as float32 [n, channels, side, side] within ±1."""
    return torch.from_numpy(pixels).permute(0, 3, 1, 2).float() / 127.5 - 1


def normalise(config: Config, latents: Tensor) -> Tensor:
    """Latents [..., 32, side, side] with mean 0 and standard deviation 1 in each channel."""
    mean, std = _moments(config, latents.device)
    return (latents - mean) / std


def _moments(config: Config, device: torch.device) -> tuple[Tensor, Tensor]:
    found = config.latents or {}
    mean, std = (torch.tensor(found[key], device=device)[:, None, None] for key in ("mean", "std"))
    return mean, std


def to_places(config: Config, images: Tensor) -> Tensor:
    """[n, channels, side, side] as the network sees it: [n, channels·patch², side/patch, side/patch]."""
    return functional.pixel_unshuffle(images, config.patch)


def to_pixels(config: Config, places: Tensor) -> Pixels:
    """The way back, from the network's shape to uint8 [n, side, side, channels]; values beyond ±1 are clipped."""
    return images_to_pixels(functional.pixel_shuffle(places.float(), config.patch), channels=config.channels)


def images_to_pixels(images: Tensor, *, channels: int) -> Pixels:
    """float32 [n, c, side, side] within ±1 as uint8 [n, side, side, channels]; one channel is the mean of colours."""
    if channels < images.shape[1]:
        images = images.mean(1, keepdim=True)
    pixels: Pixels = ((images.clamp(-1, 1) + 1) * 127.5).round().to(torch.uint8).permute(0, 2, 3, 1).cpu().numpy()
    return pixels


@contextmanager
def fitting_threads(config: Config) -> Iterator[None]:
    """Work on a small network with one CPU thread: several would wait for each other longer than they compute."""
    before = torch.get_num_threads()
    if config.network["sample_size"] <= _ONE_THREAD_SIZE // _SMALLEST_PATCH:
        torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def noise_of(config: Config, wanted: Wanted) -> Tensor:
    """Standard normal noise of one image, in the network's shape; made on the CPU, the same everywhere."""
    source = torch.Generator().manual_seed(seed_of("noise/1", wanted.seed, wanted.class_name, wanted.index))
    return to_places(config, torch.randn(config.shape, generator=source))


class ClassConditional:
    """A loaded class-conditional generator."""

    def __init__(
        self,
        name: str,
        config: Config,
        network: nn.Module,
        *,
        device: torch.device,
        decoder: autoencoder.Autoencoder | None = None,
    ) -> None:
        self.name = name
        self.classes = config.classes
        self.bucket = _BUCKET
        self.device = device
        self.schedule = config.schedule
        self.clipped = config.latents is None
        self._config = config
        # Not frozen: grids are drawn while it learns.
        self._network = network.to(device).eval()
        self._decoder = decoder.to(device) if decoder else None

    @classmethod
    def load(cls, artefact: Artefact, *, device: torch.device) -> ClassConditional:
        """The generator in `artefact`.

        Raises:
            FailedPrecondition: the weights cannot be read, or do not fit the configuration.
        """
        config = Config(**{**artefact.config, "classes": tuple(artefact.config["classes"])})
        network = build_network(config)
        decoder = None
        expected = dict(network.state_dict())
        if config.latents is not None:
            decoder = autoencoder.build_autoencoder(config.autoencoder or {"_class_name": "Taef2"})
            expected |= {DECODER + key: value for key, value in decoder.decoding().items()}
        try:
            weights = safetensors.torch.load(artefact.weights)
        except SafetensorError as error:
            raise broken(artefact.name, f"model.safetensors cannot be read ({error})") from None
        check_tensors(artefact.name, found=weights, expected=expected)
        network.load_state_dict({key: value for key, value in weights.items() if not key.startswith(DECODER)})
        if decoder:
            decoder.fill(
                {key.removeprefix(DECODER): value for key, value in weights.items() if key.startswith(DECODER)}
            )
        return cls(artefact.name, config, network, device=device, decoder=decoder)

    @property
    def nbytes(self) -> int:
        """Bytes of its networks."""
        parts = [self._network, *([self._decoder] if self._decoder else [])]
        return sum(one.numel() * one.element_size() for part in parts for one in part.parameters())

    def bucket_at(self, image_size: int) -> int:
        """It draws one size."""
        return self.bucket

    def check(self, sampler: Sampler) -> None:
        """Nothing: what is wrong for it, `genaug.generation.sampling.sampler_settings` knows."""

    def variant(self, class_name: str, sampler: Sampler) -> Hashable:
        """One network draws all classes."""
        return sampler.precision

    def begin(self, wanted: Sequence[Wanted], sampler: Sampler) -> Start:
        """The noise of each image, its label, and the label that means no class."""
        noise = torch.stack([noise_of(self._config, one) for one in wanted]).to(self.device)
        labels = torch.tensor([self.classes.index(one.class_name) for one in wanted], device=self.device)
        return Start(noise, labels, torch.full_like(labels, self._config.null_class))

    def predict(self, rows: Rows, sampler: Sampler) -> Tensor:
        """What the network says."""
        low = sampler.precision == "PRECISION_BFLOAT16"
        with fitting_threads(self._config), torch.autocast(self.device.type, torch.bfloat16, enabled=low):
            said: Tensor = self._network(rows.samples, rows.times, class_labels=rows.conditions).sample
        return said.float()

    def pixels(self, samples: Tensor, sampler: Sampler) -> list[Pixels]:
        """Decoded images."""
        if self._decoder is None:
            return list(to_pixels(self._config, samples))
        mean, std = _moments(self._config, self.device)
        latents = functional.pixel_shuffle(samples.float(), self._config.patch) * std + mean
        # One by one: an image's pixels do not depend on how many are decoded.
        images = torch.cat([self._decoder.decode(one[None]) for one in latents])
        return list(images_to_pixels(images, channels=self._config.channels))


def config_json(config: Config) -> dict[str, Any]:
    """config.json."""
    return {**asdict(config), "classes": list(config.classes)}
