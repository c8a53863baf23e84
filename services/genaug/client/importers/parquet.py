"""Importer "parquet": tables with a column of encoded images, as Hugging Face's `datasets` writes them."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from genaug.client.importers import SourceImage, SourceReport
from genaug.client.importers.files import encoded, find_archives
from genaug.client.importers.labeled import (
    attributes_of,
    check_labels,
    check_subjects,
    label_attributes,
    text_of,
)
from genaug.client.importers.splits import check_sides, side_in_path
from genaug.client.importers.stream import Streams
from genaug.client.importers.table import column_hint
from genaug.schema.run import ImportSpec
from genaug.shared.errors import FailedPrecondition, GenaugError, InvalidArgument

# Rows that are decoded at a time.
_BATCH = 64


@dataclass(frozen=True)
class _Row:
    """One row, without its image."""

    file: Path
    number: int
    content: str
    """Column of the image's bytes."""
    name: str
    labels: tuple[str, ...]
    subject: str
    side: str
    attributes: dict[str, str]


@dataclass(frozen=True)
class _Columns:
    """Columns of a table, by their use."""

    image: str
    path: str
    """Column of the image's name; empty if there is none."""
    content: str
    """Column of the image's bytes, which may be a field of `image`."""
    others: tuple[str, ...]
    """Columns of plain values: class, subject and attributes."""
    class_names: tuple[str, ...]
    """Names of the classes, where the class is a number."""


def read(spec: ImportSpec, report: SourceReport) -> Iterator[SourceImage]:
    """Yield the rows of the files, in the order of their paths. Further columns of plain values become attributes.

    An image is its encoded bytes, or {bytes, path}; the class is in `spec.class_column`: words, or numbers, which the
    file's ClassLabel names. A file's side of the split is in its name, as in train-00000-of-00002.parquet.

    Raises:
        InvalidArgument: there is no such file, a file is damaged, the columns are missing or several, or rows have no
            label or no subject.
        FailedPrecondition: pyarrow is not installed.
    """
    root = Path(spec.images).expanduser()
    rows = [row for path in find_archives(spec.images, ".parquet", report) for row in _rows(path, root, spec)]
    if not rows:
        raise InvalidArgument(f"images: the parquet files of {root} have no rows", reason="NO_IMAGES")
    names = [f"{row.file.name} row {row.number}" for row in rows]
    check_labels(names, [row.labels for row in rows], multi_label=spec.multi_label)
    if spec.subject_column:
        check_subjects(names, [row.subject for row in rows], spec)
    sides = check_sides([row.side for row in rows], spec, report)
    streams = Streams(_contents)
    for row, name, side in zip(rows, names, sides, strict=True):
        yield SourceImage(
            name=row.name or name,
            class_name=row.labels[0],
            subject=row.subject,
            split=side,
            attributes=row.attributes | (label_attributes(row.labels) if spec.multi_label else {}),
            read=partial(_read, streams, (row.file, row.content), row.number),
        )


def _rows(path: Path, root: Path, spec: ImportSpec) -> Iterator[_Row]:
    """Yield the rows of a file without their images."""
    try:
        with _pyarrow_parquet().ParquetFile(path) as file:
            columns = _columns(file.schema_arrow, path, spec)
            table = file.read(columns=[*columns.others, *filter(None, [columns.path])])
            records = _records(table)
    except GenaugError:
        raise
    except Exception as error:
        # pyarrow raises errors of its own, OSError and ValueError.
        raise InvalidArgument(
            f"images: {path} is no parquet file that can be read ({error})", reason="BAD_ARCHIVE"
        ) from None
    side = side_in_path(path.relative_to(root).parts if root.is_dir() else [path.name])
    for number, row in enumerate(records):
        yield _Row(
            file=path,
            number=number,
            content=columns.content,
            name=_name(row, columns),
            labels=_labels(row[spec.class_column], columns),
            subject=text_of(row[spec.subject_column]) if spec.subject_column else "",
            side=side,
            attributes=attributes_of({name: row[name] for name in columns.others}, spec),
        )


def _records(table: Any) -> list[dict[str, Any]]:
    """Return the rows of a table.

    Raises:
        ValueError: a column holds values that Python has no type for, such as times with nanoseconds.
    """
    columns = {}
    for name in table.column_names:
        try:
            columns[name] = table.column(name).to_pylist()
        except Exception as error:
            # pyarrow raises almost anything: text that is no UTF-8, unknown time zones, dates beyond 9999.
            raise ValueError(f"column {name!r}: {error}") from None
    return [dict(zip(columns, values, strict=True)) for values in zip(*columns.values(), strict=True)]


