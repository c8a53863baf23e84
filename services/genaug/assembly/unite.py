"""Union of sealed datasets: every image keeps its side, and no photograph lies on two."""

from __future__ import annotations

import dataclasses
import time
from collections import Counter, defaultdict
from collections.abc import Generator, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import pyarrow as pa

from genaug.assembly.datasets import (
    REAL,
    dataset_key,
    delete_dataset,
    get_dataset,
    origins_key,
    read_or_none,
    rows_key,
    sealed_rows_key,
    write_version,
)
from genaug.assembly.deduplicate import MAX_DROPPED
from genaug.assembly.duplicates import near_pairs
from genaug.assembly.fingerprints import Fingerprint, fingerprint
from genaug.assembly.import_plan import progress
from genaug.assembly.pseudonyms import Pseudonyms
from genaug.assembly.record import claim, complete_record, near_duplicate
from genaug.assembly.seal import SIDES, join
from genaug.schema.common import Progress, provenance
from genaug.schema.datasets import Dataset, DroppedImage, NearDuplicate
from genaug.schema.model import Model
from genaug.shared.digests import digest_of
from genaug.shared.errors import AlreadyExists, FailedPrecondition, InvalidArgument, NotFound
from genaug.shared.manifest import Row, encode, read_rows, read_table, to_table
from genaug.shared.names import check_id
from genaug.shared.seal_log import record_opening
from genaug.shared.store import Store
from genaug.vision.images.pixels import with_pixels

RECIPE = "unite/1"

_MOST_PARENTS = 100
_READERS = 4
_STEP = 200
_ORIGINS = pa.schema(
    [("image_id", pa.string()), ("source_name", pa.string()), ("subject", pa.string()), ("row", pa.int64())]
)


class Parent(Model):
    """A dataset of a union, as it was when they were united."""

    name: str
    digest: str


class UnionRecord(Dataset):
    """Record of a union in the store."""

    parents: tuple[Parent, ...] = ()


@dataclass(frozen=True)
class Member:
    """A row of one of the datasets."""

    dataset: str
    row: Row

    @property
    def group(self) -> str:
        """Its group of subjects, distinct from groups of other datasets."""
        return f"{self.dataset}/{self.row.group_id}"


@dataclass(frozen=True)
class ImageSummary:
    """Size and fingerprint of an image."""

    side: int
    """Shorter side, pixels."""
    fingerprint: Fingerprint


def unite_datasets(dataset: str, parents: Sequence[str], store: Store) -> Iterator[Progress | Dataset]:
    """Unite sealed datasets as `dataset`; yield progress and, last, the dataset.

    Images with the same content are one. Groups of subjects that share a photograph across datasets are joined; where
    they lie on different sides, the rows on the most protected one (test, then validation) stay and the others are
    dropped by name. The order of `parents` means nothing. Reading the sealed images is recorded.

    Args:
        dataset: Id of the union.
        parents: Ids of the datasets, two or more, with the same channels, folds and names of attributes.
        store: The store, as "assembly".

    Raises:
        NotFound: a dataset is not there.
        InvalidArgument: there are fewer than two or one comes twice, or their schemas differ.
        AlreadyExists: a dataset of this name has other content.
        FailedPrecondition: another import under this name is unfinished, a parent was deleted meanwhile, or more than
            5,000 rows would be dropped.
    """
    start = time.monotonic()
    parents = _check_parents(dataset, parents)
    existing = read_or_none(store, dataset_key(dataset), UnionRecord)
    if existing is not None:
        if [parent.name for parent in existing.parents] != _names(parents) or not all(
            _is_unchanged(store, parent) for parent in existing.parents
        ):
            raise _exists(dataset)
        yield get_dataset(store, dataset)
        return
    records = {parent: get_dataset(store, parent) for parent in parents}
    members_of = {parent: _read_members(store, parent) for parent in parents}
    _check_schemas(records, members_of)
    members = [member for parent in parents for member in members_of[parent]]
    summaries = yield from _summarize(members, store)
    yield progress("grouping", 0, len(members))
    united, dropped, pairs = resolve(members, summaries)
    manifest = _rows(dataset, united, Pseudonyms(store))
    origin = tuple(Parent(name=records[parent].name, digest=records[parent].digest) for parent in parents)
    yield progress("writing", 0, len(manifest))
    source = digest_of(RECIPE, {"parents": [parent.json_value() for parent in origin]})
    _write(dataset, parents, source, manifest, united, store)
    ids = {row.image_id for row in manifest}
    near = [*pairs, *(pair for parent in parents for pair in records[parent].near_duplicates)]
    record = UnionRecord(
        name=f"datasets/{dataset}",
        format="union",
        split=tuple(sum(row.split == side for row in manifest) / len(manifest) for side in SIDES),
        folds=records[parents[0]].folds,
        dropped=tuple(dropped),
        near_duplicates=tuple(pair for pair in near if {pair.image_id, pair.other_image_id} <= ids),
        channels=records[parents[0]].channels,
        window=next((record.window for record in records.values() if record.window), None),
        own_split=True,
        parents=origin,
        provenance=provenance(RECIPE, seconds=time.monotonic() - start),
    )
    record = complete_record(record, manifest, sides=[summaries[row.image_id].side for row in manifest])
    # The record is written last, so that a dataset with a record is complete.
    store.put_new_json(dataset_key(dataset), record.json_value())
    yield get_dataset(store, dataset)


