"""The run file, its completion against a dataset, and the record of a run."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from enum import StrEnum
from typing import Annotated

from pydantic import model_validator

from genaug.schema.classifiers import ClassifierSpec, TrainingOptions
from genaug.schema.common import (
    BatchSize,
    LearningRate,
    Precision,
    Progress,
    Seed,
    TransformSpec,
    Updates,
)
from genaug.schema.datasets import Dataset, MultiDisease, View
from genaug.schema.evaluation import EvaluationSettings, Verdict
from genaug.schema.generators import GeneratorSpec, Preset
from genaug.schema.model import Model, Within, problem
from genaug.schema.sampling import GuidanceScale, Profile, Sampler, Steps, Strength
from genaug.schema.selection import SelectionSpec
from genaug.shared.digests import digest_of
from genaug.shared.errors import GenaugError
from genaug.shared.names import check_id

MIN_TRAINING_IMAGES = 8
"""Fewest real training images of a class that a run starts with."""
RANDOM_CONTROL = "real-random"
"""Name of the scenario that is added where dominant classes are reduced."""
_SCENARIO_NAME = re.compile(r"[a-z][a-z0-9.-]{0,62}")

Dose = Annotated[float, Within(0, 16)]

_MAX_FORMAT = 100
_SMALLEST_SHARE = 0.01


class NoSubject(StrEnum):
    """Policy for a file without a subject."""

    REFUSE = "NO_SUBJECT_REFUSE"
    OWN = "NO_SUBJECT_OWN"


class OnConflict(StrEnum):
    """Policy for a subject or photograph on two sides of the source's own split."""

    REFUSE = "ON_CONFLICT_REFUSE"
    DROP_TRAINING = "ON_CONFLICT_DROP_TRAINING"
    DROP_VALIDATION = "ON_CONFLICT_DROP_VALIDATION"


class NearDuplicates(StrEnum):
    """Policy for near-identical images of different subjects."""

    JOIN = "NEAR_DUPLICATES_JOIN"
    REPORT = "NEAR_DUPLICATES_REPORT"
    OFF = "NEAR_DUPLICATES_OFF"


class ImportSpec(Model):
    """Source of a dataset."""

    format: str = ""
    images: str = ""
    csv: str = ""
    split: tuple[float, ...] = (0.7, 0.15, 0.15)
    folds: Annotated[int, Within(2, 100)] = 5
    seed: Seed = 42
    keep: dict[str, int] = {}
    subject_regex: str = ""
    filename_column: str = "filename"
    class_column: str = "label"
    subject_column: str = ""
    split_column: str = ""
    bits: Annotated[int, Within(0, 32)] = 0
    window: tuple[float, ...] = ()
    multi_label: bool = False
    class_columns: tuple[str, ...] = ()
    no_subject: NoSubject = NoSubject.REFUSE
    on_conflict: OnConflict = OnConflict.REFUSE
    near_duplicates: NearDuplicates = NearDuplicates.JOIN
    ignore_split: bool = False

    @model_validator(mode="after")
    def _check(self) -> ImportSpec:
        if not 0 < len(self.format) <= _MAX_FORMAT:
            raise problem("format", "say in a word where the images come from")
        shares = self.split
        if (
            len(shares) != 3
            or not all(share >= _SMALLEST_SHARE for share in shares)
            or not math.isclose(sum(shares), 1)
        ):
            raise problem(
                "split",
                f"{list(shares)} must be three shares of at least {_SMALLEST_SHARE} (training, validation, test) that "
                "add up to 1",
            )
        if self.window and not (len(self.window) == 2 and -math.inf < self.window[0] < self.window[1] < math.inf):
            raise problem("window", f"{list(self.window)} must be two values, black below white")
        if self.window and self.bits:
            raise problem("bits", "is another way to say the window; leave one of the two out")
        return self


