"""The networks of classifiers: a backbone, what of it learns, and the head on its features.

Two kinds, one shape. Both turn images into `inputs` once (`preprocess`), and inputs into features and logits at every
update. A fine-tuned network's inputs are pixels; a frozen one's are the backbone's features, which never change.
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

from genaug.shared.digests import seed_of
from genaug.shared.errors import InvalidArgument
from genaug.shared.store import Store
from genaug.vision.batching.minibatch import passes
from genaug.vision.models import weights as sources
from genaug.vision.models.backbones import (
    EFFICIENTNET_LITE0,
    FEATURES,
    SMALL_CNN,
    Backbone,
    Vgg19,
    build_body,
    check_size,
    find_weights,
)
from genaug.vision.models.heads import DENSE, DROPOUT, GRID, LINEAR, LOGISTIC, PUBLISHED, build_head
from genaug.vision.models.precision import FLOAT32, INT8, PRECISIONS, format_words, in_precision, not_quantized
from genaug.vision.models.quantized import Ranges, ranges_of
from genaug.vision.models.weights import IMAGENET, NONE, Weights

FROZEN, FINE_TUNED = "TUNING_FROZEN", "TUNING_FINE_TUNED"


class Network(nn.Module, ABC):
    """A classifier's network.

    Args:
        spec: `genaug.v1.ClassifierSpec` as plain JSON, every default written out.
        channels: Channels of its images, 1 or 3.
        features: Dimensions of the penultimate layer.
        classes: Outputs.
    """

    def __init__(self, spec: dict[str, Any], *, channels: int, features: int, classes: int) -> None:
        super().__init__()
        self.spec = spec
        self.channels = channels
        self.features = features
        self.classes = classes
        self.precision = FLOAT32
        self.ranges: Ranges = ()
        """What `INT8` needs to know of the backbone's maps; empty where they were not measured."""
        self.drop = nn.Dropout(DROPOUT if spec["head"] == PUBLISHED else 0.0)
        self.head = build_head(spec["head"], features, classes)

    @property
    def image_size(self) -> int:
        """Height and width of the images it takes, pixels."""
        return int(self.spec["image_size"])

    @property
    def detail(self) -> int:
        """Height and width that images are brought to before that; 0 for none."""
        return int(self.spec["detail"])

    @property
    def input_key(self) -> str:
        """Equal for networks whose `preprocess` gives the same inputs."""
        return f"pixels/{self.image_size}/{self.detail}/{self.channels}"

    @property
    def feature_space(self) -> str:
        """Equal for networks whose `extract_features` gives the same features of an image; empty where they are this network's."""
        return ""

    def set_precision(self, precision: str) -> None:
        """Let the backbone compute in one of `PRECISIONS`; heads stay in 32 bits. For networks that are used.

        Raises:
            InvalidArgument: no such number format.
            FailedPrecondition: the network was not trained for `INT8`.
        """
        if precision not in PRECISIONS:
            raise InvalidArgument(
                f"precision: {precision!r}; there are {', '.join(PRECISIONS)}", reason="UNKNOWN_PRECISION"
            )
        if precision == INT8 and not self.ranges:
            raise not_quantized()
        self.precision = precision

    @abstractmethod
    def backbone(self) -> Backbone:
        """What gives the maps, in 32 bits."""

    def measure(self, pixels: NDArray[np.uint8]) -> None:
        """Measure what `INT8` needs.

        Args:
            pixels: uint8 [n, image_size, image_size, channels] of some images.

        Raises:
            InvalidArgument: the backbone is not VGG19.
        """
        body = self.backbone()
        if not isinstance(body, Vgg19):
            raise InvalidArgument("precision: INT8 is there for backbone VGG19 alone", reason="BAD_CLASSIFIER")
        images = torch.from_numpy(pixels).to(self.device).permute(0, 3, 1, 2)
        self.ranges = ranges_of(body, images)

    @property
    def weights(self) -> Weights | None:
        """Frozen weights that lie outside the artefact; None when all are inside."""
        return None

    @property
    def weights_sha256(self) -> str:
        """Their sha256; empty when all are inside."""
        return self.weights.sha256 if self.weights else ""

    @abstractmethod
    def preprocess(self, pixels: NDArray[np.uint8]) -> NDArray[Any]:
        """What `embed` takes, one row per image: computed once per image and kept.

        Args:
            pixels: uint8 [n, image_size, image_size, channels].
        """

    @abstractmethod
    def extract_features(self, pixels: NDArray[np.uint8]) -> NDArray[np.float32]:
        """The backbone's part of the work, which is nearly all of it: features, float32 [n, ...].

        Args:
            pixels: uint8 [n, image_size, image_size, channels].
        """

    @abstractmethod
    def penultimate(self, features: Tensor) -> Tensor:
        """Penultimate features, float32 [n, features], of what `extract_features` gave, on the network's device."""

    @abstractmethod
    def logits(self, features: Tensor) -> Tensor:
        """Logits, float32 [n, classes], of what `extract_features` gave, on the network's device."""

    def classify(self, features: NDArray[np.float32]) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """The head's part: penultimate features [n, features] and logits [n, classes] of what `extract_features` gave."""
        last = np.empty((len(features), self.features), np.float32)
        logits = np.empty((len(features), self.classes), np.float32)
        with torch.inference_mode():
            for start, kept, some in passes(features, self.device):
                last[start : start + kept] = self.penultimate(some)[:kept].cpu().numpy()
                logits[start : start + kept] = self.logits(some)[:kept].cpu().numpy()
        return last, logits

    def fit_inputs(self, inputs: Tensor) -> None:
        """Learn the scale of the training inputs, where the network needs it."""

    @abstractmethod
    def embed(self, inputs: Tensor) -> Tensor:
        """Penultimate features, float32 [n, features], of inputs on the network's device."""

    @abstractmethod
    def forward(self, inputs: Tensor) -> Tensor:
        """Logits, float32 [n, classes]."""

    @property
    def device(self) -> torch.device:
        """Where it computes."""
        return next(self.head.parameters()).device


