"""Autoencoders, in whose latents images above 64 pixels are drawn: diffusers' two kinds, and a tiny one.

The tiny one's networks are those of TAESD (O. B. Bohan, MIT licence), in the size of its model for FLUX.2, which
diffusers does not know: an eighth of the side, 32 channels.
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
from safetensors import SafetensorError
from torch import Tensor, nn

from genaug.shared.digests import sha256
from genaug.shared.errors import FailedPrecondition, InvalidArgument

FILES = ("taef2_encoder.safetensors", "taef2_decoder.safetensors")
"""What the tiny one consists of."""
DIFFUSERS = {"AutoencoderKL": AutoencoderKL, "AutoencoderTiny": AutoencoderTiny}
"""diffusers' kinds, by their names in config.json."""

_LAYOUT = ("config.json", "diffusion_pytorch_model.safetensors")
_CHANNELS = 32

_WIDTH = 64
# Latents beyond this are bent back to it before they are decoded.
_LARGEST = 3.0
# Images encoded at once.
_PASS = 16


class _Block(nn.Module):
    """Three convolutions beside what they change; at the lowest resolution with a look at the whole image before."""

    def __init__(self, *, lowest: bool) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        for _ in range(3):
            layers += [nn.Conv2d(_WIDTH, _WIDTH, 3, padding=1), nn.ReLU()]
        self.conv = nn.Sequential(*layers[:-1])
        self.pool = _whole_image() if lowest else None

    def forward(self, maps: Tensor) -> Tensor:
        if self.pool is not None:
            maps = maps + self.pool(maps)
        return torch.relu(self.conv(maps) + maps)


def _whole_image() -> nn.Sequential:
    wide = 4 * _WIDTH
    return nn.Sequential(
        nn.Conv2d(_WIDTH, wide, 1, bias=False), nn.GroupNorm(4, wide), nn.ReLU(), nn.Conv2d(wide, _WIDTH, 1, bias=False)
    )


class _Bend(nn.Module):
    def forward(self, latents: Tensor) -> Tensor:
        return torch.tanh(latents / _LARGEST) * _LARGEST


def _encoder() -> nn.Sequential:
    layers: list[nn.Module] = [nn.Conv2d(3, _WIDTH, 3, padding=1), _Block(lowest=False)]
    for level in range(3):
        layers.append(nn.Conv2d(_WIDTH, _WIDTH, 3, padding=1, stride=2, bias=False))
        layers += [_Block(lowest=level == 2) for _ in range(3)]
    return nn.Sequential(*layers, nn.Conv2d(_WIDTH, _CHANNELS, 3, padding=1))


def _decoder() -> nn.Sequential:
    layers: list[nn.Module] = [_Bend(), nn.Conv2d(_CHANNELS, _WIDTH, 3, padding=1), nn.ReLU()]
    for level in range(3):
        layers += [_Block(lowest=level == 0) for _ in range(3)]
        layers += [nn.Upsample(scale_factor=2), nn.Conv2d(_WIDTH, _WIDTH, 3, padding=1, bias=False)]
    return nn.Sequential(*layers, _Block(lowest=False), nn.Conv2d(_WIDTH, 3, 3, padding=1))


class Taef2(nn.Module):
    """Both halves, between images [n, 3, side, side] within 0 and 1 and latents [n, 32, side/8, side/8]."""

    def __init__(self) -> None:
        super().__init__()
        self.encoder = _encoder()
        self.network = _decoder()


