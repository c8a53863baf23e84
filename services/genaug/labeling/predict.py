"""Labels of made images: what each is taken for, and whether it may be trained on."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal, Protocol

import numpy as np
from numpy.typing import NDArray

from genaug.shared.digests import digest_of
from genaug.shared.errors import Cancelled, FailedPrecondition, InvalidArgument
from genaug.shared.manifest import LabelVerdict, Row, read_rows, write_rows
from genaug.shared.metrics import IMAGES_LABELLED
from genaug.shared.store import Store
from genaug.vision.classifiers import load, read_record
from genaug.vision.images import Pixels, decode, fitted, is_constant

RECIPE = "label/1"

Mode = Literal["MODE_AGREE", "MODE_TRUST_LABELER", "MODE_TRUST_PROMPT"]
MODES: tuple[Mode, ...] = ("MODE_AGREE", "MODE_TRUST_LABELER", "MODE_TRUST_PROMPT")
VERDICTS: tuple[LabelVerdict, ...] = ("accepted", "disagrees", "unsure", "degenerate")

# Images decoded and labelled between two looks at whether the caller is still there.
_CHUNK = 256


def mode_of(name: str) -> Mode:
    """The mode called `name`.

    Raises:
        InvalidArgument: there is none.
    """
    for mode in MODES:
        if mode == name:
            return mode
    raise InvalidArgument(f"mode: {name!r}; there are {', '.join(MODES)}", reason="UNKNOWN_MODE")


class Predictor(Protocol):
    """Whatever labels images: a classifier in this process, or a model server."""

    @property
    def classes(self) -> tuple[str, ...]:
        """The label map."""

    @property
    def thresholds(self) -> Mapping[str, float]:
        """Per class, the probability from which a label is accepted."""

    @property
    def image_size(self) -> int:
        """Height and width of the images it takes, pixels."""

    @property
    def detail(self) -> int:
        """Height and width that images are brought to before that, pixels; 0 for none."""

    @property
    def channels(self) -> int:
        """Channels of the images it takes."""

    def predict(self, pixels: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Calibrated probabilities, float32 [n, classes], of uint8 [n, image_size, image_size, channels]."""


@dataclass(frozen=True)
class Labelling:
    """What is to be labelled, and how."""

    classifier: str
    """ "classifiers/{digest}", a labeler."""
    batch: str
    """ "batches/{digest}"."""
    mode: Mode = "MODE_AGREE"
    """Who decides the class."""

    @property
    def name(self) -> str:
        """Resource name of the result, "labels/{digest}"."""
        inputs = {"classifier": self.classifier, "batch": self.batch, "mode": self.mode}
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


def open_predictor(store: Store, classifier: str, *, device: str) -> Predictor:
    """The labeler `classifier`, in this process.

    Raises:
        NotFound: there is none.
        FailedPrecondition: reason NOT_A_LABELER: what judges scenarios must not have chosen their images.
    """
    if read_record(store, classifier).get("role") != "ROLE_LABELER":
        raise FailedPrecondition(
            f"{classifier} is no labeler; train one with role ROLE_LABELER", reason="NOT_A_LABELER"
        )
    return load(store, classifier, device=device)


def label_batch(
    wanted: Labelling, store: Store, predictor: Callable[[], Predictor], *, until: Callable[[], bool] = lambda: True
) -> Iterator[Done | Labelled]:
    """Label every image of a batch and write the labelled manifest; yield progress, then the result.

    A batch that was labelled so before is not labelled again.

    Args:
        predictor: Gives the labeler of `wanted`, when it is needed.
        until: Whether the caller is still there; looked at between chunks.

    Raises:
        NotFound: the batch, or one of its images, is not in the store.
        FailedPrecondition: reason PROMPT_OUTSIDE_LABEL_MAP.
        Cancelled: `until` said no; nothing was written.
    """
    if not store.exists(wanted.manifest):
        rows = read_rows(store, f"{wanted.batch}/manifest.parquet")
        labeler = predictor()
        _check_prompts(rows, wanted, labeler.classes)
        labelled: list[Row] = []
        for start in range(0, len(rows), _CHUNK):
            if not until():
                raise Cancelled(f"labelling of {wanted.batch} was cancelled after {start} of {len(rows)} images")
            labelled += label_rows(rows[start : start + _CHUNK], store, labeler, mode=wanted.mode)
            yield Done(len(labelled), len(rows))
        write_rows(store, wanted.manifest, labelled)
        for row in labelled:
            IMAGES_LABELLED.labels(row.prompt, row.label_verdict).inc()
    yield summary(wanted, read_rows(store, wanted.manifest))


def label_rows(rows: Sequence[Row], store: Store, labeler: Predictor, *, mode: Mode) -> list[Row]:
    """`rows` with label, probabilities and verdict, in their order.

    An image that cannot be decoded, or is of one colour, is degenerate and gets no label. Else, with t the threshold
    of the label: MODE_AGREE accepts when the label is the prompt and its probability ≥ t; another label from t on
    disagrees; below t it is unsure. MODE_TRUST_LABELER accepts and takes the label for the class. MODE_TRUST_PROMPT
    accepts and leaves the class as it was asked for.
    """
    images = [_decoded(store.get(row.uri), labeler) for row in rows]
    good = [image for image in images if image is not None]
    probabilities = iter(labeler.predict(np.stack(good)) if good else ())
    return [
        replace(row, label="", probabilities={}, label_verdict="degenerate")
        if image is None
        else judge(row, next(probabilities), labeler, mode=mode)
        for row, image in zip(rows, images, strict=True)
    ]


def judge(row: Row, probabilities: NDArray[np.float32], labeler: Predictor, *, mode: Mode) -> Row:
    """`row` with label, probabilities and verdict, from the probabilities [classes] of its image."""
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


def _decoded(data: bytes, labeler: Predictor) -> Pixels | None:
    try:
        pixels = decode(data)
    except InvalidArgument:
        # Not an image at all: the verdict says so.
        return None
    if is_constant(pixels):
        return None
    return fitted(pixels, image_size=labeler.image_size, channels=labeler.channels, detail=labeler.detail)


def _check_prompts(rows: Sequence[Row], wanted: Labelling, classes: Sequence[str]) -> None:
    strange = sorted({row.prompt for row in rows} - set(classes))
    if strange:
        raise FailedPrecondition(
            f"{wanted.batch} holds images of {', '.join(strange)}, which {wanted.classifier} does not know; "
            "use a labeler with these classes in its label map",
            reason="PROMPT_OUTSIDE_LABEL_MAP",
        )