def resolve(
    members: Sequence[Member], summaries: Mapping[str, ImageSummary]
) -> tuple[list[Member], list[DroppedImage], list[NearDuplicate]]:
    """Return the union's rows with new groups and folds, the dropped ones, and near-identical pairs across datasets.

    Raises:
        FailedPrecondition: more than `MAX_DROPPED` rows are dropped, or a side is left empty.
    """
    copies: dict[str, list[int]] = defaultdict(list)
    for number, member in enumerate(members):
        copies[member.row.image_id].append(number)
    near = _near(members, summaries)
    groups = join(
        {image: [members[n].group for n in numbers] for image, numbers in copies.items()},
        [(pair.image_id, pair.other_image_id) for pair in near],
    )
    # Index of the most protected side that a group has images on: SIDES ends with test.
    protected: dict[str, int] = defaultdict(int)
    for member in members:
        group = groups[member.row.image_id]
        protected[group] = max(protected[group], SIDES.index(member.row.split))
    folds: dict[str, int] = {}
    united: list[Member] = []
    dropped: list[DroppedImage] = []
    for image, numbers in sorted(copies.items()):
        side = SIDES[protected[groups[image]]]
        contradict = len({members[n].row.class_name for n in numbers}) > 1
        chosen = [n for n in numbers if members[n].row.split == side and not contradict][:1]
        for n in numbers:
            if n not in chosen:
                detail = _why_dropped(members[n], side, contradict=contradict)
                name = members[n].row.class_name
                dropped.append(DroppedImage(image_id=image, reason="DUPLICATE", detail=detail, row=n, class_name=name))
        for n in chosen:
            row = members[n].row
            # A joined group takes the fold of its first image.
            fold = folds.setdefault(groups[image], row.fold)
            united.append(Member(members[n].dataset, dataclasses.replace(row, group_id=groups[image], fold=fold)))
    _check_rest(united, dropped)
    return united, sorted(dropped, key=lambda entry: entry.row), near


def _why_dropped(member: Member, side: str, *, contradict: bool) -> str:
    if contradict:
        return f"in datasets/{member.dataset}: the same content has another class in another dataset; none is kept"
    if member.row.split == side:
        return f"in datasets/{member.dataset}: the same content as an image of another dataset"
    return (
        f"in datasets/{member.dataset}, {member.row.split}: its subjects share a photograph with another dataset's "
        f"{side} side"
    )


def _near(members: Sequence[Member], summaries: Mapping[str, ImageSummary]) -> list[NearDuplicate]:
    """Near-identical images of different datasets; pairs within a dataset are in one group already."""
    ids = [member.row.image_id for member in members]
    pairs = near_pairs([summaries[image].fingerprint for image in ids], [member.dataset for member in members])
    return [near_duplicate(ids[p.first], ids[p.second], p.correlation) for p in pairs if ids[p.first] != ids[p.second]]


def _check_rest(united: Sequence[Member], dropped: Sequence[DroppedImage]) -> None:
    if len(dropped) > MAX_DROPPED:
        raise FailedPrecondition(
            f"{len(dropped)} rows lie in two of the datasets, on different sides or with different classes, more than "
            f"{MAX_DROPPED}; import their images as one dataset instead",
            reason="TOO_MANY_DROPPED",
        )
    sides = Counter(member.row.split for member in united)
    empty = [side for side in SIDES if not sides[side]]
    if empty:
        raise FailedPrecondition(
            f"no rows would be left in {', '.join(empty)}: the datasets share most photographs; import their images "
            "as one dataset instead",
            reason="EMPTY_SIDE",
        )


def _names(parents: Sequence[str]) -> list[str]:
    return [f"datasets/{parent}" for parent in parents]


def _check_parents(dataset: str, parents: Sequence[str]) -> list[str]:
    check_id(dataset, field="name")
    if not 2 <= len(parents) <= _MOST_PARENTS:
        raise InvalidArgument(f"datasets: {len(parents)} of them; name 2 to {_MOST_PARENTS}", reason="TOO_FEW_DATASETS")
    twice = [parent for parent, count in Counter(parents).items() if count > 1]
    if twice:
        raise InvalidArgument(f"datasets: datasets/{twice[0]} is named twice", reason="DATASET_TWICE")
    if dataset in parents:
        raise InvalidArgument(f"name: datasets/{dataset} cannot be part of itself", reason="DATASET_TWICE")
    return sorted(parents)


def _is_unchanged(store: Store, parent: Parent) -> bool:
    """Return whether a parent has the same digest, or was deleted: the union does not need it."""
    record = read_or_none(store, f"{parent.name}/dataset.json", Dataset)
    return record is None or record.digest == parent.digest