class GenerationSpec(Model):
    """Step 2: sampling of images."""

    steps: Steps | None = None
    guidance_scale: GuidanceScale | None = None
    seed: Seed | None = None
    rounds: Annotated[int, Within(1, 20)] = 4
    draw_limit: Annotated[float, Within(1, 1000)] = 8.0
    scheduler: str = ""
    negative_prompt: str = ""
    strength: Strength = 0.0
    profile: Profile = Profile.FULL
    precision: Precision = Precision.FLOAT32
    keep_copies: bool = False

    @model_validator(mode="after")
    def _check(self) -> GenerationSpec:
        for field, text in self.sampler().problems():
            raise problem(field, text)
        return self

    def completed(self, generator: GeneratorSpec) -> GenerationSpec:
        """With the defaults of the generator's kind."""
        preset = generator.stable_diffusion and generator.stable_diffusion.preset
        # The published study's, as far as they can be reconstructed.
        published = {"steps": 50, "guidance_scale": 7.5, "scheduler": "DDIMScheduler", "seed": 52362}
        defaults = {
            **(generator.kind.sampler or Sampler()).__dict__,
            "seed": 0,
            **(published if preset == Preset.PUBLISHED else {}),
        }
        fields = ("steps", "guidance_scale", "seed", "scheduler")
        return self.model_copy(update={name: defaults[name] for name in fields if getattr(self, name) in (None, "")})

    def sampler(self) -> Sampler:
        """Sampler settings; of a specification that is not completed, with defaults of no particular kind."""
        names = ("steps", "guidance_scale", "scheduler", "negative_prompt", "strength", "profile", "precision")
        given = {name: getattr(self, name) for name in names}
        return Sampler(**{name: value for name, value in given.items() if value not in (None, "")})


class LabelingMode(StrEnum):
    """Authority on the class of a generated image."""

    AGREE = "MODE_AGREE"
    TRUST_LABELER = "MODE_TRUST_LABELER"
    TRUST_PROMPT = "MODE_TRUST_PROMPT"


class LabelingSpec(Model):
    """Step 3: the labeler and its training."""

    mode: LabelingMode = LabelingMode.AGREE
    classifier: ClassifierSpec = ClassifierSpec()
    updates: Updates = 600
    seed: Seed = 1000
    precision: Precision = Precision.FLOAT32
    training: TrainingOptions = TrainingOptions()
    learning_rate: LearningRate | None = None
    batch_size: BatchSize = 64
    second_seed: Annotated[int, Within(-1, 2**53)] = 2000

    @model_validator(mode="after")
    def _check(self) -> LabelingSpec:
        if self.second_seed == self.seed:
            raise problem("second_seed", f"{self.seed} is the labeler's own; take another, or -1 for none")
        return self


class ScenarioSampling(StrEnum):
    """Sampling of training rows into updates."""

    NATURAL = "SAMPLING_NATURAL"
    CLASS_BALANCED = "SAMPLING_CLASS_BALANCED"


class Reduction(StrEnum):
    """Reduction of dominant classes."""

    SELECTED = "REDUCTION_SELECTED"
    RANDOM = "REDUCTION_RANDOM"
    NONE = "REDUCTION_NONE"


class Scenario(Model):
    """Step 5: one training set to compare."""

    name: str = ""
    synthetic: Dose = 0.0
    transformed: Dose = 0.0
    sampling: ScenarioSampling = ScenarioSampling.NATURAL
    reduction: Reduction = Reduction.SELECTED

    @property
    def is_reference(self) -> bool:
        """Whether it holds real rows alone, reduced by the run's selection and sampled as they are."""
        return (self.synthetic, self.transformed, self.sampling, self.reduction) == (
            0, 0, ScenarioSampling.NATURAL, Reduction.SELECTED
        )  # fmt: skip


DEFAULT_SCENARIOS = (
    Scenario(name="real"),
    Scenario(name="real-balanced", sampling=ScenarioSampling.CLASS_BALANCED),
    Scenario(name="synthetic-x1", synthetic=1.0),
    Scenario(name="synthetic-x2", synthetic=2.0),
    Scenario(name="traditional-x1", transformed=1.0),
)


