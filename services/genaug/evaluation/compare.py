"""Scenarios on the test rows: metrics with intervals, and paired differences over the same subjects and seeds."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from genaug.evaluation import metrics
from genaug.evaluation.intervals import Variance, interval, outcome_of, paired_seed_variance, seed_variance
from genaug.evaluation.metrics import ConfusionCounts, Floats, Ints, LoadedMetric
from genaug.evaluation.resampling import draws_of, resample, strata
from genaug.schema.evaluation import ClassScore, Comparison, Estimate, ReliabilityBin, ScenarioScore
from genaug.shared.errors import FailedPrecondition

# Each resample of an area under the curve costs n² products; this many give its standard error to 3 %.
_AUC_RESAMPLES = 500


@dataclass(frozen=True)
class TestSet:
    """Truth of the test rows."""

    __test__ = False  # no test case of pytest

    classes: tuple[str, ...]
    """The label map, k classes."""
    truth: Ints
    """[n], 0 to k-1; each class occurs."""
    groups: Ints
    """[n], 0 to g-1: the units of resampling."""

    @property
    def group_count(self) -> int:
        """Number of groups, g."""
        return int(self.groups.max()) + 1

    def membership(self) -> Floats:
        """Images by group and class, [g, k]."""
        images = np.zeros((self.group_count, len(self.classes)))
        np.add.at(images, (self.groups, self.truth), 1.0)
        return images


@dataclass(frozen=True)
class Predictions:
    """Predictions of one scenario's frozen classifiers on the test rows."""

    scenario: str
    synthetic: bool
    """Whether it was trained on generated images."""
    probabilities: Floats
    """float32 [seeds, n, k]; the i-th seed is the same in all scenarios."""