def _columns(schema: Any, path: Path, spec: ImportSpec) -> _Columns:
    import pyarrow as pa

    if double := sorted(name for name, count in Counter(schema.names).items() if count > 1):
        raise InvalidArgument(
            f"images: {path} has several columns {', '.join(map(repr, double))}; rename or delete all but one",
            reason="BAD_TABLE",
        )
    features = _features(schema)

    def is_bytes(kind: Any) -> bool:
        return bool(pa.types.is_binary(kind) or pa.types.is_large_binary(kind))

    def is_image(field: Any) -> bool:
        kind = field.type
        return is_bytes(kind) or (
            pa.types.is_struct(kind) and kind.get_field_index("bytes") >= 0 and is_bytes(kind.field("bytes").type)
        )

    candidates = [field.name for field in schema if is_image(field)]
    if spec.filename_column != ImportSpec.model_fields["filename_column"].default:
        candidates = [name for name in candidates if name == spec.filename_column]
    declared = [name for name in candidates if _type_of(features.get(name)) == "Image"]
    candidates = declared or candidates
    if len(candidates) != 1:
        listed = ", ".join(candidates) if candidates else f"none, only {', '.join(schema.names)}"
        raise InvalidArgument(
            f"images: {path} needs one column of encoded images (bytes, or bytes and path); there are {listed}"
            f"{'; name it with --filename-column' if candidates else ''}",
            reason="NO_SUCH_COLUMN",
        )
    image = candidates[0]
    plain = [field.name for field in schema if field.name != image and not is_image(field) and _is_plain(field.type)]
    for column in filter(None, (spec.class_column, spec.subject_column)):
        if column not in plain:
            hint = column_hint([column], plain, class_columns=False)
            raise InvalidArgument(
                f"images: {path} has no column {column!r} of words or numbers; {hint}", reason="NO_SUCH_COLUMN"
            )
    kind = schema.field(image).type
    struct = pa.types.is_struct(kind)
    return _Columns(
        image=image,
        path=f"{image}.path" if struct and kind.get_field_index("path") >= 0 else "",
        content=f"{image}.bytes" if struct else image,
        others=tuple(plain),
        class_names=_class_names(features.get(spec.class_column)),
    )


def _is_plain(kind: Any) -> bool:
    import pyarrow as pa

    if pa.types.is_list(kind) or pa.types.is_large_list(kind):
        kind = kind.value_type
    if pa.types.is_dictionary(kind):
        kind = kind.value_type
    tests = (pa.types.is_string, pa.types.is_large_string, pa.types.is_integer, pa.types.is_floating)
    return any(test(kind) for test in (*tests, pa.types.is_boolean, pa.types.is_temporal))


def _features(schema: Any) -> dict[str, Any]:
    """Return the types of columns as `datasets` declares them in the file's metadata."""
    try:
        features = json.loads((schema.metadata or {}).get(b"huggingface", b"{}"))["info"]["features"]
    except (ValueError, KeyError, TypeError, RecursionError):
        return {}
    return features if isinstance(features, dict) else {}


def _type_of(feature: Any) -> str:
    return str(feature.get("_type", "")) if isinstance(feature, dict) else ""


def _class_names(feature: Any) -> tuple[str, ...]:
    if isinstance(feature, list) and feature:
        feature = feature[0]
    if _type_of(feature) in ("Sequence", "List", "LargeList"):
        feature = feature.get("feature")
    names = feature.get("names") if _type_of(feature) == "ClassLabel" else None
    return tuple(map(str, names)) if isinstance(names, list) else ()


def _labels(value: Any, columns: _Columns) -> tuple[str, ...]:
    values = value if isinstance(value, list) else [value]
    if not columns.class_names:
        return tuple(filter(None, map(text_of, values)))
    # -1 is `datasets`' number for no label.
    return tuple(columns.class_names[v] for v in values if isinstance(v, int) and 0 <= v < len(columns.class_names))


def _name(row: dict[str, Any], columns: _Columns) -> str:
    image = row.get(columns.image)
    return str(image.get("path") or "") if isinstance(image, dict) else ""


def _contents(key: tuple[Path, str]) -> Iterator[bytes]:
    """Yield the bytes of a file's images, in its order, a few at a time."""
    path, column = key
    # Without buffering ahead: a row group may hold all images.
    with _pyarrow_parquet().ParquetFile(path, pre_buffer=False, buffer_size=1 << 20) as file:
        for batch in file.iter_batches(_BATCH, columns=[column]):
            values = batch.column(0)
            if "." in column and values.type.num_fields:
                values = values.field(0)
            for value in values:
                yield value.as_py() or b""


def _read(streams: Streams[tuple[Path, str]], key: tuple[Path, str], number: int) -> bytes:
    return encoded(streams.item(key, number))


def _pyarrow_parquet() -> Any:
    try:
        import pyarrow.parquet
    except ImportError:
        raise FailedPrecondition(
            "format: parquet needs pyarrow: pip install 'genaug[images]'", reason="NO_PYARROW"
        ) from None
    return pyarrow.parquet