class FineTuned(Network):
    """A network whose every layer learns."""

    def __init__(self, spec: dict[str, Any], body: Backbone, *, channels: int, classes: int) -> None:
        super().__init__(spec, channels=channels, features=body.features, classes=classes)
        self.body = body

    def preprocess(self, pixels: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """The pixels themselves, channels first: uint8 [n, channels, image_size, image_size]."""
        return np.ascontiguousarray(pixels.transpose(0, 3, 1, 2))

    def set_precision(self, precision: str) -> None:
        super().set_precision(precision)
        self.body = in_precision(self.body, precision, self.ranges)

    def backbone(self) -> Backbone:
        return self.body

    def extract_features(self, pixels: NDArray[np.uint8]) -> NDArray[np.float32]:
        result = np.empty((len(pixels), self.features), np.float32)
        with torch.inference_mode():
            for start, kept, some in passes(self.preprocess(pixels), self.device):
                result[start : start + kept] = self.embed(some)[:kept].cpu().numpy()
        return result

    def penultimate(self, features: Tensor) -> Tensor:
        return features

    def logits(self, features: Tensor) -> Tensor:
        return cast(Tensor, self.head(features))

    def embed(self, inputs: Tensor) -> Tensor:
        return cast(Tensor, self.body(inputs)).mean((2, 3))

    def forward(self, inputs: Tensor) -> Tensor:
        return cast(Tensor, self.head(self.drop(self.body(inputs)).mean((2, 3))))


class Frozen(Network):
    """A head on the standardised features of a pretrained backbone that stays as it is.

    The artefact holds the head and the features' scale; the backbone is known by the sha256 of its weights. Under the
    published head, dropout falls on features that are averaged already. The dense head takes maps as they are, of
    `GRID` places a side; as penultimate features, these are averaged too.
    """

    feature_mean: Tensor
    feature_std: Tensor

    def __init__(self, spec: dict[str, Any], weights: Weights, *, features: int, classes: int) -> None:
        super().__init__(spec, channels=3, features=features, classes=classes)
        self._weights = weights
        self._shared: tuple[tuple[str, str], list[Backbone]] | None = None
        self._places = GRID**2 if spec["head"] == DENSE else 1
        self.register_buffer("feature_mean", torch.zeros(features * self._places))
        self.register_buffer("feature_std", torch.ones(features * self._places))

    @property
    def weights(self) -> Weights:
        return self._weights

    @property
    def input_key(self) -> str:
        return f"{self.feature_space}/{self.weights_sha256}"

    @property
    def feature_space(self) -> str:
        """Backbone, its weights, the images' size and detail, maps or means, and the format if it is not 32 bits."""
        words = [self.spec["backbone"].removeprefix("BACKBONE_").lower().replace("_", "-"), self.weights_sha256[:12]]
        words += [str(self.image_size), *([f"of-{self.detail}"] if self.detail else [])]
        words += ["maps"] if self._places > 1 else []
        return "-".join([*words, *format_words(self.precision, self.ranges)])

    def preprocess(self, pixels: NDArray[np.uint8]) -> NDArray[np.float32]:
        """The backbone's features, averaged over the image or its places: float32 [n, features × places]."""
        body = self._body()
        side = math.isqrt(self._places)
        result = np.empty((len(pixels), self.features * self._places), np.float32)
        with torch.inference_mode():
            for start, kept, some in passes(pixels, self.device):
                maps = body(some.permute(0, 3, 1, 2))
                found = nn.functional.adaptive_avg_pool2d(maps, side).flatten(1) if side > 1 else maps.mean((2, 3))
                result[start : start + kept] = found[:kept].cpu().numpy()
        return result

    def extract_features(self, pixels: NDArray[np.uint8]) -> NDArray[np.float32]:
        return self.preprocess(pixels)

    def penultimate(self, features: Tensor) -> Tensor:
        return self.embed(features)

    def logits(self, features: Tensor) -> Tensor:
        return self.forward(features)

    def _body(self) -> Backbone:
        """The backbone, which networks of one process share. Kept in a list: it is no part of the artefact."""
        wanted = (str(self.device), self.precision)
        if not self._shared or self._shared[0] != wanted:
            self._shared = wanted, [self._built(self.precision)]
        return self._shared[1][0]

    def backbone(self) -> Backbone:
        return self._built(FLOAT32)

    def _built(self, precision: str) -> Backbone:
        """One per process, size, device and number format."""
        ranges = self.ranges if precision == INT8 else ()
        key = (self.spec["backbone"], self._weights.sha256, self.image_size, str(self.device), precision, ranges)
        body = _bodies.get(key)
        if body is None:
            body = build_body(self.spec["backbone"], image_size=self.image_size, channels=3, weights=self._weights)
            body = in_precision(body.requires_grad_(False), precision, ranges).to(self.device)
            _bodies[key] = body
        return body

    def fit_inputs(self, inputs: Tensor) -> None:
        std, mean = torch.std_mean(inputs, dim=0, correction=0)
        self.feature_mean.copy_(mean)
        # A feature that never varied says nothing; do not blow up its noise.
        self.feature_std.copy_(std.clamp(min=1e-3))

    def embed(self, inputs: Tensor) -> Tensor:
        found = self._standardised(inputs)
        return found.unflatten(1, (self.features, self._places)).mean(2) if self._places > 1 else found

    def forward(self, inputs: Tensor) -> Tensor:
        return cast(Tensor, self.head(self.drop(self._standardised(inputs))))

    def _standardised(self, inputs: Tensor) -> Tensor:
        return (inputs - self.feature_mean) / self.feature_std


def build_network(
    backbone: str,
    *,
    image_size: int,
    channels: int,
    classes: int,
    seed: int,
    tuning: str = "",
    head: str = LINEAR,
    weights: str = "",
    detail: int = 0,
    store: Store | None = None,
    weights_sha256: str | None = None,
) -> Network:
    """A network with the weights that `seed` draws where it has no others, in eval mode on the CPU.

    Args:
        backbone: One of `genaug.vision.models.backbones.SIZES`.
        image_size: Pixels; 0 for the backbone's own size where it has one.
        channels: Channels of the dataset's images. Pretrained backbones see grey images as RGB.
        classes: Outputs.
        seed: Of the initial weights.
        tuning: `FROZEN` or `FINE_TUNED`; empty for the backbone's default.
        head: `LINEAR`, `PUBLISHED`, `LOGISTIC` or `DENSE`.
        weights: As ClassifierSpec.weights; empty for the backbone's default.
        detail: Pixels that images are brought to first; 0 for none.
        store: Where weights are looked for that are named by a key or by their digest.
        weights_sha256: Of the frozen weights that a finished classifier stands on, empty where its artefact holds all;
            None for a new one.

    Raises:
        InvalidArgument: no such backbone, it cannot take such images, or the parts do not fit together.
        FailedPrecondition: the backbone's weights cannot be had.
    """
    if channels not in (1, 3):
        raise InvalidArgument(f"channels: {channels}; images have 1 or 3", reason="BAD_CHANNELS")
    size, small = check_size(backbone, image_size), backbone == SMALL_CNN
    spec = {
        "backbone": backbone,
        "image_size": size,
        "tuning": tuning or (FINE_TUNED if small else FROZEN),
        "head": head,
        "weights": weights or (NONE if small else IMAGENET),
        "detail": detail,
    }
    _check_parts(spec)
    found = _find_weights(spec, store, weights_sha256)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed_of("initial weights", seed))
        if spec["tuning"] == FROZEN and found is not None:
            return Frozen(spec, found, features=FEATURES[backbone], classes=classes).eval()
        seen = channels if small else 3
        body = build_body(backbone, image_size=size, channels=seen, weights=found)
        return FineTuned(spec, body, channels=seen, classes=classes).eval()


