from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import t as student

from genaug.evaluation.compare import BootstrapComparison, Predictions, TestSet, compare
from genaug.evaluation.intervals import Variance, interval, outcome_of, paired_seed_variance, seed_variance
from genaug.evaluation.metrics import LoadedMetric, aucs
from genaug.evaluation.resampling import draws_of, resample, strata
from genaug.schema.evaluation import Estimate, Outcome
from genaug.shared.errors import FailedPrecondition


def simulate(
    rng: np.random.Generator, *, sizes: list[int], scenarios: int = 3, seeds: int = 3, gain: float = 0.0
) -> tuple[TestSet, list[Predictions]]:
    """Subjects with one or two images whose difficulty they share; `gain` lifts all scenarios but the first."""
    images = [1 + int(rng.random() < 0.5) for _ in range(sum(sizes))]
    groups = np.repeat(np.arange(len(images)), images)
    truth = np.repeat(np.arange(len(sizes)), sizes)[groups]
    n, k = len(truth), len(sizes)
    ease = 1.5 + rng.normal(0, 1, len(images))[groups] + rng.normal(0, 1, n)
    predictions = []
    for scenario in range(scenarios):
        own = ease + rng.normal(0, 0.4, n) + (gain if scenario else 0.0)
        trainings = own + rng.normal(0, 0.25, (seeds, k))[:, truth] + rng.normal(0, 0.3, (seeds, n))
        labels = np.where(trainings > 0, truth, (truth + rng.integers(1, k, (seeds, n))) % k)
        probabilities = np.full((seeds, n, k), 0.1, np.float32)
        np.put_along_axis(probabilities, labels[..., None], 0.9, axis=2)
        predictions.append(Predictions(f"s{scenario}", scenario > 0, probabilities))
    return TestSet(tuple(map(str, range(k))), truth, groups), predictions


def bootstrap_of(seed: int, **kwargs: object) -> tuple[BootstrapComparison, list[Predictions]]:
    test_set, predictions = simulate(np.random.default_rng(seed), **kwargs)  # type: ignore[arg-type]
    return BootstrapComparison(test_set, predictions, resamples=120, seed=seed), predictions


@pytest.mark.parametrize(("sizes", "seeds"), [([60, 40, 15], 3), ([25] * 6, 2), ([80, 50, 25], 4)])
def test_no_gain_is_invented_and_intervals_hold_the_truth(sizes: list[int], seeds: int) -> None:
    covered, invented, studies = 0, 0, 60
    for seed in range(studies):
        bootstrap, predictions = bootstrap_of(seed, sizes=sizes, seeds=seeds)
        single = bootstrap.difference("s1", "s0", comparisons=1).difference
        covered += single.lower <= 0 <= single.upper
        invented += any(c.outcome == Outcome.HELPS for c in compare(bootstrap, predictions, reference="s0"))
    # Nominal 95 % and 2.5 %; three standard errors of 60 studies are 8.4 and 6 points.
    assert covered / studies >= 0.87
    assert invented / studies <= 0.05


def test_a_large_gain_is_found() -> None:
    found = [
        bootstrap_of(seed, sizes=[60, 40, 25], gain=1.2)[0].difference("s1", "s0", comparisons=2) for seed in range(40)
    ]
    assert np.mean([c.outcome == Outcome.HELPS for c in found]) > 0.8
    assert not any(c.outcome == Outcome.HURTS for c in found)


def test_a_large_loss_is_found() -> None:
    bootstrap, _ = bootstrap_of(1, sizes=[60, 40, 25], gain=-2.0)
    assert bootstrap.difference("s1", "s0", comparisons=2).outcome == Outcome.HURTS


def test_intervals_are_not_needlessly_wide() -> None:
    # The spread of the estimates over studies is what the interval's half width, 1.96 of it or more, stands for.
    found = [
        bootstrap_of(seed, sizes=[40] * 5)[0].difference("s1", "s0", comparisons=1).difference for seed in range(60)
    ]
    spread = np.std([e.value for e in found])
    half = np.mean([(e.upper - e.lower) / 2 for e in found])
    assert 1.9 * spread < half < 3.5 * spread


def test_identical_predictions_are_no_evidence() -> None:
    test_set, predictions = simulate(np.random.default_rng(0), sizes=[30, 20, 10], scenarios=1)
    twin = Predictions("twin", True, predictions[0].probabilities)
    bootstrap = BootstrapComparison(test_set, [*predictions, twin], resamples=300, seed=0)
    found = bootstrap.difference("twin", "s0", comparisons=1)
    assert found.difference.value == 0
    # Being alike on these subjects does not prove being alike on others.
    assert found.difference.lower < 0 < found.difference.upper
    assert found.outcome == Outcome.NO_EVIDENCE


