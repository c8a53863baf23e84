from __future__ import annotations

import pytest

from genaug.schema.classifiers import ClassifierSpec, Role
from genaug.schema.jobs import JobRequest, TrainInputs, TrainItem, read_request
from genaug.schema.run import ScenarioSampling
from genaug.shared.errors import InvalidArgument, PermissionDenied
from genaug.shared.progress import JobError, ProgressWriter, read_progress

ITEM = TrainItem(
    role=Role.EVALUATOR,
    classifier=ClassifierSpec(backbone="SMALL_CNN"),
    channels=1,
    dataset_version="datasets/d/versions/real",
    classes=("a", "b"),
    sampling=ScenarioSampling.NATURAL,
    updates=1,
    batch_size=2,
    learning_rate=0.1,
    seed=0,
)
REQUEST = JobRequest.of(TrainInputs(items=(ITEM,)))


def test_a_request_is_found_by_its_key(stores) -> None:
    REQUEST.write(stores("orchestrator"))
    REQUEST.write(stores("orchestrator"))
    assert read_request(stores("train"), REQUEST.key) == REQUEST


@pytest.mark.parametrize("key", ["requests/dance/x.json", "train/x.json", "requests/train/../../x.json", ""])
def test_a_bad_key_is_refused(stores, key: str) -> None:
    with pytest.raises(InvalidArgument):
        read_request(stores("train"), key)


def test_a_changed_request_is_refused(stores) -> None:
    stores("orchestrator").put_json(REQUEST.key, {"items": []})
    with pytest.raises(InvalidArgument, match="digest"):
        read_request(stores("train"), REQUEST.key)


def test_a_classifiers_name_depends_on_each_of_its_inputs() -> None:
    changes = ({"seed": 1}, {"updates": 2}, {"rows_digest": "x"}, {"quantized": True}, {"learning_rate": 0.2})
    names = {ITEM.result, *(ITEM.replace(**change).result for change in changes)}
    assert len(names) == 1 + len(changes)


def test_progress_is_read_by_the_orchestrator(stores) -> None:
    key = REQUEST.progress_key(0)
    assert read_progress(stores("orchestrator"), key) is None
    writer = ProgressWriter(stores("train"), key)
    writer(1, 10, "updates")
    writer(2, 10, "updates")
    first = read_progress(stores("orchestrator"), key)
    assert first is not None
    assert (first.done, first.total, first.unit, first.error) == (1, 10, "updates", None)
    writer(10, 10, "updates")
    last = read_progress(stores("orchestrator"), key)
    assert last is not None
    assert last.done == 10
    writer.fail(PermissionDenied("no", reason="NO"))
    failed = read_progress(stores("orchestrator"), key)
    assert failed is not None
    assert failed.error == JobError("PERMISSION_DENIED", "NO", "no")
