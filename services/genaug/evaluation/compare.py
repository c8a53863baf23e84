"""Scenarios on the sealed rows: figures with intervals, and differences that hold subjects and seeds in pairs."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from genaug.evaluation import metrics
from genaug.evaluation.intervals import (
    Estimate,
    Outcome,
    Spread,
    interval,
    outcome_of,
    paired_seed_spread,
    seed_spread,
)
from genaug.evaluation.metrics import Floats, Ints, Tallies
from genaug.evaluation.resampling import resample, strata

# Each resample of an area under the curve costs n² products; this many give its standard error to 3 %.
_AUC_RESAMPLES = 500


@dataclass(frozen=True)
class Sealed:
    """The truth of the sealed rows."""

    classes: tuple[str, ...]
    """The label map, k classes."""
    truth: Ints
    """[n], 0 to k-1; each class is there."""
    groups: Ints
    """[n], 0 to g-1: what is resampled."""

    @property
    def group_count(self) -> int:
        """How many groups there are."""
        return int(self.groups.max()) + 1

    def membership(self) -> Floats:
        """Images by group and class, [g, k]."""
        found = np.zeros((self.group_count, len(self.classes)))
        np.add.at(found, (self.groups, self.truth), 1.0)
        return found


@dataclass(frozen=True)
class Predictions:
    """What the frozen classifiers of one scenario say of the sealed rows."""

    scenario: str
    synthetic: bool
    """Whether it was trained on generated images."""
    probabilities: Floats
    """float32 [seeds, n, k]; the i-th seed is the same in all scenarios."""


@dataclass(frozen=True)
class ClassScore:
    """One class of one scenario; means over seeds."""

    class_name: str
    images: int
    recall: Estimate
    specificity: float
    precision: float
    """0 for a label that is never given."""
    f1: float
    auc: float
    average_precision: float
    roc: tuple[float, ...]
    """Sensitivity at `metrics.ROC_POINTS` even false positive rates from 0 to 1."""


@dataclass(frozen=True)
class Score:
    """One scenario."""

    scenario: str
    macro_recall: Estimate
    macro_precision: Estimate
    macro_f1: Estimate
    accuracy: Estimate
    macro_auc: Estimate
    weighted_precision: float
    weighted_f1: float
    calibration_error: float
    seed_macro_recalls: tuple[float, ...]
    confusion: tuple[int, ...]
    """Summed over seeds, row by row, class first."""
    macro_average_precision: Estimate
    classes: tuple[ClassScore, ...]
    """In the label map's order."""
    reliability: tuple[tuple[float, float, float], ...]
    """Bins of the winning probability over all seeds: share of images, mean probability, share labelled right."""


@dataclass(frozen=True)
class Comparison:
    """One scenario against another: difference of macro recall, adjusted for the comparisons of its family."""

    scenario: str
    reference: str
    difference: Estimate
    outcome: Outcome


