"""The run file checked and completed: every default written out, every error with its path."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from genaug.orchestrator.fields import Numbers, Spec, bad, fill, place_of, within
from genaug.orchestrator.generator_spec import (
    DRAWING,
    PUBLISHED,
    PUBLISHED_DRAWING,
    STABLE_DIFFUSION,
    complete_generator,
    generator_with_defaults,
)
from genaug.shared.digests import digest_of
from genaug.shared.names import check_id

MAX_DOSE = 16.0
# Name of the scenario that is added where dominant classes are reduced.
RANDOM_CONTROL = "real-random"

_SCENARIO = re.compile(r"[a-z][a-z0-9.-]{0,62}")

_DEFAULT_SCENARIOS: tuple[dict[str, Any], ...] = (
    {"name": "real"},
    {"name": "real-balanced", "sampling": "SAMPLING_CLASS_BALANCED"},
    {"name": "synthetic-x1", "synthetic": 1.0},
    {"name": "synthetic-x2", "synthetic": 2.0},
    {"name": "traditional-x1", "transformed": 1.0},
)

_NUMBERS: Numbers = {
    "generation.steps": (20, 1, 1000),
    "generation.guidance_scale": (1.5, 1, 30),
    "generation.strength": (0.0, 0, 1),
    "generation.seed": (0, 0, 2**53),
    "generation.rounds": (4, 1, 20),
    "generation.draw_limit": (8.0, 1, 1000),
    "labeling.updates": (600, 1, 1_000_000),
    "labeling.seed": (1000, 0, 2**53),
    "labeling.second_seed": (2000, -1, 2**53),
    "labeling.batch_size": (64, 1, 4096),
    "labeling.classifier.detail": (0, 0, 512),
    "selection.seed": (0, 0, 2**53),
    "selection.kept": (0, 0, 10_000_000),
}

_WORDS: dict[str, str] = {
    "multi_disease": "MULTI_DISEASE_KEEP",
    "generation.scheduler": "DPMSolverMultistepScheduler",
    "generation.negative_prompt": "",
    "generation.profile": "PROFILE_FULL",
    "generation.precision": "PRECISION_FLOAT32",
    "labeling.mode": "MODE_AGREE",
    "labeling.precision": "PRECISION_FLOAT32",
    "selection.method": "METHOD_TSNE_GRID",
}

# The same, of EvaluationSettings.
_EVALUATION: Numbers = {
    "updates": (600, 1, 1_000_000),
    "seeds": (3, 2, 100),
    "first_seed": (0, 0, 2**53),
    "batch_size": (64, 1, 4096),
    "resamples": (2000, 200, 100_000),
    "folds": (1, 1, 100),
    "classifier.detail": (0, 0, 512),
}
_LEARNING_RATE = (1e-7, 1.0)
# TransformSpec: default, lowest, highest.
_TRANSFORMS: Numbers = {
    "rotate_degrees": (10.0, 0, 180),
    "shift": (0.05, 0, 0.5),
    "scale": (0.1, 0, 0.5),
    "colour": (0.1, 0, 0.5),
}
# What a further evaluator takes from the first where it says nothing itself.
_SHARED = ("updates", "seeds", "first_seed", "batch_size", "resamples", "folds")

# Below this side, pixels, a network pretrained on photographs has nothing to look at.
_PHOTOGRAPH = 32


def check_alone(spec: Spec) -> None:
    """Refuse what is wrong with a run file whatever its dataset, which may have yet to be imported.

    Raises:
        InvalidArgument: as `complete` does.
    """
    result = _with_defaults(spec)
    check_id(result.get("name", ""), field="name")
    _scenarios(result.get("scenarios") or list(_DEFAULT_SCENARIOS), {"classes": [], **result["selection"]})
    evaluation = result.get("evaluation", {})
    fill({**evaluation}, _EVALUATION, prefix="evaluation.")
    for index, one in enumerate(evaluation.get("further", [])):
        fill({**one}, _EVALUATION, prefix=f"evaluation.further[{index}].")


def complete(spec: Spec, dataset: Mapping[str, Any]) -> Spec:
    """Check a run file against its dataset and write out every default.

    Args:
        spec: The run file.
        dataset: The Dataset record.

    Raises:
        InvalidArgument: a value is out of range, a class is not in the dataset, scenarios cannot be compared.
    """
    result = _with_defaults(spec)
    check_id(result.get("name", ""), field="name")
    result["classes"] = _classes(result.get("classes", []), dataset)
    dominant = _selected(result["selection"].get("classes", []), result["classes"])
    result["selection"]["classes"] = dominant
    if set(dominant) == set(result["classes"]):
        raise bad("selection.classes", "all classes are dominant; leave at least one to augment")
    result["scenarios"] = _scenarios(result.get("scenarios") or list(_DEFAULT_SCENARIOS), result["selection"])
    if result["generator"]["kind"] == "KIND_TRANSFORMS" and any(one["synthetic"] for one in result["scenarios"]):
        raise bad("generator.kind", "transforms draw nothing synthetic; give the scenarios `transformed` doses instead")
    complete_generator(result["generator"], result["generation"], dataset, classes=augmented_classes(result))
    detail = result["generator"]["image_size"]
    _labeling(result["labeling"], dataset, detail=detail)
    result["evaluation"] = complete_evaluation(result.get("evaluation", {}), dataset, detail=detail)
    labeler, seeds = result["labeling"]["seed"], result["evaluation"]
    for one in (seeds, *seeds["further"]):
        if one["first_seed"] <= labeler < one["first_seed"] + one["seeds"]:
            raise bad("labeling.seed", f"{labeler} is also an evaluator's seed; the labeler must be another network")
    return result


def complete_evaluation(settings: Spec, dataset: Mapping[str, Any], *, detail: int = 0) -> Spec:
    """Check and complete EvaluationSettings.

    Args:
        settings: As they were given.
        dataset: The Dataset record.
        detail: Pixels that images are brought to first; 0 apart from a run.
    """
    result = _evaluator(settings, dataset, detail=detail, path="evaluation")
    shared = {key: result[key] for key in _SHARED}
    further: list[Spec] = []
    for index, one in enumerate(result.get("further", [])):
        path = f"evaluation.further[{index}]"
        if one.get("further"):
            raise bad(f"{path}.further", "a further evaluator has no further; list it beside this one")
        if one.get("folds", result["folds"]) != result["folds"]:
            raise bad(f"{path}.folds", f"all evaluators share the folds; the first has {result['folds']}")
        completed = _evaluator(shared | one, dataset, detail=detail, path=path)
        if completed in (*further, {key: value for key, value in result.items() if key != "further"}):
            raise bad(path, "is the same as another evaluator")
        further.append(completed)
    if result["folds"] not in (1, int(dataset["folds"])):
        raise bad(
            "evaluation.folds", f"{result['folds']} is neither 1 nor {dataset['folds']}, the folds of {dataset['name']}"
        )
    return result | {"further": further}


def evaluators(settings: Spec) -> list[Spec]:
    """The settings of each evaluator, the one that gives the verdict first."""
    first = {key: value for key, value in settings.items() if key != "further"}
    return [first, *settings["further"]]


def shows_photographs(dataset: Mapping[str, Any]) -> bool:
    """Whether images are large enough for a network that was pretrained on photographs."""
    return int(dataset["median_side"]) >= _PHOTOGRAPH


def run_id(spec: Spec, dataset: Mapping[str, Any]) -> str:
    """Id of the run of a completed spec: its name and 8 hex digits over everything that shapes its results."""
    return f"{spec['name']}-{digest_of('run/1', {'spec': spec, 'dataset': dataset['digest']})[:8]}"


def augmented_classes(spec: Spec) -> list[str]:
    """The classes that get doses: all that are not dominant."""
    return [name for name in spec["classes"] if name not in spec["selection"]["classes"]]


def _with_defaults(spec: Spec) -> Spec:
    result: Spec = {key: dict(value) if isinstance(value, dict) else value for key, value in spec.items()}
    result["generator"] = generator = generator_with_defaults(result.get("generator", {}))
    if generator["kind"] == STABLE_DIFFUSION:
        drawing = DRAWING | (PUBLISHED_DRAWING if generator.get("preset") == PUBLISHED else {})
        result["generation"] = {**drawing, **result.get("generation", {})}
    for path, word in _WORDS.items():
        place, key = place_of(result, path)
        place.setdefault(key, word)
    fill(result, _NUMBERS, prefix="")
    result["generation"].setdefault("keep_copies", False)
    result["generator"]["transforms"] = _transforms(
        result["generator"].get("transforms", {}), path="generator.transforms"
    )
    return result


def _classes(wanted: Sequence[str], dataset: Mapping[str, Any]) -> list[str]:
    present = [count["class_name"] for count in dataset.get("training", [])]
    for index, name in enumerate(wanted):
        if name not in present:
            raise bad(f"classes[{index}]", f"{name!r} is not in {dataset['name']}; it has {', '.join(present)}")
    if len(set(wanted)) != len(wanted):
        raise bad("classes", "a class stands twice")
    classes = list(wanted) or sorted(present)
    if len(classes) < 2:
        raise bad("classes", "a classifier needs at least two")
    return classes


def _selected(dominant: Sequence[str], classes: Sequence[str]) -> list[str]:
    for index, name in enumerate(dominant):
        if name not in classes:
            raise bad(f"selection.classes[{index}]", f"{name!r} is not among the run's classes {', '.join(classes)}")
    return sorted(set(dominant), key=list(classes).index)


def _scenarios(wanted: Sequence[Mapping[str, Any]], selection: Mapping[str, Any]) -> list[dict[str, Any]]:
    result: list[dict[str, Any]] = []
    for index, scenario in enumerate(wanted):
        path = f"scenarios[{index}]"
        one = {
            "synthetic": 0.0,
            "transformed": 0.0,
            "sampling": "SAMPLING_NATURAL",
            "reduction": "REDUCTION_SELECTED",
            **scenario,
        }
        if not _SCENARIO.fullmatch(one.get("name", "")):
            raise bad(f"{path}.name", "needs lower-case letters, digits, dots and hyphens, starting with a letter")
        if one["name"] in {other["name"] for other in result}:
            raise bad(f"{path}.name", f"{one['name']!r} stands twice")
        for dose in ("synthetic", "transformed"):
            if not within(one[dose], 0, MAX_DOSE):
                raise bad(f"{path}.{dose}", f"{one[dose]} is not within 0 and {MAX_DOSE:g}")
        if one["reduction"] != "REDUCTION_SELECTED" and not selection["classes"]:
            raise bad(f"{path}.reduction", "there is nothing to reduce; name dominant classes in selection.classes")
        result.append(one)
    reference = next((scenario for scenario in result if is_reference(scenario)), None)
    if reference is None:
        raise bad("scenarios", "none is the reference; add one without doses, such as {name: real}")
    # No selection without its control: the same number of images, at random.
    chosen = selection["classes"] and selection["method"] != "METHOD_RANDOM"
    if chosen and not any(one["reduction"] == "REDUCTION_RANDOM" for one in result):
        if any(one["name"] == RANDOM_CONTROL for one in result):
            raise bad(
                "scenarios", f"{RANDOM_CONTROL!r} is kept for the selection's random control; choose another name"
            )
        result.append({**reference, "name": RANDOM_CONTROL, "reduction": "REDUCTION_RANDOM"})
    if len(result) < 2:
        raise bad("scenarios", "there is nothing to compare with the reference")
    return result


def is_reference(scenario: Mapping[str, Any]) -> bool:
    """Whether a scenario is real rows alone, reduced by the run's selection and drawn as they are."""
    return (
        not scenario["synthetic"]
        and not scenario["transformed"]
        and scenario["sampling"] == "SAMPLING_NATURAL"
        and scenario.get("reduction", "REDUCTION_SELECTED") == "REDUCTION_SELECTED"
    )


