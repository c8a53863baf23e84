"""The verdict: one sentence that follows from the intervals and claims nothing else."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from genaug.evaluation.compare import Predictions
from genaug.schema.evaluation import Comparison, Outcome, ScenarioScore, Verdict


@dataclass(frozen=True)
class Findings:
    """Results that a verdict rests on."""

    reference: str
    synthetic: tuple[str, ...]
    """Scenarios with generated images."""
    scores: dict[str, ScenarioScore]
    reference_comparisons: tuple[Comparison, ...]
    """Against the reference."""
    baseline_comparisons: tuple[Comparison, ...]
    """Synthetic scenarios against baselines."""
    subjects: int
    """Test subjects."""
    shortfalls: Mapping[str, tuple[int, int]]
    """Of scenarios short of their dose: their made images, and the number that the dose requires."""

    @property
    def basis(self) -> str:
        """Numbers of seeds and subjects, in words."""
        return f"{self.scores[self.reference].seeds} seeds, {self.subjects} test subjects"


def findings(
    predictions: Sequence[Predictions],
    scores: Sequence[ScenarioScore],
    comparisons: Sequence[Comparison],
    *,
    reference: str,
    subjects: int,
    shortfalls: Mapping[str, tuple[int, int]],
) -> Findings:
    """Sort the results of `compare` by their use."""
    return Findings(
        reference=reference,
        synthetic=tuple(p.scenario for p in predictions if p.synthetic and p.scenario != reference),
        scores={score.scenario: score for score in scores},
        reference_comparisons=tuple(c for c in comparisons if c.reference == reference),
        baseline_comparisons=tuple(c for c in comparisons if c.reference != reference),
        subjects=subjects,
        shortfalls=shortfalls,
    )


def judge(results: Findings) -> Verdict:
    """HELPS when a synthetic scenario's interval against the reference lies above zero.

    HURTS when none does and one lies below zero; NO_EVIDENCE otherwise. A gain is always set beside the best baseline
    that needs no generator.
    """
    synthetic = [c for c in results.reference_comparisons if c.scenario in results.synthetic]
    if not synthetic:
        text = f"no scenario holds any{_baselines(results)} ({results.basis})"
        return Verdict(outcome=Outcome.UNSPECIFIED, sentence=f"Nothing to say of generated images: {text}.")
    helping = [c for c in synthetic if c.outcome == Outcome.HELPS]
    hurting = [c for c in synthetic if c.outcome == Outcome.HURTS]
    if helping:
        best = max(helping, key=lambda c: c.difference.value)
        beyond, numbers = _against_baselines(best.scenario, results)
        harm = f"; {_names(hurting)} {'hurts' if len(hurting) == 1 else 'hurt'}" if hurting else ""
        sentence = f"Generated images help, {beyond}: {_change(best, results)}{numbers}{harm}."
        return Verdict(outcome=Outcome.HELPS, sentence=sentence)
    if hurting:
        worst = min(hurting, key=lambda c: c.difference.value)
        sentence = f"Generated images hurt: {_change(worst, results)}{_baselines(results)}."
        return Verdict(outcome=Outcome.HURTS, sentence=sentence)
    best = max(synthetic, key=lambda c: c.difference.value)
    change = _change(best, results, among=len(synthetic))
    sentence = f"No evidence that generated images help: {change}{_baselines(results)}."
    return Verdict(outcome=Outcome.NO_EVIDENCE, sentence=sentence)


def points(value: float) -> str:
    """Format a difference of shares in percentage points, signed; with a second digit where the first would hide it."""
    scaled = value * 100
    text = f"{scaled:+.1f}" if abs(scaled) >= 0.05 or scaled == 0 else f"{scaled:+.2f}"
    return text.replace("-", "−")


def _change(c: Comparison, results: Findings, *, among: int = 1) -> str:
    before, after = (100 * results.scores[name].macro_recall.value for name in (c.reference, c.scenario))
    verb = {Outcome.HELPS: "raises", Outcome.HURTS: "lowers"}.get(c.outcome, "takes")
    subject = f"the best of {among} scenarios, {c.scenario}," if among > 1 else c.scenario
    count = len(results.reference_comparisons)
    adjusted = f", adjusted for {count} comparisons" if count > 1 else ""
    return (
        f"{subject} {verb} macro recall from {before:.1f} to {after:.1f} %, {points(c.difference.value)} points "
        f"(95 % interval {_range(c)}{adjusted}; {results.basis}){_short(c.scenario, results)}"
    )


def _short(scenario: str, results: Findings) -> str:
    """Images that a scenario lacks of its dose."""
    if scenario not in results.shortfalls:
        return ""
    made, required = results.shortfalls[scenario]
    return f"; it holds {made} of the {required} made images that its dose asks for"


def _range(c: Comparison) -> str:
    return f"{points(c.difference.lower)} to {points(c.difference.upper)}"


def _numbers(c: Comparison) -> str:
    return f"({points(c.difference.value)} points, {_range(c)})"


def _against_baselines(scenario: str, results: Findings) -> tuple[str, str]:
    """Comparison of `scenario` with the baselines in words and numbers; it is better only if it beats every one."""
    comparisons = [c for c in results.baseline_comparisons if c.scenario == scenario]
    if not comparisons:
        return "but were compared with no other baseline that needs no generator", ""
    best = max(comparisons, key=lambda c: results.scores[c.reference].macro_recall.value)
    undecided = [c for c in comparisons if c.outcome != Outcome.HELPS]
    if not undecided:
        shown, words = best, f"and more than the best baseline without a generator, {best.reference}"
    elif best.outcome == Outcome.HURTS:
        shown, words = best, f"but the best baseline without a generator, {best.reference}, helps more"
    else:
        shown = min(undecided, key=lambda c: c.difference.value)
        rank = "the best baseline" if shown is best else "the baseline"
        words = f"but there is no evidence that they help more than {rank} without a generator, {shown.reference}"
    return words, f"; against {shown.reference} it is {points(shown.difference.value)} points ({_range(shown)})"


def _baselines(results: Findings) -> str:
    """Effects of the baselines without a generator, where an interval shows one."""
    others = [c for c in results.reference_comparisons if c.scenario not in results.synthetic]
    text = ""
    for outcome, verb in ((Outcome.HELPS, "help"), (Outcome.HURTS, "hurt")):
        decided = [c for c in others if c.outcome == outcome]
        if decided:
            listed = " and ".join(f"{c.scenario} {_numbers(c)}" for c in decided)
            text += f"; without a generator, {listed} {verb}{'s' if len(decided) == 1 else ''}"
    return text


def _names(comparisons: Sequence[Comparison]) -> str:
    return " and ".join(c.scenario for c in comparisons)
