"""Datasets and their versions in the store: read, list, export, delete."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence

from genaug.schema.common import class_counts
from genaug.schema.datasets import Dataset, DatasetVersion, MultiDisease, View
from genaug.schema.model import M, read
from genaug.shared.digests import sha256
from genaug.shared.errors import FailedPrecondition, InvalidArgument, NotFound
from genaug.shared.manifest import Row, counts, encode, read_rows, rows_digest, to_table
from genaug.shared.provenance import now
from genaug.shared.seal_log import record_opening
from genaug.shared.store import Store

REAL = "real"
"""Version of all training and validation rows of a dataset."""
SEALED_IMAGES = "sealed/images"
ORIGINALS = "sources"
"""Prefix of deep images (more than 8 bits per value) as they were sent; those of test rows are below "sealed/"."""
IMPORTED = ("images/", f"{SEALED_IMAGES}/", f"{ORIGINALS}/", f"sealed/{ORIGINALS}/")
"""Prefixes of imported images."""


def dataset_key(dataset: str) -> str:
    """Store key of the `Dataset`, which is written last."""
    return f"datasets/{dataset}/dataset.json"


def version_key(dataset: str, version: str) -> str:
    """Store key of a `DatasetVersion`, which is written after its rows."""
    return f"datasets/{dataset}/versions/{version}/version.json"


def rows_key(dataset: str, version: str) -> str:
    """Store key of a version's training and validation rows."""
    return f"datasets/{dataset}/versions/{version}/rows.parquet"


def sealed_rows_key(dataset: str) -> str:
    """Store key of the test rows."""
    return f"sealed/datasets/{dataset}/rows.parquet"


def origins_key(dataset: str) -> str:
    """Store key of the original names and subjects."""
    return f"restricted/origins/{dataset}.parquet"


def source_key(dataset: str) -> str:
    """Store key of the source's digest."""
    return f"restricted/sources/{dataset}.json"


def original_key(image_id: str, *, sealed: bool) -> str:
    """Store key of a deep image as it was sent, beside the 8-bit one that its row names."""
    return f"{'sealed/' if sealed else ''}{ORIGINALS}/{image_id[:2]}/{image_id}"


def read_or_none(store: Store, key: str, kind: type[M]) -> M | None:
    """Read a JSON record; None if there is none."""
    try:
        return read(store, key, kind)
    except NotFound:
        return None


def get_dataset(store: Store, dataset: str) -> Dataset:
    """Return a dataset.

    Raises:
        NotFound: there is none of this name, or its import has not finished.
    """
    record = read_or_none(store, dataset_key(dataset), Dataset)
    if record is None:
        raise NotFound(
            f"datasets/{dataset}: no such dataset; `genaug dataset list` shows what there is",
            reason="DATASET_NOT_FOUND",
        )
    return record


def list_datasets(store: Store) -> list[str]:
    """Ids of all datasets with a finished import, sorted."""
    return [name for name in store.children("datasets/") if store.exists(dataset_key(name))]


def get_version(store: Store, dataset: str, version: str) -> DatasetVersion:
    """Return a version.

    Raises:
        NotFound: there is no such dataset, or it has no such version.
    """
    get_dataset(store, dataset)
    record = read_or_none(store, version_key(dataset, version), DatasetVersion)
    if record is None:
        raise NotFound(f"datasets/{dataset}/versions/{version}: no such version", reason="VERSION_NOT_FOUND")
    return record


def list_versions(store: Store, dataset: str) -> list[str]:
    """Ids of a dataset's versions: "real" first, the others sorted."""
    get_dataset(store, dataset)
    names = store.children(f"datasets/{dataset}/versions/")
    finished = [name for name in names if store.exists(version_key(dataset, name))]
    return sorted(finished, key=lambda name: (name != REAL, name))


