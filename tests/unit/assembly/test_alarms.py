from __future__ import annotations

import pytest

from genaug.assembly.describe.alarms import alarms
from genaug.schema.common import class_counts
from genaug.schema.datasets import ClassTally, Dataset, DatasetDescription, Defects, DroppedImage, NearDuplicate


def raised(description: DatasetDescription, **record: object) -> list[tuple[str, str]]:
    return [(alarm.reason, alarm.sentence) for alarm in alarms(description, Dataset(**record))]


def tallies(**training: int) -> tuple[ClassTally, ...]:
    return tuple(ClassTally(class_name=name, training=count, subjects=50) for name, count in training.items())


def test_a_sound_dataset_raises_none() -> None:
    defects = (Defects(images=100, blurred=3), Defects(class_name="a", images=50), Defects(class_name="b", images=50))
    description = DatasetDescription(classes=tallies(a=50, b=50), defects=defects, imbalance_ratio=1.0)
    assert not raised(description, training=class_counts({"a": 50, "b": 50}))


@pytest.mark.parametrize(
    ("description", "record", "reason", "sentence"),
    [
        (
            DatasetDescription(classes=tallies(N=1507, H=66), imbalance_ratio=22.83),
            {},
            "IMBALANCE",
            "'N' has 23 times the training images of 'H' (1507 and 66)",
        ),
        (DatasetDescription(classes=tallies(N=9, H=0)), {}, "IMBALANCE", "'H' has no training images"),
        (
            DatasetDescription(classes=(ClassTally(class_name="a", training=9, subjects=1),), imbalance_ratio=1.0),
            {},
            "FEW_SUBJECTS",
            "'a' has 1 subject, fewer than 20",
        ),
        (
            DatasetDescription(
                defects=(
                    Defects(images=200, blurred=40),
                    Defects(class_name="a", images=100, blurred=35),
                    Defects(class_name="b", images=100, blurred=5),
                )
            ),
            {},
            "BLURRED",
            "35% of the images of 'a' are blurred, and 5% of the others",
        ),
        (
            DatasetDescription(defects=(Defects(images=100), Defects(class_name="a", images=100, blank=2))),
            {},
            "BLANK",
            "2 of 100 images of 'a' are nearly of one color",
        ),
        (
            DatasetDescription(defects=(Defects(images=90, dropped=10),)),
            {
                "training": class_counts({"a": 90}),
                "dropped": tuple(DroppedImage(reason="UNREADABLE") for _ in range(10)),
            },
            "DROPPED",
            "10 of 100 images of the source cannot be used (10.0%)",
        ),
        (
            DatasetDescription(duplicates=10),
            {"training": class_counts({"a": 90})},
            "DUPLICATES",
            "10 of 100 images of the source are copies of others",
        ),
        (
            DatasetDescription(near_duplicates=5),
            {
                "training": class_counts({"a": 90}),
                "near_duplicates": tuple(NearDuplicate(image_id=f"{n}", other_image_id=f"x{n}") for n in range(5)),
            },
            "NEAR_DUPLICATES",
            "10 of 90 images are near-identical to images of other subjects",
        ),
    ],
    ids=lambda value: value if isinstance(value, str) and value.isupper() else "",
)
def test_each_alarm_says_its_numbers(description, record, reason: str, sentence: str) -> None:
    (alarm,) = raised(description, **record)
    assert alarm[0] == reason
    assert alarm[1].startswith(sentence)
