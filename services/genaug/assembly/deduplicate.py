"""Deduplication of a source: one row per content, decodable, with one class; conflicts of the user's own split."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from genaug.assembly.import_plan import SourceRow
from genaug.assembly.upload_decoder import DecodeResult, UnusableImage
from genaug.schema.datasets import DroppedImage
from genaug.schema.run import OnConflict
from genaug.shared.errors import FailedPrecondition, InvalidArgument
from genaug.shared.manifest import Split

# A record with more of them would be too large for a message.
MAX_DROPPED = 5000
# Pairs of rows in an error: its metadata travels in a header of limited size.
_MAX_CONFLICTS = 50

# Sides by the policy, the one that is kept first.
_KEPT: dict[OnConflict, tuple[Split, ...]] = {
    OnConflict.REFUSE: ("test", "validation", "train"),
    OnConflict.DROP_TRAINING: ("test", "validation", "train"),
    OnConflict.DROP_VALIDATION: ("test", "train", "validation"),
}


@dataclass(frozen=True)
class UniqueRow:
    """The one row of a content that is imported."""

    row: SourceRow
    number: int
    """Its index in the source, from 0."""
    subjects: tuple[str, ...] = field(default=())
    """All subjects of rows with this content; `row.subject` first, unless it is empty."""


def deduplicate(
    rows: Sequence[SourceRow], results: Mapping[str, DecodeResult], *, on_conflict: OnConflict = OnConflict.REFUSE
) -> tuple[list[UniqueRow], list[DroppedImage]]:
    """Return the rows to import, in order of image ids, and the dropped images, in the source's order.

    Of rows with the same content and class one is kept, and all their subjects are joined; of rows on several sides of
    the user's own split the one on the side that `on_conflict` keeps, test before all. Rows with the same content and
    different classes contradict each other: none is kept, since nothing tells which class is right.

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
        first, *others = sorted(numbers, key=lambda n: (_rank(rows[n], on_conflict), _order(rows[n])))
        subjects = tuple(dict.fromkeys(rows[n].subject for n in (first, *others) if rows[n].subject))
        unique.append(UniqueRow(rows[first], first, subjects))
        for n in others:
            reason = "DUPLICATE" if rows[n].split == rows[first].split else "CONFLICT"
            dropped.append(_dropped(rows, n, reason, _same(rows[n], rows[first])))
    _check_rest(unique, dropped)
    return unique, sorted(dropped, key=lambda image: image.row)


def _dropped(rows: Sequence[SourceRow], number: int, reason: str, detail: str) -> DroppedImage:
    row = rows[number]
    return DroppedImage(image_id=row.image_id, reason=reason, detail=detail, row=number, class_name=row.class_name)


@dataclass(frozen=True)
class Conflict:
    """Two rows on different sides of the user's own split that belong on one, by their numbers, lower first."""

    first: int
    second: int


