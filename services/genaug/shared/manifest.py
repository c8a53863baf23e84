"""Manifests: lists of image rows in Parquet, all with one schema.

Services pass manifests to each other; images stay in the store.
"""

from __future__ import annotations

import io
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, fields
from typing import Any, Literal

import pyarrow as pa
import pyarrow.parquet as pq

from genaug.shared.digests import canonical_json, sha256
from genaug.shared.errors import FailedPrecondition, InvalidArgument
from genaug.shared.store import Store, damaged

Split = Literal["train", "validation", "test"]
Source = Literal["real", "synthetic", "transformed"]
LabelVerdict = Literal["", "accepted", "disagrees", "unsure", "degenerate"]
MultiDisease = Literal["KEEP", "EXCLUDE", "PRIMARY"]

SCHEMA = pa.schema(
    [
        ("image_id", pa.string()),
        ("uri", pa.string()),
        ("content_sha256", pa.string()),
        ("pixel_sha256", pa.string()),
        ("class", pa.string()),
        ("split", pa.string()),
        ("fold", pa.int32()),
        ("source", pa.string()),
        ("subject_id", pa.string()),
        ("group_id", pa.string()),
        ("attributes", pa.map_(pa.string(), pa.string())),
        # synthetic and transformed images
        ("generator", pa.string()),
        ("prompt", pa.string()),
        ("seed", pa.int64()),
        ("index", pa.int64()),
        ("parent_ids", pa.list_(pa.string())),
        ("receipt", pa.string()),
        # from labeling
        ("label", pa.string()),
        ("probabilities", pa.map_(pa.string(), pa.float32())),
        ("label_verdict", pa.string()),
    ]
)


@dataclass(frozen=True)
class Row:
    """Row of one image. Fields are named like the columns, except `class_name` for the column "class"."""

    image_id: str
    """First 32 hex digits of the content's sha256 (real images) or of the draw's digest (made images)."""
    uri: str
    """Key of the encoded image in the store."""
    content_sha256: str
    """sha256 of the encoded image."""
    pixel_sha256: str
    """sha256 of the decoded pixels, see `genaug.vision.images.pixels.pixel_sha256`."""
    class_name: str
    """True class (real images), or the class that it stands for in training (made images)."""
    split: Split
    fold: int = -1
    """Outer fold by subject, 0 to folds-1; -1 for made images."""
    source: Source = "real"
    subject_id: str = ""
    """HMAC of the patient's id with the installation's key; empty for made images."""
    group_id: str = ""
    """Subjects joined by near-identical photographs share it: the first image_id of the group."""
    attributes: Mapping[str, str] = field(default_factory=dict)
    generator: str = ""
    prompt: str = ""
    """Class that the draw was requested for."""
    seed: int = 0
    index: int = 0
    parent_ids: tuple[str, ...] = ()
    receipt: str = ""
    """The receipt as ProtoJSON."""
    label: str = ""
    """The labeler's most probable class."""
    probabilities: Mapping[str, float] = field(default_factory=dict)
    """Calibrated probability of each class."""
    label_verdict: LabelVerdict = ""


_COLUMN = {f.name: "class" if f.name == "class_name" else f.name for f in fields(Row)}


def to_table(rows: Iterable[Row]) -> pa.Table:
    """Return rows as a table of `SCHEMA`."""
    listed = list(rows)
    columns: dict[str, list[Any]] = {column: [getattr(row, name) for row in listed] for name, column in _COLUMN.items()}
    for column in ("attributes", "probabilities"):
        columns[column] = [sorted(value.items()) for value in columns[column]]
    columns["parent_ids"] = [list(value) for value in columns["parent_ids"]]
    return pa.table(columns, schema=SCHEMA)


def to_rows(table: pa.Table) -> list[Row]:
    """Return the rows of a table of `SCHEMA`.

    Raises:
        FailedPrecondition: the table has another schema.
    """
    if not table.schema.equals(SCHEMA):
        raise FailedPrecondition(
            "a manifest has another schema than this version writes; import the dataset again", reason="BAD_MANIFEST"
        )
    columns = {name: table.column(column).to_pylist() for name, column in _COLUMN.items()}
    for name in ("attributes", "probabilities"):
        columns[name] = [dict(value) for value in columns[name]]
    columns["parent_ids"] = [tuple(value) for value in columns["parent_ids"]]
    return [Row(**dict(zip(columns, values, strict=True))) for values in zip(*columns.values(), strict=True)]


