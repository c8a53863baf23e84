"""Records of datasets and their versions."""

from __future__ import annotations

from enum import StrEnum

from genaug.schema.common import ClassCount, Provenance
from genaug.schema.model import Model


class MultiDisease(StrEnum):
    """Policy for images that show several diseases."""

    EXCLUDE = "MULTI_DISEASE_EXCLUDE"
    PRIMARY = "MULTI_DISEASE_PRIMARY"
    KEEP = "MULTI_DISEASE_KEEP"


class Window(Model):
    """The values that map to black and white, alike for every image of a dataset with more than 8 bits per value."""

    low: float = 0.0
    high: float = 0.0
    rule: str = ""


class PassedOver(Model):
    """Files of a source that were not read."""

    reason: str = ""
    count: int = 0


class DroppedImage(Model):
    """An image that was not imported."""

    image_id: str = ""
    reason: str = ""
    detail: str = ""
    row: int = 0
    class_name: str = ""


class NearDuplicate(Model):
    """Two images of different subjects that show the same photograph."""

    image_id: str = ""
    other_image_id: str = ""
    correlation: float = 0.0


class Dataset(Model):
    """A sealed image data set: its images, its split and its seal, made once at import."""

    name: str = ""
    digest: str = ""
    format: str = ""
    seed: int = 0
    split: tuple[float, ...] = ()
    folds: int = 0
    training: tuple[ClassCount, ...] = ()
    validation: tuple[ClassCount, ...] = ()
    test: tuple[ClassCount, ...] = ()
    subjects: int = 0
    subjects_on_two_sides: int = 0
    joined_groups: int = 0
    dropped: tuple[DroppedImage, ...] = ()
    near_duplicates: tuple[NearDuplicate, ...] = ()
    create_time: str = ""
    provenance: Provenance = Provenance()
    median_side: int = 0
    channels: int = 0
    own_split: bool = False
    window: Window | None = None
    passed_over: tuple[PassedOver, ...] = ()
    notes: tuple[str, ...] = ()


class View(Model):
    """Rows of a sealed dataset that a run looks at. Applied alike to training, validation and sealed rows."""

    classes: tuple[str, ...] = ()
    multi_disease: MultiDisease = MultiDisease.KEEP
    fold: int = 0


class DatasetVersion(Model):
    """An immutable list of rows of a dataset: a manifest with a name."""

    name: str = ""
    digest: str = ""
    manifest: str = ""
    real: tuple[ClassCount, ...] = ()
    synthetic: tuple[ClassCount, ...] = ()
    transformed: tuple[ClassCount, ...] = ()
    validation: tuple[ClassCount, ...] = ()
    shortfall: tuple[ClassCount, ...] = ()
    create_time: str = ""
    view: View = View()


class ClassTally(Model):
    """Counts of one class."""

    class_name: str = ""
    training: int = 0
    validation: int = 0
    test: int = 0
    subjects: int = 0


class Attribute(Model):
    """Counts of one attribute's values."""

    name: str = ""
    values: tuple[Value, ...] = ()


class Value(Model):
    """Images of one value of an attribute."""

    value: str = ""
    counts: tuple[ClassCount, ...] = ()


class Measure(Model):
    """The spread of one number over images."""

    name: str = ""
    class_name: str = ""
    percentiles: tuple[float, ...] = ()


class LeakageEstimate(Model):
    """Leakage over many random splits by image with the dataset's shares."""

    splits: int = 0
    leaked: float = 0.0
    leaked_lowest: float = 0.0
    leaked_highest: float = 0.0
    subjects_on_two_sides: float = 0.0


class Alarm(Model):
    """A property of a dataset that may mislead a study."""

    reason: str = ""
    sentence: str = ""
    class_name: str = ""


class Shortcut(Model):
    """Accuracy with which some properties of the image files tell the class."""

    properties: str = ""
    accuracy: float = 0.0
    lower: float = 0.0
    upper: float = 0.0
    chance: float = 0.0
    class_name: str = ""
    class_accuracy: float = 0.0
    class_lower: float = 0.0
    tells: bool = False


class Histogram(Model):
    """Distribution of luma."""

    class_name: str = ""
    shares: tuple[float, ...] = ()


class Defects(Model):
    """Images that cannot be used or are poor."""

    class_name: str = ""
    images: int = 0
    dropped: int = 0
    blurred: int = 0
    blank: int = 0


class DatasetDescription(Model):
    """Counts of classes, attributes, subjects and image quality, and alarms. Of sealed rows only counts are given."""

    dataset: str = ""
    classes: tuple[ClassTally, ...] = ()
    attributes: tuple[Attribute, ...] = ()
    multi_disease: tuple[ClassCount, ...] = ()
    duplicates: int = 0
    near_duplicates: int = 0
    images_per_subject: tuple[int, ...] = ()
    measures: tuple[Measure, ...] = ()
    leakage_estimate: LeakageEstimate | None = None
    alarms: tuple[Alarm, ...] = ()
    shortcuts: tuple[Shortcut, ...] = ()
    imbalance_ratio: float = 0.0
    histograms: tuple[Histogram, ...] = ()
    defects: tuple[Defects, ...] = ()
