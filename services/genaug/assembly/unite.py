"""Uniting sealed datasets: every image keeps its side, and no photograph lies on two."""

from __future__ import annotations

import dataclasses
import io
import time
from collections import Counter, defaultdict
from collections.abc import Generator, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from genaug.assembly.datasets import (
    REAL,
    Json,
    dataset_key,
    delete_dataset,
    get_dataset,
    origins_key,
    read_json_or_none,
    rows_key,
    sealed_rows_key,
    write_version,
)
from genaug.assembly.duplicates import Thumbnail, near_pairs, thumbnail
from genaug.assembly.record import claim, dataset_record, near_duplicate
from genaug.assembly.seal import SIDES, join
from genaug.assembly.sift import MAX_DROPPED, Dropped
from genaug.assembly.source import Progress
from genaug.assembly.subjects import SubjectIds
from genaug.schema.common import provenance
from genaug.shared.digests import digest_of
from genaug.shared.errors import AlreadyExists, FailedPrecondition, InvalidArgument, NotFound
from genaug.shared.manifest import Row, encode, read_rows, to_table
from genaug.shared.names import check_id
from genaug.shared.seal_log import record_opening
from genaug.shared.store import Store
from genaug.vision.images.pixels import decode

RECIPE = "unite/1"

_MOST = 100
_READERS = 4
_STEP = 200


@dataclass(frozen=True)
class Member:
    """A row of one of the datasets."""

    dataset: str
    row: Row

    @property
    def group(self) -> str:
        """Its group of subjects, apart from those of other datasets."""
        return f"{self.dataset}/{self.row.group_id}"


@dataclass(frozen=True)
class Picture:
    """What an image looks like."""

    side: int
    """The shorter one, pixels."""
    thumbnail: Thumbnail


def unite_datasets(dataset: str, parents: Sequence[str], store: Store) -> Iterator[Progress | Json]:
    """Unite sealed datasets as `dataset`; yield progress and, last, the dataset (the message `Dataset` as JSON).

    Images with the same content are one. Groups of subjects that share a photograph across datasets are joined; where
    they lie on different sides, the rows on the most protected one (test, then validation) stay and the others are
    dropped by name. The order of `parents` means nothing. Sealed images are looked at for this, which is recorded.

    Args:
        dataset: Id of the union.
        parents: Ids of the datasets, two or more, with the same channels, folds and names of attributes.

    Raises:
        NotFound: a dataset is not there.
        InvalidArgument: there are fewer than two or one comes twice, or their schemas differ.
        AlreadyExists: a dataset of this name has other content.
        FailedPrecondition: another import under this name was broken off, a parent was deleted meanwhile, or more
            than 5,000 rows would be dropped.
    """
    start = time.monotonic()
    parents = _check_parents(dataset, parents)
    existing = read_json_or_none(store, dataset_key(dataset))
    if existing is not None and [one["name"] for one in existing.get("parents", ())] == _names(parents):
        if not all(_is_same(store, parent) for parent in existing["parents"]):
            raise _exists(dataset)
        yield existing
        return
    if existing is not None:
        raise _exists(dataset)
    records = {parent: get_dataset(store, parent) for parent in parents}
    members = {parent: _read_members(store, parent) for parent in parents}
    _check_schemas(records, members)
    everyone = [member for parent in parents for member in members[parent]]
    pictures = yield from _look(everyone, store)
    yield Progress("grouping", 0, len(everyone))
    kept, dropped, pairs = sort_out(everyone, pictures)
    manifest = _rows(dataset, kept, SubjectIds(store))
    origin = [{"name": records[parent]["name"], "digest": records[parent]["digest"]} for parent in parents]
    yield Progress("writing", 0, len(manifest))
    _write(dataset, parents, digest_of(RECIPE, {"parents": origin}), manifest, kept, store)
    ids = {row.image_id for row in manifest}
    known = [pair for parent in parents for pair in records[parent].get("near_duplicates", ())]
    near = [pair for pair in [*pairs, *known] if {pair["image_id"], pair["other_image_id"]} <= ids]
    record = dataset_record(
        dataset,
        manifest,
        format="union",
        seed=0,
        split=[sum(row.split == side for row in manifest) / len(manifest) for side in SIDES],
        folds=records[parents[0]]["folds"],
        dropped=dropped,
        near_duplicates=near,
        sides=[pictures[row.image_id].side for row in manifest],
        channels=records[parents[0]]["channels"],
    )
    record |= {"parents": origin, "provenance": provenance(RECIPE, seconds=time.monotonic() - start)}
    # The last object: whoever finds it finds all.
    store.put_new_json(dataset_key(dataset), record)
    yield store.get_json(dataset_key(dataset))


