"""Predictors: a classifier in this process, or on a model server (`genaug.labeling.open_inference`)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol

from genaug.schema.classifiers import Classifier, Role
from genaug.shared.errors import FailedPrecondition
from genaug.shared.store import Store
from genaug.vision.batching.dynamic_batcher import DynamicBatcher, ModelKey
from genaug.vision.features.image_encoder import ImageEncoder, LocalEncoder
from genaug.vision.models.classifiers import read_record

# An image that every classifier accepts: a PNG of 8×8 pixels in 64 shades of grey.
CANARY = bytes.fromhex(
    "89504e470d0a1a0a0000000d4948445200000008000000080800000000e164e1570000001249444154780163646084020e28"
    "cd42160300132f008be9495f0b0000000049454e44ae426082"
)


class Predictor(ImageEncoder, Protocol):
    """A classifier that labels images, here or on a model server."""

    @property
    def classes(self) -> tuple[str, ...]:
        """The label map."""

    @property
    def thresholds(self) -> Mapping[str, float]:
        """Per class, the probability from which a label is accepted; empty for evaluators."""


class InProcess(LocalEncoder):
    """A `Predictor` behind the dynamic batcher of this process.

    Args:
        server: The batcher.
        model: The classifier.
        record: Its record.
        window: Images of one call in flight.
    """

    def __init__(self, server: DynamicBatcher, model: ModelKey, record: Classifier, *, window: int) -> None:
        super().__init__(server, model, window=window)
        self.classes: tuple[str, ...] = record.classes
        self.thresholds: Mapping[str, float] = record.thresholds


def check_labeler(store: Store, classifier: str) -> None:
    """Refuse a classifier that is no labeler.

    Raises:
        NotFound: no such classifier.
        FailedPrecondition: reason NOT_A_LABELER: an evaluator must not choose the images of its own scenarios.
    """
    if read_record(store, classifier).role != Role.LABELER:
        raise FailedPrecondition(
            f"{classifier} is no labeler; train one with role ROLE_LABELER", reason="NOT_A_LABELER"
        )