def _labeling(labeling: Spec, dataset: Mapping[str, Any], *, detail: int) -> None:
    classifier = _classifier(labeling["classifier"], dataset, detail=detail, path="labeling.classifier")
    labeling["classifier"] = classifier
    _trained(labeling, path="labeling")
    if labeling["second_seed"] == labeling["seed"]:
        raise bad("labeling.second_seed", f"{labeling['seed']} is the labeler's own; take another, or -1 for none")
    if labeling["precision"] == "PRECISION_INT8" and classifier["backbone"] != "BACKBONE_VGG19":
        raise bad("labeling.precision", "INT8 is there for backbone VGG19 alone")


def _trained(settings: Spec, *, path: str) -> None:
    """Complete the learning rate and the TrainingOptions beside a completed ClassifierSpec."""
    classifier = settings["classifier"]
    lowest, highest = _LEARNING_RATE
    if not within(settings.setdefault("learning_rate", learning_rate(classifier)), lowest, highest):
        raise bad(f"{path}.learning_rate", f"{settings['learning_rate']} is not within {lowest:g} and {highest:g}")
    training: Spec = {
        "precision": "PRECISION_FLOAT32",
        "decay": "DECAY_COSINE",
        "class_weights": False,
        **settings.get("training", {}),
    }
    settings["training"] = training
    if "augment" in training:
        training["augment"] = _transforms(training["augment"], path=f"{path}.training.augment")
    pixels = "augment" in training or training["precision"] != "PRECISION_FLOAT32"
    if pixels and classifier["tuning"] == "TUNING_FROZEN":
        raise bad(
            f"{path}.training",
            "augment and precision: a frozen backbone's features are computed once; set classifier.tuning: FINE_TUNED",
        )
    if training["precision"] == "PRECISION_INT8":
        raise bad(f"{path}.training.precision", "8 bits are for labelling; there are FLOAT32 and BFLOAT16")
    fitted = training["class_weights"] or training["decay"] != "DECAY_COSINE"
    if fitted and classifier["head"] == "HEAD_LOGISTIC":
        raise bad(
            f"{path}.training", "class_weights and decay: LOGISTIC is fitted in closed form, with balanced classes"
        )


