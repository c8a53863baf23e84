"""Data of a report: read from the store, derived from nothing but records and manifests.

Sealed rows appear only as the evaluation's record counts them. Subject ids, original names and paths stay out.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import PurePosixPath, PureWindowsPath
from typing import Any, Literal

from pydantic import model_serializer

from genaug.evaluation.agreement import Agreement, agreement
from genaug.evaluation.captions import CaptionDraws, CaptionResults, ClassCaptionResults, compare_captions
from genaug.evaluation.entry import Entry
from genaug.schema.classifiers import Classifier
from genaug.schema.common import Provenance, counts_of
from genaug.schema.datasets import Dataset, DatasetVersion, DroppedImage
from genaug.schema.evaluation import Evaluation, Verdict
from genaug.schema.generators import Generator, GeneratorSpec, RejectionReason
from genaug.schema.jobs import ComparedCaptions, ReportInputs
from genaug.schema.model import Model, read
from genaug.schema.run import Reduction, RunSpec, Scenario, ScenarioSampling, Step
from genaug.schema.selection import Match, Selection
from genaug.shared.manifest import LabelVerdict, Row, counts, read_nearest_real, read_rows
from genaug.shared.provenance import now
from genaug.shared.store import Store

Kind = Literal["real", "synthetic", "transformed"]
VERDICTS: tuple[LabelVerdict, ...] = ("accepted", "disagrees", "unsure", "degenerate")


class DroppedImages(Entry):
    """Images left out at import for one reason."""

    reason: str
    count: int
    rows: tuple[int, ...]
    """In the source, from 0."""
    details: tuple[str, ...]


class NearDuplicatePair(Entry):
    """A near-identical pair, without its ids, which may be those of sealed images."""

    correlation: float


class ScenarioData(Entry):
    """A scenario and the images of its version, by class."""

    name: str
    kind: Kind
    synthetic: float
    transformed: float
    sampling: ScenarioSampling
    reduction: Reduction
    version: str
    real_counts: dict[str, int]
    synthetic_counts: dict[str, int]
    transformed_counts: dict[str, int]
    shortfall_counts: dict[str, int]

    @property
    def made(self) -> int:
        """Made images."""
        return sum(self.synthetic_counts.values()) + sum(self.transformed_counts.values())


class ClassCounts(Entry):
    """Images of one class."""

    class_name: str
    imported: int
    """For training."""
    view: int
    """In the run's view."""
    kept: int
    """After selection."""
    validation: int
    test: int
    made: dict[str, int]
    """By scenario."""


class Shortfall(Entry):
    """Made images that a dose requires and that are missing."""

    scenario: str
    class_name: str
    missing: int


class Acceptance(Entry):
    """Verdicts on the images that were requested of one class."""

    class_name: str
    drawn: int
    accepted: int
    disagrees: int
    unsure: int
    degenerate: int


class RejectedDraws(Entry):
    """Draws of one class that gave no image, for one reason."""

    class_name: str
    reason: RejectionReason
    count: int


class Copies(Entry):
    """Suspected copies, and their number that was left out."""

    kept: bool
    suspected: int
    left_out: int


class CaptionComparison(Entry):
    """The run's captions beside others."""

    generators: tuple[Generator, Generator]
    """The run's own first."""
    classes: tuple[ClassCaptionResults, ...]
    all: CaptionResults


class ResultProvenance(Provenance):
    """Provenance of one result."""

    name: str


class ReportData(Model):
    """Every number of a report; report.json."""

    name: str
    create_time: str
    run_create_time: str
    spec: RunSpec
    """Without paths of the machines that it was written and trained on."""
    verdict: Verdict
    classes: tuple[str, ...]
    dataset: Dataset
    dropped: tuple[DroppedImages, ...]
    near_duplicates: tuple[NearDuplicatePair, ...]
    scenarios: tuple[ScenarioData, ...]
    counts: tuple[ClassCounts, ...]
    shortfalls: tuple[Shortfall, ...]
    acceptance: tuple[Acceptance, ...]
    rejected: tuple[RejectedDraws, ...]
    disagreement: tuple[tuple[int, ...], ...]
    """Generated images by requested class (rows) and label (columns); empty for none."""
    agreement: Agreement | None
    selection: Selection | None
    match: Match | None
    copies: Copies
    captions: CaptionComparison | None
    evaluation: Evaluation
    further_evaluations: tuple[Evaluation, ...]
    generators: tuple[Generator, ...]
    labeler: Classifier | None
    steps: tuple[Step, ...]
    provenance: tuple[ResultProvenance, ...]

    @model_serializer
    def _json(self) -> dict[str, Any]:
        # Lists of single images may name sealed ones; the dataset's record has them.
        listed = {"dropped", "near_duplicates"}
        dataset = self.dataset.model_dump(mode="json", exclude_none=True, exclude=listed)
        return {name: {} if value is None else value for name, value in self} | {"dataset": dataset}

    @property
    def kinds(self) -> dict[str, Kind]:
        """Kind of each scenario."""
        return {scenario.name: scenario.kind for scenario in self.scenarios}