class BootstrapComparison:
    """Scenarios on the same test rows, resampled alike.

    Args:
        test_set: Truth of the rows.
        predictions: One or more scenarios with the same number of seeds.
        resamples: Resamples of the groups.
        seed: Seed of the resampling.
        further: Further metrics by name, as `metrics.load_metrics` gives them.
    """

    def __init__(
        self,
        test_set: TestSet,
        predictions: Sequence[Predictions],
        *,
        resamples: int,
        seed: int,
        further: Mapping[str, LoadedMetric] | None = None,
    ) -> None:
        self._test_set = test_set
        self._predictions = {p.scenario: p for p in predictions}
        self._index = {p.scenario: i for i, p in enumerate(predictions)}
        self._further = further or {}
        self._strata = strata(test_set.membership())
        self._weights = resample(self._strata, resamples=resamples, seed=seed)
        self._class_groups = (test_set.membership() > 0).sum(0)
        labels = np.stack([p.probabilities.argmax(-1) for p in predictions])
        self._confusions = np.stack(
            [
                [metrics.confusion(test_set.truth, seed_labels, len(test_set.classes)) for seed_labels in scenario]
                for scenario in labels
            ]
        )
        self._counts = metrics.confusion_counts(self._confusions)
        self._resampled = self._resampled_counts(labels)
        # [scenarios, seeds, k] and, averaged over seeds, [resamples, scenarios, k].
        self._recalls = metrics.recalls(self._counts)
        self._recalls_resampled = metrics.recalls(self._resampled).mean(2)

    def score(self, scenario: str) -> ScenarioScore:
        """All metrics of one scenario, not rounded; its versions and numbers of training images are left empty."""
        i = self._index[scenario]
        counts = ConfusionCounts(self._counts.actual[i], self._counts.predicted[i], self._counts.hits[i])
        recalls = self._recalls[i].mean(0)
        pseudo_counts = self._pseudo_counts((1 - recalls) ** 2 + recalls**2)
        none = np.zeros_like(pseudo_counts)
        probabilities = self._predictions[scenario].probabilities
        truth = self._test_set.truth
        classes = tuple(self._class_scores(i, counts, probabilities))
        return ScenarioScore(
            scenario=scenario,
            macro_recall=self._macro(metrics.recalls, pseudo_counts, i),
            macro_precision=self._macro(metrics.precisions, pseudo_counts, i),
            macro_f1=self._macro(metrics.f1s, pseudo_counts, i),
            accuracy=self._accuracy(i),
            macro_auc=self._estimate(self._aucs, self._auc_resamples(probabilities), none, i),
            recalls={score.class_name: score.recall.value for score in classes},
            confusion=tuple(self._confusions[i].sum(0).ravel().tolist()),
            seeds=len(probabilities),
            seed_macro_recalls=tuple(metrics.macro(self._recalls[i]).tolist()),
            specificities={score.class_name: score.specificity for score in classes},
            weighted_precision=float(metrics.weighted(metrics.precisions(counts), counts).mean()),
            weighted_f1=float(metrics.weighted(metrics.f1s(counts), counts).mean()),
            calibration_error=float(np.mean([metrics.calibration_error(truth, p) for p in probabilities])),
            macro_average_precision=self._estimate(
                self._average_precisions, self._average_precision_resamples(probabilities), none, i
            ),
            classes=classes,
            reliability=_reliability(truth, probabilities),
            metrics={name: self._further_metric(name, i) for name in self._further},
        )

    def difference(self, scenario: str, reference: str, *, comparisons: int) -> Comparison:
        """Macro recall of `scenario` less that of `reference`: the same resampled subjects, the same seeds.

        Args:
            scenario: Scenario, the minuend.
            reference: Scenario, the subtrahend.
            comparisons: Comparisons in this one's family.
        """
        i, j = self._index[scenario], self._index[reference]
        values = metrics.macro(self._recalls)
        by_class = self._recalls_resampled[:, i] - self._recalls_resampled[:, j]
        pseudo_counts = self._pseudo_counts(np.full(len(self._test_set.classes), 2.0))
        estimate = interval(
            float((values[i] - values[j]).mean()),
            subjects=self._subject_variance(metrics.macro(by_class), by_class, pseudo_counts),
            seeds=paired_seed_variance(values, i, j),
            bounds=(-1.0, 1.0),
            comparisons=comparisons,
        )
        return Comparison(scenario=scenario, reference=reference, difference=estimate, outcome=outcome_of(estimate))

    def best_doses(self, scenarios: Sequence[str], *, seed: int) -> Ints:
        """Index of the highest macro recall among `scenarios` in each resample of subjects and seeds, [b]."""
        index = [self._index[scenario] for scenario in scenarios]
        by_seed = metrics.macro(metrics.recalls(self._resampled))[:, index]
        seeds = by_seed.shape[2]
        draws = np.random.default_rng(seed).integers(seeds, size=(len(by_seed), 1, seeds))
        values = np.take_along_axis(by_seed, draws, axis=2).mean(2)
        best: Ints = values[~np.isnan(values).any(1)].argmax(1)
        return best

    def _class_scores(self, scenario: int, counts: ConfusionCounts, probabilities: Floats) -> Iterator[ClassScore]:
        truth = self._test_set.truth
        aucs = np.mean([metrics.aucs(truth, p) for p in probabilities], axis=0)
        average_precisions = np.mean([metrics.average_precisions(truth, p) for p in probabilities], axis=0)
        curves = np.mean([metrics.roc(truth, p) for p in probabilities], axis=0)
        for index, name in enumerate(self._test_set.classes):
            yield ClassScore(
                class_name=name,
                images=int((truth == index).sum()),
                recall=self._recall(scenario, index),
                specificity=float(metrics.specificities(counts).mean(0)[index]),
                precision=float(metrics.precisions(counts).mean(0)[index]),
                f1=float(metrics.f1s(counts).mean(0)[index]),
                auc=float(aucs[index]),
                average_precision=float(average_precisions[index]),
                roc=tuple(curves[index].tolist()),
            )

    def _recall(self, scenario: int, index: int) -> Estimate:
        """Recall of one class, over its own groups."""
        seeds, groups = self._recalls[:, :, index], int(self._class_groups[index])
        mean = float(seeds[scenario].mean())
        pseudo_counts = ((1 - mean) ** 2 + mean**2) / groups**2
        variance = _variance(self._recalls_resampled[:, scenario, index]) + pseudo_counts
        return interval(mean, subjects=Variance(variance, groups - 1), seeds=seed_variance(seeds, scenario))

    def _resampled_counts(self, labels: Ints) -> ConfusionCounts:
        """Counts of each resample: actual [b, 1, 1, k], predicted and hits [b, scenarios, seeds, k]."""
        test_set, weights = self._test_set, self._weights
        indices = np.arange(len(test_set.classes))
        shape = (*labels.shape[:2], len(indices))
        # Images by group, [g, scenarios · seeds · k]: a resample is then one product of matrices.
        predicted = np.zeros((test_set.group_count, *shape), np.float32)
        hits = np.zeros_like(predicted)
        for index in indices:
            given = (labels == index).transpose(2, 0, 1)
            np.add.at(predicted[..., index], test_set.groups, given)
            np.add.at(hits[..., index], test_set.groups, given & (test_set.truth == index)[:, None, None])
        flat = (len(weights), *shape)
        return ConfusionCounts(
            (weights @ test_set.membership().astype(np.float32))[:, None, None, :],
            (weights @ predicted.reshape(test_set.group_count, -1)).reshape(flat),
            (weights @ hits.reshape(test_set.group_count, -1)).reshape(flat),
        )

    def _macro(self, per_class: Callable[[ConfusionCounts], Floats], pseudo_counts: Floats, scenario: int) -> Estimate:
        """A metric that is a mean over classes."""
        r = self._resampled
        counts = ConfusionCounts(r.actual[:, 0], r.predicted[:, scenario], r.hits[:, scenario])
        seeds = metrics.macro(per_class(self._counts))
        return self._estimate(seeds, metrics.macro(per_class(counts)).mean(1), pseudo_counts, scenario)

    def _estimate(self, seeds: Floats, resampled: Floats, pseudo_counts: Floats, scenario: int) -> Estimate:
        """From `seeds` [scenarios, S], `resampled` [b] (means over seeds) and `pseudo_counts` [k]."""
        return interval(
            float(seeds[scenario].mean()),
            subjects=self._subject_variance(resampled, self._recalls_resampled[:, scenario], pseudo_counts),
            seeds=seed_variance(seeds, scenario),
        )

    def _accuracy(self, scenario: int) -> Estimate:
        """Accuracy: it weighs images alike, so that all groups count as one class."""
        seeds, groups, r = metrics.accuracy(self._counts), self._test_set.group_count, self._resampled
        counts = ConfusionCounts(r.actual[:, 0], r.predicted[:, scenario], r.hits[:, scenario])
        resampled = metrics.accuracy(counts).mean(1)
        mean = float(seeds[scenario].mean())
        variance = _variance(resampled) + ((1 - mean) ** 2 + mean**2) / groups**2
        return interval(mean, subjects=Variance(variance, groups - 1), seeds=seed_variance(seeds, scenario))

    def _further_metric(self, name: str, scenario: int) -> Estimate:
        """A further metric; its range is not known.

        Its subjects' degrees of freedom are the rarest class's, at least one: no class structure is known of it.
        """
        seeds = self._further_values[name]
        if not np.isfinite(seeds).all():
            raise FailedPrecondition(f"metric {name!r} is not finite on the test rows", reason="METRIC_FAILED")
        variance = _variance(self._further_resamples(name, scenario))
        return interval(
            float(seeds[scenario].mean()),
            subjects=Variance(variance, max(1, int(self._class_groups.min()) - 1)),
            seeds=seed_variance(seeds, scenario),
            bounds=(-np.inf, np.inf),
        )

    @cached_property
    def _further_values(self) -> dict[str, Floats]:
        """Each further metric of each training, [scenarios, S]."""
        truth, predictions = self._test_set.truth, self._predictions.values()
        return {
            name: np.array([[metric(truth, p) for p in scenario.probabilities] for scenario in predictions])
            for name, metric in self._further.items()
        }

    def _further_resamples(self, name: str, scenario: int) -> Floats:
        """A further metric, averaged over seeds, of each resample [b]; NaN where a class is missing.

        It takes no weights, so a group's images are repeated as often as the group was drawn.
        """
        metric, test_set = self._further[name], self._test_set
        probabilities = list(self._predictions.values())[scenario].probabilities
        values = np.full(min(len(self._weights), _AUC_RESAMPLES), np.nan)
        for index, draws in enumerate(draws_of(self._weights[: len(values)], self._strata)):
            rows = np.repeat(np.arange(len(test_set.truth)), draws[test_set.groups])
            truth = test_set.truth[rows]
            if len(np.unique(truth)) == len(test_set.classes):
                values[index] = np.mean([metric(truth, p[rows]) for p in probabilities])
        return values

    def _pseudo_counts(self, squares: Floats) -> Floats:
        """Variance that the two pseudo-subjects add to a macro mean, by class [k].

        Args:
            squares: Sum of their squared residuals, by class [k]; a subject's weight is 1 / (k · its class's subjects).
        """
        k = len(self._class_groups)
        terms: Floats = squares / (self._class_groups * k) ** 2 / k
        return terms

    def _subject_variance(self, resampled: Floats, by_class: Floats, pseudo_counts: Floats) -> Variance:
        """Variance over subjects; its degrees of freedom by Satterthwaite over classes, each its groups less one.

        Args:
            resampled: The metric of each resample, [b].
            by_class: Recalls, or their differences, of each resample, [b, k].
            pseudo_counts: Variance that the pseudo-subjects add, [k].
        """
        fewest = int(self._class_groups.min()) - 1
        parts = np.nanvar(by_class, axis=0, ddof=1) / by_class.shape[1] ** 2 + pseudo_counts
        variance = _variance(resampled) + float(pseudo_counts.sum())
        if fewest < 1 or not parts.sum():
            return Variance(variance, fewest)
        return Variance(variance, float(parts.sum() ** 2 / (parts**2 / (self._class_groups - 1)).sum()))

    @cached_property
    def _aucs(self) -> Floats:
        """Macro area under the ROC curve of each training, [scenarios, S]."""
        return self._macro_values(metrics.aucs)

    @cached_property
    def _average_precisions(self) -> Floats:
        """Macro average precision of each training, [scenarios, S]."""
        return self._macro_values(metrics.average_precisions)

    def _macro_values(self, per_class: Callable[[Ints, Floats], Floats]) -> Floats:
        truth, predictions = self._test_set.truth, self._predictions.values()
        return np.array([[per_class(truth, p).mean() for p in scenario.probabilities] for scenario in predictions])

    def _average_precision_resamples(self, probabilities: Floats) -> Floats:
        """Macro average precision, averaged over seeds, of each resample [b]."""
        weights = self._weights[:_AUC_RESAMPLES, self._test_set.groups]
        truth = self._test_set.truth
        values: Floats = np.mean(
            [metrics.average_precisions(truth, p, weights).mean(-1) for p in probabilities], axis=0
        )
        return values

    def _auc_resamples(self, probabilities: Floats) -> Floats:
        """Macro area under the ROC curve, averaged over seeds, of each resample [b].

        Numerator and denominator are quadratic in the weights of images: w+ᵀ K w-, with K the share of seeds that rank
        the one image above the other, ties one half.
        """
        truth = self._test_set.truth
        weights = self._weights[:_AUC_RESAMPLES, self._test_set.groups]
        total = weights.sum(1)
        areas = []
        for index in range(len(self._test_set.classes)):
            inside = np.flatnonzero(truth == index)
            kernel = np.zeros((len(inside), len(truth)), np.float32)
            for scores in probabilities[..., index]:
                kernel += np.float32(0.5) * (np.sign(scores[inside, None] - scores) + 1)
            kernel[:, inside] = 0
            own = weights[:, inside]
            above = np.einsum("bn,bn->b", own @ kernel, weights) / len(probabilities)
            pairs = own.sum(1) * (total - own.sum(1))
            areas.append(np.divide(above, pairs, out=np.full_like(above, np.nan), where=pairs > 0))
        mean: Floats = np.mean(areas, axis=0)
        return mean


