"""A diffusion model of small images: one network for all classes, drawn by DPM-Solver++ with guidance."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from typing import Any, cast

import numpy as np
import safetensors.torch
import torch
from diffusers import DPMSolverMultistepScheduler, UNet2DModel
from safetensors import SafetensorError
from torch import Tensor, nn
from torch.nn import functional

from genaug.generation.artefacts import Artefact, broken, check_tensors
from genaug.generation.receipts import Drawn, Sampler, Wanted
from genaug.shared.digests import seed_of
from genaug.shared.errors import InvalidArgument
from genaug.vision.images import Pixels

KIND = "KIND_CLASS_CONDITIONAL"

# The network sees 2×2 pixels as one place with four times the channels: a quarter of the work for the same digits.
_PATCH = 2
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
    """Side of the square of pixels that is one place for the network."""
    schedule: dict[str, Any]
    """Noise schedule, as diffusers' schedulers name its parts."""
    network: dict[str, Any]
    """Arguments of diffusers' UNet2DModel. Its labels: the classes, the classes with images moved, and no class.

    Moved images teach the network what stays the same, and telling it which are moved keeps their blur out of what it
    draws (non-leaking augmentation: Karras et al. 2022, arXiv:2206.00364, appendix F.2).
    """

    @property
    def moved(self) -> int:
        """What is added to a class's label when its image is moved."""
        return len(self.classes)

    @property
    def null_class(self) -> int:
        """The label that means no class, for classifier-free guidance."""
        return 2 * len(self.classes)


def new_config(*, classes: Sequence[str], image_size: int, channels: int, base_channels: int) -> Config:
    """The network and schedule for images of this size.

    Args:
        image_size: A multiple of 8, at most 64.
        channels: 1 or 3.
        base_channels: Width at the finest resolution, a multiple of 8.

    Raises:
        InvalidArgument: `base_channels` is no such number.
    """
    if base_channels % _GROUPS or base_channels < _GROUPS:
        raise InvalidArgument(
            f"generator.base_channels: {base_channels} is not a positive multiple of {_GROUPS}", reason="BAD_WIDTH"
        )
    sizes = [image_size // _PATCH]
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
        patch=_PATCH,
        # The cosine schedule ends in pure noise, where predicting the noise says nothing of the image: hence v.
        schedule={
            "num_train_timesteps": 1000,
            "beta_schedule": "squaredcos_cap_v2",
            "prediction_type": "v_prediction",
        },
        network={
            "sample_size": sizes[0],
            "in_channels": channels * _PATCH**2,
            "out_channels": channels * _PATCH**2,
            "layers_per_block": 1,
            "block_out_channels": widths,
            "down_block_types": ["AttnDownBlock2D" if attend else "DownBlock2D" for attend in attends],
            "up_block_types": ["AttnUpBlock2D" if attend else "UpBlock2D" for attend in reversed(attends)],
            "norm_num_groups": _GROUPS,
            "mid_block_type": "UNetMidBlock2D" if any(attends) else None,
            "attention_head_dim": base_channels,
            "num_class_embeds": 2 * len(classes) + 1,
        },
    )


def build_network(config: Config) -> nn.Module:
    """The network of `config`, its weights at random. It is called with (sample, times, class_labels=labels)."""
    return cast(nn.Module, UNet2DModel(**config.network))


def build_scheduler(config: Config) -> Any:
    """DPM-Solver++(2M) of Lu et al. 2022 (arXiv:2211.01095), without added noise, for few steps.

    The predicted image is clipped to [-1, 1], the range of the training images (Saharia et al. 2022, static
    thresholding). The cosine schedule is cut at log-SNR/2 = -5.1, as its authors' code does, where it is singular.
    """
    return DPMSolverMultistepScheduler(
        **config.schedule,
        algorithm_type="dpmsolver++",
        solver_order=2,
        lower_order_final=True,
        thresholding=True,
        sample_max_value=1.0,
        lambda_min_clipped=-5.1,
    )


def to_images(pixels: Pixels) -> Tensor:
    """uint8 [n, side, side, channels] as float32 [n, channels, side, side] within ±1."""
    return torch.from_numpy(pixels).permute(0, 3, 1, 2).float() / 127.5 - 1


def to_places(config: Config, images: Tensor) -> Tensor:
    """[n, channels, side, side] as the network sees it: [n, channels·patch², side/patch, side/patch]."""
    return functional.pixel_unshuffle(images, config.patch)


