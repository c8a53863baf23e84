"""Backbones of classifiers: layers that turn an image into feature maps, and the weights they start with."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import cast

import torch
from torch import Tensor, nn
from typing_extensions import override

from genaug.schema.classifiers import BACKBONES
from genaug.schema.registry import load
from genaug.shared.errors import FailedPrecondition
from genaug.shared.store import Store
from genaug.vision.models import weights as sources
from genaug.vision.models.weights import IMAGENET, NONE, Rename, Weights, mismatches

# Prefix of the convolutions in torchvision's networks.
_FEATURES = "features."
# Mean and standard deviation that torchvision's ImageNet weights expect, of values from 0 to 255.
_MEAN, _STD = (123.675, 116.28, 103.53), (58.395, 57.12, 57.375)


class Backbone(nn.Module):
    """Feature extractor: pixels to feature maps.

    Args:
        features: Channels of the maps.
        mean: Per channel, subtracted from pixels (0 to 255).
        std: Per channel, divides them afterwards.
    """

    network: nn.Module
    """Its layers; weight files name their tensors."""

    def __init__(self, features: int, *, mean: Sequence[float], std: Sequence[float]) -> None:
        super().__init__()
        self.features = features
        self.mean = tuple(mean)
        self.std = tuple(std)

    def maps(self, images: Tensor) -> Tensor:
        """Feature maps [n, features, height, width] of standardized images [n, channels, side, side]."""
        return cast(Tensor, self.network(images.contiguous(memory_format=torch.channels_last)))

    def forward(self, pixels: Tensor) -> Tensor:
        """`maps`, float32, of pixels [n, channels, side, side], 0 to 255; computed in the weights' number format."""
        mean, std = (torch.tensor(value, device=pixels.device)[:, None, None] for value in (self.mean, self.std))
        dtype = next((weight.dtype for weight in self.parameters()), torch.float32)
        return self.maps(((pixels.float() - mean) / std).to(dtype)).float()


@dataclass(frozen=True)
class BackboneKind:
    """A backbone that specifications name: how to build it, and where its weights come from.

    An entry of `genaug.schema.classifiers.BACKBONES`, or of the entry point group `genaug.backbones`, references it.
    """

    name: str
    """As in ClassifierSpec.backbone; for errors."""
    features: int
    """Channels of its maps."""
    layers: Callable[[int, int], Backbone]
    """(image size, channels) -> the backbone, with initial weights from torch's global generator."""
    channels: int = 3
    """Channels of its images; 0 for the dataset's own."""
    imagenet: Callable[[], Weights] | None = None
    """The weights "imagenet"."""
    packaged: bool = False
    """Whether an installed package brings these, so that the store keeps no copy."""
    prefix: str = _FEATURES
    """Of the names in `Weights`, before the names in `Backbone.network`."""

    def build(self, *, image_size: int, channels: int, weights: Weights | None = None) -> Backbone:
        """Build the backbone in eval mode on the CPU.

        Args:
            image_size: Pixels.
            channels: Of its images.
            weights: None for initial ones from torch's global generator.

        Raises:
            FailedPrecondition: reason BAD_WEIGHTS; they are another network's.
        """
        backbone = self.layers(image_size, channels)
        if weights is not None:
            expected = {f"{self.prefix}{name}": tensor for name, tensor in backbone.network.state_dict().items()}
            if problems := mismatches(expected, weights.tensors):
                raise FailedPrecondition(f"classifier.weights: not {self.name}'s: {problems}", reason="BAD_WEIGHTS")
            backbone.network.load_state_dict(
                {name.removeprefix(self.prefix): tensor for name, tensor in weights.tensors.items()}
            )
        return backbone.eval()

    def find_weights(self, weights: str, store: Store | None, *, digest: str | None = None) -> Weights | None:
        """Find the weights that a network starts with, or stands on.

        Args:
            weights: As ClassifierSpec.weights.
            store: Source of weights that are named by a key or by `digest`.
            digest: sha256 of the frozen weights that a finished classifier stands on, "" where its artifact holds all
                weights; None for a new one.

        Returns:
            None where all weights are random, or in the artifact.

        Raises:
            FailedPrecondition: they cannot be had.
            InvalidArgument: the file is no safetensors, or another than was asked for.
        """
        # A finished network whose every layer learnt brings its own: the first ones may be gone.
        if weights == NONE or digest == "":
            return None
        if weights == IMAGENET and self.imagenet and (self.packaged or digest is None):
            return self.imagenet()
        if digest is not None:
            return sources.from_store(store, digest)
        return sources.from_file(store, weights, lambda name: name if name.startswith(self.prefix) else None)


def backbone_kind(name: str) -> BackboneKind:
    """The registered backbone `name`.

    Raises:
        InvalidArgument: no such backbone.
    """
    return cast(BackboneKind, load(BACKBONES.get(name, path="classifier.backbone").implementation))


