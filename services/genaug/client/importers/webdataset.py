"""Importer "webdataset": tar archives with the files of a sample under one key, such as 0001.jpg and 0001.cls.

Archives are indexed once and read in place; nothing is unpacked, so that names in them are never paths.
"""

from __future__ import annotations

import io
import json
import tarfile
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property, partial
from pathlib import Path, PurePosixPath
from typing import IO, Any

from genaug.client.importers import SourceImage, SourceReport
from genaug.client.importers.escape import readable
from genaug.client.importers.files import ImageFile, describe, find_archives, identify, pass_over
from genaug.client.importers.folder import find_subjects
from genaug.client.importers.labeled import (
    attributes_of,
    check_labels,
    check_subjects,
    label_attributes,
    refuse_rows,
    text_of,
)
from genaug.client.importers.splits import check_sides, side_in_path
from genaug.schema.run import ImportSpec
from genaug.shared.errors import InvalidArgument

# A sample's label and properties are read when archives are indexed.
_TEXTS = ("cls", "json", "txt")
_MAX_TEXT_BYTES = 1_000_000
# Of so few images, each may be of a class of its own.
_FEW = 10


@dataclass
class _Sample:
    """The files of one key."""

    archive: Path
    key: str
    images: dict[str, ImageFile] = field(default_factory=dict)
    """By suffix."""
    texts: dict[str, str] = field(default_factory=dict)
    """Content of the files in `_TEXTS`, by suffix."""

    @property
    def name(self) -> str:
        return f"{self.archive.name}/{self.key}"

    @property
    def image(self) -> ImageFile:
        """The only image."""
        return next(iter(self.images.values()))

    @cached_property
    def record(self) -> dict[str, Any]:
        """Content of KEY.json; empty if there is none."""
        try:
            record = json.loads(self.texts.get("json") or "{}")
        except (ValueError, RecursionError):
            record = None
        if not isinstance(record, dict):
            raise InvalidArgument(f"images: {readable(self.name)}.json is no JSON object", reason="BAD_ARCHIVE")
        return record

    def label_source(self, class_column: str) -> str:
        """Where its label is: "cls", "json" or "txt"."""
        return "cls" if "cls" in self.texts else "json" if class_column in self.record else "txt"

    def labels(self, class_column: str) -> tuple[str, ...]:
        """Its labels; none if it says none."""
        source = self.label_source(class_column)
        value = self.record[class_column] if source == "json" else self.texts.get(source, "")
        return tuple(filter(None, map(text_of, value if isinstance(value, list) else [value])))


def read(spec: ImportSpec, report: SourceReport) -> Iterator[SourceImage]:
    """Yield the image of each sample, in the order of the archives.

    The class is that of KEY.cls, else the entry `spec.class_column` of KEY.json, else the words in KEY.txt. Further
    entries of the JSON become attributes. An archive's side of the split is in its name, as in train-000.tar.

    Raises:
        InvalidArgument: there is no such file, an archive is compressed or damaged, or samples have no label, several
            images, or no subject.
        FailedPrecondition: there are DICOM files, and pydicom is not installed.
    """
    archives = find_archives(spec.images, ".tar", report)
    root = Path(spec.images).expanduser()
    samples = [sample for archive in archives for sample in _index(archive, report)]
    if without := sum(not sample.images for sample in samples):
        report.passed_over["samples without an image"] += without
    samples = [sample for sample in samples if sample.images]
    if not samples:
        raise InvalidArgument(f"images: no images in {len(archives)} archives of {root}", reason="NO_IMAGES")
    several = [sample.name for sample in samples if len(sample.images) > 1]
    refuse_rows(several, "samples have several images", "keep one of them in each")
    describe(((f"x.{next(iter(sample.images))}", sample.image) for sample in samples), spec, report)
    labels = [sample.labels(spec.class_column) for sample in samples]
    check_labels(
        [sample.name for sample in samples],
        labels,
        multi_label=spec.multi_label,
        hint="add KEY.cls to each, or leave them out; an archive of class folders is read unpacked (--format folder)",
    )
    _check_sources(samples, labels, spec, report)
    sides = check_sides([_side(sample.archive, root) for sample in samples], spec, report)
    subjects = _subjects(samples, spec, report)
    for sample, of, side, subject in zip(samples, labels, sides, subjects, strict=True):
        attributes = attributes_of(sample.record, spec) | (label_attributes(of) if spec.multi_label else {})
        yield SourceImage(sample.name, of[0], subject, side, attributes, sample.image.read)


