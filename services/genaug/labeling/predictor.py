"""Whoever labels images: a classifier in this process, or a model server (`genaug.labeling.open_inference`)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol

from genaug.shared.errors import FailedPrecondition
from genaug.shared.store import Store
from genaug.vision.classifiers import read_record
from genaug.vision.eyes import Eye, Served
from genaug.vision.inference import InferenceServer, Model


class Predictor(Eye, Protocol):
    """A classifier that labels images, wherever it computes."""

    @property
    def classes(self) -> tuple[str, ...]:
        """The label map."""

    @property
    def thresholds(self) -> Mapping[str, float]:
        """Per class, the probability from which a label is accepted; empty for evaluators."""


class InProcess(Served):
    """A classifier behind the inference server of this process: a `Predictor`.

    Args:
        server: The inference server.
        model: Which classifier.
        record: Its record.
        window: Images of one call that are under way.
    """

    def __init__(self, server: InferenceServer, model: Model, record: Mapping[str, Any], *, window: int) -> None:
        super().__init__(server, model, window=window)
        self.classes: tuple[str, ...] = tuple(record["classes"])
        self.thresholds: Mapping[str, float] = record.get("thresholds", {})


def check_labeler(store: Store, classifier: str) -> None:
    """Refuse what is no labeler.

    Raises:
        NotFound: there is no such classifier.
        FailedPrecondition: reason NOT_A_LABELER: what judges scenarios must not have chosen their images.
    """
    if read_record(store, classifier).get("role") != "ROLE_LABELER":
        raise FailedPrecondition(
            f"{classifier} is no labeler; train one with role ROLE_LABELER", reason="NOT_A_LABELER"
        )
