"""What of a source is kept: one row per content, decodable, with one class."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from genaug.assembly.intake import Look, Refused
from genaug.assembly.source import SourceRow
from genaug.shared.errors import FailedPrecondition, InvalidArgument

# More than a person reads, and than fits a message.
MAX_DROPPED = 5000


@dataclass(frozen=True)
class Dropped:
    """An image that is left out; the fields are those of `DroppedImage`."""

    image_id: str
    reason: str
    detail: str
    row: int


@dataclass(frozen=True)
class Kept:
    """A row that stays."""

    row: SourceRow
    number: int
    """Its place in the source, counted from 0."""
    subjects: tuple[str, ...] = field(default=())
    """All subjects under which the source has this content; `row.subject` first, unless it has none."""


def sift(rows: Sequence[SourceRow], looks: Mapping[str, Look]) -> tuple[list[Kept], list[Dropped]]:
    """Divide rows into what is kept, in order of image ids, and what is dropped, in the source's order.

    Of rows with the same content and class one is kept, and all their subjects are joined. Rows with the same content
    and different classes contradict each other: none is kept, since nothing says which is true.

    Raises:
        InvalidArgument: nothing is left.
        FailedPrecondition: more than `MAX_DROPPED` rows are dropped.
    """
    by_content: dict[str, list[int]] = defaultdict(list)
    for number, row in enumerate(rows):
        by_content[row.content_sha256].append(number)
    kept: list[Kept] = []
    dropped: list[Dropped] = []
    for content, numbers in sorted(by_content.items()):
        look = looks[content]
        if isinstance(look, Refused):
            dropped += [Dropped(rows[n].image_id, look.reason, look.detail, n) for n in numbers]
            continue
        classes = sorted({rows[number].class_name for number in numbers})
        if len(classes) > 1:
            detail = f"{len(numbers)} rows have this content and {len(classes)} classes; none is kept"
            dropped += [Dropped(rows[n].image_id, "DUPLICATE", detail, n) for n in numbers]
            continue
        # Whatever the order of the source, the same row is kept.
        first, *others = sorted(numbers, key=lambda n: _order(rows[n]))
        subjects = tuple(dict.fromkeys(rows[n].subject for n in (first, *others) if rows[n].subject))
        kept.append(Kept(rows[first], first, subjects))
        dropped += [Dropped(rows[n].image_id, "DUPLICATE", _same(rows[n], rows[first]), n) for n in others]
    _check_rest(kept, dropped)
    return kept, sorted(dropped, key=lambda image: image.row)


def check_own_split(rows: Sequence[SourceRow], groups: Mapping[str, str]) -> None:
    """Check the user's own split: all rows have a side, all sides have rows, no group is on two.

    Args:
        rows: All rows, duplicates included.
        groups: Group of each kept image id.

    Raises:
        InvalidArgument: it is not so; subjects and images are counted, none is named.
    """
    without = sum(row.split is None for row in rows)
    if without:
        raise InvalidArgument(
            f"split: {without} of {len(rows)} rows have no side of your split; give all of them one, or none",
            reason="SPLIT_INCOMPLETE",
        )
    subjects: dict[str, set[str]] = defaultdict(set)
    together: dict[str, set[str]] = defaultdict(set)
    for row in rows:
        side = row.split or ""
        if row.subject:
            subjects[row.subject].add(side)
        if row.image_id in groups:
            together[groups[row.image_id]].add(side)
    leaking = sum(len(sides) > 1 for sides in subjects.values())
    if leaking:
        raise InvalidArgument(
            f"split: {leaking} of {len(subjects)} subjects are on two sides of your split; split by subject, or leave "
            "the split out and let genaug make it",
            reason="SUBJECT_ON_TWO_SIDES",
            subjects=str(leaking),
        )
    leaks = [group for group, sides in sorted(together.items()) if len(sides) > 1]
    if leaks:
        raise InvalidArgument(
            f"split: {len(leaks)} groups of images that show the same photograph are on two sides of your split (such "
            f"as that of image {leaks[0]}); put each on one side, or leave the split out and let genaug make it",
            reason="PHOTOGRAPH_ON_TWO_SIDES",
            groups=str(len(leaks)),
        )
    empty = sorted({"train", "validation", "test"} - {side for sides in together.values() for side in sides})
    if empty:
        raise InvalidArgument(f"split: no rows in {', '.join(empty)}; all three sides need some", reason="EMPTY_SIDE")


def _order(row: SourceRow) -> tuple[object, ...]:
    # A row with a subject first: it says more.
    return (not row.subject, row.subject, sorted((row.attributes or {}).items()), row.source_name)


def _same(row: SourceRow, kept: SourceRow) -> str:
    if row.subject == kept.subject:
        return "the same content as another row"
    return "the same content as another row, of another subject; the two subjects are kept together"


def _check_rest(kept: Sequence[Kept], dropped: Sequence[Dropped]) -> None:
    reasons = ", ".join(f"{count} {reason}" for reason, count in sorted(Counter(d.reason for d in dropped).items()))
    if not kept:
        raise InvalidArgument(
            f"none of {len(dropped)} images can be used: {reasons or 'nothing was sent'}", reason="NO_IMAGES"
        )
    if len(dropped) > MAX_DROPPED:
        raise FailedPrecondition(
            f"{len(dropped)} images would be dropped ({reasons}), more than {MAX_DROPPED}; mend the source",
            reason="TOO_MANY_DROPPED",
        )
