"""Completion of run files and evaluation settings: checks against the dataset, and every default written out."""

from __future__ import annotations

from typing import Any

from genaug.schema.classifiers import BACKBONES, ClassifierSpec, Head, Tuning
from genaug.schema.common import Precision, counts_of
from genaug.schema.datasets import Dataset, MultiDisease
from genaug.schema.evaluation import EvaluationSettings
from genaug.schema.model import refusal
from genaug.schema.run import DEFAULT_SCENARIOS, MIN_TRAINING_IMAGES, RANDOM_CONTROL, Reduction, RunSpec, Scenario
from genaug.schema.selection import SelectionMethod, SelectionSpec
from genaug.shared.errors import GenaugError


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