def _reliability(truth: Ints, probabilities: Floats) -> tuple[ReliabilityBin, ...]:
    bins = np.sum([metrics.reliability(truth, p) for p in probabilities], axis=0)
    total = bins[:, 0].sum()
    return tuple(
        ReliabilityBin(share=n / total, confidence=confidence / n if n else 0.0, accuracy=right / n if n else 0.0)
        for n, confidence, right in bins
    )


def _variance(resampled: Floats) -> float:
    """Variance over resamples; those in which a class is missing (NaN) are left out."""
    return float(np.nanvar(resampled.astype(np.float64), ddof=1))


def compare(bootstrap: BootstrapComparison, predictions: Sequence[Predictions], *, reference: str) -> list[Comparison]:
    """Every scenario against the reference, then every synthetic one against every baseline: two families.

    Baselines are the scenarios without generated images, but the reference. Each family's intervals are adjusted for
    its comparisons (Bonferroni), so that each errs in at most 5 of 100 studies.
    """
    others = [p for p in predictions if p.scenario != reference]
    synthetic = [p.scenario for p in others if p.synthetic]
    baselines = [p.scenario for p in others if not p.synthetic]
    pairs = [(scenario, baseline) for scenario in synthetic for baseline in baselines]
    return [
        *(bootstrap.difference(p.scenario, reference, comparisons=len(others)) for p in others),
        *(bootstrap.difference(*pair, comparisons=len(pairs)) for pair in pairs),
    ]
