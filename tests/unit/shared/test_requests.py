from __future__ import annotations

import pytest

from genaug.schema.jobs import make_request, read_request, write_request
from genaug.shared.errors import InvalidArgument, PermissionDenied
from genaug.shared.progress import ProgressWriter, read_progress


def test_a_request_is_found_by_its_key(stores) -> None:
    request = make_request("train", {"items": [{"seed": 1}]})
    write_request(stores("orchestrator"), request)
    write_request(stores("orchestrator"), request)
    assert read_request(stores("train"), request.key) == request


@pytest.mark.parametrize("key", ["requests/dance/x.json", "train/x.json", "requests/train/../../x.json", ""])
def test_a_bad_key_is_refused(stores, key: str) -> None:
    with pytest.raises(InvalidArgument):
        read_request(stores("train"), key)


def test_a_changed_request_is_refused(stores) -> None:
    request = make_request("train", {"items": []})
    stores("orchestrator").put_json(request.key, {"items": [1]})
    with pytest.raises(InvalidArgument, match="digest"):
        read_request(stores("train"), request.key)


def test_progress_is_read_by_the_orchestrator(stores) -> None:
    request = make_request("train", {"items": []})
    assert read_progress(stores("orchestrator"), request, 0) is None
    reporter = ProgressWriter(stores("train"), request, 0)
    reporter(1, 10, "updates")
    reporter(2, 10, "updates")
    first = read_progress(stores("orchestrator"), request, 0)
    assert first is not None
    assert (first.done, first.total, first.unit, first.error) == (1, 10, "updates", None)
    reporter(10, 10, "updates")
    last = read_progress(stores("orchestrator"), request, 0)
    assert last is not None
    assert last.done == 10
    reporter.fail(PermissionDenied("no", reason="NO"))
    failed = read_progress(stores("orchestrator"), request, 0)
    assert failed is not None
    assert failed.error == {"code": "PERMISSION_DENIED", "reason": "NO", "message": "no"}