def _transforms(given: Mapping[str, Any], *, path: str) -> Spec:
    """A TransformSpec with every default written out."""
    result: Spec = {"horizontal_flip": False, **given}
    fill(result, _TRANSFORMS, prefix=f"{path}.")
    if not any(result.values()):
        raise bad(path, "every range is 0, so that each image would be a copy; allow at least one")
    return result


def _evaluator(settings: Spec, dataset: Mapping[str, Any], *, detail: int, path: str) -> Spec:
    result: Spec = {key: dict(value) if isinstance(value, dict) else value for key, value in settings.items()}
    fill(result, _EVALUATION, prefix=f"{path}.")
    result["classifier"] = _classifier(result["classifier"], dataset, detail=detail, path=f"{path}.classifier")
    _trained(result, path=path)
    return result


def view_of(spec: Spec, fold: int = 0) -> Spec:
    """The View of a run, or of one of its outer folds."""
    return {"classes": spec["classes"], "multi_disease": spec["multi_disease"], "fold": fold}


def learning_rate(classifier: Mapping[str, Any]) -> float:
    """The learning rate that fits a completed ClassifierSpec: small where pretrained layers are moved, or wide ones."""
    moved = classifier["backbone"] != "BACKBONE_SMALL_CNN" and classifier["tuning"] == "TUNING_FINE_TUNED"
    return 0.0002 if moved or classifier["head"] == "HEAD_DENSE" else 0.002


