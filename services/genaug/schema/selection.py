"""Selection settings, and the records of the selection service."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated

from genaug.schema.common import Provenance, Seed
from genaug.schema.model import Model, Within


class SelectionMethod(StrEnum):
    """Selection of the images of a dominant class."""

    TSNE_GRID = "METHOD_TSNE_GRID"
    RANDOM = "METHOD_RANDOM"
    HERDING = "METHOD_HERDING"
    K_CENTER = "METHOD_K_CENTER"


class SelectionSpec(Model):
    """Step 4: the dominant classes to reduce, and how."""

    classes: tuple[str, ...] = ()
    method: SelectionMethod = SelectionMethod.TSNE_GRID
    kept: Annotated[int, Within(0, 10_000_000)] = 0
    seed: Seed = 0


class Embedding(Model):
    """Penultimate features of a dataset version's training images, computed once."""

    name: str = ""
    object: str = ""
    rows: int = 0
    dimensions: int = 0


class SelectionQuality(Model):
    """How well a choice stands for its class."""

    class_name: str = ""
    available: int = 0
    kept: int = 0
    mmd2: float = 0.0
    random_mmd2: float = 0.0
    coverage: float = 0.0
    random_coverage: float = 0.0
    alternatives: tuple[SelectionAlternative, ...] = ()


class SelectionAlternative(Model):
    """How well another method would have chosen."""

    method: SelectionMethod = SelectionMethod.TSNE_GRID
    mmd2: float = 0.0
    coverage: float = 0.0


class Selection(Model):
    """A choice of training images of dominant classes, beside a random one of equal size."""

    name: str = ""
    manifest: str = ""
    spec: SelectionSpec = SelectionSpec()
    qualities: tuple[SelectionQuality, ...] = ()
    create_time: str = ""
    provenance: Provenance = Provenance()


class MatchCloseness(Model):
    """How near made images of a class come to training images. Distances are 1 minus the cosine, 0 to 2."""

    class_name: str = ""
    made: int = 0
    made_median: float = 0.0
    real_median: float = 0.0
    copy_distance: float = 0.0
    suspected_copies: int = 0


class Match(Model):
    """Made images beside the real training images nearest to them, in the features of one backbone."""

    name: str = ""
    nearest_made: str = ""
    nearest_real: str = ""
    closenesses: tuple[MatchCloseness, ...] = ()
    create_time: str = ""
    provenance: Provenance = Provenance()
