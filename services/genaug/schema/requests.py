"""Requests of the six steps to the services, and results that are no resources: messages of the *_service protos."""

from __future__ import annotations

from enum import StrEnum

from genaug.schema.common import ClassCount, Precision
from genaug.schema.datasets import View
from genaug.schema.generators import Batch
from genaug.schema.model import Model
from genaug.schema.run import LabelingMode, Scenario
from genaug.schema.sampling import Profile, Sampler
from genaug.schema.selection import SelectionSpec


class Output(StrEnum):
    """Destination of generated images."""

    STORE = "OUTPUT_STORE"
    INLINE = "OUTPUT_INLINE"


class SamplerSettings(Model):
    """Sampler settings of a request; fields that are 0 or empty take the generator's default."""

    steps: int = 0
    guidance_scale: float = 0.0
    scheduler: str = ""
    negative_prompt: str = ""
    image_size: int = 0
    strength: float = 0.0
    profile: Profile | None = None
    precision: Precision | None = None

    @classmethod
    def of(cls, sampler: Sampler) -> SamplerSettings:
        """The request form of complete settings."""
        return cls.model_validate(sampler.json_value())


class GenerateRequest(Model):
    """GenerationService.GenerateImages."""

    generator: str
    counts: tuple[ClassCount, ...]
    seed: int = 0
    first_index: int = 0
    sampler: SamplerSettings | None = None
    output: Output = Output.STORE

    @property
    def size(self) -> int:
        """Images."""
        return sum(entry.count for entry in self.counts)


class LabelRequest(Model):
    """LabelingService.LabelBatch."""

    classifier: str
    batch: str
    mode: LabelingMode = LabelingMode.AGREE
    precision: Precision = Precision.FLOAT32


class Acceptance(Model):
    """Verdicts on the images of one class."""

    class_name: str = ""
    accepted: int = 0
    disagrees: int = 0
    unsure: int = 0
    degenerate: int = 0


class Disagreement(Model):
    """Images of one class with another label."""

    class_name: str = ""
    label: str = ""
    count: int = 0


class LabelledBatch(Model):
    """A batch with labels and verdicts."""

    name: str = ""
    manifest: str = ""
    acceptances: tuple[Acceptance, ...] = ()
    kept: tuple[ClassCount, ...] = ()
    disagreements: tuple[Disagreement, ...] = ()


class DrawAndLabelRequest(Model):
    """A chunk of work: draw a batch, then label it."""

    generate: GenerateRequest
    classifier: str
    mode: LabelingMode
    precision: Precision


class DrawAndLabelResult(Model):
    """Result of a `DrawAndLabelRequest`."""

    batch: Batch
    labelled: LabelledBatch


class EmbedRequest(Model):
    """SelectionService.EmbedVersion."""

    dataset_version: str
    classifier: str
    precision: Precision = Precision.FLOAT32


class SelectRequest(Model):
    """SelectionService.SelectImages."""

    dataset_version: str
    embedding: str
    spec: SelectionSpec = SelectionSpec()


class MatchRequest(Model):
    """SelectionService.MatchImages."""

    embedding: str
    labelled_manifests: tuple[str, ...] = ()


class AssembleRequest(Model):
    """AssemblyService.AssembleDatasetVersion."""

    parent: str
    view: View = View()
    selections: tuple[str, ...] = ()
    scenario: Scenario | None = None
    augmented_classes: tuple[str, ...] = ()
    labelled_manifests: tuple[str, ...] = ()
    transformed_manifests: tuple[str, ...] = ()
    seed: int = 0
    matches: tuple[str, ...] = ()


class Name(Model):
    """A resource's name."""

    name: str
