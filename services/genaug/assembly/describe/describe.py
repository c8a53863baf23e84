"""Description of a dataset or of one of its versions, computed once and stored beside it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Generator, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor

from genaug.assembly.datasets import (
    REAL,
    dataset_key,
    get_dataset,
    get_version,
    read_image,
    read_or_none,
    rows_key,
    sealed_rows_key,
)
from genaug.assembly.describe.alarms import alarms
from genaug.assembly.describe.facts import ImageFacts, image_facts
from genaug.assembly.describe.leakage_estimate import estimate_leakage
from genaug.assembly.describe.numbers import (
    attributes,
    defects,
    histograms,
    images_per_subject,
    imbalance_ratio,
    measures,
    multi_disease,
    tally,
)
from genaug.assembly.describe.shortcuts import find_shortcuts
from genaug.assembly.import_plan import progress
from genaug.schema.common import Progress, class_counts
from genaug.schema.datasets import Dataset, DatasetDescription, LeakageEstimate
from genaug.schema.model import Model
from genaug.shared.manifest import Row, read_rows, read_table
from genaug.shared.seal_log import record_opening
from genaug.shared.store import Store
from genaug.vision.images.pixels import with_pixels

# 3: alarms, shortcuts, histograms and defects.
RECIPE = "describe/3"

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


def description_key(dataset: str, version: str = REAL) -> str:
    """Store key of a `StoredDescription`."""
    folder = f"datasets/{dataset}" if version == REAL else f"datasets/{dataset}/versions/{version}"
    return f"{folder}/description.json"


def describe_dataset(store: Store, dataset: str, version: str = REAL) -> Iterator[Progress | DatasetDescription]:
    """Describe a dataset, or one of its other versions; yield progress and, last, the description.

    An existing description is read, not computed again. Sealed images are never opened; `_sealed_pairs` reads two
    columns of the sealed rows, which is recorded as an opening of the seal. A version other than "real" is described
    without the sealed rows.

    Raises:
        NotFound: there is no such dataset or version.
        FailedPrecondition: an image is lost or damaged.
    """
    record = get_dataset(store, dataset)
    digest = record.digest if version == REAL else get_version(store, dataset, version).digest
    made_from = Origin(recipe=RECIPE, digest=digest)
    key = description_key(dataset, version)
    stored = read_or_none(store, key, StoredDescription)
    # A description may have outlived a dataset of the same name that was deleted while it was written.
    if stored is None or stored.made_from != made_from:
        rows = read_rows(store, rows_key(dataset, version))
        facts = yield from _measure(rows, store)
        yield progress("counting", len(rows), len(rows))
        if version == REAL:
            description = describe(record, rows, _sealed_pairs(store, dataset), facts)
        else:
            description = describe(_record_of(record, version, rows), rows, (), facts)
        stored = StoredDescription(made_from=made_from, description=description)
        store.put_json(key, stored.json_value())
        if not store.exists(dataset_key(dataset)):
            store.delete(key)
    yield stored.description


def describe(
    record: Dataset, rows: Sequence[Row], sealed: Sequence[tuple[str, str]], facts: Mapping[str, ImageFacts]
) -> DatasetDescription:
    """Compute the description of a dataset from the measured properties of its images.

    Args:
        record: The dataset, which holds the counts of the sides.
        rows: Training and validation rows.
        sealed: (class, subject) of the sealed rows.
        facts: Facts of each row's image, by its id.
    """
    pairs = [*((row.class_name, row.subject_id) for row in rows if row.subject_id), *sealed]
    subjects = [subject for _, subject in pairs]
    classes = tally(record, pairs)
    description = DatasetDescription(
        dataset=record.name,
        classes=classes,
        attributes=attributes(rows),
        multi_disease=multi_disease(rows),
        duplicates=sum(image.reason == "DUPLICATE" for image in record.dropped),
        near_duplicates=len(record.near_duplicates),
        images_per_subject=images_per_subject(subjects),
        measures=measures(rows, facts),
        leakage_estimate=_leakage(record, subjects),
        # Made images differ from photographs in format and size, and networks see them only after both are made alike.
        shortcuts=find_shortcuts([row for row in rows if row.source == "real"], facts),
        imbalance_ratio=imbalance_ratio(classes),
        histograms=histograms(rows, facts),
        defects=defects(rows, facts, record.dropped),
    )
    return description.model_copy(update={"alarms": alarms(description, record)})


def _leakage(record: Dataset, subjects: Sequence[str]) -> LeakageEstimate | None:
    """Leakage of a split by image; None without test images."""
    # The actual sizes of the sides: the record's shares do not apply to a user's own split.
    training, validation, test = (
        sum(entry.count for entry in side) for side in (record.training, record.validation, record.test)
    )
    if not test:
        return None
    return estimate_leakage(subjects, sizes=(training, validation, test), seed=record.seed)


def _record_of(record: Dataset, version: str, rows: Sequence[Row]) -> Dataset:
    """The record of a dataset that has a version's rows alone."""
    sides = {
        field: class_counts(dict(sorted(Counter(row.class_name for row in rows if row.split == split).items())))
        for field, split in (("training", "train"), ("validation", "validation"))
    }
    name = f"{record.name}/versions/{version}"
    return record.model_copy(update={"name": name, "test": (), "dropped": (), "near_duplicates": (), **sides})


def _sealed_pairs(store: Store, dataset: str) -> list[tuple[str, str]]:
    """Return (class, subject) of the sealed rows; none of their other columns is read.

    A split by image would have drawn from all rows, so that their subjects must be known. The originals in restricted/
    have them, too, but they identify people.
    """
    record_opening(store, f"datasets/{dataset}", purpose="DescribeDataset")
    table = read_table(store, sealed_rows_key(dataset)).select(["class", "subject_id"])
    return list(zip(table.column("class").to_pylist(), table.column("subject_id").to_pylist(), strict=True))


def _measure(rows: Sequence[Row], store: Store) -> Generator[Progress, None, dict[str, ImageFacts]]:
    """Collect the facts of each image; yield progress, and return them by image id."""
    facts: dict[str, ImageFacts] = {}
    with ThreadPoolExecutor(_READERS, thread_name_prefix="describe") as pool:
        for start in range(0, len(rows), _STEP):
            yield progress("measuring", start, len(rows))
            part = rows[start : start + _STEP]
            results = pool.map(lambda row: _facts(store, row), part)
            facts |= {row.image_id: result for row, result in zip(part, results, strict=True)}
    return facts


def _facts(store: Store, row: Row) -> ImageFacts:
    data = read_image(store, row)
    return with_pixels(data, lambda pixels: image_facts(data, pixels))
