"""The verdict: one sentence that follows from the intervals and claims nothing else."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from genaug.evaluation.compare import Comparison, Predictions, Score


@dataclass(frozen=True)
class Verdict:
    """In one word and in one sentence."""

    outcome: str
    """UNSPECIFIED (no synthetic scenario), HELPS, NO_EVIDENCE or HURTS."""
    sentence: str


@dataclass(frozen=True)
class Findings:
    """What a verdict speaks of."""

    reference: str
    synthetic: tuple[str, ...]
    """Scenarios with generated images."""
    scores: dict[str, Score]
    first: tuple[Comparison, ...]
    """Against the reference."""
    duels: tuple[Comparison, ...]
    """Synthetic scenarios against baselines."""
    subjects: int
    """Test subjects."""
    short: Mapping[str, tuple[int, int]]
    """Of scenarios short of their dose: made images that they hold, and that their dose asks for."""

    @property
    def basis(self) -> str:
        """What the numbers rest on."""
        return f"{len(self.scores[self.reference].seed_macro_recalls)} seeds, {self.subjects} test subjects"


def findings(
    predictions: Sequence[Predictions],
    scores: Sequence[Score],
    comparisons: Sequence[Comparison],
    *,
    reference: str,
    subjects: int,
    short: Mapping[str, tuple[int, int]],
) -> Findings:
    """Put in order what `compare` found."""
    return Findings(
        reference=reference,
        synthetic=tuple(p.scenario for p in predictions if p.synthetic and p.scenario != reference),
        scores={score.scenario: score for score in scores},
        first=tuple(c for c in comparisons if c.reference == reference),
        duels=tuple(c for c in comparisons if c.reference != reference),
        subjects=subjects,
        short=short,
    )


def judge(found: Findings) -> Verdict:
    """HELPS when a synthetic scenario's interval against the reference lies above zero.

    HURTS when none does and one lies below zero; NO_EVIDENCE otherwise. A gain is always set beside the best baseline
    that needs no generator.
    """
    made = [c for c in found.first if c.scenario in found.synthetic]
    if not made:
        said = f"no scenario holds any{_baselines(found)} ({found.basis})"
        return Verdict("UNSPECIFIED", f"Nothing to say of generated images: {said}.")
    helping = [c for c in made if c.outcome == "HELPS"]
    hurting = [c for c in made if c.outcome == "HURTS"]
    if helping:
        best = max(helping, key=lambda c: c.difference.value)
        beyond, numbers = _duel(best.scenario, found)
        harm = f"; {_names(hurting)} {'hurts' if len(hurting) == 1 else 'hurt'}" if hurting else ""
        return Verdict("HELPS", f"Generated images help, {beyond}: {_change(best, found)}{numbers}{harm}.")
    if hurting:
        worst = min(hurting, key=lambda c: c.difference.value)
        return Verdict("HURTS", f"Generated images hurt: {_change(worst, found)}{_baselines(found)}.")
    best = max(made, key=lambda c: c.difference.value)
    change = _change(best, found, among=len(made))
    return Verdict("NO_EVIDENCE", f"No evidence that generated images help: {change}{_baselines(found)}.")


def points(value: float) -> str:
    """A difference of shares in percentage points with its sign; a second digit where the first would hide it."""
    scaled = value * 100
    text = f"{scaled:+.1f}" if abs(scaled) >= 0.05 or scaled == 0 else f"{scaled:+.2f}"
    return text.replace("-", "−")


def _change(c: Comparison, found: Findings, *, among: int = 1) -> str:
    before, after = (100 * found.scores[name].macro_recall.value for name in (c.reference, c.scenario))
    verb = {"HELPS": "raises", "HURTS": "lowers"}.get(c.outcome, "takes")
    subject = f"the best of {among} scenarios, {c.scenario}," if among > 1 else c.scenario
    count = len(found.first)
    adjusted = f", adjusted for {count} comparisons" if count > 1 else ""
    return (
        f"{subject} {verb} macro recall from {before:.1f} to {after:.1f} %, {points(c.difference.value)} points "
        f"(95 % interval {_range(c)}{adjusted}; {found.basis}){_short(c.scenario, found)}"
    )


def _short(scenario: str, found: Findings) -> str:
    """What a scenario lacks of its dose."""
    if scenario not in found.short:
        return ""
    made, wanted = found.short[scenario]
    return f"; it holds {made} of the {wanted} made images that its dose asks for"


def _range(c: Comparison) -> str:
    return f"{points(c.difference.lower)} to {points(c.difference.upper)}"


def _numbers(c: Comparison) -> str:
    return f"({points(c.difference.value)} points, {_range(c)})"


def _duel(scenario: str, found: Findings) -> tuple[str, str]:
    """Whether `scenario` beats what needs no generator, in words and in numbers: only if it beats every baseline."""
    duels = [c for c in found.duels if c.scenario == scenario]
    if not duels:
        return "but were compared with no other baseline that needs no generator", ""
    best = max(duels, key=lambda c: found.scores[c.reference].macro_recall.value)
    open_ones = [c for c in duels if c.outcome != "HELPS"]
    if not open_ones:
        one, words = best, f"and more than the best baseline without a generator, {best.reference}"
    elif best.outcome == "HURTS":
        one, words = best, f"but the best baseline without a generator, {best.reference}, helps more"
    else:
        one = min(open_ones, key=lambda c: c.difference.value)
        rank = "the best baseline" if one is best else "the baseline"
        words = f"but there is no evidence that they help more than {rank} without a generator, {one.reference}"
    return words, f"; against {one.reference} it is {points(one.difference.value)} points ({_range(one)})"


def _baselines(found: Findings) -> str:
    """What the baselines without a generator do, where an interval says so."""
    others = [c for c in found.first if c.scenario not in found.synthetic]
    said = ""
    for outcome, verb in (("HELPS", "help"), ("HURTS", "hurt")):
        those = [c for c in others if c.outcome == outcome]
        if those:
            listed = " and ".join(f"{c.scenario} {_numbers(c)}" for c in those)
            said += f"; without a generator, {listed} {verb}{'s' if len(those) == 1 else ''}"
    return said


def _names(comparisons: Sequence[Comparison]) -> str:
    return " and ".join(c.scenario for c in comparisons)
