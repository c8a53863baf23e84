"""Importing a dataset: take in, sift, group, seal, write. Killed at any moment, the same import again finishes it."""

from __future__ import annotations

import io
import time
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from genaug.assembly.datasets import (
    SEALED_IMAGES,
    Json,
    dataset_key,
    origins_key,
    read_json_or_none,
    rows_key,
    sealed_rows_key,
    source_key,
    write_version,
)
from genaug.assembly.duplicates import NearPair, near_pairs
from genaug.assembly.intake import STAGED, Decoded, Intake, Look, content_key, read_content
from genaug.assembly.record import claim, dataset_record, near_duplicate
from genaug.assembly.seal import join, seal
from genaug.assembly.sift import Dropped, Kept, check_own_split, sift
from genaug.assembly.source import RECIPE, Plan, Progress, SourceRow, source_digest
from genaug.assembly.subjects import SubjectIds
from genaug.schema.common import provenance
from genaug.shared.errors import AlreadyExists, Internal
from genaug.shared.manifest import Row, encode, to_table
from genaug.shared.store import Store

Sent = tuple[SourceRow, bytes]
"""A row and its content; empty when the store holds it."""

_WRITERS = 8
_STEP = 200


def import_dataset(plan: Plan, batches: Iterable[Sequence[Sent]], store: Store) -> Iterator[Progress | Json]:
    """Import what `batches` bring; yield progress and, last, the dataset (the message `Dataset` as JSON).

    Raises:
        AlreadyExists: a dataset of this name has other content or options.
        InvalidArgument: a content has another digest than was said, nothing can be used, or the user's own split leaks.
        FailedPrecondition: a content is neither sent nor held, there are too few subjects, or an import of other
            content under this name was broken off.
    """
    start = time.monotonic()
    existing = read_json_or_none(store, dataset_key(plan.dataset))
    rows: list[SourceRow] = []
    with Intake(store) as intake:
        for batch in batches:
            for row, content in batch:
                rows.append(row)
                # What exists is compared by its source digest: nothing need be decoded.
                if existing is None:
                    intake.take(row, content)
            yield Progress("receiving", len(rows), 0)
        source = source_digest(plan, rows)
        if existing is not None:
            _check_same(store, plan, source)
            yield existing
            return
        contents = len({row.content_sha256 for row in rows})
        for done in intake.settle():
            if done % _STEP == 0:
                yield Progress("decoding", done, contents)
        looks = intake.looks
    yield Progress("grouping", 0, len(rows))
    kept, dropped = sift(rows, looks)
    manifest, pairs = _seal(plan, rows, kept, looks, SubjectIds(store))
    yield from _write(plan, source, manifest, kept, store)
    record = _record(plan, manifest, looks, dropped, pairs) | {
        "provenance": provenance(RECIPE, seconds=time.monotonic() - start)
    }
    # The last object: whoever finds it finds all.
    store.put_new_json(dataset_key(plan.dataset), record)
    _remove_staged(rows, store)
    yield store.get_json(dataset_key(plan.dataset))


def _check_same(store: Store, plan: Plan, source: str) -> None:
    known = read_json_or_none(store, source_key(plan.dataset))
    if known is None or known["source"] != source:
        raise AlreadyExists(
            f"datasets/{plan.dataset} exists with other images, classes, subjects or options (split, folds, seed); "
            "import under another name, or delete it first",
            reason="DATASET_EXISTS",
            dataset=plan.dataset,
        )


