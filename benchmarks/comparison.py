"""Seconds of comparing ten scenarios on a thousand sealed images, five seeds each, with 2,000 resamples.

    python benchmarks/comparison.py

Prints a line of JSON, {"name", "seconds", "goal", "better"}: processor seconds, so that other work counts less.
"""

from __future__ import annotations

import json
import time

import numpy as np

from genaug.evaluation.compare import BootstrapComparison, Predictions, TestSet, compare

IMAGES, CLASSES, SCENARIOS, SEEDS, RESAMPLES = 1000, 10, 10, 5, 2000


def main() -> None:
    rng = np.random.default_rng(0)
    truth = np.arange(IMAGES) % CLASSES
    # Two images of each subject, of one class.
    groups = np.arange(IMAGES) // (2 * CLASSES) * CLASSES + truth
    test_set = TestSet(tuple(map(str, range(CLASSES))), truth, groups)
    predictions = []
    for scenario in range(SCENARIOS):
        right = rng.random((SEEDS, IMAGES)) < 0.8
        labels = np.where(right, truth, (truth + rng.integers(1, CLASSES, (SEEDS, IMAGES))) % CLASSES)
        probabilities = 0.02 + 0.8 * np.eye(CLASSES, dtype=np.float32)[labels]
        predictions.append(Predictions(f"s{scenario}", scenario > 0, probabilities.astype(np.float32)))
    start = time.process_time()
    bootstrap = BootstrapComparison(test_set, predictions, resamples=RESAMPLES, seed=0)
    for scenario_predictions in predictions:
        bootstrap.score(scenario_predictions.scenario)
    compare(bootstrap, predictions, reference="s0")
    seconds = round(time.process_time() - start, 2)
    print(json.dumps({"name": "comparison", "seconds": seconds, "goal": 20, "better": "lower"}))


if __name__ == "__main__":
    main()
