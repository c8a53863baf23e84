"""How macro recall follows the dose of generated images, and which dose is best."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from genaug.evaluation.compare import BootstrapComparison
from genaug.schema.evaluation import Comparison, Outcome, Saturation, ScenarioScore
from genaug.schema.run import Scenario

# Fewest doses above none that make a curve.
_FEWEST = 2


def dose_scenarios(scenarios: Sequence[Scenario], *, reference: str) -> list[tuple[float, str]]:
    """Doses with their scenarios, rising, the reference first; nothing but the dose of generated images differs.

    Args:
        scenarios: With the doses that were met; two may share one.
        reference: Name of the scenario without generated images.
    """
    base = next(scenario for scenario in scenarios if scenario.name == reference)
    doses = [
        (scenario.synthetic, scenario.name)
        for scenario in scenarios
        if scenario.synthetic
        and not scenario.transformed
        and (scenario.sampling, scenario.reduction) == (base.sampling, base.reduction)
    ]
    return sorted([(0.0, reference), *doses], key=lambda entry: entry[0])


def saturate(
    bootstrap: BootstrapComparison,
    doses: Sequence[tuple[float, str]],
    *,
    scores: Sequence[ScenarioScore],
    comparisons: Sequence[Comparison],
    seed: int,
) -> Saturation | None:
    """Curve of macro recall over `doses`, as `dose_scenarios` gives them; None for fewer than two doses above none.

    Its `lower_dose` and `upper_dose` span the central 95 % of resamples' best doses.

    Args:
        bootstrap: The scenarios.
        doses: Dose and scenario.
        scores: Of all scenarios.
        comparisons: Of all scenarios with the reference, adjusted: a gain is claimed only where one of them shows it.
        seed: Seed of the resampling of trainings.
    """
    if len(doses) <= _FEWEST:
        return None
    recalls = {score.scenario: score.macro_recall for score in scores}
    curve = [recalls[name] for _, name in doses]
    values = np.array([dose for dose, _ in doses])
    best = values[bootstrap.best_doses([name for _, name in doses], seed=seed)]
    lower, upper = np.quantile(best, [0.025, 0.975], method="inverted_cdf") if len(best) else (values[0], values[-1])
    top = doses[int(np.argmax([recall.value for recall in curve]))][0]
    dose_of = {name: dose for dose, name in doses[1:]}
    helping = [
        c for c in comparisons if c.scenario in dose_of and c.reference == doses[0][1] and c.outcome == Outcome.HELPS
    ]
    gain = max(helping, key=lambda c: c.difference.value) if helping else None
    return Saturation(
        doses=tuple(values.tolist()),
        macro_recalls=tuple(curve),
        best_dose=top,
        lower_dose=float(lower),
        upper_dose=float(upper),
        sentence=_sentence(top, dose_of[gain.scenario] if gain else None, span=(float(lower), float(upper))),
    )


def _sentence(top: float, helping: float | None, *, span: tuple[float, float]) -> str:
    between = f"95 % of resamplings put the best dose {_span(span)}"
    if helping is None:
        where = f"at {_dose(top)}" if top else "without generated images"
        return f"No dose is better than none beyond chance: the highest mean is {where}, and {between}."
    return f"{_dose(helping)} helps most, and {between}."


def _span(span: tuple[float, float]) -> str:
    return f"at {_dose(span[0])}" if span[0] == span[1] else f"between {_dose(span[0])} and {_dose(span[1])}"


def _dose(dose: float) -> str:
    return f"×{dose:g}"
