"""How macro recall follows the dose of generated images, and which dose is best."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from genaug.evaluation.compare import Comparison, Score, Study
from genaug.evaluation.intervals import Estimate

# Doses below which there is no curve.
_FEWEST = 2


@dataclass(frozen=True)
class Saturation:
    """Macro recall by dose, none first."""

    doses: tuple[float, ...]
    """Rising, two may be alike; 0 is the reference."""
    macro_recalls: tuple[Estimate, ...]
    best_dose: float
    """The dose with the highest mean."""
    lower_dose: float
    """Lowest dose of the central 95 % of resamplings' best doses."""
    upper_dose: float
    """Highest dose of them."""
    sentence: str


def dose_scenarios(scenarios: Sequence[Mapping[str, Any]], *, reference: str) -> list[tuple[float, str]]:
    """Doses with their scenarios, rising, the reference first: nothing but the dose of generated images differs.

    Args:
        scenarios: With the dose that they have got, which two may share.
        reference: The scenario without generated images.
    """
    kinds = {one["name"]: one for one in scenarios}
    like = kinds[reference]
    found = [(0.0, reference)]
    for one in scenarios:
        dose = float(one.get("synthetic", 0))
        same = all(one.get(key, default) == like.get(key, default) for key, default in _ALIKE.items())
        if dose and same and not one.get("transformed", 0):
            found.append((dose, one["name"]))
    return sorted(found, key=lambda each: each[0])


_ALIKE = {"sampling": "SAMPLING_NATURAL", "reduction": "REDUCTION_SELECTED"}


def saturate(
    study: Study,
    doses: Sequence[tuple[float, str]],
    *,
    scores: Sequence[Score],
    comparisons: Sequence[Comparison],
    seed: int,
) -> Saturation | None:
    """The curve over `doses`, as `dose_scenarios` gives them; None where there are fewer than two above none.

    Args:
        study: The scenarios.
        doses: Dose and scenario.
        scores: Of all scenarios.
        comparisons: Of all scenarios with the reference, adjusted: a gain is claimed only where one of them shows it.
        seed: Of the resampling of trainings.
    """
    if len(doses) <= _FEWEST:
        return None
    recalls = {score.scenario: score.macro_recall for score in scores}
    curve = [recalls[name] for _, name in doses]
    values = np.array([dose for dose, _ in doses])
    best = values[study.best_doses([name for _, name in doses], seed=seed)]
    lower, upper = np.quantile(best, [0.025, 0.975], method="inverted_cdf") if len(best) else (values[0], values[-1])
    top = int(np.argmax([one.value for one in curve]))
    made = {name for _, name in doses[1:]}
    helping = [c for c in comparisons if c.scenario in made and c.reference == doses[0][1] and c.outcome == "HELPS"]
    return Saturation(
        tuple(values.tolist()),
        tuple(curve),
        float(values[top]),
        float(lower),
        float(upper),
        _sentence(dict(map(reversed, doses)), doses[top], helping, span=(float(lower), float(upper))),  # type: ignore[arg-type]
    )


def _sentence(
    dose_of: Mapping[str, float], top: tuple[float, str], helping: Sequence[Comparison], *, span: tuple[float, float]
) -> str:
    between = f"95 % of resamplings put the best dose {_span(span)}"
    if not helping:
        where = f"at {_dose(top[0])}" if top[0] else "without generated images"
        return f"No dose is better than none beyond chance: the highest mean is {where}, and {between}."
    best = max(helping, key=lambda c: c.difference.value)
    return f"{_dose(dose_of[best.scenario])} helps most, and {between}."


def _span(span: tuple[float, float]) -> str:
    return f"at {_dose(span[0])}" if span[0] == span[1] else f"between {_dose(span[0])} and {_dose(span[1])}"


def _dose(dose: float) -> str:
    return f"×{dose:g}"