class SmallCnn(Backbone):
    """A small convolutional network for tiny images: 3×3 convolutions that halve the side down to 4 pixels or less.

    The map is flattened, not averaged, because at 8 pixels the place of a feature matters much. So its own map is one
    place.
    """

    FEATURES = 64
    WIDTHS = (16, 32, 64)

    def __init__(self, image_size: int, channels: int) -> None:
        # Grey levels around zero; the scale is fixed, so that scenarios differ by their data alone.
        super().__init__(self.FEATURES, mean=[127.5] * channels, std=[127.5] * channels)
        # Above 16 pixels the first layer halves too: it would cost more than all others together.
        stride = 1 if image_size <= 16 else 2
        layers = _convolution(channels, self.WIDTHS[0], stride=stride)
        side, width = -(-image_size // stride), self.WIDTHS[0]
        # The last width is repeated often enough for any size.
        for wider in (*self.WIDTHS[1:], *[self.WIDTHS[-1]] * 8):
            if side <= 4:
                break
            layers += _convolution(width, wider, stride=2)
            side, width = -(-side // 2), wider
        self.network = nn.Sequential(*layers, nn.Flatten(), nn.Linear(width * side * side, self.FEATURES), nn.ReLU())

    @override
    def maps(self, images: Tensor) -> Tensor:
        return cast(Tensor, self.network(images))[:, :, None, None]


def _convolution(channels: int, width: int, *, stride: int) -> list[nn.Module]:
    # The batch normalization has its own bias.
    convolution = nn.Conv2d(channels, width, 3, stride=stride, padding=1, bias=False)
    return [convolution, nn.BatchNorm2d(width), nn.ReLU()]


class EfficientNetLite0(Backbone):
    """EfficientNet-Lite0 (Tan & Le 2019, without the operations that are slow on phones)."""

    FEATURES = 1280

    def __init__(self, image_size: int) -> None:
        from efficientnet_lite_pytorch import EfficientNet

        # The scale that the weights were trained with: the stem's running statistics fit it, not ImageNet's own mean.
        super().__init__(self.FEATURES, mean=[127.0] * 3, std=[128.0] * 3)
        # Its padding is fixed for one image size.
        self.network = EfficientNet.from_name("efficientnet-lite0", image_size=image_size)
        self.to(memory_format=torch.channels_last)

    @override
    def maps(self, images: Tensor) -> Tensor:
        extract = cast(Callable[[Tensor], Tensor], self.network.extract_features)
        return extract(images.contiguous(memory_format=torch.channels_last))


class Vgg19(Backbone):
    """The convolutions of VGG19 (Simonyan & Zisserman 2015, configuration E)."""

    FEATURES = 512
    network: nn.Sequential

    def __init__(self) -> None:
        # Its parts: the whole network would fill half a gigabyte with layers that are not used here.
        from torchvision.models.vgg import cfgs, make_layers

        super().__init__(self.FEATURES, mean=_MEAN, std=_STD)
        self.network = make_layers(cfgs["E"])
        for layer in self.network:
            if isinstance(layer, nn.Conv2d):
                nn.init.kaiming_normal_(layer.weight, mode="fan_out", nonlinearity="relu")
                nn.init.zeros_(cast(Tensor, layer.bias))
        self.to(memory_format=torch.channels_last)


class MobileNetV2(Backbone):
    """The convolutions of MobileNetV2 (Sandler et al. 2018), width 1."""

    FEATURES = 1280

    def __init__(self) -> None:
        from torchvision.models import mobilenet_v2

        super().__init__(self.FEATURES, mean=_MEAN, std=_STD)
        # Without its classifier of a thousand classes.
        self.network = mobilenet_v2(weights=None).features
        self.to(memory_format=torch.channels_last)


# Blocks in each of timm's stages; torchvision numbers them through.
_STAGES = (1, 2, 3, 4, 3, 3, 1)
# Parts of a block: timm's names, torchvision's. The first block does not expand.
_FIRST_BLOCK = {"conv_dw": "0.0", "bn1": "0.1", "conv_pw": "1", "bn2": "2"}
_BLOCK = {"conv_pw": "0.0", "bn1": "0.1", "conv_dw": "1.0", "bn2": "1.1", "conv_pwl": "2", "bn3": "3"}
_ENDS = {"conv_stem": "0.0", "bn1": "0.1", "conv_head": "18.0", "bn2": "18.1"}


def mobilenet_v2_of_timm(name: str) -> str | None:
    """Torchvision's name of a tensor in timm's mobilenetv2_100."""
    part, _, rest = name.partition(".")
    if part in _ENDS:
        return f"{_FEATURES}{_ENDS[part]}.{rest}"
    if part != "blocks":
        return None
    stage, block, layer, field = rest.split(".")
    index = 1 + sum(_STAGES[: int(stage)]) + int(block)
    return f"{_FEATURES}{index}.conv.{(_FIRST_BLOCK if index == 1 else _BLOCK)[layer]}.{field}"


def _hub(repository: str, rename: Rename) -> Callable[[], Weights]:
    return lambda: sources.from_hub(repository, rename)


SMALL_CNN = BackboneKind("SMALL_CNN", SmallCnn.FEATURES, SmallCnn, channels=0)
EFFICIENTNET_LITE0 = BackboneKind(
    "EFFICIENTNET_LITE0",
    EfficientNetLite0.FEATURES,
    lambda image_size, _: EfficientNetLite0(image_size),
    # Called before images are read, so that a missing package is an error at once.
    imagenet=lambda: sources.efficientnet_lite0(),
    packaged=True,
    prefix="",
)
VGG19 = BackboneKind(
    "VGG19",
    Vgg19.FEATURES,
    lambda *_: Vgg19(),
    imagenet=_hub("timm/vgg19.tv_in1k", lambda name: name if name.startswith(_FEATURES) else None),
)
MOBILENET_V2 = BackboneKind(
    "MOBILENET_V2",
    MobileNetV2.FEATURES,
    lambda *_: MobileNetV2(),
    imagenet=_hub("timm/mobilenetv2_100.ra_in1k", mobilenet_v2_of_timm),
)
