from __future__ import annotations

import numpy as np
import pytest

from genaug.evaluation.compare import BootstrapComparison, Predictions, TestSet, compare
from genaug.evaluation.saturation import dose_scenarios, saturate
from genaug.schema.evaluation import Saturation
from genaug.schema.run import Reduction, Scenario, ScenarioSampling

SUBJECTS = 150
DOSES = {"real": 0.0, "x0.5": 0.5, "x1": 1.0, "x2": 2.0}


def scenarios(**doses: float) -> list[Scenario]:
    return [Scenario(name=name, synthetic=dose) for name, dose in doses.items()]


def curve(skills: dict[str, float], *, seed: int = 0) -> Saturation | None:
    """Three seeds per dose whose labels are right as often as `skills` says; mistakes are nested."""
    rng = np.random.default_rng(seed)
    truth = np.arange(SUBJECTS) % 3
    test_set = TestSet(("a", "b", "c"), truth, np.arange(SUBJECTS))
    luck = rng.random((3, SUBJECTS))
    predictions = []
    for name, skill in skills.items():
        labels = np.where(luck < skill, truth, (truth + 1) % 3)
        predictions.append(Predictions(name, DOSES[name] > 0, np.eye(3, dtype=np.float32)[labels] * 0.7 + 0.1))
    bootstrap = BootstrapComparison(test_set, predictions, resamples=300, seed=0)
    doses = dose_scenarios(scenarios(**{name: DOSES[name] for name in skills}), reference="real")
    comparisons = compare(bootstrap, predictions, reference="real")
    return saturate(
        bootstrap, doses, scores=[bootstrap.score(name) for name in skills], comparisons=comparisons, seed=0
    )


def test_a_gain_names_its_dose() -> None:
    found = curve({"real": 0.6, "x0.5": 0.65, "x1": 0.92, "x2": 0.7})
    assert found is not None
    assert found.doses == (0, 0.5, 1, 2)
    assert (found.best_dose, found.lower_dose, found.upper_dose) == (1, 1, 1)
    assert found.sentence == "×1 helps most, and 95 % of resamplings put the best dose at ×1."


def test_no_gain_is_invented() -> None:
    found = curve({"real": 0.8, "x0.5": 0.8, "x1": 0.805, "x2": 0.79})
    assert found is not None
    assert found.sentence.startswith("No dose is better than none beyond chance")
    assert found.lower_dose < found.upper_dose


def test_two_doses_are_needed() -> None:
    assert curve({"real": 0.8, "x1": 0.9}) is None
    assert curve({"real": 0.8, "x1": 0.9, "x2": 0.9}) is not None


def test_only_the_dose_may_differ() -> None:
    listed = scenarios(real=0, x1=1)
    listed += [
        Scenario(name="balanced", synthetic=2.0, sampling=ScenarioSampling.CLASS_BALANCED),
        Scenario(name="both", synthetic=3.0, transformed=1.0),
        Scenario(name="random", synthetic=4.0, reduction=Reduction.RANDOM),
        Scenario(name="x0.5", synthetic=0.5),
        Scenario(name="x2-half-met", synthetic=1.0),
    ]
    assert dose_scenarios(listed, reference="real") == [
        (0.0, "real"),
        (0.5, "x0.5"),
        (1.0, "x1"),
        (1.0, "x2-half-met"),
    ]


@pytest.mark.parametrize("seed", range(3))
def test_the_span_holds_the_best_dose(seed: int) -> None:
    found = curve({"real": 0.7, "x0.5": 0.75, "x1": 0.75, "x2": 0.72}, seed=seed)
    assert found is not None
    assert found.lower_dose <= found.best_dose <= found.upper_dose
