from __future__ import annotations

import pytest

from genaug.evaluation.intervals import outcome_of
from genaug.evaluation.verdict import Findings, judge, points
from genaug.schema.evaluation import Comparison, Estimate, Outcome, ScenarioScore, Verdict


def score(name: str, recall: float) -> ScenarioScore:
    value = Estimate(value=recall, lower=recall - 0.05, upper=recall + 0.05)
    return ScenarioScore(scenario=name, macro_recall=value, seeds=3)


def against(name: str, reference: str, lower: float, upper: float) -> Comparison:
    estimate = Estimate(value=(lower + upper) / 2, lower=lower, upper=upper)
    return Comparison(scenario=name, reference=reference, difference=estimate, outcome=outcome_of(estimate))


def verdict(
    first: dict[str, tuple[float, float]],
    baselines: dict[tuple[str, str], tuple[float, float]] | None = None,
    **shortfalls: tuple[int, int],
) -> Verdict:
    """Judge scenarios, synthetic if so named, by their intervals against real (0.8) and against each other."""
    scores = {"real": score("real", 0.8)} | {
        name: score(name, 0.8 + (low + high) / 2) for name, (low, high) in first.items()
    }
    return judge(
        Findings(
            reference="real",
            synthetic=tuple(name for name in first if name.startswith("synthetic")),
            scores=scores,
            reference_comparisons=tuple(against(name, "real", *ends) for name, ends in first.items()),
            baseline_comparisons=tuple(against(*pair, *ends) for pair, ends in (baselines or {}).items()),
            subjects=268,
            shortfalls={name.replace("_", "-"): met for name, met in shortfalls.items()},
        )
    )


def test_a_gain_that_beats_every_baseline_says_so() -> None:
    found = verdict(
        {"synthetic-x1": (0.01, 0.03), "synthetic-x2": (0.02, 0.06), "balanced": (-0.01, 0.02)},
        {("synthetic-x1", "balanced"): (-0.01, 0.04), ("synthetic-x2", "balanced"): (0.01, 0.06)},
    )
    assert found.outcome == Outcome.HELPS
    assert found.sentence == (
        "Generated images help, and more than the best baseline without a generator, balanced: synthetic-x2 raises "
        "macro recall from 80.0 to 84.0 %, +4.0 points (95 % interval +2.0 to +6.0, adjusted for 3 comparisons; "
        "3 seeds, 268 test subjects); against balanced it is +3.5 points (+1.0 to +6.0)."
    )


def test_a_gain_that_rebalancing_gives_too_is_not_claimed_for_the_generator() -> None:
    found = verdict(
        {"synthetic-x2": (0.01, 0.05), "balanced": (0.02, 0.05)}, {("synthetic-x2", "balanced"): (-0.03, 0.02)}
    )
    assert found.outcome == Outcome.HELPS
    assert found.sentence.startswith(
        "Generated images help, but there is no evidence that they help more than the best baseline without a "
        "generator, balanced:"
    )


def test_beating_only_the_weaker_baseline_is_not_enough() -> None:
    baselines = {("synthetic-x2", "balanced"): (0.01, 0.03), ("synthetic-x2", "traditional"): (-0.01, 0.08)}
    found = verdict({"synthetic-x2": (0.01, 0.07), "balanced": (0.0, 0.06), "traditional": (-0.02, 0.02)}, baselines)
    assert "but there is no evidence that they help more than the baseline without a generator, traditional:" in (
        found.sentence
    )


def test_a_better_baseline_is_named() -> None:
    baselines = {("synthetic-x2", "balanced"): (-0.06, -0.01)}
    found = verdict({"synthetic-x2": (0.01, 0.03), "balanced": (0.04, 0.08)}, baselines)
    assert "but the best baseline without a generator, balanced, helps more:" in found.sentence


def test_no_evidence_names_the_best_attempt_and_a_baseline_that_helps() -> None:
    found = verdict({"synthetic-x1": (-0.02, 0.04), "synthetic-x2": (-0.05, 0.01), "balanced": (0.01, 0.05)})
    assert found.outcome == Outcome.NO_EVIDENCE
    assert found.sentence.startswith(
        "No evidence that generated images help: the best of 2 scenarios, synthetic-x1, takes"
    )
    assert found.sentence.endswith("; without a generator, balanced (+3.0 points, +1.0 to +5.0) helps.")


def test_a_dose_that_was_not_met_is_part_of_the_sentence() -> None:
    found = verdict(
        {"synthetic-x1": (-0.02, 0.04), "synthetic-x2": (-0.05, 0.01)}, synthetic_x1=(3, 10), synthetic_x2=(4, 20)
    )
    assert found.sentence.endswith("; it holds 3 of the 10 made images that its dose asks for.")
    assert "of the 20" not in found.sentence


def test_hurting_without_helping_hurts() -> None:
    found = verdict({"synthetic-x1": (-0.02, 0.04), "synthetic-x4": (-0.09, -0.01)})
    assert found.outcome == Outcome.HURTS
    assert "synthetic-x4 lowers" in found.sentence


def test_helping_and_hurting_says_both() -> None:
    found = verdict({"synthetic-x1": (0.01, 0.04), "synthetic-x4": (-0.09, -0.01)})
    assert found.outcome == Outcome.HELPS
    assert "; synthetic-x4 hurts." in found.sentence
    assert "compared with no other baseline" in found.sentence


def test_without_generated_images_there_is_nothing_to_say() -> None:
    found = verdict({"traditional": (0.01, 0.04)})
    assert found.outcome == Outcome.UNSPECIFIED
    assert "no scenario holds any" in found.sentence
    assert found.sentence.endswith("(3 seeds, 268 test subjects).")
    assert "traditional (+2.5 points, +1.0 to +4.0) helps" in found.sentence
    assert verdict({}).outcome == Outcome.UNSPECIFIED


@pytest.mark.parametrize(("value", "text"), [(0.041, "+4.1"), (-0.02, "−2.0"), (0.0004, "+0.04"), (0.0, "+0.0")])
def test_points(value: float, text: str) -> None:
    assert points(value) == text