def _seal(
    plan: Plan, rows: Sequence[SourceRow], kept: Sequence[Kept], looks: dict[str, Look], ids: SubjectIds
) -> tuple[list[Row], list[NearPair]]:
    """Manifest rows of what is kept, in its order, and the near-identical pairs, by places in it."""
    decoded = [_decoded(looks, one) for one in kept]
    pairs = near_pairs(np.stack([look.thumbnail for look in decoded]), [one.row.subject for one in kept])
    names = [one.row.image_id for one in kept]
    groups = join(
        {one.row.image_id: one.subjects for one in kept}, [(names[pair.first], names[pair.second]) for pair in pairs]
    )
    own = None
    if any(row.split for row in rows):
        check_own_split(rows, groups)
        own = {one.row.image_id: one.row.split for one in kept if one.row.split}
    classes = {one.row.image_id: one.row.class_name for one in kept}
    places = seal(classes, groups, shares=plan.split, folds=plan.folds, seed=plan.seed, own=own)
    manifest = []
    for one, look in zip(kept, decoded, strict=True):
        row, place = one.row, places[one.row.image_id]
        home = SEALED_IMAGES if place.split == "test" else "images"
        manifest.append(
            Row(
                image_id=row.image_id,
                uri=content_key(home, row.content_sha256),
                content_sha256=row.content_sha256,
                pixel_sha256=look.pixel_sha256,
                class_name=row.class_name,
                split=place.split,
                fold=place.fold,
                subject_id=ids.name(plan.dataset, row.subject, image_id=row.image_id),
                group_id=place.group_id,
                attributes=dict(row.attributes or {}),
            )
        )
    return manifest, pairs


def _decoded(looks: dict[str, Look], one: Kept) -> Decoded:
    look = looks[one.row.content_sha256]
    if not isinstance(look, Decoded):
        raise Internal(f"image {one.row.image_id} was kept and cannot be used")
    return look


def _write(plan: Plan, source: str, manifest: Sequence[Row], kept: Sequence[Kept], store: Store) -> Iterator[Progress]:
    """Write manifests, then images: a broken import's images are named, so that `delete` and gc know them."""
    claim(store, plan.dataset, source)
    sealed = [row for row in manifest if row.split == "test"]
    learnt = [row for row in manifest if row.split != "test"]
    store.put_new(origins_key(plan.dataset), _origins(kept))
    store.put_new(sealed_rows_key(plan.dataset), encode(to_table(sealed)))
    store.put_new(rows_key(plan.dataset, "real"), encode(to_table(learnt)))
    with ThreadPoolExecutor(_WRITERS, thread_name_prefix="import") as pool:
        for done, _ in enumerate(pool.map(lambda row: _place(row, store), manifest), start=1):
            if done % _STEP == 0:
                yield Progress("sealing", done, len(manifest))
    write_version(store, plan.dataset, "real", learnt, shortfall={})


def _place(row: Row, store: Store) -> None:
    if not store.exists(row.uri):
        store.put_new(row.uri, read_content(store, row.content_sha256))


def _origins(kept: Sequence[Kept]) -> bytes:
    """Parquet of what identifies people: image_id, source_name, subject, row."""
    table = pa.table(
        {
            "image_id": pa.array([one.row.image_id for one in kept], pa.string()),
            "source_name": pa.array([one.row.source_name for one in kept], pa.string()),
            "subject": pa.array([one.row.subject for one in kept], pa.string()),
            "row": pa.array([one.number for one in kept], pa.int64()),
        }
    )
    sink = io.BytesIO()
    pq.write_table(table, sink, compression="zstd")
    return sink.getvalue()


def _record(
    plan: Plan,
    manifest: Sequence[Row],
    looks: dict[str, Look],
    dropped: Sequence[Dropped],
    pairs: Sequence[NearPair],
) -> dict[str, Any]:
    decoded = [look for row in manifest if isinstance(look := looks[row.content_sha256], Decoded)]
    return dataset_record(
        plan.dataset,
        manifest,
        format=plan.format,
        seed=plan.seed,
        split=plan.split,
        folds=plan.folds,
        dropped=dropped,
        near_duplicates=[
            near_duplicate(manifest[pair.first].image_id, manifest[pair.second].image_id, pair.correlation)
            for pair in pairs
        ],
        sides=[look.side for look in decoded],
        channels=1 if all(look.grey for look in decoded) else 3,
    )


def _remove_staged(rows: Sequence[SourceRow], store: Store) -> None:
    keys = {content_key(STAGED, row.content_sha256) for row in rows}
    with ThreadPoolExecutor(_WRITERS, thread_name_prefix="import") as pool:
        list(pool.map(store.delete, keys))