def sort_out(
    everyone: Sequence[Member], pictures: Mapping[str, Picture]
) -> tuple[list[Member], list[Dropped], list[Json]]:
    """What stays, with its new group and fold; what is dropped; near-identical pairs across datasets.

    Raises:
        FailedPrecondition: more than `MAX_DROPPED` rows are dropped, or a side is left empty.
    """
    copies: dict[str, list[int]] = defaultdict(list)
    for number, member in enumerate(everyone):
        copies[member.row.image_id].append(number)
    near = _near(everyone, pictures)
    groups = join(
        {image: [everyone[n].group for n in numbers] for image, numbers in copies.items()},
        [(pair["image_id"], pair["other_image_id"]) for pair in near],
    )
    best: dict[str, int] = defaultdict(int)
    for member in everyone:
        group = groups[member.row.image_id]
        best[group] = max(best[group], SIDES.index(member.row.split))
    folds: dict[str, int] = {}
    kept: list[Member] = []
    dropped: list[Dropped] = []
    for image, numbers in sorted(copies.items()):
        side = SIDES[best[groups[image]]]
        contradict = len({everyone[n].row.class_name for n in numbers}) > 1
        stay = [n for n in numbers if everyone[n].row.split == side and not contradict][:1]
        dropped += [
            Dropped(image, "DUPLICATE", _why(everyone[n], side, contradict=contradict), n)
            for n in numbers
            if n not in stay
        ]
        for n in stay:
            row = everyone[n].row
            # One fold per group: that of its first image.
            fold = folds.setdefault(groups[image], row.fold)
            new = dataclasses.replace(row, group_id=groups[image], fold=fold)
            kept.append(Member(everyone[n].dataset, new))
    _check_rest(kept, dropped)
    return kept, sorted(dropped, key=lambda one: one.row), near


def _why(member: Member, side: str, *, contradict: bool) -> str:
    if contradict:
        return f"in datasets/{member.dataset}: the same content has another class in another dataset; none is kept"
    if member.row.split == side:
        return f"in datasets/{member.dataset}: the same content as an image of another dataset"
    return (
        f"in datasets/{member.dataset}, {member.row.split}: its subjects share a photograph with another dataset's "
        f"{side} side"
    )


def _near(everyone: Sequence[Member], pictures: Mapping[str, Picture]) -> list[Json]:
    """Near-identical images of different datasets; those within one are joined already."""
    thumbnails = np.stack([pictures[member.row.image_id].thumbnail for member in everyone])
    found = near_pairs(thumbnails, [member.dataset for member in everyone])
    pairs = [(everyone[p.first].row.image_id, everyone[p.second].row.image_id, p.correlation) for p in found]
    return [near_duplicate(*pair) for pair in pairs if pair[0] != pair[1]]


def _check_rest(kept: Sequence[Member], dropped: Sequence[Dropped]) -> None:
    if len(dropped) > MAX_DROPPED:
        raise FailedPrecondition(
            f"{len(dropped)} rows lie in two of the datasets, on different sides or with different classes, more than "
            f"{MAX_DROPPED}; import their images as one dataset instead",
            reason="TOO_MANY_DROPPED",
        )
    sides = Counter(member.row.split for member in kept)
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
    if not 2 <= len(parents) <= _MOST:
        raise InvalidArgument(f"datasets: {len(parents)} of them; name 2 to {_MOST}", reason="TOO_FEW_DATASETS")
    twice = [parent for parent, count in Counter(parents).items() if count > 1]
    if twice:
        raise InvalidArgument(f"datasets: datasets/{twice[0]} is named twice", reason="DATASET_TWICE")
    if dataset in parents:
        raise InvalidArgument(f"name: datasets/{dataset} cannot be part of itself", reason="DATASET_TWICE")
    return sorted(parents)


def _is_same(store: Store, parent: Json) -> bool:
    """Whether a parent is as it was, or is there no longer: the union does not need it."""
    found = read_json_or_none(store, dataset_key(parent["name"].removeprefix("datasets/")))
    return found is None or bool(found["digest"] == parent["digest"])


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


