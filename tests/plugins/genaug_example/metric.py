"""Metric "worst_recall": the recall of the class with the lowest one."""

from __future__ import annotations

import numpy as np

ENTRY = "genaug_example.metric:METRIC"


class WorstRecall:
    name = "worst recall"
    direction = "higher"

    def __call__(self, truth, probabilities) -> float:
        predicted = probabilities.argmax(axis=1)
        return float(min((predicted[truth == index] == index).mean() for index in np.unique(truth)))


METRIC = WorstRecall()
