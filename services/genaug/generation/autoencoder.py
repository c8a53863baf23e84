"""A tiny autoencoder, in whose latents images above 64 pixels are drawn: an eighth of the side, 32 channels.

The networks are those of TAESD (O. B. Bohan, MIT licence), in the size of its model for FLUX.2.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import cast

import safetensors.torch
import torch
from safetensors import SafetensorError
from torch import Tensor, nn

from genaug.shared.digests import sha256
from genaug.shared.errors import FailedPrecondition, InvalidArgument

FACTOR = 8
"""Pixels per side of one latent place."""
CHANNELS = 32
"""Channels of a latent."""
FILES = ("taef2_encoder.safetensors", "taef2_decoder.safetensors")

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
    return nn.Sequential(*layers, nn.Conv2d(_WIDTH, CHANNELS, 3, padding=1))


def _decoder() -> nn.Sequential:
    layers: list[nn.Module] = [_Bend(), nn.Conv2d(CHANNELS, _WIDTH, 3, padding=1), nn.ReLU()]
    for level in range(3):
        layers += [_Block(lowest=level == 0) for _ in range(3)]
        layers += [nn.Upsample(scale_factor=2), nn.Conv2d(_WIDTH, _WIDTH, 3, padding=1, bias=False)]
    return nn.Sequential(*layers, _Block(lowest=False), nn.Conv2d(_WIDTH, 3, 3, padding=1))


@dataclass(frozen=True)
class Encoder:
    """Turns images into latents."""

    network: nn.Module
    sha256: str
    """Over the files of both halves."""
    decoder_weights: Mapping[str, Tensor]
    """What `Decoder` takes."""

    def encode(self, images: Tensor) -> Tensor:
        """Latents, float32 [n, 32, side/8, side/8], of images [n, 3, side, side] within ±1."""
        device = next(self.network.parameters()).device
        with torch.inference_mode():
            parts = [
                self.network((images[start : start + _PASS].to(device) + 1) / 2).cpu()
                for start in range(0, len(images), _PASS)
            ]
        return torch.cat(parts).clone()


class Decoder(nn.Module):
    """Turns latents into images, float32 [n, 3, side, side] within ±1 but for what its last layer overshoots."""

    def __init__(self) -> None:
        super().__init__()
        self.network = _decoder()

    def forward(self, latents: Tensor) -> Tensor:
        return cast(Tensor, self.network(latents)) * 2 - 1


def load_encoder(directory: str, *, device: torch.device) -> Encoder:
    """The autoencoder in `directory`.

    Raises:
        InvalidArgument: there is no such directory, or it does not hold both files.
        FailedPrecondition: reason BAD_WEIGHTS; a file is damaged, or is another network's.
    """
    folder = Path(directory)
    missing = [name for name in FILES if not (folder / name).is_file()]
    if missing:
        raise InvalidArgument(
            f"generator.autoencoder: {directory!r} does not hold {' and '.join(missing)} where the fine-tuning runs; "
            "name the folder of both",
            reason="AUTOENCODER_NOT_FOUND",
        )
    data = [(folder / name).read_bytes() for name in FILES]
    encoder, decoder = _encoder(), _decoder()
    _fill(encoder, FILES[0], data[0])
    tensors = _fill(decoder, FILES[1], data[1])
    frozen = encoder.eval().requires_grad_(False).to(device)
    return Encoder(frozen, sha256(b"".join(sha256(one).encode() for one in data)), tensors)


def _fill(network: nn.Module, name: str, data: bytes) -> dict[str, Tensor]:
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
    return tensors
