"""Datasets and their versions as they lie in the store: read, list, export, delete."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from genaug.shared.digests import sha256
from genaug.shared.errors import FailedPrecondition, InvalidArgument, NotFound
from genaug.shared.manifest import MultiDisease, Row, counts, encode, read_rows, rows_digest, to_table
from genaug.shared.provenance import now
from genaug.shared.seal_log import record_opening
from genaug.shared.store import Store

Json = dict[str, Any]

REAL = "real"
"""The version that holds all of a dataset's training and validation rows."""
SEALED_IMAGES = "sealed/images"


def dataset_key(dataset: str) -> str:
    """Where the message `Dataset` lies; written last."""
    return f"datasets/{dataset}/dataset.json"


def version_key(dataset: str, version: str) -> str:
    """Where the message `DatasetVersion` lies; written after its rows."""
    return f"datasets/{dataset}/versions/{version}/version.json"


def rows_key(dataset: str, version: str) -> str:
    """Where a version's training and validation rows lie."""
    return f"datasets/{dataset}/versions/{version}/rows.parquet"


def sealed_rows_key(dataset: str) -> str:
    """Where the test rows lie."""
    return f"sealed/datasets/{dataset}/rows.parquet"


def origins_key(dataset: str) -> str:
    """Where original names and subjects lie."""
    return f"restricted/origins/{dataset}.parquet"


def source_key(dataset: str) -> str:
    """Where the digest of the source lies."""
    return f"restricted/sources/{dataset}.json"


def read_json_or_none(store: Store, key: str) -> Json | None:
    """Read JSON; None when there is none."""
    try:
        found: Json = store.get_json(key)
    except NotFound:
        return None
    return found


def class_counts(found: Mapping[str, int]) -> list[Json]:
    """Counts as a list of `ClassCount`, by class; zeros are left out."""
    return [{"class_name": name, "count": count} for name, count in sorted(found.items()) if count]


def get_dataset(store: Store, dataset: str) -> Json:
    """Return a dataset.

    Raises:
        NotFound: there is none of this name, or its import has not finished.
    """
    found = read_json_or_none(store, dataset_key(dataset))
    if found is None:
        raise NotFound(
            f"datasets/{dataset}: no such dataset; `genaug dataset list` shows what there is",
            reason="DATASET_NOT_FOUND",
        )
    return found


def list_datasets(store: Store) -> list[str]:
    """Ids of all datasets, sorted; imports that have not finished are none."""
    return [name for name in store.children("datasets/") if store.exists(dataset_key(name))]


def get_version(store: Store, dataset: str, version: str) -> Json:
    """Return a version.

    Raises:
        NotFound: there is no such dataset, or it has no such version.
    """
    get_dataset(store, dataset)
    found = read_json_or_none(store, version_key(dataset, version))
    if found is None:
        raise NotFound(f"datasets/{dataset}/versions/{version}: no such version", reason="VERSION_NOT_FOUND")
    return found


def list_versions(store: Store, dataset: str) -> list[str]:
    """Ids of a dataset's versions: "real" first, the others sorted."""
    get_dataset(store, dataset)
    found = [
        name for name in store.children(f"datasets/{dataset}/versions/") if store.exists(version_key(dataset, name))
    ]
    return sorted(found, key=lambda name: (name != REAL, name))


def write_version(
    store: Store,
    dataset: str,
    version: str,
    rows: Sequence[Row],
    *,
    shortfall: Mapping[str, int],
    multi_disease: MultiDisease = "KEEP",
    fold: int = 0,
) -> Json:
    """Write a version, rows first, unless it is there; return what is there."""
    store.put_new(rows_key(dataset, version), encode(to_table(rows)))
    record = {
        "name": f"datasets/{dataset}/versions/{version}",
        "digest": rows_digest(rows),
        "manifest": rows_key(dataset, version),
        "real": class_counts(counts(rows, split="train")),
        "synthetic": class_counts(counts(rows, split="train", source="synthetic")),
        "transformed": class_counts(counts(rows, split="train", source="transformed")),
        "validation": class_counts(counts(rows, split="validation")),
        "shortfall": class_counts(shortfall),
        "create_time": now(),
        "view": {
            "classes": sorted({row.class_name for row in rows if row.source == "real"}),
            "multi_disease": f"MULTI_DISEASE_{multi_disease}",
            "fold": fold,
        },
    }
    store.put_new_json(version_key(dataset, version), record)
    found: Json = store.get_json(version_key(dataset, version))
    return found


def export_manifest(store: Store, dataset: str, version: str, *, include_sealed: bool) -> bytes:
    """A version's manifest as Parquet. The sealed rows are added on demand, and that is recorded.

    Raises:
        NotFound: there is no such version.
        InvalidArgument: sealed rows were asked of another version than "real"; they belong to the dataset.
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
        FailedPrecondition: it is lost, or has other bytes than its row says.
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
    """Keys of all images that these manifests name."""
    return {row.uri for key in keys for row in read_rows(store, key)}


def delete_dataset(store: Store, dataset: str) -> None:
    """Delete a dataset, finished or broken off, and the images that no other names. Made images stay for gc.

    Raises:
        NotFound: there is nothing of this name.
    """
    folder = f"datasets/{dataset}/"
    apart = [sealed_rows_key(dataset), origins_key(dataset), source_key(dataset)]
    keys = [key for key, _ in store.list(folder)]
    if not keys and not any(store.exists(key) for key in apart):
        get_dataset(store, dataset)
    # From here on it is not there; a deletion that is broken off can be asked for again.
    store.delete(dataset_key(dataset))
    mine = [key for key in manifests(store) if key.startswith(folder) or key == sealed_rows_key(dataset)]
    others = [key for key in manifests(store) if key not in mine]
    for key in named_images(store, mine) - named_images(store, others):
        if key.startswith(("images/", f"{SEALED_IMAGES}/")):
            store.delete(key)
    for key in [*keys, *apart]:
        store.delete(key)