def collect(
    inputs: ReportInputs,
    store: Store,
    *,
    real: Sequence[Row],
    labelled: Sequence[Row],
    labelled_again: Sequence[Row],
) -> ReportData:
    """Collect all numbers of a report.

    Args:
        inputs: Inputs of a `report` Job.
        store: As the identity "report".
        real: Rows of the run's view.
        labelled: Generated images with their labels, all rounds.
        labelled_again: The same with the second labeler's labels; empty for none.

    Raises:
        NotFound: a record is not in the store.
    """
    spec = inputs.run.spec
    dataset = read(store, f"{inputs.dataset}/dataset.json", Dataset)
    evaluation = _read_evaluation(store, inputs.evaluation)
    selection = read(store, f"{inputs.selection}/selection.json", Selection) if inputs.selection else None
    generators = tuple(_read_generator(store, name) for name in inputs.generators)
    match = _read_match(store, inputs.match)
    labeler = read(store, f"{inputs.labeler}/classifier.json", Classifier) if inputs.labeler else None
    captions = None
    if inputs.compared and inputs.compared.labels:
        captions = _compared_captions(
            inputs.compared, store, classes=spec.classes, labelled=labelled, generators=generators, match=match
        )
    scenarios = tuple(
        _scenario_data(scenario, read(store, f"{inputs.versions[scenario.name]}/version.json", DatasetVersion))
        for scenario in spec.scenarios
    )
    suspected = sum(closeness.suspected_copies for closeness in match.closenesses) if match else 0
    keep_copies = spec.generation.keep_copies
    records = [dataset, *generators, *(captions.generators[1:] if captions else ()), labeler, selection, evaluation]
    return ReportData(
        name=inputs.run.name,
        create_time=now(),
        run_create_time=inputs.run.create_time,
        spec=spec.model_copy(update={"generator": _without_paths(spec.generator)}),
        verdict=evaluation.verdict or Verdict(),
        classes=spec.classes,
        dataset=dataset,
        dropped=_dropped(dataset.dropped),
        near_duplicates=tuple(NearDuplicatePair(correlation=pair.correlation) for pair in dataset.near_duplicates),
        scenarios=scenarios,
        counts=_class_counts(spec.classes, dataset=dataset, real=real, scenarios=scenarios),
        shortfalls=tuple(
            Shortfall(scenario=scenario.name, class_name=name, missing=missing)
            for scenario in scenarios
            for name, missing in scenario.shortfall_counts.items()
            if missing
        ),
        acceptance=_acceptance(spec.classes, labelled),
        rejected=tuple(RejectedDraws(**rejection.__dict__) for rejection in inputs.rejected),
        disagreement=_disagreement(spec.classes, labelled),
        agreement=agreement(spec.classes, labelled, labelled_again),
        selection=selection,
        match=match,
        copies=Copies(kept=keep_copies, suspected=suspected, left_out=0 if keep_copies else suspected),
        captions=captions,
        evaluation=evaluation,
        further_evaluations=tuple(_read_evaluation(store, name) for name in inputs.further_evaluations),
        generators=generators,
        labeler=labeler,
        steps=tuple(step for step in inputs.run.steps if step.name != "report"),
        provenance=tuple(
            ResultProvenance(name=record.name, **record.provenance.__dict__)
            for record in records
            if record and record.provenance.recipe
        ),
    )


def _read_evaluation(store: Store, name: str) -> Evaluation:
    return read(store, f"{name}/evaluation.json", Evaluation)


def _read_match(store: Store, name: str) -> Match | None:
    return read(store, f"{name}/match.json", Match) if name else None


def _read_generator(store: Store, name: str) -> Generator:
    record = read(store, f"{name}/generator.json", Generator)
    return record.model_copy(update={"spec": _without_paths(record.spec)})


