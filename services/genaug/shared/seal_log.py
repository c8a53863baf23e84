"""Log of seal openings: one record per reading of a dataset's sealed rows, written before the rows are read."""

from __future__ import annotations

import uuid
from collections.abc import Callable
from dataclasses import asdict, dataclass
from datetime import UTC, datetime

from genaug.shared.errors import FailedPrecondition
from genaug.shared.store import Store


@dataclass(frozen=True)
class SealOpening:
    """A reading of sealed rows."""

    time: str
    """RFC 3339, UTC, in microseconds."""
    dataset: str
    """Resource name: "datasets/{dataset}"."""
    role: str
    """Store identity of the reader."""
    purpose: str
    """The RPC, or the purpose in words."""
    evaluation: str
    """Resource name of the evaluation that the rows are read for; empty for none."""
    rows: int
    """Number of sealed rows."""


def _utc() -> datetime:
    return datetime.now(UTC)


def record_opening(
    store: Store, dataset: str, *, purpose: str, evaluation: str = "", clock: Callable[[], datetime] = _utc
) -> str:
    """Record that `store`'s identity is about to read the sealed rows of "datasets/{dataset}". Return the record's key.

    Raises:
        NotFound: there is no such dataset.
        FailedPrecondition: reason SEAL_RECORD; the record was not written.
    """
    test = store.get_json(f"{dataset}/dataset.json").get("test", [])
    moment = clock()
    opening = SealOpening(
        time=f"{moment:%Y-%m-%dT%H:%M:%S.%fZ}",
        dataset=dataset,
        role=store.role,
        purpose=purpose,
        evaluation=evaluation,
        rows=sum(int(count.get("count", 0)) for count in test),
    )
    # The time sorts the records; the random part keeps openings of the same instant apart.
    key = f"seal-openings/{moment:%Y%m%dT%H%M%S%fZ}-{uuid.uuid4().hex}.json"
    if not store.put_new_json(key, asdict(opening)):
        raise FailedPrecondition(
            f"{key}: this opening of the seal is recorded already; try again", reason="SEAL_RECORD"
        )
    return key
