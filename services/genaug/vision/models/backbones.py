"""The bodies of classifiers: what turns an image into maps of features, and the weights it starts with."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from typing import Any, cast

import torch
from torch import Tensor, nn

from genaug.shared.errors import FailedPrecondition, InvalidArgument
from genaug.shared.store import Store
from genaug.vision.models import weights as sources
from genaug.vision.models.weights import IMAGENET, NONE, Weights, mismatches

SMALL_CNN = "BACKBONE_SMALL_CNN"
EFFICIENTNET_LITE0 = "BACKBONE_EFFICIENTNET_LITE0"
VGG19 = "BACKBONE_VGG19"
MOBILENET_V2 = "BACKBONE_MOBILENET_V2"

# Where torchvision's networks have their convolutions.
_FEATURES = "features."
# What torchvision's weights of ImageNet expect, on values from 0 to 255.
_MEAN, _STD = (123.675, 116.28, 103.53), (58.395, 57.12, 57.375)


class Backbone(nn.Module, ABC):
    """A backbone.

    Args:
        features: Channels of its maps.
        mean: Per channel, subtracted from pixels (0 to 255).
        std: Per channel, divides them then.
    """

    def __init__(self, features: int, *, mean: Sequence[float], std: Sequence[float]) -> None:
        super().__init__()
        self.features = features
        self.mean = tuple(mean)
        self.std = tuple(std)

    @abstractmethod
    def maps(self, images: Tensor) -> Tensor:
        """Maps of features [n, features, height, width] of standardised images [n, channels, side, side]."""

    def forward(self, pixels: Tensor) -> Tensor:
        """`maps`, float32, of pixels [n, channels, side, side], 0 to 255; computed in the weights' number format."""
        mean, std = (torch.tensor(value, device=pixels.device)[:, None, None] for value in (self.mean, self.std))
        dtype = next((weight.dtype for weight in self.parameters()), torch.float32)
        return self.maps(((pixels.float() - mean) / std).to(dtype)).float()


