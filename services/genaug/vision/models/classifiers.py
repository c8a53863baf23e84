"""A trained classifier as an artefact: label map, preprocessing, calibration and weights belong together.

classifiers/<digest>/model.safetensors   the weights; frozen backbones are named in config.json instead
classifiers/<digest>/config.json         what is needed to use it
classifiers/<digest>/classifier.json     the record, `genaug.v1.Classifier`; written last
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import safetensors.torch
import torch
from numpy.typing import NDArray
from safetensors import SafetensorError

from genaug.shared.digests import canonical_json
from genaug.shared.errors import FailedPrecondition, InvalidArgument, NotFound
from genaug.shared.manifest import Row
from genaug.shared.store import Store
from genaug.shared.tensors import notes_of
from genaug.vision.batching.minibatch import pass_size, passes
from genaug.vision.devices import pick_device
from genaug.vision.features.inputs import Advance, load_inputs
from genaug.vision.models.networks import Network, build_network
from genaug.vision.models.precision import FLOAT32, INT8, format_words
from genaug.vision.models.quantized import MapRange
from genaug.vision.models.weights import keep, mismatches

Probabilities = NDArray[np.float32]
"""float32 [n, classes]; each row sums to 1."""

_LAST = "classifier.json"


@dataclass(frozen=True)
class Classifier:
    """A trained network with all that is needed to use it. Deterministic; an image's numbers depend on it alone."""

    classes: tuple[str, ...]
    """The label map: class i is the network's i-th output."""
    network: Network
    temperature: float = 1.0
    """Logits are divided by it before the softmax."""
    thresholds: Mapping[str, float] = field(default_factory=dict)
    """Per class, the calibrated probability from which a label is accepted; empty for evaluators."""
    name: str = ""
    """Resource name, "classifiers/{digest}"; empty before it is saved."""

    @property
    def image_size(self) -> int:
        """Height and width of the images it takes, pixels."""
        return self.network.image_size

    @property
    def detail(self) -> int:
        """Height and width that images are brought to before that, pixels; 0 for none."""
        return self.network.detail

    @property
    def channels(self) -> int:
        """Channels of the images it takes."""
        return self.network.channels

    def predict(self, pixels: NDArray[np.uint8]) -> Probabilities:
        """Calibrated probabilities, float32 [n, classes].

        Args:
            pixels: uint8 [n, image_size, image_size, channels].
        """
        return self._probabilities(self._inputs(pixels))

    def predict_rows(self, store: Store, rows: Sequence[Row], *, advance: Advance | None = None) -> Probabilities:
        """`predict` of the images of `rows`. What several classifiers have in common is computed once per process."""
        return self._probabilities(load_inputs(store, rows, self.network, advance=advance))

    def features(self, pixels: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Penultimate features, float32 [n, features], of uint8 [n, image_size, image_size, channels]."""
        return self._passes(self._inputs(pixels), self.network.features, embed=True)

    def features_of_rows(
        self, store: Store, rows: Sequence[Row], *, advance: Advance | None = None
    ) -> NDArray[np.float32]:
        """`features` of the images of `rows`."""
        return self._passes(load_inputs(store, rows, self.network, advance=advance), self.network.features, embed=True)

    @property
    def feature_space(self) -> str:
        """What `extract_features` gives is equal for classifiers of one feature space; one word."""
        network = self.network
        own = [self.name.removeprefix("classifiers/"), *format_words(network.precision, network.ranges)]
        return network.feature_space or "-".join(own)

    def extract_features(self, pixels: NDArray[np.uint8]) -> NDArray[np.float32]:
        """The backbone's part of the work: features of uint8 [n, image_size, image_size, channels], in its space."""
        self._check(pixels)
        return self.network.extract_features(pixels)

    def classify(self, features: NDArray[np.float32]) -> tuple[NDArray[np.float32], Probabilities]:
        """The head's part: penultimate features [n, features] and probabilities [n, classes] of what `extract_features` gave."""
        last, logits = self.network.classify(features)
        return last, self._calibrated(logits)

    @property
    def pass_size(self) -> int:
        """Images in one pass of the backbone."""
        return pass_size((self.image_size, self.image_size, self.channels), self.network.device)

    @property
    def nbytes(self) -> int:
        """Memory of its weights, and of the frozen ones that it stands on."""
        frozen = self.network.weights.tensors if self.network.weights else {}
        return sum(int(one.nbytes) for one in (*self.network.state_dict().values(), *frozen.values()))

    def _inputs(self, pixels: NDArray[np.uint8]) -> NDArray[Any]:
        self._check(pixels)
        return self.network.preprocess(pixels)

    def _check(self, pixels: NDArray[np.uint8]) -> None:
        wanted = (self.image_size, self.image_size, self.channels)
        if pixels.dtype != np.uint8 or pixels.ndim != 4 or pixels.shape[1:] != wanted:
            raise InvalidArgument(
                f"{self.name or 'classifier'} takes uint8 images of shape {wanted}; "
                f"got {pixels.dtype} {pixels.shape[1:]}",
                reason="BAD_PIXELS",
            )

    def _probabilities(self, inputs: NDArray[Any]) -> Probabilities:
        return self._calibrated(self._passes(inputs, len(self.classes), embed=False))

    def _calibrated(self, logits: NDArray[np.float32]) -> Probabilities:
        scaled = logits.astype(np.float64) / self.temperature
        powers = np.exp(scaled - scaled.max(axis=1, keepdims=True))
        probabilities: Probabilities = (powers / powers.sum(axis=1, keepdims=True)).astype(np.float32)
        return probabilities

    def _passes(self, inputs: NDArray[Any], width: int, *, embed: bool) -> NDArray[np.float32]:
        result = np.empty((len(inputs), width), np.float32)
        compute = self.network.embed if embed else self.network
        with torch.inference_mode():
            for start, kept, some in passes(inputs, self.network.device):
                result[start : start + kept] = compute(some)[:kept].float().cpu().numpy()
        return result


def save(store: Store, classifier: Classifier, *, name: str, record: Mapping[str, Any]) -> None:
    """Write `classifier` under `name`, its record last. What is there stays: the record always fits the weights.

    Args:
        record: `genaug.v1.Classifier` as plain JSON, without the fields that `classifier` itself knows.
    """
    config = _config(classifier)
    full = {
        **record,
        "name": name,
        "classes": list(classifier.classes),
        "spec": classifier.network.spec,
        "temperature": classifier.temperature,
        "thresholds": dict(classifier.thresholds),
    }
    # The weights carry config and record: a training that was cut short here and done again may differ in its last
    # bits, and then config and record are those of the weights that came first.
    about = {"about": canonical_json({"config": config, "record": full}).decode()}
    if classifier.network.weights:
        keep(store, classifier.network.weights)
    weights = {key: value.contiguous().cpu() for key, value in classifier.network.state_dict().items()}
    if not store.put_new(f"{name}/model.safetensors", safetensors.torch.save(weights, metadata=about)):
        stored = _stored_about(store, f"{name}/model.safetensors")
        config, full = stored["config"], stored["record"]
    store.put_new_json(f"{name}/config.json", config)
    store.put_new_json(f"{name}/{_LAST}", full)


def exists(store: Store, name: str) -> bool:
    """Whether the classifier `name` is there, complete."""
    return store.exists(f"{name}/{_LAST}")


def read_record(store: Store, name: str) -> dict[str, Any]:
    """The record of the classifier `name`: `genaug.v1.Classifier` as plain JSON.

    Raises:
        NotFound: there is none, or its training has not finished.
    """
    try:
        record: dict[str, Any] = store.get_json(f"{name}/{_LAST}")
    except NotFound:
        raise NotFound(f"{name}: there is no such classifier, or its training has not finished") from None
    return record


def computes_in(store: Store, name: str, precision: str) -> bool:
    """Whether the classifier `name`, which exists, was made for a number format."""
    return precision != INT8 or bool(store.get_json(f"{name}/config.json").get("ranges"))


def load(
    store: Store, name: str, *, device: str, classes: Sequence[str] | None = None, precision: str = FLOAT32
) -> Classifier:
    """Load the classifier `name`.

    Args:
        device: As in the settings; see `genaug.vision.devices.pick_device`.
        classes: The label map that the caller counts on.
        precision: What its backbone computes in, see `Network.set_precision`.

    Raises:
        NotFound: there is none, or its training has not finished.
        FailedPrecondition: reason LABEL_MAP_MISMATCH (it has another label map), BACKBONE_MISMATCH (it was trained on
            other backbone weights than are installed), BAD_WEIGHTS (its weights do not fit its network), NOT_QUANTIZED
            (it was not trained for 8 bits), NO_DEVICE.
    """
    read_record(store, name)
    config = store.get_json(f"{name}/config.json")
    label_map = tuple(config["classes"])
    if classes is not None and tuple(classes) != label_map:
        raise FailedPrecondition(
            f"{name} has the label map {list(label_map)}, not {list(classes)}; train one for these classes",
            reason="LABEL_MAP_MISMATCH",
            classifier=name,
        )
    if "spec" not in config:
        raise FailedPrecondition(
            f"{name} was trained by an earlier version of genaug; train it again", reason="OLD_CLASSIFIER"
        )
    network = build_network(
        **config["spec"],
        channels=config["channels"],
        classes=len(label_map),
        seed=0,
        store=store,
        weights_sha256=config["backbone_weights_sha256"],
    )
    _check_weights(name, config, network)
    _load_weights(name, store.get(f"{name}/model.safetensors"), network)
    network.ranges = tuple(MapRange(largest, tuple(channels)) for largest, channels in config.get("ranges", ()))
    network.set_precision(precision)
    place = pick_device(device)
    if precision == INT8 and place.type != "cpu":
        raise FailedPrecondition(
            "precision: 8 bits are for CPUs; take BFLOAT16 on an accelerator, or set GENAUG_DEVICE=cpu",
            reason="NO_DEVICE",
        )
    return Classifier(
        classes=label_map,
        network=network.to(place).eval(),
        temperature=config["temperature"],
        thresholds=config["thresholds"],
        name=name,
    )


def _config(classifier: Classifier) -> dict[str, Any]:
    network = classifier.network
    return {
        "spec": network.spec,
        "backbone_weights_sha256": network.weights_sha256,
        "classes": list(classifier.classes),
        "channels": network.channels,
        "features": network.features,
        "temperature": classifier.temperature,
        "thresholds": dict(classifier.thresholds),
        **({"ranges": list(network.ranges)} if network.ranges else {}),
    }


def _check_weights(name: str, config: Mapping[str, Any], network: Network) -> None:
    if config["backbone_weights_sha256"] != network.weights_sha256:
        raise FailedPrecondition(
            f"{name} was trained on {config['spec']['backbone']} weights {config['backbone_weights_sha256'][:12]}; "
            f"installed are {network.weights_sha256[:12]}. Install those, or train it again",
            reason="BACKBONE_MISMATCH",
            classifier=name,
        )


def _load_weights(name: str, data: bytes, network: Network) -> None:
    try:
        weights = safetensors.torch.load(data)
    except SafetensorError as error:
        raise FailedPrecondition(
            f"{name}/model.safetensors is damaged ({error}); delete the classifier and train it again",
            reason="BAD_WEIGHTS",
            classifier=name,
        ) from None
    if problems := mismatches(network.state_dict(), weights):
        raise FailedPrecondition(
            f"{name}/model.safetensors does not fit its network: {problems}; train it again",
            reason="BAD_WEIGHTS",
            classifier=name,
        )
    network.load_state_dict(weights)


def _stored_about(store: Store, key: str) -> dict[str, Any]:
    """What `save` wrote into the header of the weights at `key`."""
    about: dict[str, Any] = json.loads(notes_of(store.get(key), key=key)["about"])
    return about
