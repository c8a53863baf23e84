"""Two sets of captions, each with a generator of its own, by what the labeler makes of images from the same noise."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from statistics import median
from typing import Any

from genaug.evaluation.proportions import paired_difference, share
from genaug.shared.manifest import Row


@dataclass(frozen=True)
class Drawn:
    """What one set of captions has drawn."""

    rows: Sequence[Row]
    """Its images with their labels; more of them than are compared do no harm."""
    distances: Mapping[str, float]
    """By image id, of accepted images: the distance to the nearest training image of the class."""


def compare_captions(
    counts: Mapping[str, int], first: Drawn, second: Drawn, *, natural: Mapping[str, float]
) -> dict[str, Any]:
    """How far the labeler takes the images of each set for their class, and how near these are to training images.

    Images of one class and index began with the same noise: they are pairs. A draw that was no image is one that was
    not accepted. The median distance is over images that were accepted as the class.

    Args:
        counts: Draws of each class, from index 0, in the order of the label map.
        first: The run's own captions.
        second: The others.
        natural: By class, the median distance from training images to the nearest one of another subject.

    Returns:
        `classes`: class and what follows, per class; `all`: the same over all classes. `sets`, in the order of the
        arguments: drawn, no_image, accepted, share (with its interval), distance (median; null without an accepted
        image). natural (over all: each class as often as it was drawn; null where it is not known). difference:
        acceptance of the first less the second's, with its interval.
    """
    asked = [(name, index) for name, count in counts.items() for index in range(count)]
    found = [{(row.prompt, row.index): row for row in one.rows} for one in (first, second)]

    def of(wanted: Sequence[tuple[str, int]]) -> dict[str, Any]:
        known = [natural[name] for name, _ in wanted if name in natural]
        pairs = [(_is_accepted(found[0].get(one)), _is_accepted(found[1].get(one))) for one in wanted]
        return {
            "sets": [
                _of_set([rows.get(one) for one in wanted], drawn.distances)
                for rows, drawn in zip(found, (first, second), strict=True)
            ],
            "natural": median(known) if known else None,
            "difference": asdict(paired_difference(pairs)),
        }

    return {
        "classes": [{"class": name, **of([one for one in asked if one[0] == name])} for name in counts],
        "all": of(asked),
    }


def _of_set(rows: Sequence[Row | None], distances: Mapping[str, float]) -> dict[str, Any]:
    accepted = [row for row in rows if row is not None and _is_accepted(row)]
    near = [distances[row.image_id] for row in accepted if row.image_id in distances]
    return {
        "drawn": len(rows),
        "no_image": sum(row is None for row in rows),
        "accepted": len(accepted),
        "share": asdict(share(len(accepted), len(rows))),
        "distance": median(near) if near else None,
    }


def _is_accepted(row: Row | None) -> bool:
    """Whether the labeler takes an image for its class; where it is not asked to agree, its label alone says so."""
    return row is not None and row.label_verdict == "accepted" and row.label == row.prompt