class Study:
    """Scenarios on the same sealed rows, resampled alike.

    Args:
        sealed: The truth.
        predictions: One or more scenarios with the same number of seeds.
        resamples: Resamplings of the groups.
        seed: Of the resampling.
    """

    def __init__(self, sealed: Sealed, predictions: Sequence[Predictions], *, resamples: int, seed: int) -> None:
        self._sealed = sealed
        self._predictions = {p.scenario: p for p in predictions}
        self._index = {p.scenario: i for i, p in enumerate(predictions)}
        self._weights = resample(strata(sealed.membership()), resamples=resamples, seed=seed)
        self._class_groups = (sealed.membership() > 0).sum(0)
        labels = np.stack([p.probabilities.argmax(-1) for p in predictions])
        self._confusions = np.stack(
            [
                [metrics.confusion(sealed.truth, seed_labels, len(sealed.classes)) for seed_labels in one]
                for one in labels
            ]
        )
        self._tallies = metrics.tallies(self._confusions)
        self._resampled = self._tally_resamples(labels)
        # [scenarios, seeds, k] and, averaged over seeds, [resamples, scenarios, k].
        self._recalls = metrics.recalls(self._tallies)
        self._recalls_resampled = metrics.recalls(self._resampled).mean(2)

    def score(self, scenario: str) -> Score:
        """All figures of one scenario."""
        i = self._index[scenario]
        t = Tallies(self._tallies.actual[i], self._tallies.predicted[i], self._tallies.hits[i])
        recalls = self._recalls[i].mean(0)
        imagined = self._imagined((1 - recalls) ** 2 + recalls**2)
        probabilities = self._predictions[scenario].probabilities
        truth = self._sealed.truth
        auc = self._figure(self._aucs, self._auc_resamples(probabilities), np.zeros_like(imagined), i)
        return Score(
            scenario=scenario,
            macro_recall=self._macro(metrics.recalls, imagined, i),
            macro_precision=self._macro(metrics.precisions, imagined, i),
            macro_f1=self._macro(metrics.f1s, imagined, i),
            accuracy=self._accuracy(i),
            macro_auc=auc,
            weighted_precision=float(metrics.weighted(metrics.precisions(t), t).mean()),
            weighted_f1=float(metrics.weighted(metrics.f1s(t), t).mean()),
            calibration_error=float(np.mean([metrics.calibration_error(truth, one) for one in probabilities])),
            seed_macro_recalls=tuple(metrics.macro(self._recalls[i]).tolist()),
            confusion=tuple(self._confusions[i].sum(0).ravel().tolist()),
            macro_average_precision=self._figure(
                self._average_precisions, self._average_precision_resamples(probabilities), np.zeros_like(imagined), i
            ),
            classes=tuple(self._class_scores(i, t, probabilities)),
            reliability=_reliability(truth, probabilities),
        )

    def difference(self, scenario: str, reference: str, *, comparisons: int) -> Comparison:
        """Macro recall of `scenario` less that of `reference`: the same resampled subjects, the same seeds.

        Args:
            scenario: The one.
            reference: The other.
            comparisons: Comparisons in the family that this one belongs to.
        """
        i, j = self._index[scenario], self._index[reference]
        figures = metrics.macro(self._recalls)
        by_class = self._recalls_resampled[:, i] - self._recalls_resampled[:, j]
        imagined = self._imagined(np.full(len(self._sealed.classes), 2.0))
        estimate = interval(
            float((figures[i] - figures[j]).mean()),
            subjects=self._subjects(metrics.macro(by_class), by_class, imagined),
            seeds=paired_seed_spread(figures, i, j),
            bounds=(-1.0, 1.0),
            comparisons=comparisons,
        )
        return Comparison(scenario, reference, estimate, outcome_of(estimate))

    def best_doses(self, scenarios: Sequence[str], *, seed: int) -> Ints:
        """Which of `scenarios` has the highest macro recall in each resampling of subjects and seeds, [b]."""
        index = [self._index[scenario] for scenario in scenarios]
        by_seed = metrics.macro(metrics.recalls(self._resampled))[:, index]
        seeds = by_seed.shape[2]
        drawn = np.random.default_rng(seed).integers(seeds, size=(len(by_seed), 1, seeds))
        figures = np.take_along_axis(by_seed, drawn, axis=2).mean(2)
        best: Ints = figures[~np.isnan(figures).any(1)].argmax(1)
        return best

    def _class_scores(self, scenario: int, t: Tallies, probabilities: Floats) -> Iterator[ClassScore]:
        truth = self._sealed.truth
        aucs = np.mean([metrics.aucs(truth, one) for one in probabilities], axis=0)
        precisions = np.mean([metrics.average_precisions(truth, one) for one in probabilities], axis=0)
        curves = np.mean([metrics.roc(truth, one) for one in probabilities], axis=0)
        for kind, name in enumerate(self._sealed.classes):
            yield ClassScore(
                class_name=name,
                images=int((truth == kind).sum()),
                recall=self._recall(scenario, kind),
                specificity=float(metrics.specificities(t).mean(0)[kind]),
                precision=float(metrics.precisions(t).mean(0)[kind]),
                f1=float(metrics.f1s(t).mean(0)[kind]),
                auc=float(aucs[kind]),
                average_precision=float(precisions[kind]),
                roc=tuple(curves[kind].tolist()),
            )

    def _recall(self, scenario: int, kind: int) -> Estimate:
        """Recall of one class, over its own groups."""
        seeds, groups = self._recalls[:, :, kind], int(self._class_groups[kind])
        mean = float(seeds[scenario].mean())
        imagined = ((1 - mean) ** 2 + mean**2) / groups**2
        variance = _variance(self._recalls_resampled[:, scenario, kind]) + imagined
        return interval(mean, subjects=Spread(variance, groups - 1), seeds=seed_spread(seeds, scenario))

    def _tally_resamples(self, labels: Ints) -> Tallies:
        """Tallies of each resample: actual [b, 1, 1, k], predicted and hits [b, scenarios, seeds, k]."""
        sealed, weights = self._sealed, self._weights
        kinds = np.arange(len(sealed.classes))
        shape = (*labels.shape[:2], len(kinds))
        # Images by group, [g, scenarios · seeds · k]: a resample is then one product of matrices.
        predicted = np.zeros((sealed.group_count, *shape), np.float32)
        hits = np.zeros_like(predicted)
        for kind in kinds:
            given = (labels == kind).transpose(2, 0, 1)
            np.add.at(predicted[..., kind], sealed.groups, given)
            np.add.at(hits[..., kind], sealed.groups, given & (sealed.truth == kind)[:, None, None])
        flat = (len(weights), *shape)
        return Tallies(
            (weights @ sealed.membership().astype(np.float32))[:, None, None, :],
            (weights @ predicted.reshape(sealed.group_count, -1)).reshape(flat),
            (weights @ hits.reshape(sealed.group_count, -1)).reshape(flat),
        )

    def _macro(self, per_class: Callable[[Tallies], Floats], imagined: Floats, scenario: int) -> Estimate:
        """A figure that is a mean over classes."""
        r = self._resampled
        one = Tallies(r.actual[:, 0], r.predicted[:, scenario], r.hits[:, scenario])
        seeds = metrics.macro(per_class(self._tallies))
        return self._figure(seeds, metrics.macro(per_class(one)).mean(1), imagined, scenario)

    def _figure(self, seeds: Floats, resampled: Floats, imagined: Floats, scenario: int) -> Estimate:
        """From `seeds` [scenarios, S], `resampled` [b] (means over seeds) and `imagined` [k]."""
        return interval(
            float(seeds[scenario].mean()),
            subjects=self._subjects(resampled, self._recalls_resampled[:, scenario], imagined),
            seeds=seed_spread(seeds, scenario),
        )

    def _accuracy(self, scenario: int) -> Estimate:
        """The figure that weighs images alike: one class, so to speak, with all groups."""
        seeds, groups, r = metrics.accuracy(self._tallies), self._sealed.group_count, self._resampled
        resampled = metrics.accuracy(Tallies(r.actual[:, 0], r.predicted[:, scenario], r.hits[:, scenario])).mean(1)
        mean = float(seeds[scenario].mean())
        variance = _variance(resampled) + ((1 - mean) ** 2 + mean**2) / groups**2
        return interval(mean, subjects=Spread(variance, groups - 1), seeds=seed_spread(seeds, scenario))

    def _imagined(self, squares: Floats) -> Floats:
        """What the two imagined subjects add to the variance of a macro mean, by class [k].

        Args:
            squares: Sum of their squared residuals, by class [k]; a subject's weight is 1 / (k · its class's subjects).
        """
        k = len(self._class_groups)
        terms: Floats = squares / (self._class_groups * k) ** 2 / k
        return terms

    def _subjects(self, resampled: Floats, by_class: Floats, imagined: Floats) -> Spread:
        """Variance over subjects; its degrees of freedom by Satterthwaite over classes, each its groups less one.

        Args:
            resampled: The figure per resample, [b].
            by_class: Recalls, or their differences, per resample, [b, k].
            imagined: What the imagined subjects add, [k].
        """
        fewest = int(self._class_groups.min()) - 1
        parts = np.nanvar(by_class, axis=0, ddof=1) / by_class.shape[1] ** 2 + imagined
        variance = _variance(resampled) + float(imagined.sum())
        if fewest < 1 or not parts.sum():
            return Spread(variance, fewest)
        return Spread(variance, float(parts.sum() ** 2 / (parts**2 / (self._class_groups - 1)).sum()))

    @cached_property
    def _aucs(self) -> Floats:
        """Macro area under the ROC curve of each training, [scenarios, S]."""
        truth = self._sealed.truth
        return np.array(
            [[metrics.aucs(truth, one).mean() for one in p.probabilities] for p in self._predictions.values()]
        )

    @cached_property
    def _average_precisions(self) -> Floats:
        """Macro average precision of each training, [scenarios, S]."""
        truth = self._sealed.truth
        return np.array(
            [
                [metrics.average_precisions(truth, one).mean() for one in p.probabilities]
                for p in self._predictions.values()
            ]
        )

    def _average_precision_resamples(self, probabilities: Floats) -> Floats:
        """Macro average precision, averaged over seeds, of each resample [b]."""
        weights = self._weights[:_AUC_RESAMPLES, self._sealed.groups]
        truth = self._sealed.truth
        found: Floats = np.mean(
            [metrics.average_precisions(truth, one, weights).mean(-1) for one in probabilities], axis=0
        )
        return found

    def _auc_resamples(self, probabilities: Floats) -> Floats:
        """Macro area under the ROC curve, averaged over seeds, of each resample [b].

        Numerator and denominator are quadratic in the weights of images: w+ᵀ K w-, with K the share of seeds that rank
        the one image above the other, ties one half.
        """
        truth = self._sealed.truth
        weights = self._weights[:_AUC_RESAMPLES, self._sealed.groups]
        everything = weights.sum(1)
        areas = []
        for kind in range(len(self._sealed.classes)):
            inside = np.flatnonzero(truth == kind)
            kernel = np.zeros((len(inside), len(truth)), np.float32)
            for one in probabilities[..., kind]:
                kernel += np.float32(0.5) * (np.sign(one[inside, None] - one) + 1)
            kernel[:, inside] = 0
            held = weights[:, inside]
            above = np.einsum("bn,bn->b", held @ kernel, weights) / len(probabilities)
            pairs = held.sum(1) * (everything - held.sum(1))
            areas.append(np.divide(above, pairs, out=np.full_like(above, np.nan), where=pairs > 0))
        mean: Floats = np.mean(areas, axis=0)
        return mean


