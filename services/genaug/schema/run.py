"""The run file, its completion against a dataset, and the record of a run."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from enum import StrEnum
from typing import Annotated, Any

from pydantic import model_validator

from genaug.schema.classifiers import BACKBONES, ClassifierSpec, Head, TrainingOptions, Tuning
from genaug.schema.common import (
    BatchSize,
    LearningRate,
    Precision,
    Progress,
    Seed,
    TransformSpec,
    Updates,
    counts_of,
)
from genaug.schema.datasets import Dataset, MultiDisease, View
from genaug.schema.evaluation import EvaluationSettings, Verdict
from genaug.schema.generators import GeneratorSpec, Preset
from genaug.schema.model import Model, Within, problem, refusal
from genaug.schema.sampling import GuidanceScale, Profile, Sampler, Steps, Strength
from genaug.schema.selection import SelectionMethod, SelectionSpec
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


def complete(spec: RunSpec, dataset: Dataset) -> RunSpec:
    """Check a run file against its dataset, and write out every default.

    Raises:
        InvalidArgument: reason BAD_RUN_FILE; the message names every path that is wrong.
    """
    problems: list[tuple[str, str]] = []
    classes = _classes(spec, dataset, problems)
    dominant = spec.selection.classes
    problems += [
        (f"selection.classes[{index}]", f"{name!r} is not among the run's classes {', '.join(classes)}")
        for index, name in enumerate(dominant)
        if name not in classes
    ]
    selection = spec.selection.model_copy(update={"classes": tuple(name for name in classes if name in dominant)})
    if classes and len(selection.classes) == len(classes):
        problems.append(("selection.classes", "all classes are dominant; leave at least one to augment"))
    scenarios = _scenarios(spec, selection, problems)
    size = spec.generator.fitting_size(dataset.median_side)
    problems += _at("generator", spec.generator.size_problems(size))
    generator = spec.generator.completed(size)
    generation = spec.generation.completed(generator)
    if generator.stable_diffusion and generation.strength:
        base = generator.stable_diffusion.model_copy(update={"keep_latents": True})
        generator = generator.model_copy(update={"stable_diffusion": base})
    labeling, evaluation = spec.labeling, spec.evaluation
    completed = spec.model_copy(
        update={
            "classes": classes,
            "selection": selection,
            "scenarios": scenarios,
            "generator": generator,
            "generation": generation,
            "transforms": generator.transforms or spec.transforms,
        }
    )
    problems += _generation_problems(completed)
    classifier = _classifier(labeling.classifier, dataset, size, "labeling.classifier", problems)
    if classifier is not None:
        problems += _at("labeling", labeling.training.problems(classifier, batch_size=labeling.batch_size))
        if labeling.precision == Precision.INT8 and not BACKBONES.get(classifier.backbone).quantizable:
            problems.append(("labeling.precision", f"INT8 is not available for backbone {classifier.backbone}"))
        rate = labeling.learning_rate or classifier.learning_rate
        labeling = labeling.model_copy(update={"classifier": classifier, "learning_rate": rate})
    evaluation = _evaluation(evaluation, dataset, size, problems)
    for evaluator in evaluation.evaluators:
        if evaluator.first_seed <= labeling.seed < evaluator.first_seed + evaluator.seeds:
            problems.append((
                "labeling.seed", f"{labeling.seed} is also an evaluator's seed; the labeler must be another network"
            ))  # fmt: skip
    problems += _dataset_problems(completed, dataset, folds=evaluation.folds)
    if problems:
        raise refusal(problems)
    return completed.model_copy(update={"labeling": labeling, "evaluation": evaluation})


def complete_evaluation(settings: EvaluationSettings, dataset: Dataset, *, pre_resize: int = 0) -> EvaluationSettings:
    """Check evaluation settings against a dataset, and write out every default.

    Args:
        settings: As given.
        dataset: Its record.
        pre_resize: Size, pixels, that images are resized to first; 0 apart from a run.

    Raises:
        InvalidArgument: reason BAD_RUN_FILE.
    """
    problems: list[tuple[str, str]] = []
    completed = _evaluation(settings, dataset, pre_resize, problems)
    if problems:
        raise refusal(problems)
    return completed


def _evaluation(
    settings: EvaluationSettings, dataset: Dataset, pre_resize: int, problems: list[tuple[str, str]]
) -> EvaluationSettings:
    first = _evaluator(settings, dataset, pre_resize, "evaluation", problems)
    further: list[EvaluationSettings] = []
    for index, given in enumerate(settings.further):
        path = f"evaluation.further[{index}]"
        if "folds" in given.model_fields_set and given.folds != settings.folds:
            problems.append((f"{path}.folds", f"all evaluators share the folds; the first has {settings.folds}"))
        inherited = {name: getattr(settings, name) for name in settings.INHERITED if name not in given.model_fields_set}
        evaluator = _evaluator(given.model_copy(update=inherited), dataset, pre_resize, path, problems)
        if evaluator in (*further, first.model_copy(update={"further": ()})):
            problems.append((path, "is the same as another evaluator"))
        further.append(evaluator)
    if settings.folds not in (1, dataset.folds):
        problems.append((
            "evaluation.folds", f"{settings.folds} is neither 1 nor {dataset.folds}, the folds of {dataset.name}"
        ))  # fmt: skip
    return first.model_copy(update={"further": tuple(further)})


def probe_classifier(pre_resize: int) -> ClassifierSpec:
    """Specification of the reference probe: logistic regression on EfficientNet-Lite0 features."""
    return ClassifierSpec(
        backbone="EFFICIENTNET_LITE0",
        image_size=224,
        tuning=Tuning.FROZEN,
        head=Head.LOGISTIC,
        weights="imagenet",
        pre_resize=pre_resize,
    )


def _classes(spec: RunSpec, dataset: Dataset, problems: list[tuple[str, str]]) -> tuple[str, ...]:
    present = sorted(counts_of(dataset.training))
    classes = spec.classes or tuple(present)
    problems += [
        (f"classes[{index}]", f"{name!r} is not in {dataset.name}; it has {', '.join(present)}")
        for index, name in enumerate(classes)
        if name not in present
    ]
    if len(classes) < 2:
        problems.append(("classes", "a classifier needs at least two"))
    return classes


def _scenarios(spec: RunSpec, selection: SelectionSpec, problems: list[tuple[str, str]]) -> tuple[Scenario, ...]:
    scenarios = spec.scenarios or DEFAULT_SCENARIOS
    for index, scenario in enumerate(scenarios):
        if scenario.reduction != Reduction.SELECTED and not selection.classes:
            problems.append((
                f"scenarios[{index}].reduction", "nothing to reduce; name dominant classes in selection.classes"
            ))  # fmt: skip
    # Every selection has its control: the same number of images, at random.
    chosen = bool(selection.classes) and selection.method != SelectionMethod.RANDOM
    if chosen and not any(scenario.reduction == Reduction.RANDOM for scenario in scenarios):
        if any(scenario.name == RANDOM_CONTROL for scenario in scenarios):
            problems.append((
                "scenarios", f"{RANDOM_CONTROL!r} is kept for the selection's random control; choose another name"
            ))  # fmt: skip
        reference = next(scenario for scenario in scenarios if scenario.is_reference)
        control = reference.model_copy(update={"name": RANDOM_CONTROL, "reduction": Reduction.RANDOM})
        scenarios = (*scenarios, control)
    if len(scenarios) < 2:
        problems.append(("scenarios", "there is nothing to compare with the reference"))
    return tuple(scenarios)


def _generation_problems(spec: RunSpec) -> list[tuple[str, str]]:
    """Contradictions between generator, generation and scenarios of a completed spec."""
    kind, generation = spec.generator.kind, spec.generation
    found = _at("generation", generation.sampler().problems())
    if kind.sampler is None and any(scenario.synthetic for scenario in spec.scenarios):
        found.append((
            f"generator.{spec.generator.kind_name}",
            "draws nothing synthetic; list scenarios with `transformed` doses alone, or, for the ranges of traditional "
            "scenarios beside another kind, write `transforms` at the top of the file",
        ))  # fmt: skip
    if not kind.prompted:
        for name in ("negative_prompt", "strength"):
            if getattr(generation, name):
                found.append((f"generation.{name}", f"is not available for generator kind {spec.generator.kind_name}"))
    base = spec.generator.stable_diffusion
    if base:
        found += _at("generator.stable_diffusion", base.caption_problems(spec.augmented_classes))
    return found


def _classifier(
    given: ClassifierSpec, dataset: Dataset, pre_resize: int, path: str, problems: list[tuple[str, str]]
) -> ClassifierSpec | None:
    try:
        classifier = given.completed(dataset.median_side, pre_resize=pre_resize)
    except GenaugError as error:
        problems.append((f"{path}.backbone", error.message))
        return None
    problems += _at(path, classifier.problems())
    return classifier


def _evaluator(
    settings: EvaluationSettings, dataset: Dataset, pre_resize: int, path: str, problems: list[tuple[str, str]]
) -> EvaluationSettings:
    classifier = _classifier(settings.classifier, dataset, pre_resize, f"{path}.classifier", problems)
    if classifier is None:
        return settings
    problems += _at(path, settings.training.problems(classifier, batch_size=settings.batch_size))
    rate = settings.learning_rate or classifier.learning_rate
    return settings.model_copy(update={"classifier": classifier, "learning_rate": rate, "further": ()})


def _dataset_problems(spec: RunSpec, dataset: Dataset, *, folds: int) -> list[tuple[str, str]]:
    """Classes that a later step would refuse for want of images, as far as the dataset's record tells."""
    training, validation, test = (counts_of(side) for side in (dataset.training, dataset.validation, dataset.test))
    found: list[tuple[str, str]] = []
    if spec.multi_disease != MultiDisease.KEEP:
        # The other policies move images between classes or leave them out: the view, made first, counts them.
        return found
    for index, name in enumerate(spec.classes):
        path = f"classes[{index}]"
        if 0 < training.get(name, 0) < MIN_TRAINING_IMAGES:
            found.append((
                path, f"{name!r} has {training[name]} training images, below the {MIN_TRAINING_IMAGES} a run needs; "
                "leave it out or add images"
            ))  # fmt: skip
        if folds == 1 and name in training and not test.get(name):
            found.append((
                path, f"{name!r} has no sealed image, so its recall cannot be measured; leave it out, or import the "
                "dataset with a larger test share"
            ))  # fmt: skip
    if spec.classes and not any(validation.get(name) for name in spec.classes):
        found.append((
            "classes", f"{dataset.name} has no validation images of these classes; import it with a validation share, "
            "such as --split 0.7,0.15,0.15"
        ))  # fmt: skip
    return found


def _at(path: str, problems: Any) -> list[tuple[str, str]]:
    return [(f"{path}.{field}" if field else path, text) for field, text in problems]


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
