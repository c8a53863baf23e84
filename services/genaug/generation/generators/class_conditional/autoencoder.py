"""Autoencoders for latent diffusion: diffusers' AutoencoderKL and AutoencoderTiny, and TAESD's model for FLUX.2.

The latter (O. B. Bohan, MIT license) is not in diffusers: latents of an eighth of the side with 32 channels.
"""

from __future__ import annotations

import inspect
import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, cast

import safetensors.torch
import torch
from diffusers import AutoencoderKL, AutoencoderTiny
from pydantic import JsonValue
from safetensors import SafetensorError
from torch import Tensor, nn

from genaug.shared.digests import sha256
from genaug.shared.errors import FailedPrecondition, InvalidArgument

FILES = ("taef2_encoder.safetensors", "taef2_decoder.safetensors")
"""Files of `Taef2`."""
DIFFUSERS = {"AutoencoderKL": AutoencoderKL, "AutoencoderTiny": AutoencoderTiny}
"""diffusers' classes, by their names in config.json."""

_LAYOUT = ("config.json", "diffusion_pytorch_model.safetensors")
_CHANNELS = 32

_WIDTH = 64
# Latents are squashed smoothly to this magnitude before they are decoded.
_MAX_LATENT = 3.0
# Images encoded at once.
_BATCH = 16


class _Block(nn.Module):
    """Residual block of three convolutions; at the lowest resolution preceded by group-normalized pooling."""

    def __init__(self, *, lowest: bool) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        for _ in range(3):
            layers += [nn.Conv2d(_WIDTH, _WIDTH, 3, padding=1), nn.ReLU()]
        self.conv = nn.Sequential(*layers[:-1])
        self.pool = _pool() if lowest else None

    def forward(self, maps: Tensor) -> Tensor:
        if self.pool is not None:
            maps = maps + self.pool(maps)
        return torch.relu(self.conv(maps) + maps)


def _pool() -> nn.Sequential:
    wide = 4 * _WIDTH
    return nn.Sequential(
        nn.Conv2d(_WIDTH, wide, 1, bias=False), nn.GroupNorm(4, wide), nn.ReLU(), nn.Conv2d(wide, _WIDTH, 1, bias=False)
    )


class _Squash(nn.Module):
    def forward(self, latents: Tensor) -> Tensor:
        return torch.tanh(latents / _MAX_LATENT) * _MAX_LATENT


def _encoder() -> nn.Sequential:
    layers: list[nn.Module] = [nn.Conv2d(3, _WIDTH, 3, padding=1), _Block(lowest=False)]
    for level in range(3):
        layers.append(nn.Conv2d(_WIDTH, _WIDTH, 3, padding=1, stride=2, bias=False))
        layers += [_Block(lowest=level == 2) for _ in range(3)]
    return nn.Sequential(*layers, nn.Conv2d(_WIDTH, _CHANNELS, 3, padding=1))


def _decoder() -> nn.Sequential:
    layers: list[nn.Module] = [_Squash(), nn.Conv2d(_CHANNELS, _WIDTH, 3, padding=1), nn.ReLU()]
    for level in range(3):
        layers += [_Block(lowest=level == 0) for _ in range(3)]
        layers += [nn.Upsample(scale_factor=2), nn.Conv2d(_WIDTH, _WIDTH, 3, padding=1, bias=False)]
    return nn.Sequential(*layers, _Block(lowest=False), nn.Conv2d(_WIDTH, 3, 3, padding=1))


class Taef2(nn.Module):
    """TAESD's autoencoder for FLUX.2: images [n, 3, side, side] within 0 and 1, latents [n, 32, side/8, side/8]."""

    def __init__(self) -> None:
        super().__init__()
        self.encoder = _encoder()
        self.network = _decoder()