class RunSpec(Model):
    """The run file, without its `import` block, which only the client reads. Empty fields depend on the dataset."""

    name: str = ""
    dataset: str = ""
    classes: tuple[str, ...] = ()
    multi_disease: MultiDisease = MultiDisease.KEEP
    generator: GeneratorSpec = GeneratorSpec()
    generation: GenerationSpec = GenerationSpec()
    labeling: LabelingSpec = LabelingSpec()
    selection: SelectionSpec = SelectionSpec()
    scenarios: tuple[Scenario, ...] = ()
    evaluation: EvaluationSettings = EvaluationSettings()
    transforms: TransformSpec = TransformSpec()

    @model_validator(mode="after")
    def _check(self) -> RunSpec:
        try:
            check_id(self.name, field="name")
        except GenaugError as error:
            raise problem("name", error.message.removeprefix("name: ")) from None
        if len(set(self.classes)) != len(self.classes):
            raise problem("classes", "a class stands twice")
        names = [scenario.name for scenario in self.scenarios]
        for index, name in enumerate(names):
            if not _SCENARIO_NAME.fullmatch(name):
                raise problem(
                    f"scenarios[{index}].name",
                    "needs lower-case letters, digits, dots and hyphens, starting with a letter",
                )
            if name in names[:index]:
                raise problem(f"scenarios[{index}].name", f"{name!r} stands twice")
        if self.scenarios and not any(scenario.is_reference for scenario in self.scenarios):
            raise problem("scenarios", "none is the reference; add one without doses, such as {name: real}")
        return self

    @property
    def augmented_classes(self) -> tuple[str, ...]:
        """Classes that get doses: all that are not dominant."""
        return tuple(name for name in self.classes if name not in self.selection.classes)

    def view(self, fold: int = 0) -> View:
        """The view of the dataset, or of one of its outer folds."""
        return View(classes=self.classes, multi_disease=self.multi_disease, fold=fold)

    def largest_dose(self, source: str) -> float:
        """Largest dose of a source, "synthetic" or "transformed", over the scenarios."""
        return max(float(getattr(scenario, source)) for scenario in self.scenarios)


def run_id(spec: RunSpec, dataset: Dataset) -> str:
    """Id of the run of a completed spec: its name and 8 hex digits over everything that shapes its results."""
    return f"{spec.name}-{digest_of('run/2', {'spec': spec.json_value(), 'dataset': dataset.digest})[:8]}"


class RunState(StrEnum):
    """State of a run or step."""

    PENDING = "STATE_PENDING"
    RUNNING = "STATE_RUNNING"
    SUCCEEDED = "STATE_SUCCEEDED"
    FAILED = "STATE_FAILED"
    CANCELLED = "STATE_CANCELLED"

    @property
    def is_final(self) -> bool:
        """Whether it has ended."""
        return self not in (RunState.PENDING, RunState.RUNNING)


STEPS: Sequence[str] = (
    *("view", "finetune", "labeler", "generate", "select", "match", "assemble", "train", "evaluate", "report"),
)


class Step(Model):
    """One step of a run."""

    name: str = ""
    state: RunState = RunState.PENDING
    progress: Progress | None = None
    seconds: float = 0.0
    reused: int = 0
    results: tuple[str, ...] = ()


class Run(Model):
    """The record of a run."""

    name: str = ""
    spec: RunSpec
    state: RunState = RunState.PENDING
    steps: tuple[Step, ...] = ()
    error: str = ""
    evaluation: str = ""
    verdict: Verdict | None = None
    create_time: str = ""
    end_time: str = ""
    further_evaluations: tuple[str, ...] = ()
    traceparent: str = ""

    def step(self, name: str) -> Step:
        """The step `name`."""
        return next(step for step in self.steps if step.name == name)
