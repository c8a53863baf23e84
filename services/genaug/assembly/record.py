"""What the making of a dataset, by import or by union, leaves: the claim on its name, and its record."""

from __future__ import annotations

from collections.abc import Sequence
from statistics import median_low
from typing import Any

from genaug.assembly.datasets import class_counts, source_key
from genaug.assembly.sift import Dropped
from genaug.shared.errors import FailedPrecondition
from genaug.shared.manifest import Row, counts, rows_digest
from genaug.shared.provenance import now
from genaug.shared.store import Store

_MAX_PAIRS = 5000


def claim(store: Store, dataset: str, source: str) -> None:
    """Take a dataset's name for a source, before anything is written under it.

    Raises:
        FailedPrecondition: another source holds the name, and has not finished.
    """
    key = source_key(dataset)
    store.put_new_json(key, {"source": source})
    if store.get_json(key)["source"] != source:
        raise FailedPrecondition(
            f"an import of other content as datasets/{dataset} was broken off, or is under way; delete the "
            "dataset to begin anew",
            reason="UNFINISHED_IMPORT",
            dataset=dataset,
        )


def near_duplicate(one: str, other: str, correlation: float) -> dict[str, Any]:
    """The message `NearDuplicate`."""
    return {"image_id": one, "other_image_id": other, "correlation": round(correlation, 6)}


def dataset_record(
    dataset: str,
    manifest: Sequence[Row],
    *,
    format: str,
    seed: int,
    split: Sequence[float],
    folds: int,
    dropped: Sequence[Dropped],
    near_duplicates: Sequence[dict[str, Any]],
    sides: Sequence[int],
    channels: int,
) -> dict[str, Any]:
    """The message `Dataset`, counted from the rows themselves.

    Args:
        dataset: Its id.
        manifest: All its rows, sealed ones too.
        format, seed, split, folds, channels: Fields of the message.
        dropped: What was left out.
        near_duplicates: Messages `NearDuplicate`; the first 5,000 are kept.
        sides: The shorter side of each image, pixels.
    """
    on: dict[str, set[str]] = {}
    members: dict[str, set[str]] = {}
    for row in manifest:
        on.setdefault(row.subject_id, set()).add(row.split)
        members.setdefault(row.group_id, set()).add(row.subject_id)
    return {
        "name": f"datasets/{dataset}",
        "digest": rows_digest(manifest),
        "format": format,
        "seed": seed,
        "split": list(split),
        "folds": folds,
        "training": class_counts(counts(manifest, split="train")),
        "validation": class_counts(counts(manifest, split="validation")),
        "test": class_counts(counts(manifest, split="test")),
        "subjects": len(on),
        "subjects_on_two_sides": sum(len(found) > 1 for found in on.values()),
        "joined_groups": sum(len(found) > 1 for found in members.values()),
        "dropped": [vars(image) for image in dropped],
        "near_duplicates": list(near_duplicates[:_MAX_PAIRS]),
        "create_time": now(),
        "median_side": median_low(sides),
        "channels": channels,
    }
