"""VGG19's convolutions in 8-bit integers, for CPUs.

Weights have a scale per output channel, maps one scale each. Some channels of a map reach far higher than others; so
each is divided by a factor of its own, which the next convolution's weights take back (Xiao et al. 2023, SmoothQuant,
with `_SHARE` as their alpha). Maps take 7 of the 8 bits: below AVX-512 VNNI a processor adds pairs of products in 16
bits, which would run over. The first convolution stays in 32 bits: its input would need more.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple, cast

import torch
from torch import Tensor, nn

from genaug.shared.errors import FailedPrecondition
from genaug.vision.models.backbones import Backbone, Vgg19

_LARGEST = 127.0
# Of a channel's unevenness, what its map is relieved of; the rest stays, since weights would bear it.
_SHARE = 0.7


class MapRange(NamedTuple):
    """What is known of a convolution's map, after ReLU."""

    largest: float
    """Its largest value once its channels are divided; the mean over some images: what is rarely reached is cut off."""
    channels: tuple[float, ...]
    """By what each of its channels is divided; ones for the last map."""


Ranges = tuple[MapRange, ...]
"""Of each convolution, in their order."""


@dataclass(frozen=True)
class _Layer:
    """A convolution, then ReLU; or nothing, which halves the map."""

    weight: Tensor
    """As oneDNN wants it."""
    scales: Tensor
    zeros: Tensor
    bias: Tensor
    incoming: float
    """The scale of the map it takes."""
    outgoing: float
    """The scale of the map it gives; 0 for the last, whose map is float32."""


class QuantizedVgg19(Backbone):
    """A VGG19 whose convolutions but the first compute in 8 bits.

    Args:
        body: The network in 32 bits.
        ranges: As `ranges_of` gives them.
    """

    def __init__(self, body: Vgg19, ranges: Ranges) -> None:
        super().__init__(body.features, mean=body.mean, std=body.std)
        convolutions = _even(body, [one.channels for one in ranges])
        if len(ranges) != len(convolutions):
            raise FailedPrecondition(
                f"{len(ranges)} ranges of maps for {len(convolutions)} convolutions; train the classifier again",
                reason="NOT_QUANTIZED",
            )
        scales = [one.largest / _LARGEST for one in ranges]
        self.first = _in_steps(convolutions[0], scales[0])
        self._layers: list[_Layer | None] = []
        place = 0
        for layer in list(body.network)[2:]:
            if isinstance(layer, nn.MaxPool2d):
                self._layers.append(None)
            elif isinstance(layer, nn.Conv2d):
                place += 1
                last = place == len(convolutions) - 1
                outgoing = 0.0 if last else scales[place]
                self._layers.append(_quantized(convolutions[place], scales[place - 1], outgoing))

    def maps(self, images: Tensor) -> Tensor:
        found = self.first(images.contiguous(memory_format=torch.channels_last))
        # Cut off below the point, and half a step is in the bias: rounded, then ReLU.
        found = cast(Tensor, found.clamp_(0, _LARGEST + 0.5).to(torch.uint8))
        for layer in self._layers:
            found = _halved(found) if layer is None else _convolved(found, layer)
        return found


def ranges_of(body: Vgg19, pixels: Tensor) -> Ranges:
    """What `QuantizedVgg19` has to know of a network's maps.

    Args:
        body: The network in 32 bits.
        pixels: [n, 3, side, side], 0 to 255: images like those that it will see.
    """
    maxima = _maxima(body, pixels)
    convolutions = [layer for layer in body.network if isinstance(layer, nn.Conv2d)]
    ranges: list[MapRange] = []
    for index, of_images in enumerate(maxima):
        factors = torch.ones(of_images.shape[1])
        if index + 1 < len(convolutions):
            factors = _factors(of_images.mean(0), convolutions[index + 1].weight.detach().cpu())
        largest = float((of_images / factors).amax(1).mean())
        ranges.append(MapRange(max(largest, 1e-6), tuple(float(f"{value:.6g}") for value in factors.tolist())))
    return tuple(ranges)


