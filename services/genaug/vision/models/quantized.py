"""INT8 inference of VGG19 on CPUs: `prepare` calibrates on images, `convert` gives the quantized backbone.

Weights have a scale per output channel, feature maps one scale each. Channels of a map differ widely in range, so each
is divided by a factor of its own, which the next convolution's weights take back (Xiao et al. 2023, SmoothQuant).
Feature maps use 7 of the 8 bits: below AVX-512 VNNI, CPUs add pairs of products in 16 bits, which would overflow. The
first convolution stays in float32: its input would need more bits.

`_QuantizedConv` alone calls torch's private oneDNN operators. Public libraries were measured in their place, in images
per CPU second and relative feature error (VGG19 with random weights, 224 pixels, one core, AVX2, torch 2.15):

    torch, float32, batch 1                                          2.0
    this module, batch 1                                             4.4   0.020
    onnxruntime 1.32, quantize_static (QDQ, per channel, 7 bits)     4.1   0.033
    onnxruntime 1.32, QLinearConv graph with this module's scales    3.9   0.020
    torchao 0.18, PT2E, without a compiler                           1.4   0.017
    torchao 0.18, PT2E, torch.compile                                4.7   0.018

onnxruntime is slower at an equal error, and less exact at an equal speed. torchao needs a C++ compiler, which images of
the services lack, and 49 s per process; its compiled graph calls the same private operators.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, cast

import torch
from torch import Tensor, nn

from genaug.shared.errors import FailedPrecondition, InvalidArgument
from genaug.vision.models.backbones import Backbone, Vgg19

_LARGEST = 127.0
# SmoothQuant's alpha: share of the channels' unevenness that moves from the maps into the weights.
_ALPHA = 0.7


class MapRange(NamedTuple):
    """Range of a convolution's feature map, after ReLU."""

    largest: float
    """Largest value after division of the channels, mean over calibration images: rare outliers are clipped."""
    channels: tuple[float, ...]
    """Divisor of each channel; ones for the last map."""


Ranges = tuple[MapRange, ...]
"""Ranges of all convolutions, in their order."""


def prepare(body: Backbone, pixels: Tensor) -> Ranges:
    """Calibrate a backbone on representative images.

    Args:
        body: The float32 backbone.
        pixels: [n, 3, side, side], 0 to 255.

    Raises:
        InvalidArgument: the backbone is not VGG19.
    """
    if not isinstance(body, Vgg19):
        raise InvalidArgument("precision: INT8 is there for backbone VGG19 alone", reason="BAD_CLASSIFIER")
    maxima = _channel_maxima(body, pixels)
    convolutions = _convolutions(body)
    ranges: list[MapRange] = []
    for index, per_image in enumerate(maxima):
        divisors = torch.ones(per_image.shape[1])
        if index + 1 < len(convolutions):
            divisors = _smoothing_divisors(per_image.mean(0), convolutions[index + 1].weight.detach().cpu())
        largest = float((per_image / divisors).amax(1).mean())
        ranges.append(MapRange(max(largest, 1e-6), tuple(float(f"{value:.6g}") for value in divisors.tolist())))
    return tuple(ranges)


def convert(body: Backbone, ranges: Ranges) -> Backbone:
    """Return the quantized copy of a backbone, in eval mode.

    Args:
        body: The float32 backbone, VGG19.
        ranges: Its `prepare`d ranges.

    Raises:
        FailedPrecondition: the ranges are not this backbone's.
    """
    return _QuantizedVgg19(cast(Vgg19, body), ranges).eval()


class _QuantizedVgg19(Backbone):
    def __init__(self, body: Vgg19, ranges: Ranges) -> None:
        super().__init__(body.features, mean=body.mean, std=body.std)
        convolutions = _smoothed(body, [map_range.channels for map_range in ranges])
        if len(ranges) != len(convolutions):
            raise FailedPrecondition(
                f"{len(ranges)} ranges of maps for {len(convolutions)} convolutions; train the classifier again",
                reason="NOT_QUANTIZED",
            )
        scales = [map_range.largest / _LARGEST for map_range in ranges]
        self.first = _in_steps(convolutions[0], scales[0])
        # The last map is float32.
        outputs = [*scales[1:-1], None]
        quantized = iter(map(_QuantizedConv, convolutions[1:], scales, outputs))
        self._layers: list[Callable[[Tensor], Tensor]] = [
            _max_pool if isinstance(layer, nn.MaxPool2d) else next(quantized)
            for layer in list(body.network)[2:]
            if not isinstance(layer, nn.ReLU)
        ]

    def maps(self, images: Tensor) -> Tensor:
        maps = self.first(images.contiguous(memory_format=torch.channels_last))
        # ReLU and rounding: `first` adds half a step, the conversion cuts off.
        maps = maps.clamp_(0, _LARGEST + 0.5).to(torch.uint8)
        for layer in self._layers:
            maps = layer(maps)
        return cast(Tensor, maps)


