"""Trained classifiers as artifacts: label map, preprocessing, calibration and weights belong together.

classifiers/<digest>/model.safetensors   the weights; frozen backbones are named in config.json instead
classifiers/<digest>/config.json         configuration for inference
classifiers/<digest>/classifier.json     the record, `genaug.v1.Classifier`; written last
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import safetensors.torch
import torch
from numpy.typing import NDArray
from safetensors import SafetensorError
from scipy.special import softmax

from genaug.schema.classifiers import Classifier, ClassifierSpec
from genaug.schema.common import Precision
from genaug.schema.datasets import Window
from genaug.schema.model import Model, read
from genaug.shared.digests import canonical_json
from genaug.shared.errors import FailedPrecondition, InvalidArgument, NotFound
from genaug.shared.manifest import Row
from genaug.shared.store import Store
from genaug.shared.tensors import notes_of
from genaug.vision.batching.minibatch import minibatch_size, minibatches
from genaug.vision.devices import pick_device
from genaug.vision.features.inputs import RowCallback, load_inputs
from genaug.vision.models import weights as frozen_weights
from genaug.vision.models.networks import Network, build_network
from genaug.vision.models.precision import format_words
from genaug.vision.models.quantized import MapRange
from genaug.vision.models.weights import mismatches

Probabilities = NDArray[np.float32]
"""float32 [n, classes]; each row sums to 1."""

_LAST = "classifier.json"


class ClassifierConfig(Model):
    """The object config.json: facts that prediction needs beside the weights."""

    # Configurations of the first releases have none.
    spec: ClassifierSpec = ClassifierSpec()
    backbone_weights_sha256: str
    classes: tuple[str, ...]
    channels: int
    temperature: float
    thresholds: dict[str, float]
    ranges: tuple[MapRange, ...] = ()
    window: Window | None = None


class _About(Model):
    """Notes in the header of the weights."""

    config: ClassifierConfig
    record: Classifier


@dataclass(frozen=True)
class TrainedClassifier:
    """A trained network with its label map and calibration. Deterministic; an image's numbers depend on it alone."""

    classes: tuple[str, ...]
    """The label map: class i is the network's i-th output."""
    network: Network
    temperature: float = 1.0
    """Divides logits before the softmax."""
    thresholds: Mapping[str, float] = field(default_factory=dict)
    """Per class, the lowest calibrated probability of an accepted label; empty for evaluators."""
    name: str = ""
    """Resource name, "classifiers/{digest}"; empty before it is saved."""
    window: Window | None = None
    """Window of its dataset, for images with more than 8 bits per value; None where it had none of them."""

    @property
    def image_size(self) -> int:
        """Height and width of its images, pixels."""
        return self.network.image_size

    @property
    def pre_resize(self) -> int:
        """Height and width, pixels, that images are resized to before `image_size`; 0 for none."""
        return self.network.pre_resize

    @property
    def channels(self) -> int:
        """Channels of its images."""
        return self.network.channels

    def predict(self, pixels: NDArray[np.uint8]) -> Probabilities:
        """Calibrated probabilities, float32 [n, classes].

        Args:
            pixels: uint8 [n, image_size, image_size, channels].
        """
        return self._probabilities(self._inputs(pixels))

    def predict_rows(self, store: Store, rows: Sequence[Row], *, advance: RowCallback | None = None) -> Probabilities:
        """`predict` of the images of `rows`. Inputs that several classifiers share are computed once per process."""
        return self._probabilities(load_inputs(store, rows, self.network, advance=advance))

    def features(self, pixels: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Penultimate features, float32 [n, features], of uint8 [n, image_size, image_size, channels]."""
        return self._compute(self._inputs(pixels), self.network.features, embed=True)

    def features_of_rows(
        self, store: Store, rows: Sequence[Row], *, advance: RowCallback | None = None
    ) -> NDArray[np.float32]:
        """`features` of the images of `rows`."""
        return self._compute(load_inputs(store, rows, self.network, advance=advance), self.network.features, embed=True)

    @property
    def feature_space(self) -> str:
        """Key of `extract_features`, one word: classifiers with the same one have the same features."""
        network = self.network
        own = [self.name.removeprefix("classifiers/"), *format_words(network.precision, network.ranges)]
        return network.feature_space or "-".join(own)

    def extract_features(self, pixels: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Compute the backbone's part: features of uint8 [n, image_size, image_size, channels], in its space."""
        self._check(pixels)
        return self.network.extract_features(pixels)

    def classify(self, features: NDArray[np.float32]) -> tuple[NDArray[np.float32], Probabilities]:
        """Compute the head's part: penultimate features [n, features] and probabilities [n, classes] of features."""
        penultimate, logits = self.network.classify(features)
        return penultimate, self._calibrated(logits)

    @property
    def minibatch_size(self) -> int:
        """Images in one minibatch of the backbone."""
        return minibatch_size((self.image_size, self.image_size, self.channels), self.network.device)

    @property
    def nbytes(self) -> int:
        """Bytes of its weights, frozen ones included."""
        frozen = self.network.weights.tensors if self.network.weights else {}
        return sum(int(tensor.nbytes) for tensor in (*self.network.state_dict().values(), *frozen.values()))

    def _inputs(self, pixels: NDArray[np.uint8]) -> NDArray[Any]:
        self._check(pixels)
        return self.network.preprocess(pixels)

    def _check(self, pixels: NDArray[np.uint8]) -> None:
        shape = (self.image_size, self.image_size, self.channels)
        if pixels.dtype != np.uint8 or pixels.ndim != 4 or pixels.shape[1:] != shape:
            raise InvalidArgument(
                f"{self.name or 'classifier'} takes uint8 images of shape {shape}; "
                f"got {pixels.dtype} {pixels.shape[1:]}",
                reason="BAD_PIXELS",
            )

    def _probabilities(self, inputs: NDArray[Any]) -> Probabilities:
        return self._calibrated(self._compute(inputs, len(self.classes), embed=False))

    def _calibrated(self, logits: NDArray[np.float32]) -> Probabilities:
        probabilities: Probabilities = softmax(logits.astype(np.float64) / self.temperature, axis=1).astype(np.float32)
        return probabilities

    def _compute(self, inputs: NDArray[Any], width: int, *, embed: bool) -> NDArray[np.float32]:
        result = np.empty((len(inputs), width), np.float32)
        forward = self.network.embed if embed else self.network
        with torch.inference_mode():
            for start, count, batch in minibatches(inputs, self.network.device):
                result[start : start + count] = forward(batch)[:count].float().cpu().numpy()
        return result


def save(store: Store, trained: TrainedClassifier, *, name: str, record: Classifier) -> None:
    """Write `trained` under `name`, its record last. An existing artifact stays: the record always fits the weights.

    Args:
        record: Without the fields that `trained` itself knows: name, classes, spec, window and calibration.
    """
    network = trained.network
    calibration = {"temperature": trained.temperature, "thresholds": dict(trained.thresholds)}
    about = _About(
        config=ClassifierConfig(
            spec=network.spec,
            backbone_weights_sha256=network.weights_sha256,
            classes=trained.classes,
            channels=network.channels,
            ranges=network.ranges,
            window=trained.window,
            **calibration,
        ),
        record=record.replace(
            name=name, classes=trained.classes, spec=network.spec, window=trained.window, **calibration
        ),
    )
    if network.weights:
        frozen_weights.put(store, network.weights)
    weights = {key: value.contiguous().cpu() for key, value in network.state_dict().items()}
    # The weights carry config and record: a training that was cut short here and done again may differ in its last
    # bits, and then config and record are those of the weights that came first.
    key, notes = f"{name}/model.safetensors", {"about": canonical_json(about.json_value()).decode()}
    if not store.put_new(key, safetensors.torch.save(weights, metadata=notes)):
        about = _About.model_validate_json(notes_of(store.get(key), key=key)["about"])
    store.put_new_json(f"{name}/config.json", about.config.json_value())
    store.put_new_json(f"{name}/{_LAST}", about.record.json_value())


def exists(store: Store, name: str) -> bool:
    """Whether the classifier `name` is there, complete."""
    return store.exists(f"{name}/{_LAST}")


def read_record(store: Store, name: str) -> Classifier:
    """Read the record of the classifier `name`.

    Raises:
        NotFound: there is none, or its training has not finished.
    """
    try:
        return read(store, f"{name}/{_LAST}", Classifier)
    except NotFound:
        raise NotFound(f"{name}: there is no such classifier, or its training has not finished") from None


def read_config(store: Store, name: str) -> ClassifierConfig:
    """Read config.json of the existing classifier `name`."""
    return read(store, f"{name}/config.json", ClassifierConfig)


def supports_precision(store: Store, name: str, precision: Precision) -> bool:
    """Whether the existing classifier `name` can compute in a number format."""
    return precision != Precision.INT8 or bool(read_config(store, name).ranges)


def load(
    store: Store,
    name: str,
    *,
    device: str,
    classes: Sequence[str] | None = None,
    precision: Precision = Precision.FLOAT32,
) -> TrainedClassifier:
    """Load the classifier `name`.

    Args:
        device: As in the settings; see `genaug.vision.devices.pick_device`.
        classes: The label map that the caller relies on.
        precision: Number format of its backbone, see `Network.set_precision`.

    Raises:
        NotFound: there is none, or its training has not finished.
        FailedPrecondition: reason LABEL_MAP_MISMATCH (it has another label map), OLD_CLASSIFIER (an earlier release
            wrote it), BACKBONE_MISMATCH (it was trained on other backbone weights than are installed), BAD_WEIGHTS
            (its weights do not fit its network), NOT_QUANTIZED (it has no INT8 calibration), NO_DEVICE.
    """
    read_record(store, name)
    config = read(store, f"{name}/config.json", ClassifierConfig)
    if classes is not None and tuple(classes) != config.classes:
        raise FailedPrecondition(
            f"{name} has the label map {list(config.classes)}, not {list(classes)}; train one for these classes",
            reason="LABEL_MAP_MISMATCH",
            classifier=name,
        )
    if not config.spec.backbone:
        raise FailedPrecondition(
            f"{name} was trained by an earlier version of genaug; train it again", reason="OLD_CLASSIFIER"
        )
    network = build_network(
        config.spec,
        channels=config.channels,
        classes=len(config.classes),
        seed=0,
        store=store,
        weights_sha256=config.backbone_weights_sha256,
    )
    _check_weights(name, config, network)
    _load_weights(name, store.get(f"{name}/model.safetensors"), network)
    network.ranges = config.ranges
    network.set_precision(precision)
    torch_device = pick_device(device)
    if precision == Precision.INT8 and torch_device.type != "cpu":
        raise FailedPrecondition(
            "precision: 8 bits are for CPUs; take BFLOAT16 on an accelerator, or set GENAUG_DEVICE=cpu",
            reason="NO_DEVICE",
        )
    return TrainedClassifier(
        classes=config.classes,
        network=network.to(torch_device).eval(),
        temperature=config.temperature,
        thresholds=config.thresholds,
        name=name,
        window=config.window,
    )


def _check_weights(name: str, config: ClassifierConfig, network: Network) -> None:
    if config.backbone_weights_sha256 != network.weights_sha256:
        raise FailedPrecondition(
            f"{name} was trained on {config.spec.backbone} weights {config.backbone_weights_sha256[:12]}; "
            f"installed are {network.weights_sha256[:12]}. Install those, or train it again",
            reason="BACKBONE_MISMATCH",
            classifier=name,
        )


def _today(key: str) -> str:
    """Name of a tensor; releases before 0.6 called the backbone `body`, and SMALL_CNN's network `layers`."""
    part, _, rest = key.partition(".")
    return f"backbone.{re.sub(r'^layers', 'network', rest)}" if part == "body" else key


def _load_weights(name: str, data: bytes, network: Network) -> None:
    try:
        weights = safetensors.torch.load(data)
    except SafetensorError as error:
        raise FailedPrecondition(
            f"{name}/model.safetensors is damaged ({error}); delete the classifier and train it again",
            reason="BAD_WEIGHTS",
            classifier=name,
        ) from None
    weights = {_today(key): tensor for key, tensor in weights.items()}
    if problems := mismatches(network.state_dict(), weights):
        raise FailedPrecondition(
            f"{name}/model.safetensors does not fit its network: {problems}; train it again",
            reason="BAD_WEIGHTS",
            classifier=name,
        )
    network.load_state_dict(weights)
