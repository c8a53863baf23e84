from __future__ import annotations

import pytest

from genaug.assembly.trace import Origin, trace_images
from genaug.shared.errors import InvalidArgument, NotFound
from genaug.shared.seal_log import SealOpening


@pytest.fixture
def source(sent, stores, run_import):
    rows = [sent(n, "ab"[n % 2], f"patient {n // 2}") for n in range(40)]
    run_import(stores("assembly"), rows)
    return rows


def test_images_are_traced_by_id_and_by_content_and_the_call_is_logged(stores, source) -> None:
    store = stores("assembly")
    first, last = source[3][0], source[38][0]
    assert trace_images(store, "d", [last.content_sha256, first.image_id]) == [
        Origin(last.image_id, 38, last.source_name, "patient 19"),
        Origin(first.image_id, 3, first.source_name, "patient 1"),
    ]
    (key,) = [key for key, _ in store.list("seal-openings/")]
    assert SealOpening(**store.get_json(key)).purpose == "TraceImages"


def test_what_cannot_be_traced_is_refused(stores, source) -> None:
    store = stores("assembly")
    for images, problem, reason in (
        (["0" * 32, source[0][0].image_id], NotFound, "IMAGE_NOT_FOUND"),
        (["original 3"], InvalidArgument, "BAD_DIGEST"),
        ([], InvalidArgument, "TOO_MANY"),
        (["0" * 32] * 1001, InvalidArgument, "TOO_MANY"),
    ):
        with pytest.raises(problem) as caught:
            trace_images(store, "d", images)
        assert caught.value.reason == reason
        assert "patient" not in caught.value.message
    with pytest.raises(NotFound):
        trace_images(store, "none", ["0" * 32])
