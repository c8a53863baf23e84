"""Images in a report: small, square, inside the file. Training and generated images only."""

from __future__ import annotations

import base64
import io
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from PIL import Image

from genaug.schema.generators import Generator
from genaug.schema.selection import Match
from genaug.shared.manifest import Row, read_nearest_real
from genaug.shared.store import Store
from genaug.vision.images.pixels import Pixels, decode, encode_png, resize

PER_STRIP = 8
PER_VERDICT = 8
PAIRS = 6
_TINY = 64
_SIDE = 128


@dataclass(frozen=True)
class Picture:
    """One image with its alternative text and caption."""

    uri: str
    """A data URI."""
    alt: str
    caption: str = ""


@dataclass(frozen=True)
class Strip:
    """Real beside generated images of one class."""

    class_name: str
    real: tuple[Picture, ...]
    generated: tuple[Picture, ...]


def is_tiny(store: Store, rows: Sequence[Row]) -> bool:
    """Whether the images are so small that they are shown pixel by pixel."""
    return bool(rows) and min(decode(store.get(rows[0].uri)).shape[:2]) <= _TINY


def strips(store: Store, classes: Iterable[str], *, real: Sequence[Row], labelled: Sequence[Row]) -> list[Strip]:
    """Of each class the first real training images and the first accepted generated ones: not a choice.

    Real ones come in the order of their ids, which are hashes; generated ones in the order they were drawn.
    """
    training = sorted((r for r in real if r.split == "train" and r.source == "real"), key=lambda r: r.image_id)
    accepted = [r for r in labelled if r.label_verdict == "accepted"]
    return [
        Strip(
            name,
            _pictures(store, [r for r in training if r.class_name == name], f"Real training image of class {name}"),
            _pictures(store, [r for r in accepted if r.class_name == name], f"Generated image accepted as {name}"),
        )
        for name in classes
    ]


def rejected(store: Store, labelled: Sequence[Row], verdict: str) -> tuple[Picture, ...]:
    """The first rejected images of one verdict, in turn from each requested class."""
    by_prompt: dict[str, list[Row]] = {}
    for row in labelled:
        if row.label_verdict == verdict:
            by_prompt.setdefault(row.prompt, []).append(row)
    order = [rows[i] for i in range(PER_VERDICT) for _, rows in sorted(by_prompt.items()) if i < len(rows)]
    return tuple(
        Picture(
            thumbnail(decode(store.get(row.uri))), f"Rejected image, asked for {row.prompt}: {verdict}", _caption(row)
        )
        for row in order[:PER_VERDICT]
    )


def grids(store: Store, generator: Generator) -> tuple[Picture, ...]:
    """The sample grids of a fine-tuning, in the order of its updates."""
    return tuple(
        Picture(
            f"data:image/png;base64,{base64.b64encode(store.get(grid.object)).decode()}",
            f"Images drawn after {grid.update} updates",
            f"after {grid.update} updates",
        )
        for grid in generator.sample_grids
    )


@dataclass(frozen=True)
class Pair:
    """A generated image beside the training image nearest to it."""

    made: Picture
    real: Picture
    caption: str


def nearest(store: Store, match: Match | None, *, real: Sequence[Row], labelled: Sequence[Row]) -> tuple[Pair, ...]:
    """The nearest pairs of a match, each training image once."""
    found = read_nearest_real(store, match.nearest_real) if match else []
    real_uris, made_uris = ({row.image_id: row.uri for row in rows} for rows in (real, labelled))
    pairs: dict[str, Pair] = {}
    for row in sorted(found, key=lambda row: (row.distance, row.made_id)):
        if row.image_id in pairs:
            continue
        name = row.class_name
        pairs[row.image_id] = Pair(
            Picture(thumbnail(decode(store.get(made_uris[row.made_id]))), f"Generated image of class {name}"),
            Picture(thumbnail(decode(store.get(real_uris[row.image_id]))), f"Training image of class {name}"),
            f"{name}, distance {row.distance:.4f}" + (", suspected copy" if row.copy else ""),
        )
        if len(pairs) == PAIRS:
            break
    return tuple(pairs.values())


def thumbnail(pixels: Pixels) -> str:
    """A data URI of the centred square: tiny images as they are (PNG), others at 128 pixels (JPEG)."""
    side = min(pixels.shape[:2])
    if side <= _TINY:
        return f"data:image/png;base64,{base64.b64encode(encode_png(resize(pixels, side))).decode()}"
    small = resize(pixels, min(side, _SIDE))
    sink = io.BytesIO()
    Image.fromarray(small[:, :, 0] if small.shape[2] == 1 else small).save(sink, "JPEG", quality=85)
    return f"data:image/jpeg;base64,{base64.b64encode(sink.getvalue()).decode()}"


def _pictures(store: Store, rows: Sequence[Row], alt: str) -> tuple[Picture, ...]:
    return tuple(Picture(thumbnail(decode(store.get(row.uri))), alt) for row in rows[:PER_STRIP])


def _caption(row: Row) -> str:
    if not row.label:
        return f"asked {row.prompt}"
    probability = row.probabilities.get(row.label)
    return f"asked {row.prompt}, looks {row.label}" + ("" if probability is None else f" ({probability:.2f})")
