"""Description of a dataset, computed once and stored beside it."""

from __future__ import annotations

from collections.abc import Generator, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor

from genaug.assembly.datasets import (
    REAL,
    dataset_key,
    get_dataset,
    read_image,
    read_or_none,
    rows_key,
    sealed_rows_key,
)
from genaug.assembly.describe.leakage_estimate import estimate_leakage
from genaug.assembly.describe.numbers import attributes, images_per_subject, measures, multi_disease, tally
from genaug.assembly.describe.quality import Quality, quality
from genaug.assembly.import_plan import progress
from genaug.schema.common import Progress
from genaug.schema.datasets import Dataset, DatasetDescription
from genaug.schema.model import Model
from genaug.shared.manifest import Row, read_rows, read_table
from genaug.shared.seal_log import record_opening
from genaug.shared.store import Store
from genaug.vision.images.pixels import with_pixels

# 2: the field `naive_split` is `leakage_estimate`.
RECIPE = "describe/2"

_READERS = 4
_STEP = 64


class Origin(Model):
    """Recipe and dataset of a description."""

    recipe: str
    digest: str
    """Digest of the dataset."""


class StoredDescription(Model):
    """A description in the store."""

    made_from: Origin
    description: DatasetDescription


def description_key(dataset: str) -> str:
    """Store key of a `StoredDescription`."""
    return f"datasets/{dataset}/description.json"


def describe_dataset(store: Store, dataset: str) -> Iterator[Progress | DatasetDescription]:
    """Describe a dataset; yield progress and, last, the description.

    An existing description is read, not computed again. Sealed images are never opened; `_sealed_pairs` reads two
    columns of the sealed rows, which is recorded as an opening of the seal.

    Raises:
        NotFound: there is no such dataset.
        FailedPrecondition: an image is lost or damaged.
    """
    record = get_dataset(store, dataset)
    made_from = Origin(recipe=RECIPE, digest=record.digest)
    stored = read_or_none(store, description_key(dataset), StoredDescription)
    # A description may have outlived a dataset of the same name that was deleted while it was written.
    if stored is None or stored.made_from != made_from:
        description = yield from _describe(store, dataset, record)
        stored = StoredDescription(made_from=made_from, description=description)
        store.put_json(description_key(dataset), stored.json_value())
        if not store.exists(dataset_key(dataset)):
            store.delete(description_key(dataset))
    yield stored.description


def _describe(store: Store, dataset: str, record: Dataset) -> Generator[Progress, None, DatasetDescription]:
    rows = read_rows(store, rows_key(dataset, REAL))
    qualities = yield from _measure(rows, store)
    yield progress("counting", len(rows), len(rows))
    pairs = [*((row.class_name, row.subject_id) for row in rows), *_sealed_pairs(store, dataset)]
    subjects = [subject for _, subject in pairs]
    # The actual sizes of the sides: the record's shares do not apply to a user's own split.
    training, validation, test = (
        sum(entry.count for entry in side) for side in (record.training, record.validation, record.test)
    )
    return DatasetDescription(
        dataset=record.name,
        classes=tally(record, pairs),
        attributes=attributes(rows),
        multi_disease=multi_disease(rows),
        duplicates=sum(image.reason == "DUPLICATE" for image in record.dropped),
        near_duplicates=len(record.near_duplicates),
        images_per_subject=images_per_subject(subjects),
        measures=measures(rows, qualities),
        leakage_estimate=estimate_leakage(subjects, sizes=(training, validation, test), seed=record.seed),
    )


def _sealed_pairs(store: Store, dataset: str) -> list[tuple[str, str]]:
    """Return (class, subject) of the sealed rows; none of their other columns is read.

    A split by image would have drawn from all rows, so that their subjects must be known. The originals in restricted/
    have them, too, but they identify people.
    """
    record_opening(store, f"datasets/{dataset}", purpose="DescribeDataset")
    table = read_table(store, sealed_rows_key(dataset)).select(["class", "subject_id"])
    return list(zip(table.column("class").to_pylist(), table.column("subject_id").to_pylist(), strict=True))


def _measure(rows: Sequence[Row], store: Store) -> Generator[Progress, None, dict[str, Quality]]:
    """Measure each image; yield progress, and return the results by image id."""
    qualities: dict[str, Quality] = {}
    with ThreadPoolExecutor(_READERS, thread_name_prefix="describe") as pool:
        for start in range(0, len(rows), _STEP):
            yield progress("measuring", start, len(rows))
            part = rows[start : start + _STEP]
            results = pool.map(lambda row: with_pixels(read_image(store, row), quality), part)
            qualities |= {row.image_id: result for row, result in zip(part, results, strict=True)}
    return qualities