def _check_sources(
    samples: Sequence[_Sample], labels: Sequence[Sequence[str]], spec: ImportSpec, report: SourceReport
) -> None:
    """Note where the labels are; refuse captions, which are in .txt files too."""
    sources = [sample.label_source(spec.class_column) for sample in samples]
    texts = [tuple(of) for of, source in zip(labels, sources, strict=True) if source == "txt"]
    if len(texts) > _FEW and len(set(texts)) > len(texts) / 2:
        raise InvalidArgument(
            f"images: the .txt files hold {len(set(texts))} different texts for {len(texts)} images, captions and no "
            "classes; add KEY.cls to each sample",
            reason="NO_CLASS",
        )
    counts = ", ".join(f"{count} .{source}" for source, count in Counter(sources).items())
    report.notes.append(f"classes are those of {counts} files")


def _subjects(samples: Sequence[_Sample], spec: ImportSpec, report: SourceReport) -> list[str]:
    if not spec.subject_column:
        return find_subjects([(Path(sample.key), sample.image) for sample in samples], spec, report)
    subjects = [text_of(sample.record.get(spec.subject_column)) for sample in samples]
    check_subjects([sample.name for sample in samples], subjects, spec)
    return subjects


def _side(archive: Path, root: Path) -> str:
    return side_in_path(archive.relative_to(root).parts if root.is_dir() else [archive.name])


def _index(archive: Path, report: SourceReport) -> list[_Sample]:
    """Return the samples of an archive, in its order."""
    size = archive.stat().st_size
    samples: dict[str, _Sample] = {}
    try:
        with tarfile.open(archive, "r:") as tar:
            for member in tar:
                name = PurePosixPath(member.name)
                base, _, suffix = name.name.partition(".")
                if member.isdir() or not base:
                    continue
                if not member.isreg() or member.issparse() or member.offset_data + member.size > size:
                    report.passed_over["in archives, links and other special files"] += 1
                    continue
                key, suffix = str(name.with_name(base)), suffix.lower()
                sample = samples.setdefault(key, _Sample(archive, key))
                _add(sample, suffix, partial(_slice, archive, member.offset_data, member.size), member.size, report)
    except (tarfile.TarError, EOFError) as error:
        raise InvalidArgument(
            f"images: {archive} is no tar archive, or damaged ({error})", reason="BAD_ARCHIVE"
        ) from None
    return list(samples.values())


def _add(sample: _Sample, suffix: str, open_file: partial[IO[bytes]], size: int, report: SourceReport) -> None:
    if suffix in sample.images or suffix in sample.texts:
        raise InvalidArgument(f"images: {readable(sample.name)}.{suffix} is there twice", reason="BAD_ARCHIVE")
    if suffix in _TEXTS:
        if size > _MAX_TEXT_BYTES:
            raise InvalidArgument(
                f"images: {readable(sample.name)}.{suffix} has {size} bytes, more than {_MAX_TEXT_BYTES}",
                reason="BAD_ARCHIVE",
            )
        with open_file() as file:
            sample.texts[suffix] = file.read().decode("utf-8", "replace").strip()
        return
    image = identify(f"x.{suffix}", open_file, size=size)
    if image.problem:
        pass_over(f"x.{suffix}" if suffix else "x", image.problem, report)
    else:
        sample.images[suffix] = image


def _slice(archive: Path, offset: int, size: int) -> IO[bytes]:
    with archive.open("rb") as file:
        file.seek(offset)
        return io.BytesIO(file.read(size))
