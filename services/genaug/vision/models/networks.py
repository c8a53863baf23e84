"""Networks of classifiers: a backbone, fine-tuned or frozen, and a head on its features.

Both kinds turn images into inputs once (`preprocess`), and inputs into features and logits at every update. A
fine-tuned network's inputs are pixels; a frozen one's are the backbone's features, which never change.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from typing import Any, cast
from weakref import WeakValueDictionary

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from typing_extensions import override

from genaug.schema.classifiers import ClassifierSpec, Head, Tuning
from genaug.schema.common import Precision
from genaug.shared.digests import seed_of
from genaug.shared.errors import InvalidArgument
from genaug.shared.store import Store
from genaug.vision.batching.minibatch import minibatches
from genaug.vision.models import quantized
from genaug.vision.models.backbones import Backbone, BackboneKind, backbone_kind
from genaug.vision.models.heads import DROPOUT, GRID, build_head
from genaug.vision.models.precision import format_words, in_precision, not_quantized
from genaug.vision.models.quantized import Ranges
from genaug.vision.models.weights import Weights


class Network(nn.Module, ABC):
    """A classifier's network.

    Args:
        spec: With every default written out.
        channels: Channels of its images, 1 or 3.
        features: Dimensions of the penultimate layer.
        classes: Outputs.
    """

    def __init__(self, spec: ClassifierSpec, *, channels: int, features: int, classes: int) -> None:
        super().__init__()
        self.spec = spec
        self.channels = channels
        self.features = features
        self.classes = classes
        self.precision = Precision.FLOAT32
        self.ranges: Ranges = ()
        """Calibration of the backbone's maps for INT8; empty where they were not measured."""
        self.drop = nn.Dropout(DROPOUT if spec.head == Head.PUBLISHED else 0.0)
        self.head = build_head(spec.head, features, classes)

    @property
    def image_size(self) -> int:
        """Height and width of its images, pixels."""
        return self.spec.image_size

    @property
    def pre_resize(self) -> int:
        """Height and width, pixels, that images are resized to before `image_size`; 0 for none."""
        return self.spec.pre_resize

    @property
    def input_key(self) -> str:
        """Key of `preprocess`: networks with the same key have the same inputs."""
        return f"pixels/{self.image_size}/{self.pre_resize}/{self.channels}"

    @property
    def feature_space(self) -> str:
        """Key of `extract_features`: networks with the same key have the same features; empty for its own alone."""
        return ""

    def set_precision(self, precision: Precision) -> None:
        """Let the backbone compute in a number format; heads stay in 32 bits. For inference.

        Raises:
            FailedPrecondition: the network has no INT8 calibration.
        """
        if precision == Precision.INT8 and not self.ranges:
            raise not_quantized()
        self.precision = precision

    @abstractmethod
    def float_backbone(self) -> Backbone:
        """The backbone in 32 bits."""

    def measure(self, pixels: NDArray[np.uint8]) -> None:
        """Calibrate for INT8.

        Args:
            pixels: uint8 [n, image_size, image_size, channels] of some images.

        Raises:
            InvalidArgument: the backbone is not VGG19.
        """
        images = torch.from_numpy(pixels).to(self.device).permute(0, 3, 1, 2)
        self.ranges = quantized.prepare(self.float_backbone(), images)

    @property
    def weights(self) -> Weights | None:
        """Frozen weights that lie outside the artifact; None when all are inside."""
        return None

    @property
    def weights_sha256(self) -> str:
        """sha256 of the frozen weights; empty when all are in the artifact."""
        return self.weights.sha256 if self.weights else ""

    @abstractmethod
    def preprocess(self, pixels: NDArray[np.uint8]) -> NDArray[Any]:
        """Turn images into inputs of `embed` and `forward`, one row per image.

        Args:
            pixels: uint8 [n, image_size, image_size, channels].
        """

    @abstractmethod
    def extract_features(self, pixels: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Compute the backbone's part, which is nearly all of the work: features, float32 [n, ...].

        Args:
            pixels: uint8 [n, image_size, image_size, channels].
        """

    @abstractmethod
    def penultimate(self, features: Tensor) -> Tensor:
        """Penultimate features, float32 [n, features], of extracted features on the network's device."""

    @abstractmethod
    def logits(self, features: Tensor) -> Tensor:
        """Logits, float32 [n, classes], of extracted features on the network's device."""

    def classify(self, features: NDArray[np.float32]) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Compute the head's part: penultimate features [n, features] and logits [n, classes] of extracted features."""
        penultimate = np.empty((len(features), self.features), np.float32)
        logits = np.empty((len(features), self.classes), np.float32)
        with torch.inference_mode():
            for start, count, batch in minibatches(features, self.device):
                penultimate[start : start + count] = self.penultimate(batch)[:count].cpu().numpy()
                logits[start : start + count] = self.logits(batch)[:count].cpu().numpy()
        return penultimate, logits

    def fit_inputs(self, inputs: Tensor) -> None:
        """Fit the standardization of training inputs, where the network has one."""

    @abstractmethod
    def embed(self, inputs: Tensor) -> Tensor:
        """Penultimate features, float32 [n, features], of inputs on the network's device."""

    @abstractmethod
    def forward(self, inputs: Tensor) -> Tensor:
        """Logits, float32 [n, classes], of inputs on the network's device."""

    @property
    def device(self) -> torch.device:
        """Device that it computes on."""
        return next(self.head.parameters()).device


class FineTuned(Network):
    """A network of which every layer learns."""

    def __init__(self, spec: ClassifierSpec, backbone: Backbone, *, channels: int, classes: int) -> None:
        super().__init__(spec, channels=channels, features=backbone.features, classes=classes)
        self.backbone = backbone

    def preprocess(self, pixels: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """Pixels with channels first: uint8 [n, channels, image_size, image_size]."""
        return np.ascontiguousarray(pixels.transpose(0, 3, 1, 2))

    @override
    def set_precision(self, precision: Precision) -> None:
        super().set_precision(precision)
        self.backbone = in_precision(self.backbone, precision, self.ranges)

    @override
    def float_backbone(self) -> Backbone:
        return self.backbone

    @override
    def extract_features(self, pixels: NDArray[np.uint8]) -> NDArray[np.float32]:
        result = np.empty((len(pixels), self.features), np.float32)
        with torch.inference_mode():
            for start, count, batch in minibatches(self.preprocess(pixels), self.device):
                result[start : start + count] = self.embed(batch)[:count].cpu().numpy()
        return result

    @override
    def penultimate(self, features: Tensor) -> Tensor:
        return features

    @override
    def logits(self, features: Tensor) -> Tensor:
        return cast(Tensor, self.head(features))

    @override
    def embed(self, inputs: Tensor) -> Tensor:
        return cast(Tensor, self.backbone(inputs)).mean((2, 3))

    @override
    def forward(self, inputs: Tensor) -> Tensor:
        return cast(Tensor, self.head(self.drop(self.backbone(inputs)).mean((2, 3))))


class Frozen(Network):
    """A head on the standardized features of a pretrained, frozen backbone.

    The artifact holds the head and the standardization; the backbone is known by the sha256 of its weights. Under the
    published head, dropout falls on features that are averaged already. The dense head takes maps of `GRID` places a
    side; as penultimate features, these are averaged too.
    """

    feature_mean: Tensor
    feature_std: Tensor

    def __init__(self, spec: ClassifierSpec, kind: BackboneKind, weights: Weights, *, classes: int) -> None:
        super().__init__(spec, channels=3, features=kind.features, classes=classes)
        self._kind = kind
        self._weights = weights
        self._shared: tuple[tuple[str, Precision], list[Backbone]] | None = None
        self._places = GRID**2 if spec.head == Head.DENSE else 1
        self.register_buffer("feature_mean", torch.zeros(kind.features * self._places))
        self.register_buffer("feature_std", torch.ones(kind.features * self._places))

    @property
    @override
    def weights(self) -> Weights:
        return self._weights

    @property
    @override
    def input_key(self) -> str:
        return f"{self.feature_space}/{self.weights_sha256}"

    @property
    def feature_space(self) -> str:
        """Backbone, its weights, image size and pre-resize, maps or means, and the format if it is not float32."""
        words = [self.spec.backbone.lower().replace("_", "-"), self.weights_sha256[:12], str(self.image_size)]
        words += [f"of-{self.pre_resize}"] if self.pre_resize else []
        words += ["maps"] if self._places > 1 else []
        return "-".join([*words, *format_words(self.precision, self.ranges)])

    def preprocess(self, pixels: NDArray[np.uint8]) -> NDArray[np.float32]:
        """The backbone's features, averaged over the image or its places: float32 [n, features × places]."""
        backbone = self._backbone()
        side = math.isqrt(self._places)
        result = np.empty((len(pixels), self.features * self._places), np.float32)
        with torch.inference_mode():
            for start, count, batch in minibatches(pixels, self.device):
                maps = backbone(batch.permute(0, 3, 1, 2))
                means = nn.functional.adaptive_avg_pool2d(maps, side).flatten(1) if side > 1 else maps.mean((2, 3))
                result[start : start + count] = means[:count].cpu().numpy()
        return result

    @override
    def extract_features(self, pixels: NDArray[np.uint8]) -> NDArray[np.float32]:
        return self.preprocess(pixels)

    @override
    def penultimate(self, features: Tensor) -> Tensor:
        return self.embed(features)

    @override
    def logits(self, features: Tensor) -> Tensor:
        return self.forward(features)

    def _backbone(self) -> Backbone:
        """The backbone, which networks of one process share."""
        key = (str(self.device), self.precision)
        if not self._shared or self._shared[0] != key:
            # In a list, or it would become a submodule and with it a part of the artifact.
            self._shared = key, [self._build(self.precision)]
        return self._shared[1][0]

    @override
    def float_backbone(self) -> Backbone:
        return self._build(Precision.FLOAT32)

    def _build(self, precision: Precision) -> Backbone:
        """Build the backbone once per process, size, device and number format."""
        ranges = self.ranges if precision == Precision.INT8 else ()
        key = (self.spec.backbone, self._weights.sha256, self.image_size, str(self.device), precision, ranges)
        backbone = _backbones.get(key)
        if backbone is None:
            backbone = self._kind.build(image_size=self.image_size, channels=3, weights=self._weights)
            backbone = in_precision(backbone.requires_grad_(False), precision, ranges).to(self.device)
            _backbones[key] = backbone
        return backbone

    @override
    def fit_inputs(self, inputs: Tensor) -> None:
        std, mean = torch.std_mean(inputs, dim=0, correction=0)
        self.feature_mean.copy_(mean)
        # A feature that never varied carries no information; do not blow up its noise.
        self.feature_std.copy_(std.clamp(min=1e-3))

    @override
    def embed(self, inputs: Tensor) -> Tensor:
        features = self._standardized(inputs)
        return features.unflatten(1, (self.features, self._places)).mean(2) if self._places > 1 else features

    @override
    def forward(self, inputs: Tensor) -> Tensor:
        return cast(Tensor, self.head(self.drop(self._standardized(inputs))))

    def _standardized(self, inputs: Tensor) -> Tensor:
        return (inputs - self.feature_mean) / self.feature_std


def build_network(
    spec: ClassifierSpec,
    *,
    channels: int,
    classes: int,
    seed: int,
    store: Store | None = None,
    weights_sha256: str | None = None,
) -> Network:
    """Build a network in eval mode on the CPU; weights that are not pretrained follow from `seed`.

    Args:
        spec: With every default written out: `ClassifierSpec.completed`.
        channels: Channels of the dataset's images. Pretrained backbones take grey images as RGB.
        classes: Outputs.
        seed: Of the initial weights.
        store: Source of weights that are named by a key or by their digest.
        weights_sha256: Of the frozen weights that a finished classifier stands on, empty where its artifact holds all;
            None for a new one.

    Raises:
        InvalidArgument: no such backbone.
        FailedPrecondition: the backbone's weights cannot be had.
    """
    if channels not in (1, 3):
        raise InvalidArgument(f"channels: {channels}; images have 1 or 3", reason="BAD_CHANNELS")
    kind = backbone_kind(spec.backbone)
    weights = kind.find_weights(spec.weights, store, digest=weights_sha256)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed_of("initial weights", seed))
        if spec.tuning == Tuning.FROZEN and weights is not None:
            return Frozen(spec, kind, weights, classes=classes).eval()
        channels = kind.channels or channels
        backbone = kind.build(image_size=spec.image_size, channels=channels, weights=weights)
        return FineTuned(spec, backbone, channels=channels, classes=classes).eval()


# Entries stay as long as a network uses them.
_backbones: WeakValueDictionary[tuple[Any, ...], Backbone] = WeakValueDictionary()
