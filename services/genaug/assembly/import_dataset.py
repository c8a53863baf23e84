"""Import of a dataset: upload, decode, deduplicate, group, seal, write. The same import again finishes a killed one."""

from __future__ import annotations

import time
from collections.abc import Generator, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import pyarrow as pa

from genaug.assembly.datasets import (
    REAL,
    SEALED_IMAGES,
    dataset_key,
    get_dataset,
    original_of,
    origins_key,
    read_or_none,
    rows_key,
    sealed_rows_key,
    source_key,
    write_version,
)
from genaug.assembly.deduplicate import UniqueRow, deduplicate, settle_own_split
from genaug.assembly.duplicates import joined_note, near_pairs
from genaug.assembly.import_plan import RECIPE, SourceRow, progress, source_digest
from genaug.assembly.pseudonyms import Pseudonyms
from genaug.assembly.record import SourceClaim, claim, complete_record, near_duplicate
from genaug.assembly.seal import check_classes, join, seal
from genaug.assembly.upload_decoder import (
    STAGED,
    DecodedImage,
    UploadDecoder,
    content_key,
    read_content,
)
from genaug.schema.common import Progress, provenance
from genaug.schema.datasets import Dataset, DroppedImage, NearDuplicate, PassedOver
from genaug.schema.run import ImportSpec, NearDuplicates
from genaug.shared.errors import AlreadyExists, FailedPrecondition
from genaug.shared.manifest import Row, Split, encode, to_table
from genaug.shared.store import Store

Upload = tuple[SourceRow, bytes]
"""A row and its content, which is empty when the store holds it."""

_WRITERS = 8
_STEP = 200


@dataclass(frozen=True)
class SealedImport:
    """An import in memory, before anything of it is written."""

    record: Dataset
    """Record of the dataset, without provenance."""
    manifest: list[Row]
    """All rows, sealed ones included."""
    unique: list[UniqueRow]
    """The source's rows of the manifest, in the same order."""
    images: list[DecodedImage]
    """Images of the manifest, in the same order."""


def import_dataset(
    dataset: str,
    spec: ImportSpec,
    batches: Iterable[Sequence[Upload]],
    store: Store,
    *,
    passed_over: Sequence[PassedOver] = (),
) -> Iterator[Progress | Dataset]:
    """Import the uploads; yield progress and, last, the dataset.

    Args:
        dataset: Id of the dataset.
        spec: Format and split; the fields that the client's importer reads mean nothing here.
        batches: Rows with their contents.
        store: The store, as "assembly".
        passed_over: Files that the client's importer did not read, for the record.

    Raises:
        AlreadyExists: a dataset of this name has other content or options.
        InvalidArgument: a content has another digest than its row, no image is usable, or the user's own split leaks.
        FailedPrecondition: a content is neither sent nor held, there are too few subjects, or an import of other
            content under this name is unfinished.
    """
    start = time.monotonic()
    exists = store.exists(dataset_key(dataset))
    with UploadDecoder(store) as decoder:
        # An existing dataset is compared by its source digest, without decoding.
        rows = yield from receive(spec, batches, None if exists else decoder)
    source = source_digest(spec, rows)
    if exists:
        _check_same(store, dataset, source)
        yield get_dataset(store, dataset)
        return
    yield progress("grouping", 0, len(rows))
    sealed = seal_import(dataset, spec, rows, decoder, Pseudonyms(store), passed_over=passed_over)
    yield from _write(dataset, source, sealed.manifest, sealed.unique, store)
    made = provenance(RECIPE, seconds=time.monotonic() - start)
    record = sealed.record.model_copy(update={"provenance": made})
    # The record is written last, so that a dataset with a record is complete.
    store.put_new_json(dataset_key(dataset), record.json_value())
    rendered = (image.rendered_sha256 for image in decoder.results.values() if isinstance(image, DecodedImage))
    _remove_staged([*(row.content_sha256 for row in rows), *filter(None, rendered)], store)
    yield get_dataset(store, dataset)