def encode(table: pa.Table) -> bytes:
    """Encode a table as Parquet; equal tables give equal bytes."""
    sink = io.BytesIO()
    pq.write_table(table, sink, compression="zstd")
    return sink.getvalue()


def decode(data: bytes) -> pa.Table:
    """Decode a table from Parquet."""
    return pq.read_table(io.BytesIO(data))


def write_rows(store: Store, key: str, rows: Iterable[Row]) -> bool:
    """Write a manifest unless one is there. Return whether this call wrote it."""
    return store.put_new(key, encode(to_table(rows)))


NEAREST_REAL = pa.schema(
    [
        ("made_id", pa.string()),
        ("class", pa.string()),
        ("image_id", pa.string()),
        ("distance", pa.float32()),
        ("copy", pa.bool_()),
    ]
)


@dataclass(frozen=True)
class NearestReal:
    """A generated image and the training image of its class nearest to it: a row of a match's `nearest_real`."""

    made_id: str
    class_name: str
    image_id: str
    distance: float
    """Cosine distance, 0 to 2."""
    copy: bool
    """Whether the generated image is a suspected copy."""


def read_nearest_real(store: Store, key: str) -> list[NearestReal]:
    """Read a match's `nearest_real`; errors as `read_table`."""
    return [NearestReal(class_name=row.pop("class"), **row) for row in read_table(store, key).to_pylist()]


def read_table(store: Store, key: str) -> pa.Table:
    """Read the table at `key`.

    Raises:
        NotFound: there is none.
        FailedPrecondition: reason DAMAGED_OBJECT; it is no Parquet.
    """
    data = store.get(key)
    try:
        return decode(data)
    except (pa.ArrowException, OSError) as error:
        raise damaged(key, f"no Parquet: {type(error).__name__}") from None


def read_rows(store: Store, key: str) -> list[Row]:
    """Read a manifest; raises as `read_table` does."""
    return to_rows(read_table(store, key))


def rows_digest(rows: Iterable[Row]) -> str:
    """Return a digest of training rows, independent of their order: 64 hex digits.

    Subject ids are left out, since their HMAC key differs between installations; the groups that they form are in.
    """
    entries = sorted(
        (r.image_id, r.pixel_sha256, r.class_name, r.split, r.fold, r.source, r.group_id, sorted(r.attributes.items()))
        for r in rows
    )
    return sha256(canonical_json(entries))


def counts(rows: Iterable[Row], *, split: Split, source: Source = "real") -> dict[str, int]:
    """Count the images per class of one split and source, sorted by class."""
    per_class = Counter(row.class_name for row in rows if row.split == split and row.source == source)
    return dict(sorted(per_class.items()))


def view_rows(
    rows: Iterable[Row], *, classes: Sequence[str], multi_disease: MultiDisease = "KEEP", fold: int = 0
) -> list[Row]:
    """Return the rows of a run's view. The same rule holds for training, validation and sealed rows.

    Args:
        classes: The classes of the study; empty for all.
        multi_disease: KEEP takes the source's label. EXCLUDE leaves out images with attribute multi_disease="true".
            PRIMARY takes the class in attribute primary_class where there is one.
        fold: Outer fold to hold out, from 1: its real rows are left out. 0 for none.
    """
    result = []
    for row in rows:
        if fold and row.source == "real" and row.fold == fold - 1:
            continue
        if multi_disease == "EXCLUDE" and row.attributes.get("multi_disease") == "true":
            continue
        if multi_disease == "PRIMARY" and row.attributes.get("primary_class"):
            row = Row(**{**row.__dict__, "class_name": row.attributes["primary_class"]})
        if not classes or row.class_name in classes:
            result.append(row)
    return result


def check_training(rows: Iterable[Row]) -> None:
    """Check that synthetic and transformed rows are in the training split alone.

    Raises:
        InvalidArgument: reason MADE_ROW_OUTSIDE_TRAINING.
    """
    for row in rows:
        if row.source != "real" and row.split != "train":
            raise InvalidArgument(
                f"image {row.image_id} is {row.source} and in the {row.split} split; train on it alone",
                reason="MADE_ROW_OUTSIDE_TRAINING",
                image_id=row.image_id,
            )