class _QuantizedConv:
    """3×3 convolution with ReLU on uint8 maps, by torch's private oneDNN operators.

    Args:
        convolution: The float32 convolution.
        input_scale: Value of one step of the input map.
        output_scale: Value of one step of the output map; None for float32.
    """

    def __init__(self, convolution: nn.Conv2d, input_scale: float, output_scale: float | None) -> None:
        weight = convolution.weight.detach()
        self.input_scale, self.output_scale = input_scale, output_scale
        self._bias = cast(Tensor, convolution.bias).detach()
        self._scales = weight.abs().amax((1, 2, 3)).clamp(min=1e-12) / _LARGEST
        self._zeros = torch.zeros(len(weight), dtype=torch.int64)
        steps = (weight / self._scales[:, None, None, None]).round().to(torch.int8).contiguous()
        self._weight = torch.ops.onednn.qconv_prepack(
            steps, self._scales, input_scale, 0, [1, 1], [1, 1], [1, 1], 1, None
        )

    def __call__(self, maps: Tensor) -> Tensor:
        """Return uint8 or float32 maps [n, out, height, width] of uint8 maps [n, in, height, width], 0 to 127."""
        if self.output_scale is None:
            output: tuple[Any, ...] = (1.0, 0, torch.float32, "relu", [], "")
        else:
            # Clipped at the range's end: rounding alone would fill all 8 bits.
            output = (self.output_scale, 0, torch.uint8, "hardtanh", [0.0, _LARGEST * self.output_scale], "")
        result = torch.ops.onednn.qconv_pointwise(
            *(maps, self.input_scale, 0, self._weight, self._scales, self._zeros, self._bias),
            *([1, 1], [1, 1], [1, 1], 1),
            *output,
        )
        return cast(Tensor, result)


def _max_pool(maps: Tensor) -> Tensor:
    """Max pooling of 2×2 places; torch's own takes no uint8 of this size."""
    rows = torch.maximum(maps[:, :, 0 : maps.shape[2] // 2 * 2 : 2], maps[:, :, 1::2])
    return torch.maximum(rows[..., 0 : maps.shape[3] // 2 * 2 : 2], rows[..., 1::2])


def _convolutions(body: Vgg19) -> list[nn.Conv2d]:
    return [layer for layer in body.network if isinstance(layer, nn.Conv2d)]


def _channel_maxima(body: Vgg19, pixels: Tensor) -> list[Tensor]:
    """Maximum of each channel of each convolution's map, after ReLU: per map [n, channels]."""
    maxima: list[Tensor] = []
    handles = [
        layer.register_forward_hook(lambda _layer, _inputs, maps: maxima.append(maps.amax((0, 2, 3)).cpu()))
        for layer in body.network
        if isinstance(layer, nn.ReLU)
    ]
    try:
        per_image = []
        with torch.inference_mode():
            for image in pixels:
                maxima.clear()
                body(image[None])
                per_image.append(list(maxima))
    finally:
        for handle in handles:
            handle.remove()
    return [torch.stack(maps) for maps in zip(*per_image, strict=True)]


def _smoothing_divisors(maxima: Tensor, weight: Tensor) -> Tensor:
    """Divisors of channels with these maxima, before a convolution with these weights; geometric mean 1."""
    # A channel that hardly ever fires has no scale of its own.
    maxima = maxima.clamp(min=1e-3 * max(float(maxima.max()), 1e-6))
    divisors = maxima**_ALPHA / weight.abs().amax((0, 2, 3)).clamp(min=1e-8) ** (1 - _ALPHA)
    return divisors / divisors.log().mean().exp()


def _smoothed(body: Vgg19, channels: Sequence[Sequence[float]]) -> list[nn.Conv2d]:
    """Copies of a network's convolutions with divided maps: the same function in the end."""
    convolutions = [copy.deepcopy(layer).requires_grad_(False) for layer in _convolutions(body)]
    for layer, following, values in zip(convolutions, convolutions[1:], channels, strict=False):
        divisors = torch.tensor(values)
        layer.weight.div_(divisors[:, None, None, None])
        cast(Tensor, layer.bias).div_(divisors)
        following.weight.mul_(divisors[None, :, None, None])
    return convolutions


def _in_steps(convolution: nn.Conv2d, step: float) -> nn.Conv2d:
    """Copy of a convolution with output in steps, half a step added."""
    result = copy.deepcopy(convolution)
    result.weight.div_(step)
    cast(Tensor, result.bias).div_(step).add_(0.5)
    return result
