"""Messages that several resources share."""

from __future__ import annotations

from collections.abc import Iterable
from enum import StrEnum
from typing import Annotated

from pydantic import Field, model_validator

from genaug import __version__
from genaug.schema.model import Model, Within, problem
from genaug.shared.provenance import libraries, revision

Seed = Annotated[int, Within(0, 2**53)]
Updates = Annotated[int, Within(1, 1_000_000)]
BatchSize = Annotated[int, Within(1, 4096)]
LearningRate = Annotated[float, Within(1e-7, 1.0)]

MAX_IMAGE_SIDE = 1024
"""Largest side of an image, pixels, that any part handles: a message must carry it."""


class Precision(StrEnum):
    """Number format of a network's computation."""

    FLOAT32 = "PRECISION_FLOAT32"
    BFLOAT16 = "PRECISION_BFLOAT16"
    INT8 = "PRECISION_INT8"


class Progress(Model):
    """Progress of a slow call."""

    step: str = ""
    done: int = 0
    total: int = 0
    unit: str = ""
    seconds_left: float = 0.0
    note: str = ""
    steps: int = 0
    steps_total: int = 0
    queue_position: int = 0


class ClassCount(Model):
    """Number of images of one class."""

    class_name: str = ""
    count: int = 0


class Provenance(Model):
    """Code and libraries that made a result."""

    recipe: str = ""
    version: str = ""
    revision: str = ""
    libraries: dict[str, str] = {}
    seconds: float = 0.0


class TransformSpec(Model):
    """Ranges of label-preserving transforms."""

    horizontal_flip: bool = False
    rotate_degrees: Annotated[float, Within(0, 180)] = 10.0
    shift: Annotated[float, Within(0, 0.5)] = 0.05
    scale: Annotated[float, Within(0, 0.5)] = 0.1
    # Names of generators are digests in which this field is spelt "colour".
    color: Annotated[float, Within(0, 0.5)] = Field(0.1, serialization_alias="colour")

    @model_validator(mode="after")
    def _check(self) -> TransformSpec:
        if not (self.horizontal_flip or self.rotate_degrees or self.shift or self.scale or self.color):
            raise problem("rotate_degrees", "every range is 0, so that each image would be a copy; allow at least one")
        return self


def counts_of(counts: Iterable[ClassCount]) -> dict[str, int]:
    """Counts by class name."""
    return {entry.class_name: entry.count for entry in counts}


def class_counts(counts: dict[str, int]) -> tuple[ClassCount, ...]:
    """Counts by class name, as messages."""
    return tuple(ClassCount(class_name=name, count=count) for name, count in counts.items())


def provenance(recipe: str, *, seconds: float) -> Provenance:
    """Provenance of a result made now by this code.

    Args:
        recipe: Recipe version, such as "finetune/3".
        seconds: Seconds that it took.
    """
    return Provenance(
        recipe=recipe, version=__version__, revision=revision(), libraries=dict(libraries()), seconds=round(seconds, 3)
    )