def _reliability(truth: Ints, probabilities: Floats) -> tuple[tuple[float, float, float], ...]:
    bins = np.sum([metrics.reliability(truth, one) for one in probabilities], axis=0)
    total = bins[:, 0].sum()
    return tuple((n / total, confidence / n if n else 0.0, right / n if n else 0.0) for n, confidence, right in bins)


def _variance(resampled: Floats) -> float:
    """Variance over resamples; those in which a class is missing (NaN) say nothing and are left out."""
    return float(np.nanvar(resampled.astype(np.float64), ddof=1))


def compare(study: Study, predictions: Sequence[Predictions], *, reference: str) -> list[Comparison]:
    """Every scenario against the reference, then every synthetic one against every baseline: two families.

    Baselines are the scenarios without generated images, but the reference. Each family's intervals are adjusted for
    its comparisons (Bonferroni), so that each errs in at most 5 of 100 studies.
    """
    others = [p for p in predictions if p.scenario != reference]
    made = [p.scenario for p in others if p.synthetic]
    baselines = [p.scenario for p in others if not p.synthetic]
    first = [study.difference(p.scenario, reference, comparisons=len(others)) for p in others]
    pairs = [(scenario, baseline) for scenario in made for baseline in baselines]
    return first + [study.difference(*pair, comparisons=len(pairs)) for pair in pairs]