class Autoencoder(nn.Module):
    """Between images within ±1 and latents of the scale that networks learn: `Taef2`, or one of `DIFFUSERS`.

    Args:
        inner: Frozen here.
    """

    def __init__(self, inner: nn.Module) -> None:
        super().__init__()
        self.inner = inner.eval().requires_grad_(False)
        self._kl = isinstance(inner, AutoencoderKL)
        self.config: dict[str, Any] = {"_class_name": "Taef2"}
        """What `build_autoencoder` makes it of."""
        self.channels, self.factor = 32, 8
        self._scale, self._shift = 1.0, 0.0
        if not isinstance(inner, Taef2):
            found = cast(Any, inner).config
            self.config = {key: value for key, value in found.items() if key in _init_names(inner)}
            self.config["_class_name"] = type(inner).__name__
            blocks = found.block_out_channels if self._kl else found.decoder_block_out_channels
            self.channels, self.factor = int(found.latent_channels), int(2 ** (len(blocks) - 1))
            if self._kl:
                self._scale, self._shift = float(found.scaling_factor), float(found.get("shift_factor") or 0.0)

    def encode(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Mean and standard deviation (of most kinds 0) of the latents of images [n, 3, side, side] within ±1."""
        inner = cast(Any, self.inner)
        if self._kl:
            found = inner.encode(images).latent_dist
            return (found.mean - self._shift) * self._scale, found.std * self._scale
        # diffusers' tiny one brings them to 0 and 1 itself.
        latents = inner.encoder((images + 1) / 2) if isinstance(inner, Taef2) else inner.encode(images).latents
        return latents, torch.zeros_like(latents)

    def decode(self, latents: Tensor) -> Tensor:
        """Images [n, 3, side, side] within ±1, but for what the last layer overshoots."""
        inner = cast(Any, self.inner)
        if self._kl:
            return cast(Tensor, inner.decode(latents / self._scale + self._shift).sample)
        if isinstance(inner, Taef2):
            return cast(Tensor, inner.network(latents)) * 2 - 1
        return cast(Tensor, inner.decode(latents).sample)

    def decoding(self) -> dict[str, Tensor]:
        """The tensors that decoding needs, by name."""
        return {
            key: value
            for key, value in self.inner.state_dict().items()
            if not key.startswith(("encoder.", "quant_conv."))
        }

    def fill(self, tensors: Mapping[str, Tensor]) -> None:
        """Set the tensors that decoding needs."""
        self.inner.load_state_dict(dict(tensors), strict=False)

    def means(self, images: Tensor, *, on_progress: Callable[[int], None] = lambda done: None) -> Tensor:
        """The latents' means of any number of images, float32 on the CPU, computed some at a time."""
        device, parts = next(self.inner.parameters()).device, []
        with torch.inference_mode():
            for start in range(0, len(images), _PASS):
                parts.append(self.encode(images[start : start + _PASS].to(device))[0].float().cpu())
                on_progress(min(start + _PASS, len(images)))
        return torch.cat(parts).clone()


def _init_names(inner: nn.Module) -> set[str]:
    return set(inspect.signature(type(inner).__init__).parameters)


def build_autoencoder(config: Mapping[str, Any]) -> Autoencoder:
    """The autoencoder of a configuration, its weights at random."""
    kind = config["_class_name"]
    if kind == "Taef2":
        return Autoencoder(Taef2())
    own = {key: value for key, value in config.items() if not key.startswith("_")}
    return Autoencoder(cast(nn.Module, cast(Any, DIFFUSERS[kind])(**own)))


def load_autoencoder(directory: str) -> tuple[Autoencoder, str]:
    """The autoencoder in `directory`, and a sha256 over its files.

    Raises:
        InvalidArgument: there is no such directory, or it holds neither layout.
        FailedPrecondition: reason BAD_WEIGHTS; a file is damaged, or is another network's.
    """
    folder = Path(directory)
    files = next((files for files in (FILES, _LAYOUT) if all((folder / name).is_file() for name in files)), None)
    if files is None:
        raise InvalidArgument(
            f"generator.autoencoder: {directory!r} holds neither {' and '.join(_LAYOUT)} nor {' and '.join(FILES)} "
            "where the fine-tuning runs; name the folder of both",
            reason="AUTOENCODER_NOT_FOUND",
        )
    digest = sha256(b"".join(sha256((folder / name).read_bytes()).encode() for name in files))
    if files is FILES:
        pair = Taef2()
        _fill(pair.encoder, FILES[0], (folder / FILES[0]).read_bytes())
        _fill(pair.network, FILES[1], (folder / FILES[1]).read_bytes())
        return Autoencoder(pair), digest
    try:
        kind = json.loads((folder / "config.json").read_text())["_class_name"]
        return Autoencoder(DIFFUSERS[kind].from_pretrained(directory, use_safetensors=True)), digest
    # Files of somebody else's making: libraries raise almost anything.
    except Exception as error:
        raise FailedPrecondition(
            f"generator.autoencoder: {directory!r} is no {' or '.join(DIFFUSERS)} that can be loaded "
            f"({type(error).__name__}); get its files anew",
            reason="BAD_WEIGHTS",
        ) from None


def _fill(network: nn.Module, name: str, data: bytes) -> None:
    try:
        tensors = safetensors.torch.load(data)
        network.load_state_dict(tensors)
    except (SafetensorError, RuntimeError) as error:
        lines = str(error).splitlines()
        raise FailedPrecondition(
            f"generator.autoencoder: {name} does not fit the network ({lines[min(1, len(lines) - 1)].strip()[:200]}); "
            "get the file anew",
            reason="BAD_WEIGHTS",
        ) from None