def receive(
    spec: ImportSpec, batches: Iterable[Sequence[Upload]], decoder: UploadDecoder | None
) -> Generator[Progress, None, list[SourceRow]]:
    """Receive the uploads, and decode them if there is a decoder; yield progress, and return the rows."""
    rows: list[SourceRow] = []
    for batch in batches:
        for row, content in batch:
            rows.append(row)
            if decoder:
                decoder.submit(row, content)
        yield progress("receiving", len(rows), 0)
    if decoder is None:
        return rows
    contents = len({row.content_sha256 for row in rows})
    for done in decoder.finish():
        if done % _STEP == 0:
            yield progress("decoding", done, contents)
    for done in decoder.render(bits=spec.bits, window=spec.window):
        if done % _STEP == 0:
            yield progress("rendering", done, contents)
    return rows


def seal_import(
    dataset: str,
    spec: ImportSpec,
    rows: Sequence[SourceRow],
    decoder: UploadDecoder,
    pseudonyms: Pseudonyms,
    *,
    passed_over: Sequence[PassedOver] = (),
) -> SealedImport:
    """Deduplicate, group and split the rows. Nothing is written.

    Args:
        dataset: Id of the dataset.
        spec: Format and split.
        rows: All rows of the source.
        decoder: Has decoded the contents of all rows.
        pseudonyms: Pseudonyms of the subjects.
        passed_over: Files that the client's importer did not read, for the record.

    Raises:
        InvalidArgument: no image is usable, or the user's own split leaks.
        FailedPrecondition: there are too few subjects.
    """
    unique, dropped = deduplicate(rows, decoder.results, on_conflict=spec.on_conflict)
    decoded = {key: image for key, image in decoder.results.items() if isinstance(image, DecodedImage)}
    sealed = _seal(dataset, spec, rows, unique, decoded, pseudonyms)
    images = [decoded[entry.row.content_sha256] for entry in sealed.unique]
    record = Dataset(
        name=f"datasets/{dataset}",
        format=spec.format,
        seed=spec.seed,
        split=spec.split,
        folds=spec.folds,
        dropped=tuple(sorted([*dropped, *sealed.dropped], key=lambda image: image.row)),
        near_duplicates=tuple(sealed.near_duplicates),
        channels=1 if all(image.grey for image in images) else 3,
        own_split=any(row.split for row in rows),
        window=decoder.window,
        passed_over=tuple(passed_over),
        notes=(*decoder.notes, *sealed.notes, *_subject_notes(rows)),
    )
    record = complete_record(record, sealed.manifest, sides=[image.side for image in images])
    return SealedImport(record, sealed.manifest, sealed.unique, images)


def _subject_notes(rows: Iterable[SourceRow]) -> Iterator[str]:
    if not any(row.subject for row in rows):
        yield (
            "the source names no subjects: each image is its own, so that images of one patient may be on two sides of "
            "the split"
        )


def _check_same(store: Store, dataset: str, source: str) -> None:
    claimed = read_or_none(store, source_key(dataset), SourceClaim)
    if claimed is None or claimed.source != source:
        raise AlreadyExists(
            f"datasets/{dataset} exists with other images, classes, subjects or options (split, folds, seed); "
            "import under another name, or delete it first",
            reason="DATASET_EXISTS",
            dataset=dataset,
        )


@dataclass(frozen=True)
class _Sealed:
    """Rows with their places, and remarks for the record."""

    manifest: list[Row]
    unique: list[UniqueRow]
    """The source's rows of the manifest, in its order."""
    near_duplicates: list[NearDuplicate]
    dropped: list[DroppedImage]
    notes: list[str]


