"""What step 6 trains and scores: each scenario with each seed, all else equal, and the reference probe."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from genaug.orchestrator.fields import Spec
from genaug.orchestrator.spec import is_reference, probe_classifier, shows_photographs
from genaug.schema.jobs import classifier_name

Json = dict[str, Any]


def entries_of(scenarios: Sequence[Json], versions: Sequence[Json]) -> list[Json]:
    """Each scenario beside its DatasetVersion."""
    return [{"scenario": one, "version": version} for one, version in zip(scenarios, versions, strict=True)]


@dataclass(frozen=True)
class Trainings:
    """The trainings of one evaluator."""

    parts: Sequence[Sequence[Json]]
    """Of the seal, or of each outer fold: scenarios with their versions, in one order."""
    settings: Spec
    """Completed EvaluationSettings without `further`."""
    dataset: Json
    """The Dataset record."""
    view: Json
    """The View of the scenarios, without its fold."""
    detail: int
    """Pixels that images are brought to for the reference probe."""

    def items(self) -> list[Json]:
        """The items of the `train` Job."""
        plan = [item for part in self.parts for entry in part for item in self._of_entry(entry)]
        return plan + self._probe()

    def evaluation_inputs(self, spec: Json) -> Json:
        """The inputs of the `evaluate` Job; `spec` is the EvaluationSpec that it answers."""
        probe = [classifier_name(item) for item in self._probe()]
        return {
            "dataset": self.dataset["name"],
            "dataset_digest": self.dataset["digest"],
            "classes": self.view["classes"],
            "multi_disease": self.view["multi_disease"].removeprefix("MULTI_DISEASE_"),
            "reference": self.parts[0][self._reference]["scenario"]["name"],
            "scenarios": [
                self._scored(index, [self._names(part[index]) for part in self.parts]) | {"scenario": entry["scenario"]}
                for index, entry in enumerate(self.parts[0])
            ],
            "probe": self._scored(self._reference, [[name] for name in probe]) if probe else None,
            "resamples": self.settings["resamples"],
            "seed": self.settings["first_seed"],
            "spec": spec,
        }

    @property
    def _reference(self) -> int:
        return next(index for index, entry in enumerate(self.parts[0]) if is_reference(entry["scenario"]))

    def _scored(self, index: int, classifiers: Sequence[list[str]]) -> Json:
        """What is scored of the scenario at `index`: per part, its version and classifiers."""
        versions = [part[index]["version"] for part in self.parts]
        return {
            "training_images": _mean_images(versions, "real", "synthetic", "transformed"),
            "made_images": _mean_images(versions, "synthetic", "transformed"),
            "missing_images": _mean_images(versions, "shortfall"),
            "parts": [
                {"fold": version["view"].get("fold", 0), "dataset_version": version["name"], "classifiers": names}
                for version, names in zip(versions, classifiers, strict=True)
            ],
        }

    def _of_entry(self, entry: Json) -> list[Json]:
        settings = self.settings
        return [self._item(entry, settings, seed=settings["first_seed"] + seed) for seed in range(settings["seeds"])]

    def _names(self, entry: Json) -> list[str]:
        return [classifier_name(item) for item in self._of_entry(entry)]

    def _probe(self) -> list[Json]:
        if not shows_photographs(self.dataset):
            return []
        # Fitted to convergence: one probe serves every evaluator, whatever its settings.
        settings = {"classifier": probe_classifier(self.detail), "updates": 1, "batch_size": 1, "learning_rate": 1.0}
        return [self._item(part[self._reference], settings, seed=0) for part in self.parts]

    def _item(self, entry: Json, settings: Json, *, seed: int) -> Json:
        return {
            "role": "ROLE_EVALUATOR",
            "classifier": settings["classifier"],
            "channels": self.dataset["channels"],
            "dataset_version": entry["version"]["name"],
            # "versions/real" is a name that a dataset imported anew bears again; its rows are not the same.
            "rows_digest": entry["version"]["digest"],
            "classes": self.view["classes"],
            "sampling": entry["scenario"]["sampling"],
            "updates": settings["updates"],
            "batch_size": settings["batch_size"],
            "learning_rate": settings["learning_rate"],
            # Runs that were begun before it could be chosen do not say it.
            "training": settings.get("training", {}),
            "seed": seed,
        }


def doses_of(version: Json) -> dict[str, float]:
    """The doses that a DatasetVersion was asked for, as its counts tell them: made images per real one, by source.

    What is missing belongs to the one source that it holds; with both, they are the doses that were met.
    """
    real = _mean_images([version], "real")
    made = {source: _mean_images([version], source) for source in ("synthetic", "transformed")}
    missing = _mean_images([version], "shortfall") if 0 in made.values() else 0
    return {source: (count + missing) / real if count else 0.0 for source, count in made.items()}


def _mean_images(versions: Sequence[Json], *kinds: str) -> int:
    """Images of these kinds, mean over the folds."""
    found = [int(count["count"]) for version in versions for kind in kinds for count in version.get(kind, [])]
    return round(sum(found) / len(versions))