def _maxima(body: Vgg19, pixels: Tensor) -> list[Tensor]:
    """The largest value of each channel of each convolution's map, after ReLU: per map [n, channels]."""
    found: list[Tensor] = []
    handles = [
        layer.register_forward_hook(lambda _layer, _inputs, maps: found.append(maps.amax((0, 2, 3)).cpu()))
        for layer in body.network
        if isinstance(layer, nn.ReLU)
    ]
    try:
        per_image = []
        with torch.inference_mode():
            for one in pixels:
                found.clear()
                body(one[None])
                per_image.append(list(found))
    finally:
        for handle in handles:
            handle.remove()
    return [torch.stack(maps) for maps in zip(*per_image, strict=True)]


def _factors(reached: Tensor, weight: Tensor) -> Tensor:
    """By what channels are divided that reach so far, before a convolution with these weights; their mean is 1."""
    # A channel that hardly ever fires has no scale of its own.
    reached = reached.clamp(min=1e-3 * max(float(reached.max()), 1e-6))
    factors = reached**_SHARE / weight.abs().amax((0, 2, 3)).clamp(min=1e-8) ** (1 - _SHARE)
    return factors / factors.log().mean().exp()


def _even(body: Vgg19, channels: Sequence[Sequence[float]]) -> list[nn.Conv2d]:
    """Copies of a network's convolutions, whose maps are divided so and taken for what they were."""
    found = [copy.deepcopy(layer).requires_grad_(False) for layer in body.network if isinstance(layer, nn.Conv2d)]
    for layer, following, factors in zip(found, found[1:], channels, strict=False):
        divisors = torch.tensor(factors)
        layer.weight.div_(divisors[:, None, None, None])
        cast(Tensor, layer.bias).div_(divisors)
        following.weight.mul_(divisors[None, :, None, None])
    return found


def _in_steps(layer: nn.Conv2d, step: float) -> nn.Conv2d:
    """A convolution that counts in steps, from half a step."""
    result = copy.deepcopy(layer)
    result.weight.div_(step)
    cast(Tensor, result.bias).div_(step).add_(0.5)
    return result


def _quantized(layer: nn.Conv2d, incoming: float, outgoing: float) -> _Layer:
    weight, bias = layer.weight.detach(), cast(Tensor, layer.bias).detach()
    scales = weight.abs().amax((1, 2, 3)).clamp(min=1e-12) / _LARGEST
    rounded = (weight / scales[:, None, None, None]).round().to(torch.int8).contiguous()
    packed = torch.ops.onednn.qconv_prepack(rounded, scales, incoming, 0, [1, 1], [1, 1], [1, 1], 1, None)
    return _Layer(packed, scales, torch.zeros(len(scales), dtype=torch.int64), bias, incoming, outgoing)


def _convolved(maps: Tensor, layer: _Layer) -> Tensor:
    # A map's largest value bounds it: rounding alone would fill all 8 bits.
    after = ("hardtanh", [0.0, _LARGEST * layer.outgoing], "") if layer.outgoing else ("relu", [], "")
    found = torch.ops.onednn.qconv_pointwise(
        *(maps, layer.incoming, 0, layer.weight, layer.scales, layer.zeros, layer.bias),
        *([1, 1], [1, 1], [1, 1], 1),
        *(layer.outgoing or 1.0, 0, torch.uint8 if layer.outgoing else torch.float32, *after),
    )
    return cast(Tensor, found)


def _halved(maps: Tensor) -> Tensor:
    """Max pooling of 2 × 2 places; torch's own takes no integers."""
    rows = torch.maximum(maps[:, :, 0 : maps.shape[2] // 2 * 2 : 2], maps[:, :, 1::2])
    return torch.maximum(rows[..., 0 : maps.shape[3] // 2 * 2 : 2], rows[..., 1::2])
