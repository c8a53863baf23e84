"""Describing a dataset: what is counted once is kept beside it."""

from __future__ import annotations

from collections.abc import Generator, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor

from genaug.assembly.datasets import (
    REAL,
    Json,
    dataset_key,
    get_dataset,
    read_image,
    read_json_or_none,
    rows_key,
    sealed_rows_key,
)
from genaug.assembly.describe.naive_split import naive_split
from genaug.assembly.describe.numbers import attributes, images_per_subject, measures, multi_disease, tally
from genaug.assembly.describe.quality import Quality, quality
from genaug.assembly.source import Progress
from genaug.shared.manifest import Row, read_rows, read_table
from genaug.shared.seal_log import record_opening
from genaug.shared.store import Store
from genaug.vision.images import pixels as images

RECIPE = "describe/1"

_READERS = 4
_STEP = 64


def description_key(dataset: str) -> str:
    """Where the message `DatasetDescription` lies, once it was asked for."""
    return f"datasets/{dataset}/description.json"


def describe_dataset(store: Store, dataset: str) -> Iterator[Progress | Json]:
    """Describe a dataset; yield progress and, last, the message `DatasetDescription` as JSON.

    What was counted before is read, not counted again. Sealed images are never opened; see `_sealed_pairs` for what is
    read of sealed rows, which is recorded as an opening of the seal.

    Raises:
        NotFound: there is no such dataset.
        FailedPrecondition: an image is lost or damaged.
    """
    record = get_dataset(store, dataset)
    made_from = {"recipe": RECIPE, "digest": record["digest"]}
    known = read_json_or_none(store, description_key(dataset))
    # A description may have outlived a dataset of the same name, whose deletion it was written during.
    if known is None or known["made_from"] != made_from:
        found = yield from _count(store, dataset, record)
        known = {"made_from": made_from, "description": found}
        store.put_json(description_key(dataset), known)
        if not store.exists(dataset_key(dataset)):
            store.delete(description_key(dataset))
    yield known["description"]


def _count(store: Store, dataset: str, record: Json) -> Generator[Progress, None, Json]:
    rows = read_rows(store, rows_key(dataset, REAL))
    qualities = yield from _look(rows, store)
    yield Progress("counting", len(rows), len(rows))
    pairs = [*((row.class_name, row.subject_id) for row in rows), *_sealed_pairs(store, dataset)]
    subjects = [subject for _, subject in pairs]
    training, validation, test = (
        sum(one["count"] for one in record[side]) for side in ("training", "validation", "test")
    )
    return {
        "dataset": record["name"],
        "classes": tally(record, pairs),
        "attributes": attributes(rows),
        "multi_disease": multi_disease(rows),
        "duplicates": sum(one["reason"] == "DUPLICATE" for one in record["dropped"]),
        "near_duplicates": len(record["near_duplicates"]),
        "images_per_subject": images_per_subject(subjects),
        "measures": measures(rows, qualities),
        # The sides' own sizes: where the user has split, the record's shares are not those of the split.
        "naive_split": vars(naive_split(subjects, sizes=(training, validation, test), seed=record["seed"])),
    }


def _sealed_pairs(store: Store, dataset: str) -> list[tuple[str, str]]:
    """(class, subject) of the sealed rows: all of their facts that are read.

    A split by image would have drawn from all rows, so that their subjects must be known; the originals in
    restricted/ would say as much, and who people are besides. Attributes and pixels of sealed rows stay unread.
    """
    record_opening(store, f"datasets/{dataset}", purpose="DescribeDataset")
    table = read_table(store, sealed_rows_key(dataset)).select(["class", "subject_id"])
    return list(zip(table.column("class").to_pylist(), table.column("subject_id").to_pylist(), strict=True))


def _look(rows: Sequence[Row], store: Store) -> Generator[Progress, None, dict[str, Quality]]:
    """Measure each image; yield progress, and return what was seen by image id."""
    found: dict[str, Quality] = {}
    with ThreadPoolExecutor(_READERS, thread_name_prefix="describe") as pool:
        for start in range(0, len(rows), _STEP):
            yield Progress("measuring", start, len(rows))
            part = rows[start : start + _STEP]
            seen = pool.map(lambda row: quality(images.decode(read_image(store, row))), part)
            found |= {row.image_id: one for row, one in zip(part, seen, strict=True)}
    return found