def _check_parts(spec: dict[str, Any]) -> None:
    if spec["tuning"] not in (FROZEN, FINE_TUNED) or spec["head"] not in (LINEAR, PUBLISHED, LOGISTIC, DENSE):
        raise InvalidArgument(
            f"classifier: tuning {spec['tuning']!r} or head {spec['head']!r} is unknown", reason="BAD_CLASSIFIER"
        )
    frozen = spec["tuning"] == FROZEN
    if frozen and spec["weights"] == NONE:
        raise InvalidArgument(
            "classifier.weights: random weights that stay frozen have learnt nothing; set tuning: FINE_TUNED",
            reason="BAD_CLASSIFIER",
        )
    if spec["head"] in (LOGISTIC, DENSE) and not frozen:
        raise InvalidArgument(
            f"classifier.head: {spec['head'].removeprefix('HEAD_')} stands on frozen features; set tuning: FROZEN",
            reason="BAD_CLASSIFIER",
        )
    if spec["backbone"] == SMALL_CNN and (spec["weights"] != NONE or spec["head"] != LINEAR):
        raise InvalidArgument(
            "classifier: SMALL_CNN starts from random weights, under a linear head", reason="BAD_CLASSIFIER"
        )
    if spec["detail"] < 0:
        raise InvalidArgument(f"classifier.detail: {spec['detail']} is below 0", reason="BAD_CLASSIFIER")


def _find_weights(spec: dict[str, Any], store: Store | None, digest: str | None) -> Weights | None:
    """The weights that a network is built with, those with `digest` where it is given; None for none."""
    # A finished network whose every layer learnt brings its own: the first ones may be gone.
    if spec["backbone"] == SMALL_CNN or digest == "":
        return None
    packaged = spec["backbone"] == EFFICIENTNET_LITE0 and spec["weights"] == IMAGENET
    if digest and not packaged:
        return sources.kept(store, digest)
    return find_weights(spec["backbone"], spec["weights"], store)


# As long as a network uses one.
_bodies: WeakValueDictionary[tuple[Any, ...], Backbone] = WeakValueDictionary()