def test_four_lucky_subjects_are_no_gain() -> None:
    truth = np.repeat([0, 1, 2], 30)
    right = np.eye(3, dtype=np.float32)[truth]
    unlucky = right.copy()
    unlucky[:4] = np.eye(3, dtype=np.float32)[1]
    test_set = TestSet(("a", "b", "c"), truth, np.arange(90))
    pair = [Predictions("real", False, np.stack([unlucky] * 3)), Predictions("made", True, np.stack([right] * 3))]
    bootstrap = BootstrapComparison(test_set, pair, resamples=500, seed=0)
    # Four subjects won and none lost: one in sixteen by chance, yet a plain Wald interval lies above zero.
    assert bootstrap.difference("made", "real", comparisons=1).outcome == Outcome.NO_EVIDENCE


@settings(max_examples=15)
@given(st.integers(0, 10_000))
def test_the_order_of_rows_does_not_matter(seed: int) -> None:
    rng = np.random.default_rng(seed)
    test_set, predictions = simulate(rng, sizes=[12, 8, 5], scenarios=2)
    order = rng.permutation(len(test_set.truth))
    shuffled = TestSet(test_set.classes, test_set.truth[order], test_set.groups[order])
    moved = [Predictions(p.scenario, p.synthetic, p.probabilities[:, order]) for p in predictions]
    one = BootstrapComparison(test_set, predictions, resamples=100, seed=1)
    other = BootstrapComparison(shuffled, moved, resamples=100, seed=1)
    a, b = one.score("s1"), other.score("s1")
    assert a.confusion == b.confusion
    for figure in ("macro_recall", "macro_precision", "macro_f1", "accuracy", "macro_auc"):
        left, right = getattr(a, figure), getattr(b, figure)
        assert (left.value, left.lower, left.upper) == pytest.approx((right.value, right.lower, right.upper), abs=1e-5)


def test_subjects_are_resampled_whole() -> None:
    # The same images seen as many subjects or as few: fewer subjects, wider interval.
    truth = np.repeat([0, 1], 60)
    rng = np.random.default_rng(0)
    hit = np.repeat(rng.random(12) < 0.7, 10)
    labels = np.where(hit, truth, 1 - truth)
    probabilities = np.stack([np.eye(2, dtype=np.float32)[labels]] * 2)
    widths = []
    for groups in (np.arange(120), np.repeat(np.arange(12), 10)):
        bootstrap = BootstrapComparison(
            TestSet(("a", "b"), truth, groups), [Predictions("s", False, probabilities)], resamples=500, seed=0
        )
        figure = bootstrap.score("s").macro_recall
        widths.append(figure.upper - figure.lower)
    assert widths[1] > 2 * widths[0]


def test_a_class_with_one_subject_leaves_no_interval() -> None:
    truth = np.array([0, 0, 0, 1])
    probabilities = np.stack([np.eye(2, dtype=np.float32)[truth]] * 2)
    test_set = TestSet(("a", "b"), truth, np.arange(4))
    bootstrap = BootstrapComparison(
        test_set, [Predictions("s", False, probabilities), Predictions("t", True, probabilities)], resamples=50, seed=0
    )
    assert bootstrap.score("s").macro_recall == Estimate(value=1.0, lower=0.0, upper=1.0)
    assert bootstrap.difference("t", "s", comparisons=1).difference == Estimate(value=0.0, lower=-1.0, upper=1.0)


@settings(max_examples=30)
@given(st.integers(0, 10_000), st.integers(1, 4), st.integers(3, 40))
def test_every_resample_holds_every_class_that_has_subjects_of_its_own(seed: int, classes: int, groups: int) -> None:
    rng = np.random.default_rng(seed)
    membership = np.eye(classes)[rng.integers(0, classes, groups)] * rng.integers(1, 3, (groups, 1))
    stratum = strata(membership)
    weights = resample(stratum, resamples=20, seed=seed)
    for level in np.unique(stratum):
        assert (stratum == level).sum() > 1
        assert weights[:, stratum == level].sum(1) == pytest.approx((stratum == level).sum())


def test_a_group_of_several_classes_goes_with_its_rarest() -> None:
    membership = np.array([[2, 0], [1, 1], [1, 0], [1, 1], [3, 0]])
    stratum = strata(membership)
    assert stratum[1] == stratum[3] != stratum[0] == stratum[2] == stratum[4]


def test_resampled_variance_of_a_mean_is_the_textbooks() -> None:
    values = np.random.default_rng(0).normal(size=8)
    weights = resample(np.zeros(8, int), resamples=40_000, seed=0).astype(float)
    assert np.var(weights @ values / 8) == pytest.approx(np.var(values, ddof=1) / 8, rel=0.03)


def test_interval_is_the_t_interval_of_its_formula() -> None:
    subjects, seeds = Variance(0.0004, 30), Variance(0.0002, 4)
    freedom = 0.0006**2 / (0.0004**2 / 30 + 0.0002**2 / 4)
    half = student.ppf(1 - 0.05 / 6, freedom) * 0.0006**0.5
    found = interval(0.5, subjects=subjects, seeds=seeds, comparisons=3)
    assert (found.lower, found.upper) == pytest.approx((0.5 - half, 0.5 + half))