def write_version(
    store: Store,
    dataset: str,
    version: str,
    rows: Sequence[Row],
    *,
    shortfall: Mapping[str, int],
    multi_disease: MultiDisease = MultiDisease.KEEP,
    fold: int = 0,
) -> DatasetVersion:
    """Write a version, rows first, unless it exists; return the stored record."""
    store.put_new(rows_key(dataset, version), encode(to_table(rows)))
    record = DatasetVersion(
        name=f"datasets/{dataset}/versions/{version}",
        digest=rows_digest(rows),
        manifest=rows_key(dataset, version),
        real=class_counts(counts(rows, split="train")),
        synthetic=class_counts(counts(rows, split="train", source="synthetic")),
        transformed=class_counts(counts(rows, split="train", source="transformed")),
        validation=class_counts(counts(rows, split="validation")),
        shortfall=class_counts({name: count for name, count in sorted(shortfall.items()) if count}),
        create_time=now(),
        view=View(
            classes=tuple(sorted({row.class_name for row in rows if row.source == "real"})),
            multi_disease=multi_disease,
            fold=fold,
        ),
    )
    store.put_new_json(version_key(dataset, version), record.json_value())
    return read(store, version_key(dataset, version), DatasetVersion)


def export_manifest(store: Store, dataset: str, version: str, *, include_sealed: bool) -> bytes:
    """Return a version's manifest as Parquet. Adding the sealed rows is recorded as an opening of the seal.

    Raises:
        NotFound: there is no such version.
        InvalidArgument: sealed rows are requested of another version than "real"; they belong to the dataset.
    """
    get_version(store, dataset, version)
    if not include_sealed:
        return store.get(rows_key(dataset, version))
    if version != REAL:
        raise InvalidArgument(
            f"include_sealed: the sealed rows belong to the dataset; export datasets/{dataset}", reason="NOT_SEALED"
        )
    record_opening(store, f"datasets/{dataset}", purpose="ExportManifest")
    rows = [*read_rows(store, rows_key(dataset, version)), *read_rows(store, sealed_rows_key(dataset))]
    return encode(to_table(sorted(rows, key=lambda row: row.image_id)))


def read_image(store: Store, row: Row) -> bytes:
    """Read a row's encoded image.

    Raises:
        FailedPrecondition: it is lost, or its bytes have another digest than its row.
    """
    try:
        data = store.get(row.uri)
    except NotFound:
        raise FailedPrecondition(
            f"image {row.image_id} is no longer in the store; make the version anew", reason="CONTENT_MISSING"
        ) from None
    if sha256(data) != row.content_sha256:
        raise FailedPrecondition(
            f"image {row.image_id} has other bytes than its row says; the store is damaged", reason="CONTENT_DAMAGED"
        )
    return data


def manifests(store: Store) -> Iterator[str]:
    """Keys of all manifests of datasets, finished or not."""
    for prefix in ("datasets/", "sealed/datasets/"):
        for key, _ in store.list(prefix):
            if key.endswith("/rows.parquet"):
                yield key


def named_images(store: Store, keys: Iterable[str]) -> set[str]:
    """Keys of all images in these manifests, and of the originals of deep ones."""
    rows = [row for key in keys for row in read_rows(store, key)]
    return {row.uri for row in rows} | {key for row in rows if (key := original_of(row))}


def original_of(row: Row) -> str | None:
    """Store key of the deep image that a row's 8-bit one was rendered from; None for other images."""
    # A real image is named by the content that was sent.
    if row.source != "real" or row.content_sha256.startswith(row.image_id):
        return None
    return original_key(row.image_id, sealed=row.split == "test")


def delete_dataset(store: Store, dataset: str) -> None:
    """Delete a dataset, finished or not, and the images that no other dataset uses. Made images stay for gc.

    Raises:
        NotFound: there is no dataset, finished or not, of this name.
    """
    folder = f"datasets/{dataset}/"
    apart = [sealed_rows_key(dataset), origins_key(dataset), source_key(dataset)]
    keys = [key for key, _ in store.list(folder)]
    if not keys and not any(store.exists(key) for key in apart):
        get_dataset(store, dataset)
    # Without its record the dataset does not exist; an interrupted deletion can be repeated.
    store.delete(dataset_key(dataset))
    own = [key for key in manifests(store) if key.startswith(folder) or key == sealed_rows_key(dataset)]
    others = [key for key in manifests(store) if key not in own]
    for key in named_images(store, own) - named_images(store, others):
        if key.startswith(IMPORTED):
            store.delete(key)
    for key in [*keys, *apart]:
        store.delete(key)
