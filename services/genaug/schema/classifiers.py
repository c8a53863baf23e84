"""Classifier specifications, the registry of backbones, and the record of a classifier."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Annotated, Any

from pydantic import model_validator

from genaug.schema.common import MAX_IMAGE_SIDE, Precision, Provenance, TransformSpec
from genaug.schema.datasets import Window
from genaug.schema.model import Model, Within, problem
from genaug.schema.registry import Registry


class Role(StrEnum):
    """Use of a classifier."""

    LABELER = "ROLE_LABELER"
    EVALUATOR = "ROLE_EVALUATOR"


class Tuning(StrEnum):
    """Trained part of a classifier."""

    FROZEN = "TUNING_FROZEN"
    FINE_TUNED = "TUNING_FINE_TUNED"


class Head(StrEnum):
    """Layers on a backbone."""

    LINEAR = "HEAD_LINEAR"
    PUBLISHED = "HEAD_PUBLISHED"
    LOGISTIC = "HEAD_LOGISTIC"
    DENSE = "HEAD_DENSE"


class ClassifierDecay(StrEnum):
    """Learning-rate schedule of a classifier's training."""

    COSINE = "DECAY_COSINE"
    PLATEAU = "DECAY_PLATEAU"


@dataclass(frozen=True)
class BackboneInfo:
    """An entry of the registry of backbones; light, so that the orchestrator can check run files."""

    implementation: str
    """ "module:attribute" of the `genaug.vision.models.backbones.BackboneKind` that builds it."""
    smallest: int = 32
    """Smallest image, pixels."""
    largest: int = MAX_IMAGE_SIDE
    """Largest image, pixels."""
    image_size: int = 224
    """Default image size, pixels; 0 for the dataset's own, within the limits."""
    pretrained: bool = True
    """Whether it has weights: "imagenet". Without, every layer learns, under a linear head."""
    quantizable: bool = False
    """Whether it can compute in INT8."""


BACKBONES: Registry[BackboneInfo] = Registry(
    "genaug.backbones",
    "backbone",
    {
        "SMALL_CNN": BackboneInfo("genaug.vision.models.backbones:SMALL_CNN", 8, 64, 0, pretrained=False),
        "EFFICIENTNET_LITE0": BackboneInfo("genaug.vision.models.backbones:EFFICIENTNET_LITE0"),
        "VGG19": BackboneInfo("genaug.vision.models.backbones:VGG19", quantizable=True),
        "MOBILENET_V2": BackboneInfo("genaug.vision.models.backbones:MOBILENET_V2"),
    },
)

# Below this side, pixels, a network pretrained on photographs has nothing to look at.
MIN_PHOTOGRAPH_SIDE = 32