def _classifier(given: Mapping[str, Any], dataset: Mapping[str, Any], *, detail: int, path: str) -> Spec:
    """A ClassifierSpec with every default written out."""
    fitting = "BACKBONE_EFFICIENTNET_LITE0" if shows_photographs(dataset) else "BACKBONE_SMALL_CNN"
    result: Spec = {"backbone": fitting, "head": "HEAD_LINEAR", **given}
    small = result["backbone"] == "BACKBONE_SMALL_CNN"
    result.setdefault("tuning", "TUNING_FINE_TUNED" if small else "TUNING_FROZEN")
    result["weights"] = result.get("weights") or ("none" if small else "imagenet")
    side = max(8, min(64, int(dataset["median_side"]))) if small else 224
    result["image_size"] = int(result.get("image_size", 0)) or side
    result["detail"] = int(result.get("detail", 0)) or detail
    if not 8 <= result["image_size"] <= 512:
        raise bad(f"{path}.image_size", f"{result['image_size']} is not within 8 and 512")
    if small and (result["tuning"], result["head"], result["weights"]) != (
        "TUNING_FINE_TUNED",
        "HEAD_LINEAR",
        "none",
    ):
        raise bad(path, "SMALL_CNN learns every layer from random weights (none), under a linear head")
    if result["head"] in ("HEAD_LOGISTIC", "HEAD_DENSE") and result["tuning"] != "TUNING_FROZEN":
        head = result["head"].removeprefix("HEAD_")
        raise bad(f"{path}.head", f"{head} stands on frozen features; set tuning: FROZEN")
    if result["tuning"] == "TUNING_FROZEN" and result["weights"] == "none":
        raise bad(f"{path}.weights", "random weights that stay frozen have learnt nothing; set tuning: FINE_TUNED")
    return result


def probe_classifier(detail: int) -> Spec:
    """The reference probe's ClassifierSpec."""
    return {
        "backbone": "BACKBONE_EFFICIENTNET_LITE0",
        "image_size": 224,
        "tuning": "TUNING_FROZEN",
        "head": "HEAD_LOGISTIC",
        "weights": "imagenet",
        "detail": detail,
    }
