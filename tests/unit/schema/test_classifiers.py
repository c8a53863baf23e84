from __future__ import annotations

from typing import Any

import pytest

from genaug.schema.classifiers import ClassifierDecay, ClassifierSpec, Head, TrainingOptions, Tuning
from genaug.schema.common import Precision, TransformSpec
from genaug.schema.model import parse
from genaug.shared.errors import InvalidArgument


def completed(backbone: str, **fields: Any) -> ClassifierSpec:
    return ClassifierSpec(backbone=backbone, **fields).completed(224, pre_resize=0)


def test_defaults_are_written_out() -> None:
    assert ClassifierSpec().completed(28, pre_resize=16) == ClassifierSpec(
        backbone="SMALL_CNN", image_size=28, tuning=Tuning.FINE_TUNED, weights="none", pre_resize=16
    )
    assert ClassifierSpec().completed(300, pre_resize=0) == ClassifierSpec(
        backbone="EFFICIENTNET_LITE0", image_size=224, tuning=Tuning.FROZEN, weights="imagenet"
    )


@pytest.mark.parametrize(
    ("backbone", "fields", "path"),
    [
        ("EFFICIENTNET_LITE0", {"weights": "none"}, "weights"),
        ("EFFICIENTNET_LITE0", {"tuning": Tuning.FINE_TUNED, "head": Head.DENSE}, "head"),
        ("EFFICIENTNET_LITE0", {"tuning": Tuning.FINE_TUNED, "head": Head.LOGISTIC}, "head"),
        ("SMALL_CNN", {"head": Head.PUBLISHED}, ""),
        ("SMALL_CNN", {"tuning": Tuning.FROZEN}, ""),
        ("SMALL_CNN", {"weights": "imagenet"}, ""),
        ("SMALL_CNN", {"image_size": 7}, "image_size"),
        ("SMALL_CNN", {"image_size": 65}, "image_size"),
        ("VGG19", {"image_size": 31}, "image_size"),
    ],
)
def test_parts_that_do_not_fit_together_are_named(backbone: str, fields: dict[str, Any], path: str) -> None:
    assert [field for field, _ in completed(backbone, **fields).problems()] == [path]


@pytest.mark.parametrize("backbone", ["SMALL_CNN", "EFFICIENTNET_LITE0", "VGG19", "MOBILENET_V2"])
def test_defaults_fit_together(backbone: str) -> None:
    assert completed(backbone).problems() == []


def test_an_unknown_backbone_is_refused() -> None:
    with pytest.raises(InvalidArgument, match="did you mean VGG19"):
        parse(ClassifierSpec, {"backbone": "VGG16"})


@pytest.mark.parametrize(
    "fields", [{"image_size": -1}, {"pre_resize": -1}, {"tuning": "TUNING_SOME"}, {"head": "SOME"}]
)
def test_values_out_of_range_are_refused(fields: dict[str, Any]) -> None:
    with pytest.raises(InvalidArgument, match=next(iter(fields))):
        ClassifierSpec().replace(**fields)


@pytest.mark.parametrize(
    ("head", "options", "batch_size", "path"),
    [
        (Head.PUBLISHED, TrainingOptions(augment=TransformSpec()), 16, "training"),
        (Head.PUBLISHED, TrainingOptions(precision=Precision.BFLOAT16), 16, "training"),
        (Head.PUBLISHED, TrainingOptions(), 1, "batch_size"),
        (Head.LOGISTIC, TrainingOptions(class_weights=True), 16, "training"),
        (Head.LOGISTIC, TrainingOptions(decay=ClassifierDecay.PLATEAU), 16, "training"),
    ],
)
def test_trainings_that_a_classifier_cannot_have_are_named(
    head: Head, options: TrainingOptions, batch_size: int, path: str
) -> None:
    frozen = completed("EFFICIENTNET_LITE0", head=head)
    assert [field for field, _ in options.problems(frozen, batch_size=batch_size)] == [path]
    assert TrainingOptions().problems(frozen, batch_size=2) == []


def test_training_in_8_bits_is_refused() -> None:
    with pytest.raises(InvalidArgument, match="8 bits are for labeling"):
        TrainingOptions().replace(precision=Precision.INT8)


@pytest.mark.parametrize(
    "fields",
    [
        {"rotate_degrees": 0, "shift": 0, "scale": 0, "color": 0},
        {"shift": 0.6},
        {"color": -0.1},
        {"rotate_degrees": float("nan")},
    ],
)
def test_transforms_that_make_no_sense_are_refused(fields: dict[str, float]) -> None:
    with pytest.raises(InvalidArgument, match=next(iter(fields))):
        TransformSpec().replace(**fields)