class Autoencoder(nn.Module):
    """Autoencoder of images within ±1, with latents in the scale for diffusion.

    Args:
        inner: A `Taef2` or one of `DIFFUSERS`; its parameters are frozen.
    """

    def __init__(self, inner: nn.Module) -> None:
        super().__init__()
        self.inner = inner.eval().requires_grad_(False)
        self._kl = isinstance(inner, AutoencoderKL)
        self.config: dict[str, JsonValue] = {"_class_name": "Taef2"}
        """Argument of `build_autoencoder`."""
        self.channels, self.factor = 32, 8
        self._scale, self._shift = 1.0, 0.0
        if not isinstance(inner, Taef2):
            config = cast(Any, inner).config
            arguments = inspect.signature(type(inner).__init__).parameters
            self.config = {key: value for key, value in config.items() if key in arguments}
            self.config["_class_name"] = type(inner).__name__
            blocks = config.block_out_channels if self._kl else config.decoder_block_out_channels
            self.channels, self.factor = int(config.latent_channels), int(2 ** (len(blocks) - 1))
            if self._kl:
                self._scale, self._shift = float(config.scaling_factor), float(config.get("shift_factor") or 0.0)

    def encode(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Mean and standard deviation (0 unless KL) of the latents of images [n, 3, side, side] within ±1."""
        inner = cast(Any, self.inner)
        if self._kl:
            posterior = inner.encode(images).latent_dist
            return (posterior.mean - self._shift) * self._scale, posterior.std * self._scale
        # AutoencoderTiny maps images to 0 … 1 itself.
        latents = inner.encoder((images + 1) / 2) if isinstance(inner, Taef2) else inner.encode(images).latents
        return latents, torch.zeros_like(latents)

    def decode(self, latents: Tensor) -> Tensor:
        """Images [n, 3, side, side], about within ±1."""
        inner = cast(Any, self.inner)
        if self._kl:
            return cast(Tensor, inner.decode(latents / self._scale + self._shift).sample)
        if isinstance(inner, Taef2):
            return cast(Tensor, inner.network(latents)) * 2 - 1
        return cast(Tensor, inner.decode(latents).sample)

    def decoder_tensors(self) -> dict[str, Tensor]:
        """Tensors of the decoding half, by name."""
        return {
            key: value
            for key, value in self.inner.state_dict().items()
            if not key.startswith(("encoder.", "quant_conv."))
        }

    def load_decoder(self, tensors: Mapping[str, Tensor]) -> None:
        """Set the tensors of the decoding half."""
        self.inner.load_state_dict(dict(tensors), strict=False)

    def means(self, images: Tensor, *, on_progress: Callable[[int], None] = lambda done: None) -> Tensor:
        """Latent means of any number of images, encoded in batches; float32 on the CPU."""
        device, parts = next(self.inner.parameters()).device, []
        with torch.inference_mode():
            for start in range(0, len(images), _BATCH):
                parts.append(self.encode(images[start : start + _BATCH].to(device))[0].float().cpu())
                on_progress(min(start + _BATCH, len(images)))
        return torch.cat(parts).clone()


def build_autoencoder(config: Mapping[str, JsonValue]) -> Autoencoder:
    """Build an autoencoder with random weights from its `config`."""
    kind = str(config["_class_name"])
    if kind == "Taef2":
        return Autoencoder(Taef2())
    arguments = {key: value for key, value in config.items() if not key.startswith("_")}
    return Autoencoder(cast(nn.Module, cast(Any, DIFFUSERS[kind])(**arguments)))


def load_autoencoder(directory: str) -> tuple[Autoencoder, str]:
    """Load the autoencoder in a directory; return it with a sha256 over its files.

    Raises:
        InvalidArgument: the directory does not exist, or holds neither layout.
        FailedPrecondition: reason BAD_WEIGHTS; a file is damaged, or belongs to another network.
    """
    folder = Path(directory)
    files = next((files for files in (FILES, _LAYOUT) if all((folder / name).is_file() for name in files)), None)
    if files is None:
        raise InvalidArgument(
            f"generator.class_conditional.autoencoder: {directory!r} holds neither {' and '.join(_LAYOUT)} nor "
            f"{' and '.join(FILES)} where the fine-tuning runs; name the folder of both",
            reason="AUTOENCODER_NOT_FOUND",
        )
    digest = sha256(b"".join(sha256((folder / name).read_bytes()).encode() for name in files))
    if files is FILES:
        pair = Taef2()
        _load_file(pair.encoder, FILES[0], (folder / FILES[0]).read_bytes())
        _load_file(pair.network, FILES[1], (folder / FILES[1]).read_bytes())
        return Autoencoder(pair), digest
    try:
        kind = json.loads((folder / "config.json").read_text())["_class_name"]
        return Autoencoder(DIFFUSERS[kind].from_pretrained(directory, use_safetensors=True)), digest
    # The files are not ours: libraries raise almost any exception on damaged ones.
    except Exception as error:
        raise FailedPrecondition(
            f"generator.class_conditional.autoencoder: {directory!r} is no {' or '.join(DIFFUSERS)} that can be loaded "
            f"({type(error).__name__}); get its files anew",
            reason="BAD_WEIGHTS",
        ) from None


def _load_file(network: nn.Module, name: str, data: bytes) -> None:
    try:
        tensors = safetensors.torch.load(data)
        network.load_state_dict(tensors)
    except (SafetensorError, RuntimeError) as error:
        lines = str(error).splitlines()
        raise FailedPrecondition(
            f"generator.class_conditional.autoencoder: {name} does not fit the network "
            f"({lines[min(1, len(lines) - 1)].strip()[:200]}); get the file anew",
            reason="BAD_WEIGHTS",
        ) from None
