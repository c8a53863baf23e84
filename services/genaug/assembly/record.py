"""Results of an import or a union: the claim on the dataset's name, and its record."""

from __future__ import annotations

from collections.abc import Sequence
from statistics import median_low
from typing import TypeVar

from genaug.assembly.datasets import source_key
from genaug.schema.common import class_counts
from genaug.schema.datasets import Dataset, NearDuplicate
from genaug.schema.model import Model, read
from genaug.shared.errors import FailedPrecondition
from genaug.shared.manifest import Row, counts, rows_digest
from genaug.shared.provenance import now
from genaug.shared.store import Store

D = TypeVar("D", bound=Dataset)

_MAX_PAIRS = 5000


class SourceClaim(Model):
    """Claim of a source on a dataset's name."""

    source: str
    """Digest of the source."""


def claim(store: Store, dataset: str, source: str) -> None:
    """Claim a dataset's name for a source, before anything is written under it.

    Raises:
        FailedPrecondition: another source holds the name, and has not finished.
    """
    key = source_key(dataset)
    store.put_new_json(key, SourceClaim(source=source).json_value())
    if read(store, key, SourceClaim).source != source:
        raise FailedPrecondition(
            f"an import of other content as datasets/{dataset} was broken off, or is under way; delete the "
            "dataset to begin anew",
            reason="UNFINISHED_IMPORT",
            dataset=dataset,
        )


def near_duplicate(image_id: str, other_image_id: str, correlation: float) -> NearDuplicate:
    """Return a near-identical pair, its correlation rounded to 6 digits."""
    return NearDuplicate(image_id=image_id, other_image_id=other_image_id, correlation=round(correlation, 6))


def complete_record(record: D, manifest: Sequence[Row], *, sides: Sequence[int]) -> D:
    """Add to a record the fields that follow from the rows.

    Args:
        record: With name, options, dropped images and near-identical pairs; the first 5,000 pairs are kept.
        manifest: All rows, sealed ones included.
        sides: Shorter side of each image, pixels.
    """
    splits_of_subject: dict[str, set[str]] = {}
    subjects_of_group: dict[str, set[str]] = {}
    for row in manifest:
        splits_of_subject.setdefault(row.subject_id, set()).add(row.split)
        subjects_of_group.setdefault(row.group_id, set()).add(row.subject_id)
    return record.model_copy(
        update={
            "digest": rows_digest(manifest),
            "training": class_counts(counts(manifest, split="train")),
            "validation": class_counts(counts(manifest, split="validation")),
            "test": class_counts(counts(manifest, split="test")),
            "subjects": len(splits_of_subject),
            "subjects_on_two_sides": sum(len(splits) > 1 for splits in splits_of_subject.values()),
            "joined_groups": sum(len(subjects) > 1 for subjects in subjects_of_group.values()),
            "near_duplicates": record.near_duplicates[:_MAX_PAIRS],
            "create_time": now(),
            "median_side": median_low(sides),
        }
    )
