"""Checks of class names and subjects that hold for every format."""

from __future__ import annotations

import re
import unicodedata
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Sequence
from decimal import Decimal
from pathlib import PurePath
from typing import TYPE_CHECKING

from genaug.shared.errors import InvalidArgument

if TYPE_CHECKING:  # the package imports this module
    from genaug.client.importers import SourceImage, SourceReport

_SHOWN = 3
_NUMBER = re.compile(r"[+-]?\d+(\.\d*)?", re.ASCII)
_ZEROS = re.compile(r"(?<!\d)0+(?=\d)")
_WHOLE = re.compile(r"(\d+)\.0*", re.ASCII)
_PREFIXED = re.compile(r"[^\W\d_]+[\W_]*(\d+)", re.ASCII)
_FEWEST_PREFIXED = 5
_LEAST_PREFIXED = 0.1


def check_names(images: Sequence[SourceImage], report: SourceReport, *, options: Iterable[str]) -> None:
    """Refuse classes and subjects that are spelt in several ways; note subjects that are missing or look alike.

    Args:
        images: All images of the source.
        report: Receives the notes.
        options: Options of the format, for the advice in messages.

    Raises:
        InvalidArgument: class names or subjects differ only in case, blanks, Unicode form or the spelling of a number.
    """
    _check_classes(images)
    subjects = sorted({image.subject for image in images if image.subject})
    _check_subjects(subjects, of_column={"subject_column", "subject_regex"} <= set(options))
    _note_prefixes(subjects, report)
    ways = [f"--{name.replace('_', '-')}" for name in ("subject_column", "subject_regex") if name in options]
    if images and ways and not subjects:
        example = f" (a file is named {PurePath(images[0].name).name!r})" if "subject_regex" in options else ""
        report.notes.append(
            "no subject is given: each image is its own, so that images of one patient may be on two sides of the "
            f"split; name subjects with {' or '.join(ways)}{example}"
        )


def _check_classes(images: Sequence[SourceImage]) -> None:
    counts = Counter(image.class_name for image in images)
    for image in images:
        # Further labels of an image with several.
        if image.attributes.get("multi_disease") == "true" and "labels" in image.attributes:
            counts.update(label for label in image.attributes["labels"].split("; ") if label != image.class_name)
    groups = _alike(counts, _class_key)
    if groups:
        listed = "; ".join(", ".join(f"{_exact(name, group)} ({counts[name]})" for name in group) for group in groups)
        raise InvalidArgument(
            f"class names differ only in case, blanks, Unicode form or the spelling of a number: {listed}; spell each "
            "class in one way",
            reason="AMBIGUOUS_CLASS",
        )


def _check_subjects(subjects: Sequence[str], *, of_column: bool) -> None:
    groups = _alike(subjects, _subject_key)
    if groups:
        listed = "; ".join(" and ".join(_exact(name, group) for name in group) for group in groups[:_SHOWN])
        # The expression is of no help where ids have letters, or a file's name is what it searches.
        zeros = of_column and all(subject.isascii() and subject.isdecimal() for subject in subjects)
        way = r" (--subject-regex '^0*(\d+)$' on the column leaves zeros out)" if zeros else ""
        raise InvalidArgument(
            f"{sum(map(len, groups))} of {len(subjects)} subjects differ from another only in case, blanks, leading "
            f"zeros or .0: {listed}{'; …' if len(groups) > _SHOWN else ''}; spell each subject in one way{way}, or, if "
            "these are different people, give each source of ids a prefix of its own",
            reason="AMBIGUOUS_SUBJECT",
        )


def _note_prefixes(subjects: Sequence[str], report: SourceReport) -> None:
    numbers = {subject for subject in subjects if subject.isascii() and subject.isdecimal()}
    bare = {subject.lstrip("0"): subject for subject in numbers}
    pairs = [
        (bare[match.group(1).lstrip("0")], subject)
        for subject in subjects
        if (match := _PREFIXED.fullmatch(subject)) and match.group(1).lstrip("0") in bare
    ]
    if len(pairs) >= max(_FEWEST_PREFIXED, _LEAST_PREFIXED * len(subjects)):
        listed = ", ".join(f"{number!r} and {prefixed!r}" for number, prefixed in pairs[:_SHOWN])
        report.notes.append(
            f"{len(pairs)} subjects equal another but for a prefix of letters ({listed}); if these are the same "
            "people, spell them alike: now they may be on two sides of the split"
        )


def _alike(names: Iterable[str], key: Callable[[str], object]) -> list[list[str]]:
    """Return the names that share a key with another, by key, in order."""
    by_key: dict[object, list[str]] = defaultdict(list)
    for name in sorted(names):
        by_key[key(name)].append(name)
    return [group for group in by_key.values() if len(group) > 1]


def _plain(name: str) -> str:
    """Return the name without differences of case, blanks and Unicode form."""
    return " ".join(unicodedata.normalize("NFKC", name).casefold().split())


def _class_key(name: str) -> object:
    plain = _plain(name)
    return Decimal(plain) if _NUMBER.fullmatch(plain) else plain


def _subject_key(name: str) -> str:
    # "1.2" and "1.20" may be two patients of a site, "7" and "7.0" are one that a spreadsheet made a number.
    plain = _ZEROS.sub("", _plain(name))
    whole = _WHOLE.fullmatch(plain)
    return whole.group(1) if whole else plain


def _exact(name: str, group: Sequence[str]) -> str:
    """Quote a name; with escapes where a letter of another Unicode form looks the same."""
    same = Counter(unicodedata.normalize("NFKC", other) for other in group)
    return ascii(name) if same[unicodedata.normalize("NFKC", name)] > 1 else repr(name)