class SmallCnn(Backbone):
    """A small convolutional network for tiny images: 3×3 convolutions that halve the side down to 4 pixels or less.

    The map is flattened, not averaged: at 8 pixels, where something is says much of what it is. So its own map is one
    place.
    """

    FEATURES = 64
    WIDTHS = (16, 32, 64)

    def __init__(self, *, image_size: int, channels: int) -> None:
        # Grey levels around zero; the scale is fixed, so that scenarios differ by their data alone.
        super().__init__(self.FEATURES, mean=[127.5] * channels, std=[127.5] * channels)
        # Above 16 pixels the first layer halves too: it would cost more than all others together.
        stride = 1 if image_size <= 16 else 2
        layers = _convolution(channels, self.WIDTHS[0], stride=stride)
        side, width = -(-image_size // stride), self.WIDTHS[0]
        for wider in _then_last(self.WIDTHS[1:]):
            if side <= 4:
                break
            layers += _convolution(width, wider, stride=2)
            side, width = -(-side // 2), wider
        self.layers = nn.Sequential(*layers, nn.Flatten(), nn.Linear(width * side * side, self.FEATURES), nn.ReLU())

    def maps(self, images: Tensor) -> Tensor:
        return cast(Tensor, self.layers(images))[:, :, None, None]


def _convolution(channels: int, width: int, *, stride: int) -> list[nn.Module]:
    # The batch normalisation has its own bias.
    convolution = nn.Conv2d(channels, width, 3, stride=stride, padding=1, bias=False)
    return [convolution, nn.BatchNorm2d(width), nn.ReLU()]


def _then_last(values: Sequence[int]) -> Sequence[int]:
    """`values`, the last repeated often enough for any size."""
    return (*values, *[values[-1]] * 8)


class EfficientNetLite0(Backbone):
    """EfficientNet-Lite0 (Tan & Le 2019, without what phones find slow)."""

    FEATURES = 1280

    def __init__(self, *, image_size: int) -> None:
        from efficientnet_lite_pytorch import EfficientNet

        # What the weights were trained with: the stem's running statistics fit this scale, not ImageNet's own mean.
        super().__init__(self.FEATURES, mean=[127.0] * 3, std=[128.0] * 3)
        # Its padding is fixed for one image size.
        self.network = EfficientNet.from_name("efficientnet-lite0", image_size=image_size)

    def maps(self, images: Tensor) -> Tensor:
        return cast(Tensor, self.network.extract_features(images.contiguous(memory_format=torch.channels_last)))


class Vgg19(Backbone):
    """The convolutions of VGG19 (Simonyan & Zisserman 2015, configuration E)."""

    FEATURES = 512

    def __init__(self) -> None:
        # Its parts: the whole network would fill half a gigabyte with layers that are not used here.
        from torchvision.models.vgg import cfgs, make_layers

        super().__init__(self.FEATURES, mean=_MEAN, std=_STD)
        self.network = make_layers(cfgs["E"])
        for layer in self.network:
            if isinstance(layer, nn.Conv2d):
                nn.init.kaiming_normal_(layer.weight, mode="fan_out", nonlinearity="relu")
                nn.init.zeros_(cast(Tensor, layer.bias))

    def maps(self, images: Tensor) -> Tensor:
        return cast(Tensor, self.network(images.contiguous(memory_format=torch.channels_last)))


class MobileNetV2(Backbone):
    """The convolutions of MobileNetV2 (Sandler et al. 2018), width 1."""

    FEATURES = 1280

    def __init__(self) -> None:
        from torchvision.models import mobilenet_v2

        super().__init__(self.FEATURES, mean=_MEAN, std=_STD)
        # Its classifier of a thousand classes is left behind.
        self.network = mobilenet_v2(weights=None).features

    def maps(self, images: Tensor) -> Tensor:
        return cast(Tensor, self.network(images.contiguous(memory_format=torch.channels_last)))


# Channels of their maps.
FEATURES = {
    SMALL_CNN: SmallCnn.FEATURES,
    EFFICIENTNET_LITE0: EfficientNetLite0.FEATURES,
    VGG19: Vgg19.FEATURES,
    MOBILENET_V2: MobileNetV2.FEATURES,
}

# Backbone -> smallest and largest image, pixels; its own size.
SIZES: dict[str, tuple[int, int, int]] = {
    SMALL_CNN: (8, 64, 0),
    EFFICIENTNET_LITE0: (32, 1024, 224),
    VGG19: (32, 1024, 224),
    MOBILENET_V2: (32, 1024, 224),
}


def build_body(backbone: str, *, image_size: int, channels: int, weights: Weights | None) -> Backbone:
    """A backbone in eval mode on the CPU, with `weights` or those that torch's generator draws."""
    if backbone == SMALL_CNN:
        return SmallCnn(image_size=image_size, channels=channels).eval()
    builders: dict[str, Callable[[], Any]] = {
        EFFICIENTNET_LITE0: lambda: EfficientNetLite0(image_size=image_size),
        VGG19: Vgg19,
        MOBILENET_V2: MobileNetV2,
    }
    body = builders[backbone]()
    if weights is not None:
        prefix = "" if backbone == EFFICIENTNET_LITE0 else _FEATURES
        wanted = {f"{prefix}{name}": tensor for name, tensor in body.network.state_dict().items()}
        if problems := mismatches(wanted, weights.tensors):
            raise FailedPrecondition(
                f"classifier.weights: not {backbone.removeprefix('BACKBONE_')}'s: {problems}", reason="BAD_WEIGHTS"
            )
        body.network.load_state_dict({name.removeprefix(prefix): one for name, one in weights.tensors.items()})
    return cast(Backbone, body.eval().to(memory_format=torch.channels_last))


def find_weights(backbone: str, weights: str, store: Store | None) -> Weights | None:
    """The weights that a pretrained backbone starts with.

    Args:
        backbone: Any but `SMALL_CNN`, which has none.
        weights: As ClassifierSpec.weights.
        store: Where a key is looked for.

    Returns:
        None for `NONE`.

    Raises:
        FailedPrecondition: they cannot be had.
        InvalidArgument: the file is no safetensors, or another than was asked for.
    """
    if weights == NONE:
        return None
    if weights != IMAGENET:
        return sources.from_file(store, weights, _own if backbone == EFFICIENTNET_LITE0 else _of_torchvision)
    if backbone == EFFICIENTNET_LITE0:
        # Fails now, and not after the images were read, where the packages are not there.
        return sources.efficientnet_lite0()
    if backbone == MOBILENET_V2:
        return sources.from_hub("timm/mobilenetv2_100.ra_in1k", mobilenet_v2_of_timm)
    return sources.from_hub("timm/vgg19.tv_in1k", _of_torchvision)


def _own(name: str) -> str:
    return name


def _of_torchvision(name: str) -> str | None:
    return name if name.startswith(_FEATURES) else None


# Blocks of each of timm's stages; torchvision counts them through.
_STAGES = (1, 2, 3, 4, 3, 3, 1)
# Parts of a block: timm's names, torchvision's. The first block does not expand.
_FIRST_BLOCK = {"conv_dw": "0.0", "bn1": "0.1", "conv_pw": "1", "bn2": "2"}
_BLOCK = {"conv_pw": "0.0", "bn1": "0.1", "conv_dw": "1.0", "bn2": "1.1", "conv_pwl": "2", "bn3": "3"}
_ENDS = {"conv_stem": "0.0", "bn1": "0.1", "conv_head": "18.0", "bn2": "18.1"}


def mobilenet_v2_of_timm(name: str) -> str | None:
    """torchvision's name of a tensor of timm's mobilenetv2_100."""
    part, _, rest = name.partition(".")
    if part in _ENDS:
        return f"{_FEATURES}{_ENDS[part]}.{rest}"
    if part != "blocks":
        return None
    stage, block, layer, what = rest.split(".")
    index = 1 + sum(_STAGES[: int(stage)]) + int(block)
    return f"{_FEATURES}{index}.conv.{(_FIRST_BLOCK if index == 1 else _BLOCK)[layer]}.{what}"


def check_size(backbone: str, image_size: int) -> int:
    """The image size that `backbone` takes: `image_size`, or its own for 0.

    Raises:
        InvalidArgument: no such backbone, or it cannot take such images.
    """
    if backbone not in SIZES:
        raise InvalidArgument(
            f"classifier.backbone: {backbone!r}; there are {', '.join(SIZES)}", reason="UNKNOWN_BACKBONE"
        )
    low, high, own = SIZES[backbone]
    size = image_size or own
    if not low <= size <= high:
        best = f", {own} for its best" if own else ""
        raise InvalidArgument(
            f"classifier.image_size: {size}; {backbone} takes {low} to {high} pixels{best}", reason="BAD_IMAGE_SIZE"
        )
    return size
