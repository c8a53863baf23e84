"""How numbers and outcomes are written, and what a report says of its own limits."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from genaug.evaluation.report.formats import percent, percent0, small, thousands
from genaug.evaluation.report.made_words import captions_listed
from genaug.evaluation.verdict import points

_OUTCOMES = {
    "OUTCOME_HELPS": ("helps", "Helps"),
    "OUTCOME_NO_EVIDENCE": ("no-evidence", "No evidence"),
    "OUTCOME_HURTS": ("hurts", "Hurts"),
    "OUTCOME_UNSPECIFIED": ("unspecified", "Nothing to say"),
}

MODES = {
    "MODE_AGREE": "An image is kept only if it finds the class asked for, above that class’s calibrated threshold.",
    "MODE_TRUST_LABELER": "In this run an image counts as whatever the labeler finds, as in the published study.",
    "MODE_TRUST_PROMPT": "In this run an image counts as the class that was asked for, whatever the labeler finds.",
}

MEANINGS = {
    "disagrees": "The labeler is sure that they show another class.",
    "unsure": "The labeler’s probability is below the threshold of the class.",
    "degenerate": "Constant, or otherwise no image.",
}

METHODS = {
    "METHOD_TSNE_GRID": "Even coverage of the map",
    "METHOD_RANDOM": "Random choice",
    "METHOD_HERDING": "Kernel herding",
    "METHOD_K_CENTER": "Greedy k-center",
}


def tone(outcome: str) -> str:
    """The style sheet's class of an outcome."""
    return _OUTCOMES[outcome][0]


def outcome(value: str) -> str:
    """An outcome in words."""
    return _OUTCOMES[value][1]


def headline(sentence: str) -> tuple[str, str]:
    """A verdict's claim, up to the colon, and its numbers."""
    head, colon, rest = sentence.partition(":")
    return head + colon, rest.strip()


FILTERS: Mapping[str, Callable[..., Any]] = {
    "percent": percent,
    "percent0": percent0,
    "points": points,
    "small": small,
    "thousands": thousands,
    "tone": tone,
    "outcome": outcome,
    "headline": headline,
}


def described(scenario: Mapping[str, Any]) -> str:
    """A scenario in a few words."""
    parts = [
        f"{scenario[key]:g} × {word}"
        for key, word in (("synthetic", "generated"), ("transformed", "transformed"))
        if scenario[key]
    ] or ["real images"]
    if short := sum(scenario["shortfall_counts"].values()):
        made = sum(scenario["synthetic_counts"].values()) + sum(scenario["transformed_counts"].values())
        parts.append(f"{thousands(made)} of {thousands(made + short)} could be had")
    if scenario["sampling"] == "SAMPLING_CLASS_BALANCED":
        parts.append("classes drawn alike")
    reduced = {"REDUCTION_RANDOM": "dominant classes reduced at random", "REDUCTION_NONE": "nothing reduced"}
    if scenario.get("reduction") in reduced:
        parts.append(reduced[scenario["reduction"]])
    return ", ".join(parts)


