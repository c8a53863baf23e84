"""Labels of made images: what each is taken for, and whether it may be trained on."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal

from genaug.labeling.predictor import Predictor
from genaug.shared.digests import digest_of
from genaug.shared.errors import Cancelled, FailedPrecondition, InvalidArgument
from genaug.shared.manifest import LabelVerdict, Row, read_rows, write_rows
from genaug.shared.metrics import IMAGES_LABELLED
from genaug.shared.store import Store
from genaug.vision.batching.dynamic_batcher import Seen
from genaug.vision.features.image_encoder import Until, see_all
from genaug.vision.models.precision import FLOAT32

RECIPE = "label/2"

Mode = Literal["MODE_AGREE", "MODE_TRUST_LABELER", "MODE_TRUST_PROMPT"]
MODES: tuple[Mode, ...] = ("MODE_AGREE", "MODE_TRUST_LABELER", "MODE_TRUST_PROMPT")
VERDICTS: tuple[LabelVerdict, ...] = ("accepted", "disagrees", "unsure", "degenerate")


def mode_of(name: str) -> Mode:
    """The mode called `name`.

    Raises:
        InvalidArgument: there is none.
    """
    for mode in MODES:
        if mode == name:
            return mode
    raise InvalidArgument(f"mode: {name!r}; there are {', '.join(MODES)}", reason="UNKNOWN_MODE")


@dataclass(frozen=True)
class Labelling:
    """What is to be labelled, and how."""

    classifier: str
    """ "classifiers/{digest}", a labeler."""
    batch: str
    """ "batches/{digest}"."""
    mode: Mode = "MODE_AGREE"
    """Who decides the class."""
    precision: str = FLOAT32
    """What the labeler computes in: labels near a threshold depend on it."""

    @property
    def name(self) -> str:
        """Resource name of the result, "labels/{digest}"."""
        inputs = {"classifier": self.classifier, "batch": self.batch, "mode": self.mode, "precision": self.precision}
        return f"labels/{digest_of(RECIPE, inputs)}"

    @property
    def manifest(self) -> str:
        """Where the result lies."""
        return f"{self.name}/manifest.parquet"


@dataclass(frozen=True)
class Labelled:
    """A labelled batch."""

    name: str
    manifest: str
    acceptances: Mapping[str, Mapping[LabelVerdict, int]]
    """Images by prompt class and verdict."""
    kept: Mapping[str, int]
    """Accepted images by the class that they are kept as."""
    disagreements: Mapping[tuple[str, str], int]
    """Images by prompt class and label; degenerate ones have no label."""


@dataclass(frozen=True)
class Done:
    """How far the labelling is."""

    done: int
    total: int


def label_batch(
    wanted: Labelling, store: Store, predictor: Callable[[], Predictor], *, until: Until = lambda: True
) -> Iterator[Done | Labelled]:
    """Label every image of a batch and write the labelled manifest; yield progress, then the result.

    A batch that was labelled so before is not labelled again. Features that a pass gives on the way are written to
    shards, and images whose features are there are not seen again.

    Args:
        predictor: Gives the labeler of `wanted`, when it is needed.
        until: Whether the caller is still there.

    Raises:
        NotFound: the batch, or one of its images, is not in the store.
        FailedPrecondition: reason PROMPT_OUTSIDE_LABEL_MAP.
        Cancelled: `until` said no; no labels were written.
    """
    if not store.exists(wanted.manifest):
        rows = read_rows(store, f"{wanted.batch}/manifest.parquet")
        labeler = predictor()
        _check_prompts(rows, wanted, labeler.classes)
        labelled: list[Row] = []
        for seen in see_all(store, [row.uri for row in rows], labeler, until=until):
            if not until():
                raise Cancelled(f"labelling was cancelled after {len(labelled)} of {len(rows)} images")
            start = len(labelled)
            labelled += [
                judge(row, one, labeler, mode=wanted.mode)
                for row, one in zip(rows[start : start + len(seen)], seen, strict=True)
            ]
            yield Done(len(labelled), len(rows))
        write_rows(store, wanted.manifest, labelled)
        for row in labelled:
            IMAGES_LABELLED.labels(row.prompt, row.label_verdict).inc()
    yield summary(wanted, read_rows(store, wanted.manifest))


def judge(row: Row, seen: Seen, labeler: Predictor, *, mode: Mode) -> Row:
    """`row` with label, probabilities and verdict, from what the labeler made of its image.

    What is no photograph is degenerate. MODE_AGREE accepts an image whose label is its prompt and probable enough;
    MODE_TRUST_LABELER accepts and takes the label for the class. MODE_TRUST_PROMPT accepts and leaves the class as it
    was asked for.
    """
    if seen.status != "OK" or seen.probabilities is None:
        return replace(row, label="", probabilities={}, label_verdict="degenerate")
    probabilities = seen.probabilities
    top = int(probabilities.argmax())
    label = labeler.classes[top]
    sure = bool(probabilities[top] >= labeler.thresholds[label])
    verdict: LabelVerdict = "accepted"
    if mode == "MODE_AGREE":
        verdict = "unsure" if not sure else "accepted" if label == row.prompt else "disagrees"
    return replace(
        row,
        class_name=label if mode == "MODE_TRUST_LABELER" else row.class_name,
        label=label,
        probabilities={name: float(p) for name, p in zip(labeler.classes, probabilities, strict=True)},
        label_verdict=verdict,
    )


def summary(wanted: Labelling, rows: Sequence[Row]) -> Labelled:
    """What became of the images of a labelled batch."""
    kept = Counter(row.class_name for row in rows if row.label_verdict == "accepted")
    pairs = Counter((row.prompt, row.label) for row in rows if row.label)
    return Labelled(
        wanted.name, wanted.manifest, acceptances(rows), dict(sorted(kept.items())), dict(sorted(pairs.items()))
    )


def acceptances(rows: Sequence[Row]) -> dict[str, dict[LabelVerdict, int]]:
    """Images by prompt class and verdict, sorted by class."""
    found = Counter((row.prompt, row.label_verdict) for row in rows)
    return {
        prompt: {verdict: found[prompt, verdict] for verdict in VERDICTS}
        for prompt in sorted({row.prompt for row in rows})
    }


def _check_prompts(rows: Sequence[Row], wanted: Labelling, classes: Sequence[str]) -> None:
    strange = sorted({row.prompt for row in rows} - set(classes))
    if strange:
        raise FailedPrecondition(
            f"{wanted.batch} holds images of {', '.join(strange)}, which {wanted.classifier} does not know; "
            "use a labeler with these classes in its label map",
            reason="PROMPT_OUTSIDE_LABEL_MAP",
        )