def _without_paths(spec: GeneratorSpec) -> GeneratorSpec:
    """The specification with the last part of each path alone."""
    if base := spec.stable_diffusion:
        return spec.model_copy(update={"stable_diffusion": base.model_copy(update={"base": _last_part(base.base)})})
    if own := spec.class_conditional:
        own = own.model_copy(update={"autoencoder": _last_part(own.autoencoder)})
        return spec.model_copy(update={"class_conditional": own})
    if plugin := spec.plugin:
        settings = {k: _last_part(v) if isinstance(v, str) else v for k, v in plugin.settings.items()}
        return spec.model_copy(update={"plugin": plugin.model_copy(update={"settings": settings})})
    return spec


def _last_part(place: str) -> str:
    """The last part of a path on a disk; "bases/{digest}" or an id of the Hub as it is."""
    if "\\" in place or PureWindowsPath(place).drive:
        return PureWindowsPath(place).name
    return PurePosixPath(place).name if place.startswith(("/", ".", "~")) else place


def _compared_captions(
    compared: ComparedCaptions,
    store: Store,
    *,
    classes: Sequence[str],
    labelled: Sequence[Row],
    generators: Sequence[Generator],
    match: Match | None,
) -> CaptionComparison:
    others = [row for name in compared.labels for row in read_rows(store, f"{name}/manifest.parquet")]
    matches = (match, _read_match(store, compared.match))
    natural = {c.class_name: c.real_median for m in matches if m for c in m.closenesses}
    by_class, overall = compare_captions(
        {name: compared.counts[name] for name in classes if compared.counts.get(name)},
        CaptionDraws(labelled, _distances(store, matches[0])),
        CaptionDraws(others, _distances(store, matches[1])),
        natural=natural,
    )
    first = next(generator for generator in generators if not generator.spec.transforms)
    second = _read_generator(store, compared.generator)
    return CaptionComparison(generators=(first, second), classes=by_class, all=overall)


def _distances(store: Store, match: Match | None) -> dict[str, float]:
    """Distances by image id."""
    return {row.made_id: row.distance for row in read_nearest_real(store, match.nearest_real)} if match else {}


def _scenario_data(scenario: Scenario, version: DatasetVersion) -> ScenarioData:
    return ScenarioData(
        name=scenario.name,
        kind="synthetic" if scenario.synthetic else "transformed" if scenario.transformed else "real",
        synthetic=scenario.synthetic,
        transformed=scenario.transformed,
        sampling=scenario.sampling,
        reduction=scenario.reduction,
        version=version.name,
        real_counts=counts_of(version.real),
        synthetic_counts=counts_of(version.synthetic),
        transformed_counts=counts_of(version.transformed),
        shortfall_counts=counts_of(version.shortfall),
    )


def _class_counts(
    classes: Sequence[str], *, dataset: Dataset, real: Sequence[Row], scenarios: Sequence[ScenarioData]
) -> tuple[ClassCounts, ...]:
    imported, test = counts_of(dataset.training), counts_of(dataset.test)
    view, validation = counts(real, split="train"), counts(real, split="validation")
    selected: Mapping[str, int] = scenarios[0].real_counts if scenarios else {}
    return tuple(
        ClassCounts(
            class_name=name,
            imported=imported.get(name, 0),
            view=view.get(name, 0),
            kept=selected.get(name, 0),
            validation=validation.get(name, 0),
            test=test.get(name, 0),
            made={
                scenario.name: scenario.synthetic_counts.get(name, 0) + scenario.transformed_counts.get(name, 0)
                for scenario in scenarios
                if scenario.kind != "real"
            },
        )
        for name in classes
    )


def _acceptance(classes: Sequence[str], labelled: Iterable[Row]) -> tuple[Acceptance, ...]:
    images = Counter((row.prompt, row.label_verdict) for row in labelled)
    table = []
    for name in classes:
        entry = {verdict: images[name, verdict] for verdict in VERDICTS}
        if drawn := sum(entry.values()):
            table.append(Acceptance(class_name=name, drawn=drawn, **entry))
    return tuple(table)


def _disagreement(classes: Sequence[str], labelled: Iterable[Row]) -> tuple[tuple[int, ...], ...]:
    images = Counter((row.prompt, row.label) for row in labelled)
    return tuple(tuple(images[prompt, label] for label in classes) for prompt in classes) if images else ()


def _dropped(dropped: Iterable[DroppedImage]) -> tuple[DroppedImages, ...]:
    by_reason: dict[str, list[DroppedImage]] = {}
    for image in dropped:
        by_reason.setdefault(image.reason, []).append(image)
    return tuple(
        DroppedImages(
            reason=reason,
            count=len(images),
            rows=tuple(sorted(image.row for image in images)),
            details=tuple(sorted({image.detail for image in images if image.detail})),
        )
        for reason, images in sorted(by_reason.items())
    )