def to_pixels(config: Config, places: Tensor) -> Pixels:
    """The way back, from the network's shape to uint8 [n, side, side, channels]; values beyond ±1 are clipped."""
    images = functional.pixel_shuffle(places.float(), config.patch)
    pixels: Pixels = ((images.clamp(-1, 1) + 1) * 127.5).round().to(torch.uint8).permute(0, 2, 3, 1).cpu().numpy()
    return pixels


@contextmanager
def fitting_threads(config: Config) -> Iterator[None]:
    """Work on a small network with one CPU thread: several would wait for each other longer than they compute."""
    before = torch.get_num_threads()
    if config.image_size <= _ONE_THREAD_SIZE:
        torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def noise_of(config: Config, wanted: Wanted) -> Tensor:
    """Standard normal noise of one image, in the network's shape; made on the CPU, the same everywhere."""
    source = torch.Generator().manual_seed(seed_of("noise/1", wanted.seed, wanted.class_name, wanted.index))
    side = config.image_size
    return to_places(config, torch.randn((config.channels, side, side), generator=source))


class ClassConditional:
    """A loaded diffusion generator."""

    def __init__(self, name: str, config: Config, network: nn.Module, *, device: torch.device) -> None:
        self.name = name
        self.classes = config.classes
        self.bucket = _BUCKET
        self._config = config
        self._network = network.to(device).eval().requires_grad_(False)
        self._device = device

    @classmethod
    def load(cls, artefact: Artefact, *, device: torch.device) -> ClassConditional:
        """The generator in `artefact`.

        Raises:
            FailedPrecondition: the weights cannot be read, or do not fit the configuration.
        """
        config = Config(**{**artefact.config, "classes": tuple(artefact.config["classes"])})
        network = build_network(config)
        try:
            weights = safetensors.torch.load(artefact.weights)
        except SafetensorError as error:
            raise broken(artefact.name, f"model.safetensors cannot be read ({error})") from None
        check_tensors(artefact.name, found=weights, expected=network.state_dict())
        network.load_state_dict(weights)
        return cls(artefact.name, config, network, device=device)

    def parents(self, wanted: Wanted) -> tuple[str, ...]:
        """Nothing: no image stands behind a diffusion draw alone."""
        return ()

    def make(
        self, wanted: Sequence[Wanted], *, sampler: Sampler, bucket: int, active: Callable[[], bool]
    ) -> list[Drawn] | None:
        """Draw at most `bucket` images in one batch, padded to `bucket` so that its shape is always the same.

        Returns:
            The images in the order of `wanted`; None when `active()` turned false between two steps.
        """
        padded = [*wanted, *[wanted[-1]] * (bucket - len(wanted))]
        sample = torch.stack([noise_of(self._config, one) for one in padded]).to(self._device)
        labels = torch.tensor([self.classes.index(one.class_name) for one in padded], device=self._device)
        scheduler = build_scheduler(self._config)
        _set_steps(scheduler, sampler.steps)
        with torch.inference_mode(), fitting_threads(self._config):
            for step in scheduler.timesteps:
                if not active():
                    return None
                prediction = self._predict(sample, int(step), labels, guidance_scale=sampler.guidance_scale)
                sample = scheduler.step(prediction, step, sample).prev_sample
        images = to_pixels(self._config, sample[: len(wanted)])
        return [Drawn(one, np.ascontiguousarray(image), bucket) for one, image in zip(wanted, images, strict=True)]

    def _predict(self, sample: Tensor, step: int, labels: Tensor, *, guidance_scale: float) -> Tensor:
        """Classifier-free guidance (Ho & Salimans 2022): both halves in one batch; a scale of 1 needs one half."""
        guided: Tensor
        if guidance_scale == 1:
            guided = self._network(sample, step, class_labels=labels).sample
            return guided
        nothing = torch.full_like(labels, self._config.null_class)
        both = self._network(torch.cat([sample, sample]), step, class_labels=torch.cat([labels, nothing])).sample
        with_class, without = both.chunk(2)
        guided = without + guidance_scale * (with_class - without)
        return guided


def _set_steps(scheduler: Any, steps: int) -> None:
    """Spread `steps` over the schedule, no time twice: diffusers rounds so near 1000, and its solver divides by 0."""
    scheduler.set_timesteps(steps)
    times = list(dict.fromkeys(scheduler.timesteps.tolist()))
    if len(times) < steps:
        scheduler.set_timesteps(timesteps=times)


def config_json(config: Config) -> dict[str, Any]:
    """config.json."""
    return {**asdict(config), "classes": list(config.classes)}