def what_was_run(facts: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Rows of the table "What was run"."""
    spec, dataset = facts["spec"], facts["dataset"]
    split = " / ".join(f"{share:g}" for share in dataset.get("split", []))
    rows = [
        ("dataset", f"{dataset['name']} ({dataset.get('format', '')}), digest {dataset['digest'][:16]}…"),
        ("split", f"{split} by subject, seed {dataset.get('seed', 0)}, {dataset.get('folds', 0)} folds"),
        ("classes", ", ".join(facts["classes"])),
        ("several diseases", spec.get("multi_disease", "").removeprefix("MULTI_DISEASE_").lower()),
    ]
    for one in facts["generators"]:
        rows += _generator_rows(one, "generator")
    if facts["captions"]:
        rows += _generator_rows(facts["captions"]["generators"][1], "generator for comparison")
    generation, labeling, evaluation = spec["generation"], spec["labeling"], spec["evaluation"]
    rows += [
        (
            "generation",
            f"{generation['steps']} steps, guidance {generation['guidance_scale']:g}, seed {generation['seed']}, "
            f"at most {generation['rounds']} rounds and {generation['draw_limit']:g} draws for each image needed, "
            f"suspected copies {'kept' if facts['copies']['kept'] else 'left out'}",
        ),
        ("labeler", f"{network(labeling['classifier'])}, {labeling['updates']} updates, seed {labeling['seed']}"),
        (
            "evaluator",
            f"{network(evaluation['classifier'])}, {evaluation['updates']} updates, batch {evaluation['batch_size']}, "
            f"{evaluation['seeds']} seeds from {evaluation['first_seed']}, {evaluation['resamples']} resamples",
        ),
    ]
    return rows


def _generator_rows(record: Mapping[str, Any], name: str) -> list[tuple[str, str]]:
    rows = [(name, _generator(record))]
    if record.get("base"):
        rows.append((f"{name}: base", f"{record['spec'].get('base', '')}, {record['base']}".removeprefix(", ")))
    if record.get("captions"):
        rows.append((f"{name}: captions", captions_listed(record)))
    return rows


def _generator(record: Mapping[str, Any]) -> str:
    spec = record.get("spec", {})
    kind = spec.get("kind", "").removeprefix("KIND_").replace("_", "-").lower()
    size = f"{record.get('image_size', 0)} × {record.get('image_size', 0)} pixels"
    trained = f", {spec['train_steps']} updates of {spec['batch_size']}" if "train_steps" in spec else ""
    seen = sum(int(one.get("count", 0)) for one in record.get("training", []))
    return f"{kind}, {size}{trained}, has seen {thousands(seen)} training images, seed {spec.get('seed', 0)}"


def network(spec: Mapping[str, Any]) -> str:
    """A ClassifierSpec in a few words."""
    backbone = spec["backbone"].removeprefix("BACKBONE_").replace("_", "-").lower()
    words = [f"{backbone} at {spec['image_size']} pixels"]
    if spec.get("tuning"):
        words.append({"TUNING_FROZEN": "frozen", "TUNING_FINE_TUNED": "every layer learning"}[spec["tuning"]])
    if spec.get("head") in _HEADS:
        words.append(_HEADS[spec["head"]])
    if spec.get("detail"):
        words.append(f"every image first brought to {spec['detail']} pixels")
    return ", ".join(words)


_HEADS = {"HEAD_PUBLISHED": "the published head", "HEAD_LOGISTIC": "logistic regression"}


def probe_said(reference: str, score: Mapping[str, Any], probe: Mapping[str, Any]) -> str:
    """Whether the reference reaches the reference probe, in a sentence."""
    mean, p = score["macro_recall"]["value"], probe["macro_recall"]
    span = f"{percent(p['lower'])} to {percent(p['upper'])}"
    told = f"{percent(mean)} % against the probe’s {percent(p['value'])} % ({span})"
    if mean < p["lower"]:
        return (
            f"{reference} lies below the probe’s interval: {told}. The evaluator was trained too little or fits the "
            "images badly, and the comparisons are worth less for it."
        )
    place = "within" if mean <= p["upper"] else "above"
    return f"{reference} lies {place} the probe’s interval: {told}. The evaluator keeps up with the probe."


def agreement_said(facts: Mapping[str, Any]) -> str:
    """How far the labels are the labeler's own, in two sentences."""
    found, seed = facts["agreement"], facts["spec"]["labeling"]["second_seed"]
    same = found["same"]
    accepted, both = (sum(one[key] for one in found["classes"]) for key in ("accepted", "both"))
    kappa = "" if found["kappa"] is None else f", Cohen’s κ {found['kappa']:.2f}"
    first = (
        f"A second labeler, trained alike but from seed {seed}, gave {percent(same['value'])} % of the "
        f"{thousands(found['images'])} generated images the same label ({percent(same['lower'])} to "
        f"{percent(same['upper'])}{kappa})."
    )
    if not accepted:
        return f"{first} The labeler accepted none."
    told = f"{first} Of the {thousands(accepted)} images that the labeler accepted, the second would have accepted"
    if both == accepted:
        return f"{told} every one as the same class."
    return (
        f"{told} {thousands(both)} as the same class ({percent(both / accepted)} %): the rest is in the training sets "
        "for the first labeler’s seed."
    )


def control_said(facts: Mapping[str, Any]) -> str:
    """What training on the random control shows of the choice."""
    controls = [one["name"] for one in facts["scenarios"] if one.get("reduction") == "REDUCTION_RANDOM"]
    found = [c for c in facts["evaluation"].get("comparisons", []) if c["scenario"] in controls]
    if not found:
        return (
            "No scenario was trained on the random control, so that this says how the choice looks, not what it is "
            "worth."
        )
    c = found[0]
    e = c["difference"]
    numbers = f"{points(e['value'])} points (adjusted interval {points(e['lower'])} to {points(e['upper'])})"
    words = {
        "OUTCOME_HELPS": "Training on the random control did better than on the choice",
        "OUTCOME_HURTS": "Training on the random control did worse than on the choice",
    }.get(c["outcome"], "There is no evidence that the choice trains better or worse than the random control")
    return f"{words}: {c['scenario']} against {c['reference']} {numbers}."


def limits(facts: Mapping[str, Any]) -> list[str]:
    """What the numbers do not cover."""
    evaluation = facts["evaluation"]
    seeds, subjects = evaluation["scores"][0]["seeds"], evaluation["test_subjects"]
    fewest = min(facts["counts"], key=lambda row: row["test"])
    lines = [
        f"Intervals cover which {subjects} subjects were sealed and the seeds of {seeds} trainings. They do not cover "
        "another split, other training images, another network or other settings.",
        f"The smallest class, {fewest['class']}, has {fewest['test']} sealed images: differences in it are coarse.",
        "One dataset, and no images of another hospital, camera or year: nothing is known beyond it.",
        "Macro recall was the endpoint. The other figures are for reading; their intervals are not adjusted.",
    ]
    if any(scenario["kind"] == "synthetic" for scenario in facts["scenarios"]):
        lines[1:1] = [
            "The generator was trained once and its images were drawn once: another seed of the generator may give "
            "another result, and the intervals do not say how different.",
            "The labeler has seen the same training images as the evaluators, so that the two are not independent.",
        ]
        if not facts["match"]:
            lines.append("Whether generated images copy training images has not been measured here.")
    return [*lines, "Not for clinical use."]
