"""Trainings and scores of step 6: each scenario with each seed, all else equal, and the reference probe."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple

from genaug.schema.classifiers import MIN_PHOTOGRAPH_SIDE, Role
from genaug.schema.common import ClassCount
from genaug.schema.completion import probe_classifier
from genaug.schema.datasets import Dataset, DatasetVersion, View
from genaug.schema.evaluation import EvaluationSettings, EvaluationSpec
from genaug.schema.jobs import EvaluateInputs, ScoredPart, ScoredScenario, TrainItem
from genaug.schema.run import Scenario

PROBE = "reference-probe"
"""Scenario name of the reference probe."""

CountField = Literal["real", "synthetic", "transformed", "shortfall"]


class Entry(NamedTuple):
    """A scenario and its dataset version."""

    scenario: Scenario
    version: DatasetVersion


def entries_of(scenarios: Sequence[Scenario], versions: Sequence[DatasetVersion]) -> list[Entry]:
    """Pair each scenario with its dataset version."""
    return [Entry(scenario, version) for scenario, version in zip(scenarios, versions, strict=True)]


@dataclass(frozen=True)
class Trainings:
    """The trainings of one evaluator."""

    parts: Sequence[Sequence[Entry]]
    """For the sealed rows, or for each outer fold: scenarios with their versions, in one order."""
    settings: EvaluationSettings
    """Completed, without `further`."""
    dataset: Dataset
    view: View
    """The view of the scenarios, without its fold."""
    pre_resize: int
    """Side that images are resized to for the reference probe, pixels."""

    def items(self) -> list[TrainItem]:
        """The items of the `train` Job."""
        return [item for part in self.parts for entry in part for item in self._of_entry(entry)] + self._probe()

    def evaluation_inputs(self, spec: EvaluationSpec) -> EvaluateInputs:
        """The inputs of the `evaluate` Job that answers `spec`."""
        probe = self._probe()
        first = self.parts[0]
        return EvaluateInputs(
            dataset=self.dataset.name,
            dataset_digest=self.dataset.digest,
            classes=self.view.classes,
            multi_disease=self.view.multi_disease,
            reference=first[self._reference].scenario.name,
            scenarios=tuple(
                self._scored(entry.scenario, index, [self._names(part[index]) for part in self.parts])
                for index, entry in enumerate(first)
            ),
            probe=self._scored(Scenario(name=PROBE), self._reference, [[item.result] for item in probe])
            if probe
            else None,
            resamples=self.settings.resamples,
            seed=self.settings.first_seed,
            metrics=self.settings.metrics,
            spec=spec,
        )

    @property
    def _reference(self) -> int:
        return next(index for index, entry in enumerate(self.parts[0]) if entry.scenario.is_reference)

    def _scored(self, scenario: Scenario, index: int, classifiers: Sequence[list[str]]) -> ScoredScenario:
        """The scenario at `index` of each part, with its classifiers per part."""
        versions = [part[index].version for part in self.parts]
        return ScoredScenario(
            scenario=scenario,
            training_images=_mean_images(versions, "real", "synthetic", "transformed"),
            made_images=_mean_images(versions, "synthetic", "transformed"),
            missing_images=_mean_images(versions, "shortfall"),
            parts=tuple(
                ScoredPart(fold=version.view.fold, dataset_version=version.name, classifiers=tuple(names))
                for version, names in zip(versions, classifiers, strict=True)
            ),
        )

    def _of_entry(self, entry: Entry) -> list[TrainItem]:
        settings = self.settings
        return [self._item(entry, settings, seed=settings.first_seed + seed) for seed in range(settings.seeds)]

    def _names(self, entry: Entry) -> list[str]:
        return [item.result for item in self._of_entry(entry)]

    def _probe(self) -> list[TrainItem]:
        if self.dataset.median_side < MIN_PHOTOGRAPH_SIDE:
            return []
        # Fitted to convergence: one probe serves every evaluator, whatever its settings.
        settings = EvaluationSettings(
            classifier=probe_classifier(self.pre_resize), updates=1, batch_size=1, learning_rate=1.0
        )
        return [self._item(part[self._reference], settings, seed=0) for part in self.parts]

    def _item(self, entry: Entry, settings: EvaluationSettings, *, seed: int) -> TrainItem:
        return TrainItem(
            role=Role.EVALUATOR,
            classifier=settings.classifier,
            channels=self.dataset.channels,
            dataset_version=entry.version.name,
            rows_digest=entry.version.digest,
            classes=self.view.classes,
            sampling=entry.scenario.sampling,
            updates=settings.updates,
            batch_size=settings.batch_size,
            learning_rate=settings.learning_rate or settings.classifier.learning_rate,
            training=settings.training,
            seed=seed,
        )


def doses_of(version: DatasetVersion) -> dict[str, float]:
    """Doses that a version was assembled with: made images per real one, by source.

    Missing images belong to the one source that it holds; with both sources, the doses are those that were met.
    """
    real = _mean_images([version], "real")
    made = {
        "synthetic": _mean_images([version], "synthetic"),
        "transformed": _mean_images([version], "transformed"),
    }
    missing = _mean_images([version], "shortfall") if 0 in made.values() else 0
    return {source: (count + missing) / real if count else 0.0 for source, count in made.items()}


def _mean_images(versions: Sequence[DatasetVersion], *fields: CountField) -> int:
    """Images of these kinds, mean over the folds."""
    counts: list[ClassCount] = [entry for version in versions for field in fields for entry in getattr(version, field)]
    return round(sum(entry.count for entry in counts) / len(versions))
