"""Evaluation settings, and the records of evaluations."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated, ClassVar

from pydantic import model_validator

from genaug.schema.classifiers import ClassifierSpec, TrainingOptions
from genaug.schema.common import BatchSize, LearningRate, Provenance, Seed, Updates
from genaug.schema.model import Model, Within, problem
from genaug.schema.registry import Registry

METRICS: Registry[str] = Registry("genaug.metrics", "metric", {})
"""Further metrics, which a run file may name: "module:attribute" of a `genaug.evaluation.metrics.Metric`."""


class Estimate(Model):
    """A figure with its 95 % interval."""

    value: float = 0.0
    lower: float = 0.0
    upper: float = 0.0


class Outcome(StrEnum):
    """Conclusion from an interval."""

    UNSPECIFIED = "OUTCOME_UNSPECIFIED"
    """No augmented scenario."""
    HELPS = "OUTCOME_HELPS"
    NO_EVIDENCE = "OUTCOME_NO_EVIDENCE"
    HURTS = "OUTCOME_HURTS"


class Verdict(Model):
    """Whether augmentation helped."""

    outcome: Outcome = Outcome.UNSPECIFIED
    sentence: str = ""


class EvaluationSettings(Model):
    """Training and scoring of scenarios: the same for each."""

    classifier: ClassifierSpec = ClassifierSpec()
    updates: Updates = 600
    seeds: Annotated[int, Within(2, 100)] = 3
    first_seed: Seed = 0
    batch_size: BatchSize = 64
    learning_rate: LearningRate | None = None
    resamples: Annotated[int, Within(200, 100_000)] = 2000
    further: tuple[EvaluationSettings, ...] = ()
    folds: Annotated[int, Within(1, 100)] = 1
    training: TrainingOptions = TrainingOptions()
    metrics: tuple[str, ...] = ()

    # Fields that a further evaluator takes from the first one where it has none of its own.
    INHERITED: ClassVar[tuple[str, ...]] = (
        "updates",
        "seeds",
        "first_seed",
        "batch_size",
        "resamples",
        "folds",
        "metrics",
    )

    @model_validator(mode="after")
    def _check(self) -> EvaluationSettings:
        if any(evaluator.further for evaluator in self.further):
            raise problem("further", "a further evaluator has no further; list it beside this one")
        for name in self.metrics:
            if name not in METRICS.names():
                raise problem("metrics", METRICS.unknown(name))
        return self

    @property
    def evaluators(self) -> tuple[EvaluationSettings, ...]:
        """Settings of each evaluator; the first gives the verdict."""
        return (self.model_copy(update={"further": ()}), *self.further)


class EvaluationSpec(Model):
    """The evaluation file: trainings and scores apart from a run."""

    name: str = ""
    run: str = ""
    dataset_versions: tuple[str, ...] = ()
    evaluation: EvaluationSettings = EvaluationSettings()


class EvaluationState(StrEnum):
    """Where an evaluation is."""

    RUNNING = "STATE_RUNNING"
    SUCCEEDED = "STATE_SUCCEEDED"
    FAILED = "STATE_FAILED"


class Evaluation(Model):
    """Scores of frozen classifiers on the sealed rows, comparisons and the verdict."""

    name: str = ""
    spec: EvaluationSpec = EvaluationSpec()
    state: EvaluationState | None = None
    scores: tuple[ScenarioScore, ...] = ()
    comparisons: tuple[Comparison, ...] = ()
    verdict: Verdict | None = None
    test_images: int = 0
    test_subjects: int = 0
    create_time: str = ""
    provenance: Provenance = Provenance()
    error: str = ""
    reference_probe: ScenarioScore | None = None
    saturation: Saturation | None = None


class ClassScore(Model):
    """One class of one scenario, means over seeds."""

    class_name: str = ""
    images: int = 0
    recall: Estimate = Estimate()
    specificity: float = 0.0
    precision: float = 0.0
    f1: float = 0.0
    auc: float = 0.0
    average_precision: float = 0.0
    roc: tuple[float, ...] = ()


class ReliabilityBin(Model):
    """Images with a top probability within one tenth."""

    share: float = 0.0
    confidence: float = 0.0
    accuracy: float = 0.0


class ScenarioScore(Model):
    """One scenario on the sealed rows."""

    scenario: str = ""
    dataset_version: str = ""
    training_images: int = 0
    macro_recall: Estimate = Estimate()
    macro_precision: Estimate = Estimate()
    macro_f1: Estimate = Estimate()
    accuracy: Estimate = Estimate()
    macro_auc: Estimate = Estimate()
    recalls: dict[str, float] = {}
    confusion: tuple[int, ...] = ()
    seeds: int = 0
    seed_macro_recalls: tuple[float, ...] = ()
    specificities: dict[str, float] = {}
    weighted_precision: float = 0.0
    weighted_f1: float = 0.0
    calibration_error: float = 0.0
    macro_average_precision: Estimate = Estimate()
    classes: tuple[ClassScore, ...] = ()
    reliability: tuple[ReliabilityBin, ...] = ()
    made_images: int = 0
    missing_images: int = 0
    metrics: dict[str, Estimate] = {}


class Saturation(Model):
    """How macro recall follows the dose of synthetic images."""

    doses: tuple[float, ...] = ()
    macro_recalls: tuple[Estimate, ...] = ()
    best_dose: float = 0.0
    lower_dose: float = 0.0
    upper_dose: float = 0.0
    sentence: str = ""


class Comparison(Model):
    """One scenario against another: difference of macro recall."""

    scenario: str = ""
    reference: str = ""
    difference: Estimate = Estimate()
    outcome: Outcome = Outcome.UNSPECIFIED
