"""Labels of made images, and the verdict whether each may be trained on."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace

from genaug.labeling.predictor import Predictor
from genaug.schema.common import class_counts
from genaug.schema.requests import Acceptance, Disagreement, LabelledBatch, LabelRequest
from genaug.schema.run import LabelingMode
from genaug.shared.digests import digest_of
from genaug.shared.errors import Cancelled, FailedPrecondition
from genaug.shared.manifest import LabelVerdict, Row, read_rows, write_rows
from genaug.shared.metrics import IMAGES_LABELLED
from genaug.shared.store import Store
from genaug.vision.batching.dynamic_batcher import ImageResult
from genaug.vision.features.image_encoder import IsActive, predict_all

RECIPE = "label/2"

VERDICTS: tuple[LabelVerdict, ...] = ("accepted", "disagrees", "unsure", "degenerate")


@dataclass(frozen=True)
class LabelingProgress:
    """Images labelled so far, and in all."""

    done: int
    total: int


def result_name(request: LabelRequest) -> str:
    """Name of the result, "labels/{digest}"."""
    return f"labels/{digest_of(RECIPE, request.json_value())}"


def label_batch(
    request: LabelRequest, store: Store, predictor: Callable[[], Predictor], *, is_active: IsActive = lambda: True
) -> Iterator[LabelingProgress | LabelledBatch]:
    """Label every image of a batch and write the labelled manifest; yield progress, then the result.

    An existing result is returned as it is. Features computed on the way are written to the feature index, and images
    whose features are there are not read again.

    Args:
        predictor: Returns the request's labeler; called when it is needed.
        is_active: Whether the caller still waits.

    Raises:
        NotFound: the batch, or one of its images, is not in the store.
        FailedPrecondition: reason PROMPT_OUTSIDE_LABEL_MAP.
        Cancelled: `is_active` turned False; no labels were written.
    """
    name = result_name(request)
    manifest = f"{name}/manifest.parquet"
    if not store.exists(manifest):
        rows = read_rows(store, f"{request.batch}/manifest.parquet")
        labeler = predictor()
        _check_prompts(rows, request, labeler.classes)
        labelled: list[Row] = []
        for results in predict_all(store, [row.uri for row in rows], labeler, is_active=is_active):
            if not is_active():
                raise Cancelled(f"labelling was cancelled after {len(labelled)} of {len(rows)} images")
            start = len(labelled)
            labelled += [
                label_row(row, result, labeler, mode=request.mode)
                for row, result in zip(rows[start : start + len(results)], results, strict=True)
            ]
            yield LabelingProgress(len(labelled), len(rows))
        write_rows(store, manifest, labelled)
        for row in labelled:
            IMAGES_LABELLED.labels(row.prompt, row.label_verdict).inc()
    yield summary(name, read_rows(store, manifest))


def label_row(row: Row, result: ImageResult, labeler: Predictor, *, mode: LabelingMode) -> Row:
    """Add label, probabilities and verdict to `row`.

    An image of one colour, or an unreadable one, is degenerate. AGREE accepts an image whose label is its prompt and
    probable enough; TRUST_LABELER accepts and takes the label as the class; TRUST_PROMPT accepts and keeps the class.
    """
    if result.status != "OK" or result.probabilities is None:
        return replace(row, label="", probabilities={}, label_verdict="degenerate")
    probabilities = result.probabilities
    top = int(probabilities.argmax())
    label = labeler.classes[top]
    sure = bool(probabilities[top] >= labeler.thresholds[label])
    verdict: LabelVerdict = "accepted"
    if mode == LabelingMode.AGREE:
        verdict = "unsure" if not sure else "accepted" if label == row.prompt else "disagrees"
    return replace(
        row,
        class_name=label if mode == LabelingMode.TRUST_LABELER else row.class_name,
        label=label,
        probabilities={name: float(p) for name, p in zip(labeler.classes, probabilities, strict=True)},
        label_verdict=verdict,
    )


def summary(name: str, rows: Sequence[Row]) -> LabelledBatch:
    """Counts of a labelled batch: by prompt and verdict, by kept class, by prompt and label."""
    verdicts = Counter((row.prompt, row.label_verdict) for row in rows)
    kept = Counter(row.class_name for row in rows if row.label_verdict == "accepted")
    # Degenerate images have no label.
    pairs = Counter((row.prompt, row.label) for row in rows if row.label)
    return LabelledBatch(
        name=name,
        manifest=f"{name}/manifest.parquet",
        acceptances=tuple(
            Acceptance(class_name=prompt, **{verdict: verdicts[prompt, verdict] for verdict in VERDICTS})
            for prompt in sorted({row.prompt for row in rows})
        ),
        kept=class_counts(dict(sorted(kept.items()))),
        disagreements=tuple(
            Disagreement(class_name=prompt, label=label, count=count)
            for (prompt, label), count in sorted(pairs.items())
        ),
    )


def _check_prompts(rows: Sequence[Row], request: LabelRequest, classes: Sequence[str]) -> None:
    unknown = sorted({row.prompt for row in rows} - set(classes))
    if unknown:
        raise FailedPrecondition(
            f"{request.batch} holds images of {', '.join(unknown)}, which {request.classifier} does not know; "
            "use a labeler with these classes in its label map",
            reason="PROMPT_OUTSIDE_LABEL_MAP",
        )
