"""Inputs of the four Jobs, and the names of their results: digests of the inputs and of a recipe version."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal, cast

from genaug.schema.classifiers import ClassifierSpec, Role, TrainingOptions
from genaug.schema.datasets import MultiDisease
from genaug.schema.evaluation import EvaluationSpec
from genaug.schema.generators import GeneratorSpec, Rejection
from genaug.schema.model import Model, parse
from genaug.schema.run import Run, Scenario, ScenarioSampling
from genaug.shared.digests import digest_of
from genaug.shared.errors import InvalidArgument
from genaug.shared.store import Store

RECIPES = {"finetune": "finetune/3", "train": "train/5", "evaluate": "evaluate/4"}
"""Recipe version per step: bumped by hand when the same inputs are to give another result."""


class FinetuneInputs(Model):
    """Inputs of a `finetune` Job: one generator."""

    dataset_version: str
    classes: tuple[str, ...]
    """Classes to draw, in the order of the label map."""
    generator: GeneratorSpec
    channels: Literal[1, 3]
    """Of the dataset's images."""

    @property
    def result(self) -> str:
        """Name of the result, "generators/{digest}"."""
        inputs = {
            "dataset_version": self.dataset_version,
            "classes": list(self.classes),
            "generator": {**self.generator.digest_form(), "channels": self.channels},
        }
        return f"generators/{digest_of(RECIPES['finetune'], inputs)}"


class TrainItem(Model):
    """One classifier of a `train` Job."""

    role: Role
    classifier: ClassifierSpec
    channels: Literal[1, 3]
    """Of the dataset's images."""
    dataset_version: str
    rows_digest: str = ""
    """Digest of the version's rows: a dataset imported anew has the name "versions/real" again, with other rows."""
    classes: tuple[str, ...]
    """The label map."""
    sampling: ScenarioSampling
    updates: int
    batch_size: int
    learning_rate: float
    training: TrainingOptions = TrainingOptions()
    seed: int
    quantized: bool = False
    """Whether it can label in INT8 afterwards; labelers only."""

    @property
    def result(self) -> str:
        """Name of the result, "classifiers/{digest}"."""
        return f"classifiers/{digest_of(RECIPES['train'], self.json_value())}"


class FeatureSources(Model):
    """Lists of images with features that may be in the store already; see `genaug.vision.features.feature_index`."""

    views: tuple[str, ...] = ()
    """Dataset versions."""
    labels: tuple[str, ...] = ()
    """Labelled batches."""


class TrainInputs(Model):
    """Inputs of a `train` Job."""

    items: tuple[TrainItem, ...]
    features: FeatureSources = FeatureSources()


class ScoredPart(Model):
    """Classifiers of one scenario that are scored on the same rows."""

    fold: int
    """Outer fold, from 1; 0 for the sealed rows."""
    dataset_version: str
    classifiers: tuple[str, ...]
    """One per seed."""


class ScoredScenario(Model):
    """A scenario with its trained classifiers."""

    scenario: Scenario
    training_images: int
    """Mean over the parts, as are the other counts."""
    made_images: int
    missing_images: int
    parts: tuple[ScoredPart, ...]


class EvaluateInputs(Model):
    """Inputs of an `evaluate` Job: frozen classifiers, and the rows to score them on."""

    dataset: str
    dataset_digest: str
    classes: tuple[str, ...]
    """The label map."""
    multi_disease: MultiDisease
    reference: str
    """Name of the reference scenario."""
    scenarios: tuple[ScoredScenario, ...]
    probe: ScoredScenario | None = None
    """The reference probe, with one classifier per part."""
    resamples: int
    seed: int
    metrics: tuple[str, ...] = ()
    spec: EvaluationSpec
    """The specification that the evaluation answers."""

    @property
    def result(self) -> str:
        """Name of the result, "evaluations/{digest}"."""
        return f"evaluations/{digest_of(RECIPES['evaluate'], self.json_value())}"


class ComparedCaptions(Model):
    """A second generator trained with other captions, and its draws from the same noise."""

    generator: str
    counts: dict[str, int] = {}
    """Images of each class that were requested, from index 0."""
    labels: tuple[str, ...] = ()
    match: str = ""


class ReportInputs(Model):
    """Inputs of a `report` Job: names of all results of a run's first fold."""

    run: Run
    dataset: str
    view: str
    """Dataset version with the real rows."""
    generators: tuple[str, ...]
    labeler: str
    labels: tuple[str, ...]
    second_labels: tuple[str, ...] = ()
    rejected: tuple[Rejection, ...] = ()
    compared: ComparedCaptions | None = None
    transformed_batches: tuple[str, ...] = ()
    selection: str = ""
    match: str = ""
    versions: dict[str, str]
    """Dataset version of each scenario, by its name."""
    evaluation: str
    further_evaluations: tuple[str, ...] = ()


class EvaluationPlan(Model):
    """An evaluation apart from a run: its Jobs' inputs, with every default written out."""

    items: tuple[TrainItem, ...]
    inputs: EvaluateInputs
    create_time: str = ""
    traceparent: str = ""


BAD_INPUT = 42
"""Exit status of a Job whose input is bad: trying again cannot help."""

JobStep = Literal["finetune", "train", "evaluate", "report"]
JobInputs = FinetuneInputs | TrainInputs | EvaluateInputs | ReportInputs
INPUTS: Mapping[JobStep, type[Model]] = {
    "finetune": FinetuneInputs,
    "train": TrainInputs,
    "evaluate": EvaluateInputs,
    "report": ReportInputs,
}
"""Model of each Job's inputs."""


@dataclass(frozen=True)
class JobRequest:
    """A Job to run: an object in the store, written once before the Job starts, and named by its content's digest."""

    step: JobStep
    digest: str
    inputs: JobInputs

    @classmethod
    def of(cls, inputs: JobInputs) -> JobRequest:
        """The request for `inputs`."""
        step = next(step for step, kind in INPUTS.items() if isinstance(inputs, kind))
        return cls(step, digest_of(step, inputs.json_value()), inputs)

    @property
    def key(self) -> str:
        """Its key in the store."""
        return f"requests/{self.step}/{self.digest}.json"

    def progress_key(self, shard: int) -> str:
        """Key of the progress of one of its shards."""
        return f"progress/{self.step}/{self.digest}-{shard}.json"

    def write(self, store: Store) -> None:
        """Put it into the store; the same request twice is one."""
        store.put_new_json(self.key, self.inputs.json_value())


def read_request(store: Store, key: str) -> JobRequest:
    """Read the request at `key`, "requests/<step>/<digest>.json".

    Raises:
        InvalidArgument: `key` is not of that form, or the content has another digest or is no such input.
    """
    parts = key.removesuffix(".json").split("/")
    if len(parts) != 3 or parts[0] != "requests" or parts[1] not in INPUTS:
        raise InvalidArgument(f"{key!r} is not of the form requests/<step>/<digest>.json", reason="BAD_REQUEST_KEY")
    value = store.get_json(key)
    step = cast(JobStep, parts[1])
    digest = digest_of(step, value)
    if digest != parts[2]:
        raise InvalidArgument(f"{key}: its content has digest {digest}", reason="BAD_REQUEST")
    return JobRequest(step, digest, cast(JobInputs, parse(INPUTS[step], value, path=key, reason="BAD_REQUEST")))
