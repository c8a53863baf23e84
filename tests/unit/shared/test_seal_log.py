from __future__ import annotations

from datetime import UTC, datetime

import pytest

from genaug.shared.errors import NotFound
from genaug.shared.seal_log import SealOpening, record_opening

MOMENT = datetime(2024, 2, 29, 23, 59, 59, 7, UTC)


def test_openings_of_one_instant_leave_a_record_each(stores) -> None:
    stores("assembly").put_new_json("datasets/d/dataset.json", {"test": [{"count": 3}, {"class_name": "empty"}]})
    evaluation = f"evaluations/{'0' * 32}"
    keys = [record_opening(stores("assembly"), "datasets/d", purpose="Export", clock=lambda: MOMENT) for _ in range(3)]
    keys += [
        record_opening(stores("evaluate"), "datasets/d", purpose="score", evaluation=evaluation, clock=lambda: MOMENT)
        for _ in range(2)
    ]
    assert sorted(keys) == sorted(key for key, _ in stores("assembly").list("seal-openings/"))
    assert len(set(keys)) == 5
    assert all(key.startswith("seal-openings/20240229T235959000007Z-") for key in keys)
    time, dataset = "2024-02-29T23:59:59.000007Z", "datasets/d"
    openings = [SealOpening(**stores("assembly").get_json(key)) for key in keys]
    assert openings == [
        *3 * [SealOpening(time, dataset, "assembly", "Export", "", 3)],
        *2 * [SealOpening(time, dataset, "evaluate", "score", evaluation, 3)],
    ]


def test_a_dataset_that_is_not_there_has_no_opening(stores) -> None:
    with pytest.raises(NotFound):
        record_opening(stores("assembly"), "datasets/none", purpose="ExportManifest")
    assert not list(stores("assembly").list("seal-openings/"))
