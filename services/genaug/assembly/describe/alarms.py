"""Alarms of a description: properties of a dataset that may mislead a study, in sentences."""

from __future__ import annotations

from collections.abc import Iterator

from genaug.assembly.describe.shortcuts import ALL, FILE_PROPERTIES, IMAGE_PROPERTIES, MARGIN
from genaug.schema.datasets import Alarm, Dataset, DatasetDescription, Defects, Shortcut

FEWEST_SUBJECTS = 20
"""A class with fewer subjects raises an alarm."""

_CAUSES = {
    "file size": "blur, detail or compression differs by class, through the camera or the disease",
    "mean color": "light, camera or the disease itself colors the classes differently",
    "border": "cropping or the camera differs by class",
}
_FILE_CAUSE = "format, scaling or camera differ by class, and no disease changes those"
_MOST_IMBALANCED = 10.0
_MOST_DROPPED = 0.02
_MOST_DUPLICATES = 0.05
_MOST_BLANK = 0.01
# A class has many blurred images if they are this share of it, and so many times the share of the other classes.
_MANY_BLURRED, _TIMES_BLURRED = 0.1, 3.0
# Fewer blurred images than this say nothing of a class.
_FEW_BLURRED = 5
# A set of several properties is named instead of a single one if it is better by this.
_BETTER = 0.05


def alarms(description: DatasetDescription, dataset: Dataset) -> tuple[Alarm, ...]:
    """Return the alarms of a dataset, most serious first.

    Args:
        description: Its description, without alarms.
        dataset: Its record.
    """
    return (
        *_shortcuts(description.shortcuts),
        *_few_subjects(description),
        *_imbalance(description),
        *_defects(description, dataset),
        *_copies(description, dataset),
    )


def _shortcuts(shortcuts: tuple[Shortcut, ...]) -> Iterator[Alarm]:
    """One alarm for properties of the files, one for each of the image; if there is none, one for all together."""
    of_name = {entry.properties: entry for entry in shortcuts if entry.tells}
    files = [of_name[name] for name in FILE_PROPERTIES if name in of_name]
    images = [of_name[name] for name in IMAGE_PROPERTIES if name in of_name]
    if files:
        yield _shortcut(_most_telling(files), _FILE_CAUSE)
    for entry in images:
        # Format and scaling decide the size of a file.
        if files and entry.properties == "file size":
            continue
        yield _shortcut(entry, _CAUSES[entry.properties])
    if ALL in of_name and not files and not images:
        yield _shortcut(of_name[ALL], "the files or the camera may differ by class, beside the disease")


def _most_telling(shortcuts: list[Shortcut]) -> Shortcut:
    """The first of the best: sets of several properties, which come last, must be clearly better."""
    best = shortcuts[0]
    for entry in shortcuts[1:]:
        if _gain(entry) > _gain(best) + (_BETTER if " " in entry.properties else 0):
            best = entry
    return best


def _gain(entry: Shortcut) -> float:
    """Accuracy above chance, as a share of the possible gain: over all classes, or for the class predicted best."""
    return max(_overall_gain(entry), _class_gain(entry))


def _overall_gain(entry: Shortcut) -> float:
    return (entry.accuracy - entry.chance) / (1 - entry.chance)


def _class_gain(entry: Shortcut) -> float:
    return 2 * entry.class_accuracy - 1


def _shortcut(entry: Shortcut, cause: str) -> Alarm:
    plural = " and " in entry.properties or entry.properties.endswith("s") or entry.properties == ALL
    # One class of many that is told well is the finding, and not the small gain that it makes over all classes.
    overall = entry.lower > entry.chance + MARGIN and 2 * _overall_gain(entry) >= _class_gain(entry)
    if overall:
        result = f"the class in {entry.accuracy:.0%} (chance {entry.chance:.0%}, 99% interval from {entry.lower:.0%})"
    else:
        result = f"{entry.class_name!r} from the other classes in {entry.class_accuracy:.0%} (chance 50%)"
    return Alarm(
        reason="SHORTCUT",
        sentence=f"{entry.properties} alone {'tell' if plural else 'tells'} {result}: {cause}; a network can learn it "
        "instead of the disease",
        class_name="" if overall else entry.class_name,
    )


