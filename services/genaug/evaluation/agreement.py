"""Agreement of two labelers, alike but for their seed, on the same images."""

from __future__ import annotations

from collections.abc import Sequence

from sklearn.metrics import cohen_kappa_score

from genaug.evaluation.entry import Entry
from genaug.evaluation.proportions import share
from genaug.schema.evaluation import Estimate
from genaug.shared.manifest import Row


class ClassAgreement(Entry):
    """Agreement on the images that were requested of one class."""

    class_name: str
    images: int
    same: Estimate
    """Share of images with the same label."""
    accepted: int
    """Images that the first labeler accepted."""
    both: int
    """Of these, images that the second accepted as the same class."""


class Agreement(Entry):
    """Agreement of two labelers."""

    images: int
    same: Estimate
    """Share of images with the same label, with its interval (Wilson 1927, over images)."""
    kappa: float | None
    """Cohen's (1960), which leaves out agreement by chance; None where it is not defined."""
    classes: tuple[ClassAgreement, ...]
    """Of each class that was requested."""


def agreement(classes: Sequence[str], first: Sequence[Row], second: Sequence[Row]) -> Agreement | None:
    """Compare the labels of two labelers; None without a common image.

    Args:
        classes: The label map.
        first: Images labelled by the labeler, whose verdicts count.
        second: The same images labelled by the second labeler, in any order.
    """
    # Degenerate images have no label.
    others = {row.image_id: row for row in second if row.label}
    pairs = [(row, others[row.image_id]) for row in first if row.label and row.image_id in others]
    if not pairs:
        return None
    labels = [a.label for a, _ in pairs], [b.label for _, b in pairs]
    # With a single label, all agreement is by chance.
    kappa = float(cohen_kappa_score(*labels)) if len({*labels[0], *labels[1]}) > 1 else None
    by_class = {name: [pair for pair in pairs if pair[0].prompt == name] for name in classes}
    return Agreement(
        images=len(pairs),
        same=_same(pairs),
        kappa=kappa,
        classes=tuple(_class_agreement(name, own) for name, own in by_class.items() if own),
    )


def _class_agreement(name: str, pairs: Sequence[tuple[Row, Row]]) -> ClassAgreement:
    accepted = [(a, b) for a, b in pairs if a.label_verdict == "accepted"]
    both = sum(b.label_verdict == "accepted" and a.class_name == b.class_name for a, b in accepted)
    return ClassAgreement(class_name=name, images=len(pairs), same=_same(pairs), accepted=len(accepted), both=both)


def _same(pairs: Sequence[tuple[Row, Row]]) -> Estimate:
    return share(sum(a.label == b.label for a, b in pairs), len(pairs))
