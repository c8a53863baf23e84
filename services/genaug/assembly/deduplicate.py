"""Deduplication of a source: one row per content, decodable, with one class."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from genaug.assembly.import_plan import SourceRow
from genaug.assembly.upload_decoder import DecodeResult, UnusableImage
from genaug.schema.datasets import DroppedImage
from genaug.shared.errors import FailedPrecondition, InvalidArgument

# A record with more of them would be too large for a message.
MAX_DROPPED = 5000


@dataclass(frozen=True)
class UniqueRow:
    """The one row of a content that is imported."""

    row: SourceRow
    number: int
    """Its index in the source, from 0."""
    subjects: tuple[str, ...] = field(default=())
    """All subjects of rows with this content; `row.subject` first, unless it is empty."""


def deduplicate(
    rows: Sequence[SourceRow], results: Mapping[str, DecodeResult]
) -> tuple[list[UniqueRow], list[DroppedImage]]:
    """Return the rows to import, in order of image ids, and the dropped images, in the source's order.

    Of rows with the same content and class one is kept, and all their subjects are joined. Rows with the same content
    and different classes contradict each other: none is kept, since nothing tells which class is right.

    Raises:
        InvalidArgument: no row is left.
        FailedPrecondition: more than `MAX_DROPPED` rows are dropped.
    """
    by_content: dict[str, list[int]] = defaultdict(list)
    for number, row in enumerate(rows):
        by_content[row.content_sha256].append(number)
    unique: list[UniqueRow] = []
    dropped: list[DroppedImage] = []
    for content, numbers in sorted(by_content.items()):
        result = results[content]
        if isinstance(result, UnusableImage):
            dropped += [_dropped(rows, n, result.reason, result.detail) for n in numbers]
            continue
        classes = sorted({rows[number].class_name for number in numbers})
        if len(classes) > 1:
            detail = f"{len(numbers)} rows have this content and {len(classes)} classes; none is kept"
            dropped += [_dropped(rows, n, "DUPLICATE", detail) for n in numbers]
            continue
        # The choice must not depend on the source's order.
        first, *others = sorted(numbers, key=lambda n: _order(rows[n]))
        subjects = tuple(dict.fromkeys(rows[n].subject for n in (first, *others) if rows[n].subject))
        unique.append(UniqueRow(rows[first], first, subjects))
        dropped += [_dropped(rows, n, "DUPLICATE", _same(rows[n], rows[first])) for n in others]
    _check_rest(unique, dropped)
    return unique, sorted(dropped, key=lambda image: image.row)


def _dropped(rows: Sequence[SourceRow], number: int, reason: str, detail: str) -> DroppedImage:
    row = rows[number]
    return DroppedImage(image_id=row.image_id, reason=reason, detail=detail, row=number, class_name=row.class_name)


def check_own_split(rows: Sequence[SourceRow], groups: Mapping[str, str]) -> None:
    """Check the user's own split: all rows have a side, all sides have rows, no group is on two.

    Args:
        rows: All rows, duplicates included.
        groups: Group of each imported image id.

    Raises:
        InvalidArgument: the split breaks a rule; subjects and images are counted, none is named.
    """
    without = sum(row.split is None for row in rows)
    if without:
        raise InvalidArgument(
            f"split: {without} of {len(rows)} rows have no side of your split; give all of them one, or none",
            reason="SPLIT_INCOMPLETE",
        )
    subjects: dict[str, set[str]] = defaultdict(set)
    sides_of_group: dict[str, set[str]] = defaultdict(set)
    for row in rows:
        side = row.split or ""
        if row.subject:
            subjects[row.subject].add(side)
        if row.image_id in groups:
            sides_of_group[groups[row.image_id]].add(side)
    leaking = sum(len(sides) > 1 for sides in subjects.values())
    if leaking:
        raise InvalidArgument(
            f"split: {leaking} of {len(subjects)} subjects are on two sides of your split; split by subject, or leave "
            "the split out and let genaug make it",
            reason="SUBJECT_ON_TWO_SIDES",
            subjects=str(leaking),
        )
    leaks = [group for group, sides in sorted(sides_of_group.items()) if len(sides) > 1]
    if leaks:
        raise InvalidArgument(
            f"split: {len(leaks)} groups of images that show the same photograph are on two sides of your split (such "
            f"as that of image {leaks[0]}); put each on one side, or leave the split out and let genaug make it",
            reason="PHOTOGRAPH_ON_TWO_SIDES",
            groups=str(len(leaks)),
        )
    empty = sorted({"train", "validation", "test"} - {side for sides in sides_of_group.values() for side in sides})
    if empty:
        raise InvalidArgument(f"split: no rows in {', '.join(empty)}; all three sides need some", reason="EMPTY_SIDE")


def _order(row: SourceRow) -> tuple[object, ...]:
    # Rows with a subject come first: they hold more information.
    return (not row.subject, row.subject, sorted((row.attributes or {}).items()), row.source_name)


def _same(row: SourceRow, imported: SourceRow) -> str:
    if row.subject == imported.subject:
        return "the same content as another row"
    return "the same content as another row, of another subject; the two subjects are kept together"


def _check_rest(unique: Sequence[UniqueRow], dropped: Sequence[DroppedImage]) -> None:
    reasons = ", ".join(
        f"{count} {reason}" for reason, count in sorted(Counter(image.reason for image in dropped).items())
    )
    if not unique:
        raise InvalidArgument(
            f"none of {len(dropped)} images can be used: {reasons or 'nothing was sent'}", reason="NO_IMAGES"
        )
    if len(dropped) > MAX_DROPPED:
        raise FailedPrecondition(
            f"{len(dropped)} images would be dropped ({reasons}), more than {MAX_DROPPED}; mend the source",
            reason="TOO_MANY_DROPPED",
        )