class ClassifierSpec(Model):
    """A classifier to be trained. Empty fields depend on the dataset and the run; see `completed`."""

    backbone: str = ""
    image_size: Annotated[int, Within(0, MAX_IMAGE_SIDE)] = 0
    tuning: Tuning | None = None
    head: Head = Head.LINEAR
    weights: str = ""
    pre_resize: Annotated[int, Within(0, MAX_IMAGE_SIDE)] = 0

    @model_validator(mode="before")
    @classmethod
    def _read_old_form(cls, value: Any) -> Any:
        """Read records of releases before 0.6, in which backbones were an enum and `pre_resize` was `detail`."""
        if isinstance(value, dict) and str(value.get("backbone", "")).startswith("BACKBONE_"):
            backbone = value["backbone"].removeprefix("BACKBONE_")
            return {"pre_resize": value.get("detail", 0), **value, "backbone": backbone}
        return value

    @model_validator(mode="after")
    def _check(self) -> ClassifierSpec:
        if self.backbone and self.backbone not in BACKBONES.names():
            raise problem("backbone", BACKBONES.unknown(self.backbone))
        return self

    def completed(self, median_side: int, *, pre_resize: int) -> ClassifierSpec:
        """With every default written out.

        Args:
            median_side: Of the dataset's images, pixels.
            pre_resize: The run's; 0 apart from a run.

        Raises:
            InvalidArgument: unknown backbone.
        """
        backbone = self.backbone or ("EFFICIENTNET_LITE0" if median_side >= MIN_PHOTOGRAPH_SIDE else "SMALL_CNN")
        info = BACKBONES.get(backbone)
        own = info.image_size or max(info.smallest, min(info.largest, median_side))
        return self.model_copy(
            update={
                "backbone": backbone,
                "image_size": self.image_size or own,
                "tuning": self.tuning or (Tuning.FROZEN if info.pretrained else Tuning.FINE_TUNED),
                "weights": self.weights or ("imagenet" if info.pretrained else "none"),
                "pre_resize": self.pre_resize or pre_resize,
            }
        )

    def problems(self) -> list[tuple[str, str]]:
        """Fields of a completed specification that contradict each other: (field, problem)."""
        info, found = BACKBONES.get(self.backbone), []
        if not info.smallest <= self.image_size <= info.largest:
            best = f"; {info.image_size} is its best" if info.image_size else ""
            found.append((
                "image_size",
                f"{self.image_size} is not within {info.smallest} and {info.largest}, "
                f"the limits of {self.backbone}{best}",
            ))  # fmt: skip
        if not info.pretrained and (self.tuning, self.head, self.weights) != (Tuning.FINE_TUNED, Head.LINEAR, "none"):
            found.append(("", f"{self.backbone} learns every layer from random weights (none), under a linear head"))
            return found
        if self.head in (Head.LOGISTIC, Head.DENSE) and self.tuning != Tuning.FROZEN:
            found.append(("head", f"{self.head.name} stands on frozen features; set tuning: FROZEN"))
        if self.tuning == Tuning.FROZEN and self.weights == "none":
            found.append(("weights", "random weights that stay frozen have learnt nothing; set tuning: FINE_TUNED"))
        return found

    @property
    def learning_rate(self) -> float:
        """Default learning rate of a completed specification: small for pretrained layers that learn, or wide ones."""
        moved = BACKBONES.get(self.backbone).pretrained and self.tuning == Tuning.FINE_TUNED
        return 0.0002 if moved or self.head == Head.DENSE else 0.002


class TrainingOptions(Model):
    """Training of a classifier, beyond the number of updates."""

    precision: Precision = Precision.FLOAT32
    decay: ClassifierDecay = ClassifierDecay.COSINE
    class_weights: bool = False
    augment: TransformSpec | None = None

    @model_validator(mode="after")
    def _check(self) -> TrainingOptions:
        if self.precision == Precision.INT8:
            raise problem("precision", "8 bits are for labeling; there are FLOAT32 and BFLOAT16")
        return self

    def problems(self, classifier: ClassifierSpec, *, batch_size: int) -> list[tuple[str, str]]:
        """Options that a completed `classifier` cannot be trained with: (field, problem)."""
        found = []
        pixels = self.augment is not None or self.precision != Precision.FLOAT32
        if pixels and classifier.tuning == Tuning.FROZEN:
            found.append((
                "training",
                "augment and precision: a frozen backbone's features are computed once; set classifier.tuning: "
                "FINE_TUNED",
            ))  # fmt: skip
        if (self.class_weights or self.decay != ClassifierDecay.COSINE) and classifier.head == Head.LOGISTIC:
            found.append((
                "training", "class_weights and decay: LOGISTIC is fitted in closed form, with balanced classes"
            ))  # fmt: skip
        if batch_size == 1 and classifier.head == Head.PUBLISHED:
            found.append(("batch_size", "1; the published head normalizes over the batch: take 2 or more"))
        return found


class Classifier(Model):
    """A trained classifier."""

    name: str = ""
    classes: tuple[str, ...] = ()
    spec: ClassifierSpec = ClassifierSpec()
    dataset_version: str = ""
    role: Role | None = None
    seed: int = 0
    updates: int = 0
    best_update: int = 0
    macro_recall: float = 0.0
    temperature: float = 0.0
    thresholds: dict[str, float] = {}
    create_time: str = ""
    provenance: Provenance = Provenance()
    window: Window | None = None
