"""Comparison of two sets of captions, each with its own generator, by the labeler's view of images from equal noise."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import median

from genaug.evaluation.entry import Entry
from genaug.evaluation.proportions import paired_difference, share
from genaug.schema.evaluation import Estimate
from genaug.shared.manifest import Row


@dataclass(frozen=True)
class CaptionDraws:
    """Draws with one set of captions."""

    rows: Sequence[Row]
    """Images with their labels, with or without images that are not compared."""
    distances: Mapping[str, float]
    """By image id, of accepted images: the distance to the nearest training image of the class."""


class CaptionSet(Entry):
    """Results of one set of captions."""

    drawn: int
    no_image: int
    """Draws that gave no image; they count as not accepted."""
    accepted: int
    """Images that the labeler accepted as their class."""
    share: Estimate
    """`accepted` of `drawn`."""
    distance: float | None
    """Median over accepted images to the nearest training image; None without one."""


class CaptionResults(Entry):
    """Both sets over the same draws."""

    sets: tuple[CaptionSet, CaptionSet]
    """The run's own captions first."""
    natural: float | None
    """Median distance between training images of different subjects: over all classes, each as often as it was drawn;
    None where it is not known."""
    difference: Estimate
    """Share accepted with the run's own captions less that of the others, over pairs from the same noise."""


class ClassCaptionResults(CaptionResults):
    """Both sets over the draws of one class."""

    class_name: str


def compare_captions(
    counts: Mapping[str, int], first: CaptionDraws, second: CaptionDraws, *, natural: Mapping[str, float]
) -> tuple[tuple[ClassCaptionResults, ...], CaptionResults]:
    """Compare two sets of captions, of each class and over all.

    Images of one class and index began with the same noise: they are pairs.

    Args:
        counts: Draws of each class, from index 0, in the order of the label map.
        first: The run's own captions.
        second: The others.
        natural: By class, the median distance from training images to the nearest one of another subject.
    """
    draws = [(name, index) for name, count in counts.items() for index in range(count)]
    by_draw = [{(row.prompt, row.index): row for row in captions.rows} for captions in (first, second)]

    def compare(chosen: Sequence[tuple[str, int]]) -> CaptionResults:
        known = [natural[name] for name, _ in chosen if name in natural]
        mine, theirs = ([rows.get(draw) for draw in chosen] for rows in by_draw)
        pairs = [(_is_accepted(a), _is_accepted(b)) for a, b in zip(mine, theirs, strict=True)]
        return CaptionResults(
            sets=(_caption_set(mine, first.distances), _caption_set(theirs, second.distances)),
            natural=median(known) if known else None,
            difference=paired_difference(pairs),
        )

    classes = {name: compare([draw for draw in draws if draw[0] == name]) for name in counts}
    return (
        tuple(ClassCaptionResults(class_name=name, **results.__dict__) for name, results in classes.items()),
        compare(draws),
    )


def _caption_set(rows: Sequence[Row | None], distances: Mapping[str, float]) -> CaptionSet:
    accepted = [row for row in rows if row is not None and _is_accepted(row)]
    near = [distances[row.image_id] for row in accepted if row.image_id in distances]
    return CaptionSet(
        drawn=len(rows),
        no_image=sum(row is None for row in rows),
        accepted=len(accepted),
        share=share(len(accepted), len(rows)),
        distance=median(near) if near else None,
    )


def _is_accepted(row: Row | None) -> bool:
    """Whether the labeler takes an image for its class; where its agreement is not required, its label decides."""
    return row is not None and row.label_verdict == "accepted" and row.label == row.prompt
