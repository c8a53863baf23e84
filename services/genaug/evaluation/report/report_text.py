"""Sentences and tables of a report about the run, its evaluation and their limits."""

from __future__ import annotations

from genaug.evaluation.report.filters import percent, points_interval, thousands
from genaug.evaluation.report.generator_text import listed_captions, train_steps
from genaug.evaluation.report.report_data import ReportData, ScenarioData
from genaug.evaluation.verdict import points
from genaug.schema.classifiers import ClassifierSpec, Head, Tuning
from genaug.schema.evaluation import METRICS, Outcome, ScenarioScore
from genaug.schema.generators import Generator
from genaug.schema.registry import load
from genaug.schema.run import LabelingMode, Reduction, RunSpec, ScenarioSampling
from genaug.schema.selection import SelectionMethod

MODES = {
    LabelingMode.AGREE: (
        "An image is kept only if it finds the class asked for, above that class’s calibrated threshold."
    ),
    LabelingMode.TRUST_LABELER: "In this run an image counts as whatever the labeler finds, as in the published study.",
    LabelingMode.TRUST_PROMPT: (
        "In this run an image counts as the class that was asked for, whatever the labeler finds."
    ),
}

MEANINGS = {
    "disagrees": "The labeler is sure that they show another class.",
    "unsure": "The labeler’s probability is below the threshold of the class.",
    "degenerate": "Constant, or otherwise no image.",
}

METHODS = {
    SelectionMethod.TSNE_GRID: "Even coverage of the map",
    SelectionMethod.RANDOM: "Random choice",
    SelectionMethod.HERDING: "Kernel herding",
    SelectionMethod.K_CENTER: "Greedy k-center",
}

_REDUCED = {Reduction.RANDOM: "dominant classes reduced at random", Reduction.NONE: "nothing reduced"}
_HEADS = {Head.PUBLISHED: "the published head", Head.LOGISTIC: "logistic regression"}
_TUNINGS = {Tuning.FROZEN: "frozen", Tuning.FINE_TUNED: "every layer learning"}


def scenario_text(scenario: ScenarioData) -> str:
    """Training set of a scenario in a few words."""
    doses = ((scenario.synthetic, "generated"), (scenario.transformed, "transformed"))
    parts = [f"{dose:g} × {word}" for dose, word in doses if dose] or ["real images"]
    if missing := sum(scenario.shortfall_counts.values()):
        parts.append(f"{thousands(scenario.made)} of {thousands(scenario.made + missing)} could be had")
    if scenario.sampling == ScenarioSampling.CLASS_BALANCED:
        parts.append("classes drawn alike")
    if scenario.reduction in _REDUCED:
        parts.append(_REDUCED[scenario.reduction])
    return ", ".join(parts)


def run_table(data: ReportData) -> list[tuple[str, str]]:
    """Rows of the table of settings."""
    spec, dataset = data.spec, data.dataset
    shares = " / ".join(f"{share:g}" for share in dataset.split)
    split = "the source’s own split" if dataset.own_split else f"{shares} by subject, seed {dataset.seed}"
    folds = f"{dataset.folds} folds" + (f" by subject, seed {dataset.seed}" if dataset.own_split else "")
    rows = [
        ("dataset", f"{dataset.name} ({dataset.format}), digest {dataset.digest[:16]}…"),
        ("split", f"{split}, {folds}"),
        ("classes", ", ".join(data.classes)),
        ("several diseases", spec.multi_disease.name.lower()),
    ]
    for generator in data.generators:
        rows += _generator_rows(generator, "generator")
    if data.captions:
        rows += _generator_rows(data.captions.generators[1], "generator for comparison")
    generation, labeling, evaluation = spec.generation, spec.labeling, spec.evaluation
    return [
        *rows,
        (
            "generation",
            f"{generation.steps} steps, guidance {generation.guidance_scale:g}, seed {generation.seed}, "
            f"at most {generation.rounds} rounds and {generation.draw_limit:g} draws for each image needed, "
            f"suspected copies {'kept' if data.copies.kept else 'left out'}",
        ),
        ("labeler", f"{network_text(labeling.classifier)}, {labeling.updates} updates, seed {labeling.seed}"),
        (
            "evaluator",
            f"{network_text(evaluation.classifier)}, {evaluation.updates} updates, batch {evaluation.batch_size}, "
            f"{evaluation.seeds} seeds from {evaluation.first_seed}, {evaluation.resamples} resamples",
        ),
    ]


def _generator_rows(generator: Generator, name: str) -> list[tuple[str, str]]:
    rows = [(name, _generator_text(generator))]
    if generator.base:
        base = generator.spec.stable_diffusion
        rows.append((f"{name}: base", f"{base.base if base else ''}, {generator.base}".removeprefix(", ")))
    if generator.captions:
        rows.append((f"{name}: captions", listed_captions(generator)))
    return rows


def _generator_text(generator: Generator) -> str:
    spec, steps = generator.spec, train_steps(generator)
    size = f"{generator.image_size} × {generator.image_size} pixels"
    batch_size = getattr(spec.settings, "batch_size", None)
    trained = f", {steps} updates of {batch_size}" if steps and batch_size else ""
    images = sum(entry.count for entry in generator.training)
    kind = spec.kind_name.replace("_", "-")
    return f"{kind}, {size}{trained}, has seen {thousands(images)} training images, seed {spec.seed or 0}"


