"""How far labels are the labeler's own: two labelers, alike but for their seed, on the same images."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from sklearn.metrics import cohen_kappa_score

from genaug.evaluation.proportions import share
from genaug.shared.manifest import Row


def agreement(classes: Sequence[str], first: Sequence[Row], second: Sequence[Row]) -> dict[str, Any]:
    """What two labelers said of the same images.

    Args:
        classes: The label map.
        first: Images as the labeler labelled them, whose verdicts count.
        second: The same images as the second labeler labelled them, in any order.

    Returns:
        Empty where there is nothing to compare. Else: `same`, the share of images with the same label, with its
        interval (Wilson 1927, over images); `kappa`, Cohen's (1960), which leaves out what chance would agree on, null
        where it is not defined; `classes`, per class that was asked for: class, images, same (share and interval),
        accepted (by the first), both (of these, accepted with the same label by the second too).
    """
    # What is no photograph has no label.
    other = {row.image_id: row for row in second if row.label}
    pairs = [(row, other[row.image_id]) for row in first if row.label and row.image_id in other]
    if not pairs:
        return {}
    labels = [a.label for a, _ in pairs], [b.label for _, b in pairs]
    # One label alone: chance agrees on all of them.
    kappa = float(cohen_kappa_score(*labels)) if len({*labels[0], *labels[1]}) > 1 else None
    return {
        "images": len(pairs),
        "same": asdict(share(sum(a.label == b.label for a, b in pairs), len(pairs))),
        "kappa": kappa,
        "classes": [_of_class(name, own) for name in classes if (own := [p for p in pairs if p[0].prompt == name])],
    }


def _of_class(name: str, pairs: Sequence[tuple[Row, Row]]) -> dict[str, Any]:
    accepted = [(a, b) for a, b in pairs if a.label_verdict == "accepted"]
    both = sum(b.label_verdict == "accepted" and a.class_name == b.class_name for a, b in accepted)
    return {
        "class": name,
        "images": len(pairs),
        "same": asdict(share(sum(a.label == b.label for a, b in pairs), len(pairs))),
        "accepted": len(accepted),
        "both": both,
    }