def settle_own_split(
    rows: Sequence[SourceRow],
    unique: Sequence[UniqueRow],
    groups: Mapping[str, str],
    pairs: Iterable[tuple[str, str]],
    on_conflict: OnConflict,
) -> tuple[list[UniqueRow], list[DroppedImage]]:
    """Check the user's own split, and leave out the images of groups that lie on two sides, if that was asked for.

    Of a group on two sides the images on the side that is kept stay: on test, where it has some, else on the side that
    `on_conflict` does not name.

    Args:
        rows: All rows, duplicates included.
        unique: The rows to import.
        groups: Group of each imported image id.
        pairs: Image ids that show the same photograph.
        on_conflict: What happens to groups on two sides.

    Returns:
        The rows that stay, and the others as dropped images.

    Raises:
        InvalidArgument: a row has no side, a subject or photograph is on two sides and `on_conflict` is REFUSE, or a
            side is empty. Subjects and photographs are counted, none is named; the metadata `pairs` has up to 50 pairs
            of rows, such as "3:17,5:40".
        FailedPrecondition: more than `MAX_DROPPED` rows would be dropped.
    """
    without = sum(row.split is None for row in rows)
    if without:
        raise InvalidArgument(
            f"split: {without} of {len(rows)} rows have no side of your split; give all of them one, or none",
            reason="SPLIT_INCOMPLETE",
        )
    imported = [n for n, row in enumerate(rows) if row.image_id in groups]
    if on_conflict == OnConflict.REFUSE:
        _refuse_conflicts(rows, imported, pairs)
    kept: dict[str, int] = {}
    for n in imported:
        group = groups[rows[n].image_id]
        kept[group] = min(_rank(rows[n], on_conflict), kept.get(group, len(_KEPT)))
    stay: list[UniqueRow] = []
    dropped: list[DroppedImage] = []
    for entry in unique:
        side = _KEPT[on_conflict][kept[groups[entry.row.image_id]]]
        if entry.row.split == side:
            stay.append(entry)
        else:
            detail = f"its subject or photograph is on the {side} side of the split, too"
            dropped.append(_dropped(rows, entry.number, "CONFLICT", detail))
    _check_rest(stay, dropped)
    empty = sorted({"train", "validation", "test"} - {entry.row.split for entry in stay})
    if empty:
        raise InvalidArgument(f"split: no rows in {', '.join(empty)}; all three sides need some", reason="EMPTY_SIDE")
    return stay, dropped


def _rank(row: SourceRow, on_conflict: OnConflict) -> int:
    """Place of a row's side in the order in which sides are kept."""
    return _KEPT[on_conflict].index(row.split) if row.split else 0


def _refuse_conflicts(rows: Sequence[SourceRow], imported: Sequence[int], pairs: Iterable[tuple[str, str]]) -> None:
    by_subject: dict[str, list[int]] = defaultdict(list)
    by_image: dict[str, list[int]] = defaultdict(list)
    for n in imported:
        by_image[rows[n].image_id].append(n)
        if rows[n].subject:
            by_subject[rows[n].subject].append(n)
    subjects = [c for numbers in by_subject.values() if (c := _on_two_sides(rows, numbers))]
    near = ([*by_image[first], *by_image[second]] for first, second in pairs)
    photographs = [c for numbers in (*by_image.values(), *near) if (c := _on_two_sides(rows, numbers))]
    conflicts = sorted({(c.first, c.second) for c in (*subjects, *photographs)})
    if not conflicts:
        return
    counts = [
        f"{len(subjects)} of {len(by_subject)} subjects" if subjects else "",
        f"{len(photographs)} photographs" if photographs else "",
    ]
    raise InvalidArgument(
        f"split: {' and '.join(filter(None, counts))} are on two sides of your split, such as rows "
        f"{conflicts[0][0]} and {conflicts[0][1]} (from 0); put each on one side, leave images out (--on-conflict "
        "drop-training or drop-validation), or leave the split out and let genaug make it",
        reason="SUBJECT_ON_TWO_SIDES" if subjects else "PHOTOGRAPH_ON_TWO_SIDES",
        subjects=str(len(subjects)),
        photographs=str(len(photographs)),
        pairs=",".join(f"{first}:{second}" for first, second in conflicts[:_MAX_CONFLICTS]),
    )


def _on_two_sides(rows: Sequence[SourceRow], numbers: Sequence[int]) -> Conflict | None:
    """The first two of these rows that lie on different sides."""
    first = min(numbers)
    others = [n for n in numbers if rows[n].split != rows[first].split]
    return Conflict(first, min(others)) if others else None


def _order(row: SourceRow) -> tuple[object, ...]:
    # Rows with a subject come first: they hold more information.
    return (not row.subject, row.subject, sorted((row.attributes or {}).items()), row.source_name)


def _same(row: SourceRow, imported: SourceRow) -> str:
    if row.split != imported.split:
        return f"the same content as a row on the {imported.split} side of the split"
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