def network_text(spec: ClassifierSpec) -> str:
    """Classifier specification in a few words."""
    words = [f"{spec.backbone.replace('_', '-').lower()} at {spec.image_size} pixels"]
    if spec.tuning:
        words.append(_TUNINGS[spec.tuning])
    if spec.head in _HEADS:
        words.append(_HEADS[spec.head])
    if spec.pre_resize:
        words.append(f"every image first brought to {spec.pre_resize} pixels")
    return ", ".join(words)


def probe_text(reference: str, score: ScenarioScore, probe: ScenarioScore) -> str:
    """Comparison of the reference with the reference probe, in two sentences."""
    mean, interval = score.macro_recall.value, probe.macro_recall
    span = f"{percent(interval.lower)} to {percent(interval.upper)}"
    numbers = f"{percent(mean)} % against the probe’s {percent(interval.value)} % ({span})"
    if mean < interval.lower:
        return (
            f"{reference} lies below the probe’s interval: {numbers}. The evaluator was trained too little or fits the "
            "images badly, and the comparisons are worth less for it."
        )
    place = "within" if mean <= interval.upper else "above"
    return f"{reference} lies {place} the probe’s interval: {numbers}. The evaluator keeps up with the probe."


def probe_size_text(spec: RunSpec) -> str:
    """Sizes that the probe's and the evaluator's images are first resized to."""
    probe, evaluator = spec.generator.image_size, spec.evaluation.classifier.pre_resize
    other = "" if evaluator == probe else f" (the evaluator’s to {evaluator} pixels)" if evaluator else ""
    return f"each image first brought to the generator’s image size, {probe} pixels{other}"


def metric_text(name: str) -> str:
    """Name of a further metric and its direction, as far as its distribution is installed here."""
    if name not in METRICS.names():
        return name
    metric = load(METRICS.get(name))
    return f"{metric.name} ({metric.direction} is better)"


def agreement_text(data: ReportData) -> str:
    """Agreement of the two labelers, in two sentences; empty without a second one."""
    if not data.agreement:
        return ""
    agreement, same = data.agreement, data.agreement.same
    accepted, both = (sum(getattr(row, field) for row in agreement.classes) for field in ("accepted", "both"))
    kappa = "" if agreement.kappa is None else f", Cohen’s κ {agreement.kappa:.2f}"
    first = (
        f"A second labeler, trained alike but from seed {data.spec.labeling.second_seed}, gave {percent(same.value)} % "
        f"of the {thousands(agreement.images)} generated images the same label ({percent(same.lower)} to "
        f"{percent(same.upper)}{kappa})."
    )
    if not accepted:
        return f"{first} The labeler accepted none."
    second = f"{first} Of the {thousands(accepted)} images that the labeler accepted, the second would have accepted"
    if both == accepted:
        return f"{second} every one as the same class."
    return (
        f"{second} {thousands(both)} as the same class ({percent(both / accepted)} %): the rest is in the training "
        "sets for the first labeler’s seed."
    )


def control_text(data: ReportData) -> str:
    """Comparison of the selection with the random control, by training."""
    controls = [scenario.name for scenario in data.scenarios if scenario.reduction == Reduction.RANDOM]
    comparison = next((c for c in data.evaluation.comparisons if c.scenario in controls), None)
    if comparison is None:
        return (
            "No scenario was trained on the random control, so that this says how the choice looks, not what it is "
            "worth."
        )
    difference = comparison.difference
    numbers = f"{points(difference.value)} points (adjusted interval {points_interval(difference)})"
    words = {
        Outcome.HELPS: "Training on the random control did better than on the choice",
        Outcome.HURTS: "Training on the random control did worse than on the choice",
    }.get(comparison.outcome, "There is no evidence that the choice trains better or worse than the random control")
    return f"{words}: {comparison.scenario} against {comparison.reference} {numbers}."


def limits(data: ReportData) -> list[str]:
    """Limits of the results."""
    seeds, subjects = data.evaluation.scores[0].seeds, data.evaluation.test_subjects
    fewest = min(data.counts, key=lambda row: row.test)
    lines = [
        f"Intervals cover which {subjects} subjects were sealed and the seeds of {seeds} trainings. They do not cover "
        "another split, other training images, another network or other settings.",
        f"The smallest class, {fewest.class_name}, has {fewest.test} sealed images: differences in it are coarse.",
        "One dataset, and no images of another hospital, camera or year: nothing is known beyond it.",
        "Macro recall was the endpoint. The other figures are for reading; their intervals are not adjusted.",
    ]
    if "synthetic" in data.kinds.values():
        lines[1:1] = [
            "The generator was trained once and its images were drawn once: another seed of the generator may give "
            "another result, and the intervals do not say how different.",
            "The labeler has seen the same training images as the evaluators, so that the two are not independent.",
        ]
        if not data.match:
            lines.append("Whether generated images copy training images has not been measured here.")
    return [*lines, "Not for clinical use."]