def _exists(dataset: str) -> AlreadyExists:
    return AlreadyExists(
        f"datasets/{dataset} exists with other content; unite under another name, or delete it first",
        reason="DATASET_EXISTS",
        dataset=dataset,
    )


def _read_members(store: Store, dataset: str) -> list[Member]:
    record_opening(store, f"datasets/{dataset}", purpose="UniteDatasets")
    rows = [*read_rows(store, rows_key(dataset, REAL)), *read_rows(store, sealed_rows_key(dataset))]
    return [Member(dataset, row) for row in sorted(rows, key=lambda row: row.image_id)]


def _check_schemas(records: Mapping[str, Dataset], members: Mapping[str, Sequence[Member]]) -> None:
    """Refuse datasets with rows of different meaning, by comparison with the first one."""
    first, *others = records
    schemas: dict[str, dict[str, object]] = {
        parent: {
            "channels": record.channels,
            "folds": record.folds,
            "attributes": ", ".join(sorted({name for member in members[parent] for name in member.row.attributes}))
            or "none",
        }
        for parent, record in records.items()
    }
    for other in others:
        for field, value in schemas[first].items():
            if schemas[other][field] != value:
                raise InvalidArgument(
                    f"{field}: datasets/{first} has {value} and datasets/{other} {schemas[other][field]}; "
                    "import them alike, then unite them",
                    reason="SCHEMA_MISMATCH",
                    field=field,
                )
    windows = {
        parent: f"{record.window.low:.10g} to {record.window.high:.10g}"
        for parent, record in records.items()
        if record.window
    }
    if len(set(windows.values())) > 1:
        texts = ", ".join(f"datasets/{parent} has {window}" for parent, window in windows.items())
        raise InvalidArgument(
            f"window: {texts}; import them with the same --window, then unite them",
            reason="SCHEMA_MISMATCH",
            field="window",
        )


def _summarize(members: Sequence[Member], store: Store) -> Generator[Progress, None, dict[str, ImageSummary]]:
    """Decode each image once; yield progress, and return the summaries by image id."""
    uris = {member.row.image_id: member.row.uri for member in members}
    summaries: dict[str, ImageSummary] = {}
    with ThreadPoolExecutor(_READERS, thread_name_prefix="unite") as pool:
        for image, summary in zip(uris, pool.map(lambda uri: _summary(store, uri), uris.values()), strict=True):
            summaries[image] = summary
            if len(summaries) % _STEP == 0:
                yield progress("comparing", len(summaries), len(uris))
    return summaries


def _summary(store: Store, uri: str) -> ImageSummary:
    return with_pixels(store.get(uri), lambda pixels: ImageSummary(min(pixels.shape[:2]), fingerprint(pixels)))


def _rows(dataset: str, united: Sequence[Member], pseudonyms: Pseudonyms) -> list[Row]:
    """Return the union's rows, with new pseudonyms that depend on the parent dataset."""
    return [
        dataclasses.replace(
            member.row,
            subject_id=pseudonyms.of(
                dataset, f"{member.dataset}\0{member.row.subject_id}", image_id=member.row.image_id
            ),
        )
        for member in united
    ]


def _write(
    dataset: str, parents: Sequence[str], source: str, manifest: Sequence[Row], united: Sequence[Member], store: Store
) -> None:
    """Write manifests alone; they name the parents' images, which are not copied.

    Raises:
        FailedPrecondition: a parent was deleted before the manifests were there to keep its images.
    """
    try:
        origins = _origins(united, store)
    except NotFound:
        raise _deleted_meanwhile(_missing(parents, store)) from None
    claim(store, dataset, source)
    sealed = [row for row in manifest if row.split == "test"]
    open_rows = [row for row in manifest if row.split != "test"]
    store.put_new(origins_key(dataset), origins)
    store.put_new(sealed_rows_key(dataset), encode(to_table(sealed)))
    store.put_new(rows_key(dataset, REAL), encode(to_table(open_rows)))
    # Deletion removes the record first and reads the manifests then: a parent with a record still has all its images.
    missing = _missing(parents, store)
    if missing:
        delete_dataset(store, dataset)
        raise _deleted_meanwhile(missing)
    write_version(store, dataset, REAL, open_rows, shortfall={})


def _missing(parents: Sequence[str], store: Store) -> list[str]:
    return [parent for parent in parents if not store.exists(dataset_key(parent))]


def _deleted_meanwhile(missing: Sequence[str]) -> FailedPrecondition:
    names = ", ".join(_names(missing)) or "a dataset"
    return FailedPrecondition(f"{names} was deleted meanwhile; nothing was written", reason="DATASET_DELETED")


def _origins(united: Sequence[Member], store: Store) -> bytes:
    """Parquet of the fields that identify people: image_id, source_name, subject (with its dataset), row."""
    pairs = {(member.dataset, member.row.image_id) for member in united}
    lines = []
    for dataset in sorted({member.dataset for member in united}):
        for line in read_table(store, origins_key(dataset)).to_pylist():
            if (dataset, line["image_id"]) in pairs:
                lines.append(line | {"subject": f"{dataset}/{line['subject']}"})
    return encode(pa.Table.from_pylist(lines, _ORIGINS))