def test_variance_over_seeds_of_two_scenarios_is_that_of_their_paired_differences() -> None:
    figures = np.array([[0.80, 0.82, 0.87], [0.83, 0.84, 0.92]])
    found = paired_seed_variance(figures, 1, 0)
    assert found.value == pytest.approx(np.var(figures[1] - figures[0], ddof=1) / 3)
    assert found.freedom == 2


def test_seeds_that_agree_by_chance_borrow_from_the_other_scenarios() -> None:
    figures = np.array([[0.8, 0.8, 0.8], [0.7, 0.8, 0.9], [0.7, 0.8, 0.9]])
    assert seed_variance(figures, 0).value == pytest.approx(0.02 / 3 / 3)
    assert seed_variance(figures, 1).value == pytest.approx(0.01 / 3)


def test_areas_and_their_resamples_agree() -> None:
    rng = np.random.default_rng(3)
    truth = np.repeat([0, 1, 2], [20, 15, 10])
    raw = rng.integers(1, 6, (2, 45, 3)).astype(np.float32) + 2 * np.eye(3, dtype=np.float32)[truth]
    probabilities = raw / raw.sum(-1, keepdims=True)
    bootstrap = BootstrapComparison(
        TestSet(("a", "b", "c"), truth, np.arange(45)), [Predictions("s", False, probabilities)], resamples=500, seed=0
    )
    expected = np.mean([aucs(truth, one).mean() for one in probabilities])
    found = bootstrap.score("s").macro_auc
    assert found.value == pytest.approx(expected)
    # Centre of the resamples: what the interval stands on is the same figure.
    assert np.mean(bootstrap._auc_resamples(probabilities)) == pytest.approx(expected, abs=0.01)


def test_families_are_adjusted_each_for_its_own_comparisons() -> None:
    test_set, made = simulate(np.random.default_rng(0), sizes=[20, 15], scenarios=4)
    predictions = [Predictions(p.scenario, i in (2, 3), p.probabilities) for i, p in enumerate(made)]
    bootstrap = BootstrapComparison(test_set, predictions, resamples=100, seed=0)
    found = compare(bootstrap, predictions, reference="s0")
    assert [(c.scenario, c.reference) for c in found] == [
        *(("s1", "s0"), ("s2", "s0"), ("s3", "s0")),
        *(("s2", "s1"), ("s3", "s1")),
    ]
    assert found[0] == bootstrap.difference("s1", "s0", comparisons=3)
    assert found[4] == bootstrap.difference("s3", "s1", comparisons=2)


@pytest.mark.parametrize(
    ("lower", "upper", "outcome"),
    [
        (0.001, 0.1, Outcome.HELPS),
        (0.0, 0.1, Outcome.NO_EVIDENCE),
        (-0.1, 0.0, Outcome.NO_EVIDENCE),
        (-0.1, -0.001, Outcome.HURTS),
    ],
)
def test_outcome_follows_the_interval(lower: float, upper: float, outcome: Outcome) -> None:
    assert outcome_of(Estimate(value=(lower + upper) / 2, lower=lower, upper=upper)) == outcome


def test_further_metrics_are_resampled_as_the_others() -> None:
    """A metric that is the accuracy has the accuracy's variance, up to its pseudo-subjects."""
    test_set, predictions = simulate(np.random.default_rng(0), sizes=[40, 40], scenarios=2)
    further: dict[str, LoadedMetric] = {"share": lambda truth, p: float((p.argmax(1) == truth).mean())}
    bootstrap = BootstrapComparison(test_set, predictions, resamples=500, seed=0, further=further)
    score = bootstrap.score("s1")
    share = score.metrics["share"]
    assert share.value == pytest.approx(score.accuracy.value)
    assert (share.upper - share.lower) / (score.accuracy.upper - score.accuracy.lower) == pytest.approx(1, abs=0.1)


def test_a_further_metric_that_is_no_number_fails_with_its_name() -> None:
    test_set, predictions = simulate(np.random.default_rng(0), sizes=[8, 8], scenarios=1)
    further: dict[str, LoadedMetric] = {"odd": lambda truth, p: float("nan")}
    bootstrap = BootstrapComparison(test_set, predictions, resamples=50, seed=0, further=further)
    with pytest.raises(FailedPrecondition, match="'odd'"):
        bootstrap.score("s0")


def test_draws_are_those_of_the_weights() -> None:
    stratum = np.array([0, 0, 0, 1, 1, 2])
    draws = draws_of(resample(stratum, resamples=50, seed=0), stratum)
    assert (draws[:, :3].sum(1) == 2).all()
    assert (draws[:, 3:5].sum(1) == 1).all()
    assert (draws[:, 5] == 1).all()