def _check_schemas(records: Mapping[str, Json], members: Mapping[str, Sequence[Member]]) -> None:
    """Refuse datasets whose rows would not mean the same; the first one sets the measure."""
    first, *others = records
    facts = {
        parent: {
            "channels": record["channels"],
            "folds": record["folds"],
            "attributes": sorted({name for member in members[parent] for name in member.row.attributes}),
        }
        for parent, record in records.items()
    }
    for other in others:
        for field, value in facts[first].items():
            if facts[other][field] != value:
                raise InvalidArgument(
                    f"{field}: datasets/{first} has {_said(value)} and datasets/{other} {_said(facts[other][field])}; "
                    "import them alike, then unite them",
                    reason="SCHEMA_MISMATCH",
                    field=field,
                )


def _said(value: object) -> str:
    return (", ".join(value) or "none") if isinstance(value, list) else str(value)


def _look(everyone: Sequence[Member], store: Store) -> Generator[Progress, None, dict[str, Picture]]:
    """Look at each image once; yield progress, and return what was seen by image id."""
    uris = {member.row.image_id: member.row.uri for member in everyone}
    found: dict[str, Picture] = {}
    with ThreadPoolExecutor(_READERS, thread_name_prefix="unite") as pool:
        for image, picture in zip(uris, pool.map(lambda uri: _picture(store, uri), uris.values()), strict=True):
            found[image] = picture
            if len(found) % _STEP == 0:
                yield Progress("comparing", len(found), len(uris))
    return found


def _picture(store: Store, uri: str) -> Picture:
    pixels = decode(store.get(uri))
    return Picture(min(pixels.shape[:2]), thumbnail(pixels))


def _rows(dataset: str, kept: Sequence[Member], ids: SubjectIds) -> list[Row]:
    """The union's rows; subjects are named anew, apart by dataset."""
    return [
        dataclasses.replace(
            member.row,
            subject_id=ids.name(dataset, f"{member.dataset}\0{member.row.subject_id}", image_id=member.row.image_id),
        )
        for member in kept
    ]


def _write(
    dataset: str, parents: Sequence[str], source: str, manifest: Sequence[Row], kept: Sequence[Member], store: Store
) -> None:
    """Write manifests alone: images stay where the parents' rows say, and are named from here on.

    Raises:
        FailedPrecondition: a parent was deleted before the manifests were there to keep its images.
    """
    try:
        origins = _origins(kept, store)
    except NotFound:
        raise _deleted(_gone(parents, store)) from None
    claim(store, dataset, source)
    sealed = [row for row in manifest if row.split == "test"]
    learnt = [row for row in manifest if row.split != "test"]
    store.put_new(origins_key(dataset), origins)
    store.put_new(sealed_rows_key(dataset), encode(to_table(sealed)))
    store.put_new(rows_key(dataset, REAL), encode(to_table(learnt)))
    # Deletion takes the record away first and looks at the manifests then: who still has a record has all images.
    gone = _gone(parents, store)
    if gone:
        delete_dataset(store, dataset)
        raise _deleted(gone)
    write_version(store, dataset, REAL, learnt, shortfall={})


def _gone(parents: Sequence[str], store: Store) -> list[str]:
    return [parent for parent in parents if not store.exists(dataset_key(parent))]


def _deleted(gone: Sequence[str]) -> FailedPrecondition:
    names = ", ".join(_names(gone)) or "a dataset"
    return FailedPrecondition(f"{names} was deleted meanwhile; nothing was written", reason="DATASET_DELETED")


def _origins(kept: Sequence[Member], store: Store) -> bytes:
    """Parquet of what identifies people: image_id, source_name, subject (with its dataset), row (in its dataset)."""
    wanted = {(member.dataset, member.row.image_id) for member in kept}
    lines = []
    for dataset in sorted({member.dataset for member in kept}):
        for line in pq.read_table(io.BytesIO(store.get(origins_key(dataset)))).to_pylist():
            if (dataset, line["image_id"]) in wanted:
                lines.append(line | {"subject": f"{dataset}/{line['subject']}"})
    names = [("image_id", pa.string()), ("source_name", pa.string()), ("subject", pa.string()), ("row", pa.int64())]
    sink = io.BytesIO()
    pq.write_table(pa.Table.from_pylist(lines, pa.schema(names)), sink, compression="zstd")
    return sink.getvalue()