def _seal(
    dataset: str,
    spec: ImportSpec,
    rows: Sequence[SourceRow],
    unique: Sequence[UniqueRow],
    decoded: Mapping[str, DecodedImage],
    pseudonyms: Pseudonyms,
) -> _Sealed:
    """Join subjects that share a photograph, settle the user's own split or make one, and write manifest rows."""
    near: list[NearDuplicate] = []
    if spec.near_duplicates != NearDuplicates.OFF:
        found = near_pairs(
            [decoded[entry.row.content_sha256].fingerprint for entry in unique], [entry.row.subject for entry in unique]
        )
        ids = [entry.row.image_id for entry in unique]
        near = [near_duplicate(ids[pair.first], ids[pair.second], pair.correlation) for pair in found]
    joined = near if spec.near_duplicates == NearDuplicates.JOIN else []
    pairs = [(pair.image_id, pair.other_image_id) for pair in joined]
    groups = join({entry.row.image_id: entry.subjects for entry in unique}, pairs)
    note = joined_note(pairs, groups)
    own: dict[str, Split] | None = None
    dropped: list[DroppedImage] = []
    kept = list(unique)
    if any(row.split for row in rows):
        kept, dropped = settle_own_split(rows, unique, groups, pairs, spec.on_conflict)
        own = {entry.row.image_id: entry.row.split for entry in kept if entry.row.split}
    sources = [entry.row for entry in kept]
    classes = {row.image_id: row.class_name for row in sources}
    groups = {image: groups[image] for image in classes}
    try:
        places = seal(classes, groups, shares=spec.split, folds=spec.folds, seed=spec.seed, own=own)
        check_classes(classes, places)
    except FailedPrecondition as error:
        # Joining near-duplicates reduces the number of separate subjects, so the note on it belongs to this error.
        raise FailedPrecondition(f"{error.message}. {note}" if note else error.message, reason=error.reason) from None
    manifest = []
    for row in sources:
        place = places[row.image_id]
        home = SEALED_IMAGES if place.split == "test" else "images"
        image = decoded[row.content_sha256]
        content = image.rendered_sha256 or row.content_sha256
        manifest.append(
            Row(
                image_id=row.image_id,
                uri=content_key(home, content),
                content_sha256=content,
                pixel_sha256=image.pixel_sha256,
                class_name=row.class_name,
                split=place.split,
                fold=place.fold,
                subject_id=pseudonyms.of(dataset, row.subject, image_id=row.image_id),
                group_id=place.group_id,
                attributes=dict(row.attributes or {}),
            )
        )
    near = [pair for pair in near if pair.image_id in places and pair.other_image_id in places]
    return _Sealed(manifest, kept, near, dropped, [note] if note else [])


def _write(
    dataset: str, source: str, manifest: Sequence[Row], unique: Sequence[UniqueRow], store: Store
) -> Iterator[Progress]:
    """Write manifests, then images: `delete` and gc find an unfinished import's images by its manifests."""
    claim(store, dataset, source)
    sealed = [row for row in manifest if row.split == "test"]
    open_rows = [row for row in manifest if row.split != "test"]
    store.put_new(origins_key(dataset), _origins(unique))
    store.put_new(sealed_rows_key(dataset), encode(to_table(sealed)))
    store.put_new(rows_key(dataset, REAL), encode(to_table(open_rows)))
    with ThreadPoolExecutor(_WRITERS, thread_name_prefix="import") as pool:
        for done, _ in enumerate(pool.map(lambda row, entry: _copy(row, entry.row, store), manifest, unique), 1):
            if done % _STEP == 0:
                yield progress("sealing", done, len(manifest))
    write_version(store, dataset, REAL, open_rows, shortfall={})


def _copy(row: Row, source: SourceRow, store: Store) -> None:
    """Write a row's image, and the deep one that it was rendered from."""
    places = [(row.uri, row.content_sha256), (original_of(row), source.content_sha256)]
    for key, content in places:
        if key and not store.exists(key):
            store.put_new(key, read_content(store, content))


def _origins(unique: Sequence[UniqueRow]) -> bytes:
    """Parquet of the fields that identify people: image_id, source_name, subject, row."""
    table = pa.table(
        {
            "image_id": pa.array([entry.row.image_id for entry in unique], pa.string()),
            "source_name": pa.array([entry.row.source_name for entry in unique], pa.string()),
            "subject": pa.array([entry.row.subject for entry in unique], pa.string()),
            "row": pa.array([entry.number for entry in unique], pa.int64()),
        }
    )
    return encode(table)


def _remove_staged(contents: Iterable[str], store: Store) -> None:
    keys = {content_key(STAGED, content) for content in contents}
    with ThreadPoolExecutor(_WRITERS, thread_name_prefix="import") as pool:
        list(pool.map(store.delete, keys))
