"""The run file checked and completed: every default written out, every error with its path."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from genaug.shared.digests import digest_of
from genaug.shared.errors import InvalidArgument
from genaug.shared.names import check_id

Spec = dict[str, Any]
"""A RunSpec as plain JSON (`genaug.shared.protojson`)."""

MAX_DOSE = 16.0

_SCENARIO = re.compile(r"[a-z][a-z0-9.-]{0,62}")

_DEFAULT_SCENARIOS: tuple[dict[str, Any], ...] = (
    {"name": "real"},
    {"name": "real-balanced", "sampling": "SAMPLING_CLASS_BALANCED"},
    {"name": "synthetic-x1", "synthetic": 1.0},
    {"name": "synthetic-x2", "synthetic": 2.0},
    {"name": "traditional-x1", "transformed": 1.0},
)

# path -> default, lowest, highest
_NUMBERS: dict[str, tuple[float, float, float]] = {
    "generator.train_steps": (800, 1, 1_000_000),
    "generator.batch_size": (64, 1, 4096),
    "generator.learning_rate": (0.003, 1e-7, 1.0),
    "generator.base_channels": (32, 8, 512),
    "generator.seed": (0, 0, 2**53),
    "generator.transforms.rotate_degrees": (10.0, 0, 180),
    "generator.transforms.shift": (0.05, 0, 0.5),
    "generator.transforms.scale": (0.1, 0, 0.5),
    "generator.transforms.colour": (0.1, 0, 0.5),
    "generation.steps": (20, 1, 1000),
    "generation.guidance_scale": (1.5, 1, 30),
    "generation.seed": (0, 0, 2**53),
    "generation.rounds": (4, 1, 20),
    "labeling.updates": (600, 1, 1_000_000),
    "labeling.seed": (1000, 0, 2**53),
    "selection.seed": (0, 0, 2**53),
    "selection.kept": (0, 0, 10_000_000),
    "evaluation.updates": (600, 1, 1_000_000),
    "evaluation.seeds": (3, 2, 100),
    "evaluation.first_seed": (0, 0, 2**53),
    "evaluation.batch_size": (64, 1, 4096),
    "evaluation.learning_rate": (0.002, 1e-7, 1.0),
    "evaluation.resamples": (2000, 200, 100_000),
}

_WORDS: dict[str, str] = {
    "multi_disease": "MULTI_DISEASE_KEEP",
    "generator.kind": "KIND_CLASS_CONDITIONAL",
    "labeling.mode": "MODE_AGREE",
    "labeling.classifier.backbone": "BACKBONE_SMALL_CNN",
    "selection.method": "METHOD_TSNE_GRID",
    "evaluation.classifier.backbone": "BACKBONE_SMALL_CNN",
}


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
        raise _fail("selection.classes", "all classes are dominant; leave at least one to augment")
    result["scenarios"] = _scenarios(result.get("scenarios") or list(_DEFAULT_SCENARIOS))
    if result["generator"]["kind"] == "KIND_TRANSFORMS" and any(one["synthetic"] for one in result["scenarios"]):
        raise _fail(
            "generator.kind", "transforms draw nothing synthetic; give the scenarios `transformed` doses instead"
        )
    _sizes(result, int(dataset["median_side"]))
    labeler, seeds = result["labeling"]["seed"], result["evaluation"]
    if seeds["first_seed"] <= labeler < seeds["first_seed"] + seeds["seeds"]:
        raise _fail("labeling.seed", f"{labeler} is also an evaluator's seed; the labeler must be another network")
    return result


def complete_evaluation(settings: Spec, dataset: Mapping[str, Any]) -> Spec:
    """Check and complete EvaluationSettings apart from a run."""
    result = _with_defaults({"evaluation": settings})["evaluation"]
    result["classifier"]["image_size"] = _classifier_size(
        result["classifier"], int(dataset["median_side"]), "evaluation"
    )
    return dict(result)


def run_id(spec: Spec, dataset: Mapping[str, Any]) -> str:
    """Id of the run of a completed spec: its name and 8 hex digits over everything that shapes its results."""
    return f"{spec['name']}-{digest_of('run/1', {'spec': spec, 'dataset': dataset['digest']})[:8]}"


def augmented_classes(spec: Spec) -> list[str]:
    """The classes that get doses: all that are not dominant."""
    return [name for name in spec["classes"] if name not in spec["selection"]["classes"]]


def _fail(path: str, problem: str) -> InvalidArgument:
    return InvalidArgument(f"{path}: {problem}", reason="BAD_RUN_FILE", path=path)


def _with_defaults(spec: Spec) -> Spec:
    result: Spec = {key: dict(value) if isinstance(value, dict) else value for key, value in spec.items()}
    for path, word in _WORDS.items():
        place, key = _place(result, path)
        place.setdefault(key, word)
    for path, (default, lowest, highest) in _NUMBERS.items():
        place, key = _place(result, path)
        value = place.setdefault(key, default)
        if not lowest <= value <= highest:
            raise _fail(path, f"{value} is not within {lowest:g} and {highest:g}")
    result["generator"]["transforms"].setdefault("horizontal_flip", False)
    return result


def _place(spec: Spec, path: str) -> tuple[Spec, str]:
    *parents, key = path.split(".")
    place = spec
    for parent in parents:
        place[parent] = dict(place.get(parent, {}))
        place = place[parent]
    return place, key


def _classes(wanted: Sequence[str], dataset: Mapping[str, Any]) -> list[str]:
    present = [count["class_name"] for count in dataset.get("training", [])]
    for index, name in enumerate(wanted):
        if name not in present:
            raise _fail(f"classes[{index}]", f"{name!r} is not in {dataset['name']}; it has {', '.join(present)}")
    if len(set(wanted)) != len(wanted):
        raise _fail("classes", "a class stands twice")
    classes = list(wanted) or sorted(present)
    if len(classes) < 2:
        raise _fail("classes", "a classifier needs at least two")
    return classes


def _selected(dominant: Sequence[str], classes: Sequence[str]) -> list[str]:
    for index, name in enumerate(dominant):
        if name not in classes:
            raise _fail(f"selection.classes[{index}]", f"{name!r} is not among the run's classes {', '.join(classes)}")
    return sorted(set(dominant), key=list(classes).index)


def _scenarios(wanted: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    result: list[dict[str, Any]] = []
    for index, scenario in enumerate(wanted):
        path = f"scenarios[{index}]"
        one = {"synthetic": 0.0, "transformed": 0.0, "sampling": "SAMPLING_NATURAL", **scenario}
        if not _SCENARIO.fullmatch(one.get("name", "")):
            raise _fail(f"{path}.name", "needs lower-case letters, digits, dots and hyphens, starting with a letter")
        if one["name"] in {other["name"] for other in result}:
            raise _fail(f"{path}.name", f"{one['name']!r} stands twice")
        for dose in ("synthetic", "transformed"):
            if not 0 <= one[dose] <= MAX_DOSE:
                raise _fail(f"{path}.{dose}", f"{one[dose]} is not within 0 and {MAX_DOSE:g}")
        result.append(one)
    if not any(is_reference(scenario) for scenario in result):
        raise _fail("scenarios", "none is the reference; add one without doses, such as {name: real}")
    if len(result) < 2:
        raise _fail("scenarios", "there is nothing to compare with the reference")
    return result


def is_reference(scenario: Mapping[str, Any]) -> bool:
    """Whether a scenario is real rows alone, drawn as they are."""
    return not scenario["synthetic"] and not scenario["transformed"] and scenario["sampling"] == "SAMPLING_NATURAL"


def _sizes(spec: Spec, median_side: int) -> None:
    generator = spec["generator"]
    size = generator.get("image_size", 0) or max(8, min(64, median_side // 8 * 8))
    if size % 8 or not 8 <= size <= 64:
        raise _fail("generator.image_size", f"{size} is not a multiple of 8 within 8 and 64")
    generator["image_size"] = size
    for part in ("labeling", "evaluation"):
        spec[part]["classifier"]["image_size"] = _classifier_size(spec[part]["classifier"], median_side, part)


def _classifier_size(classifier: Mapping[str, Any], median_side: int, part: str) -> int:
    fitting: dict[str, Callable[[], int]] = {
        "BACKBONE_SMALL_CNN": lambda: max(8, min(64, median_side)),
        "BACKBONE_EFFICIENTNET_LITE0": lambda: 224,
    }
    size = int(classifier.get("image_size", 0)) or fitting[classifier["backbone"]]()
    if not 8 <= size <= 512:
        raise _fail(f"{part}.classifier.image_size", f"{size} is not within 8 and 512")
    return size