def _few_subjects(description: DatasetDescription) -> Iterator[Alarm]:
    for entry in description.classes:
        if entry.subjects < FEWEST_SUBJECTS:
            yield Alarm(
                reason="FEW_SUBJECTS",
                sentence=f"{entry.class_name!r} has {_many(entry.subjects, 'subject')}, fewer than {FEWEST_SUBJECTS}: "
                "its results depend on single patients",
                class_name=entry.class_name,
            )


def _imbalance(description: DatasetDescription) -> Iterator[Alarm]:
    sizes = {entry.class_name: entry.training for entry in description.classes}
    if not sizes:
        return
    largest, smallest = max(sizes, key=lambda name: sizes[name]), min(sizes, key=lambda name: sizes[name])
    if not sizes[smallest]:
        yield Alarm(reason="IMBALANCE", sentence=f"{smallest!r} has no training images", class_name=smallest)
    elif description.imbalance_ratio >= _MOST_IMBALANCED:
        yield Alarm(
            reason="IMBALANCE",
            sentence=f"{largest!r} has {description.imbalance_ratio:.0f} times the training images of {smallest!r} "
            f"({sizes[largest]} and {sizes[smallest]}): judge by balanced accuracy, not by accuracy",
        )


def _defects(description: DatasetDescription, dataset: Dataset) -> Iterator[Alarm]:
    everything = next((entry for entry in description.defects if not entry.class_name), Defects())
    source = _images(dataset) + len(dataset.dropped)
    if everything.dropped > _MOST_DROPPED * source:
        yield Alarm(
            reason="DROPPED",
            sentence=f"{everything.dropped} of {source} images of the source cannot be used "
            f"({everything.dropped / source:.1%}); `genaug dataset get -o json` lists them with their rows",
        )
    for entry in description.defects:
        if not entry.class_name:
            continue
        others = everything.images - entry.images
        elsewhere = (everything.blurred - entry.blurred) / others if others else 1.0
        many = max(_MANY_BLURRED, _TIMES_BLURRED * elsewhere) * entry.images
        if entry.blurred > many and entry.blurred >= _FEW_BLURRED:
            yield Alarm(
                reason="BLURRED",
                sentence=f"{entry.blurred / entry.images:.0%} of the images of {entry.class_name!r} are blurred, and "
                f"{elsewhere:.0%} of the others: a network can learn blur instead of the disease",
                class_name=entry.class_name,
            )
        if entry.blank > _MOST_BLANK * entry.images:
            yield Alarm(
                reason="BLANK",
                sentence=f"{entry.blank} of {entry.images} images of {entry.class_name!r} are nearly of one color: "
                "look at them, and leave them out of the source if they show nothing",
                class_name=entry.class_name,
            )


def _copies(description: DatasetDescription, dataset: Dataset) -> Iterator[Alarm]:
    images = _images(dataset)
    if description.duplicates > _MOST_DUPLICATES * (images + description.duplicates):
        yield Alarm(
            reason="DUPLICATES",
            sentence=f"{description.duplicates} of {images + description.duplicates} images of the source are copies "
            "of others, and were left out: the source is smaller than it seems",
        )
    near = len({image for pair in dataset.near_duplicates for image in (pair.image_id, pair.other_image_id)})
    if near > _MOST_DUPLICATES * images:
        yield Alarm(
            reason="NEAR_DUPLICATES",
            sentence=f"{near} of {images} images are near-identical to images of other subjects: the source names "
            "subjects wrongly, or its images look alike; compare some of the pairs that `genaug dataset get` lists",
        )


def _images(dataset: Dataset) -> int:
    return sum(count.count for side in (dataset.training, dataset.validation, dataset.test) for count in side)


def _many(count: int, noun: str) -> str:
    return f"{count} {noun}{'' if count == 1 else 's'}"
