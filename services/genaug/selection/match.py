"""Matching: the made images nearest to each real training image of their class, and the reverse.

Each image is embedded once; the distances of a class are then products of matrices, in blocks. A distance is 1 minus
the cosine of two images' features, 0 to 2.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice

import numpy as np
import pyarrow as pa

from genaug.schema.common import provenance
from genaug.schema.model import read
from genaug.schema.requests import MatchRequest
from genaug.schema.selection import Match, MatchCloseness
from genaug.selection.embed import Embedding, Features, SelectionProgress, read_embedding, stacked, training_rows
from genaug.selection.nearest import (
    Pairs,
    Reals,
    copy_distance,
    find_pairs,
    natural_distances,
    stop_unless,
    unit,
)
from genaug.shared.digests import digest_of
from genaug.shared.errors import FailedPrecondition, InvalidArgument, NotFound
from genaug.shared.manifest import NEAREST_REAL, Row, encode, read_rows
from genaug.shared.provenance import now
from genaug.shared.store import Store
from genaug.vision.batching.dynamic_batcher import ModelKey
from genaug.vision.features.feature_index import SHARD
from genaug.vision.features.image_encoder import ImageEncoder, IsActive

RECIPE = "match/2"


NEAREST_MADE = pa.schema(
    [
        ("class", pa.string()),
        ("image_id", pa.string()),
        ("rank", pa.int32()),
        ("made_id", pa.string()),
        ("distance", pa.float32()),
    ]
)


def result_name(request: MatchRequest) -> str:
    """Name of the result, "matches/{digest}"; the order of manifests changes nothing."""
    manifests = sorted(set(request.labelled_manifests))
    return f"matches/{digest_of(RECIPE, {'embedding': request.embedding, 'labelled_manifests': manifests})}"


@dataclass(frozen=True)
class Images:
    """Images of one class, by image id ascending."""

    ids: tuple[str, ...]
    groups: tuple[str, ...]
    """Of real images: images of one group show the same subject, or subjects joined by near-identical photographs."""
    features: Reals
    """[n, d], each of length 1 (or 0)."""


def match(
    request: MatchRequest,
    store: Store,
    *,
    open_encoder: Callable[[ModelKey], ImageEncoder],
    is_active: IsActive = lambda: True,
) -> Iterator[SelectionProgress | Match]:
    """Match accepted made images with real ones; yield progress, then the record.

    An existing match is returned as it is.

    Args:
        open_encoder: Opens the classifier's encoder; called when it is needed.
        is_active: Whether the caller still waits; looked at between chunks and blocks.

    Raises:
        NotFound: the embedding or a manifest is not there.
        FailedPrecondition: reason EMBEDDING_MISMATCH, or CLASS_WITHOUT_IMAGES: made images of a class that the
            embedded version has no training images of.
        Cancelled: `is_active` turned False; nothing was written.
    """
    if not request.labelled_manifests:
        raise InvalidArgument("labelled_manifests: name one or more", reason="NO_MANIFEST")
    name = result_name(request)
    if not store.exists(f"{name}/match.json"):
        start = time.monotonic()
        embedding = read_embedding(store, request.embedding)
        real = _real_images(store, embedding)
        batches = [read_rows(store, key) for key in sorted(set(request.labelled_manifests))]
        rows = _accepted(batches)
        _check_classes(rows, real, embedding)
        made = yield from _made_images(
            store, rows, batches, lambda: open_encoder(ModelKey(embedding.classifier, embedding.precision)), is_active
        )
        pairs: dict[str, Pairs] = {}
        done = 0
        for class_name in made:
            pairs[class_name] = find_pairs(real[class_name].features, made[class_name].features, is_active=is_active)
            done += len(made[class_name].ids)
            yield SelectionProgress("matching", done, len(rows))
        natural = _natural(real, list(made), is_active)
        _write(store, name, real, made, pairs, natural, seconds=lambda: time.monotonic() - start)
    yield read_match(store, name)


def read_match(store: Store, name: str) -> Match:
    """Read the record of the match `name`.

    Raises:
        NotFound: no such match, or it has not been finished.
    """
    try:
        return read(store, f"{name}/match.json", Match)
    except NotFound:
        raise NotFound(f"{name}: there is no such match, or it has not been finished") from None


def _real_images(store: Store, embedding: Embedding) -> dict[str, Images]:
    """The embedded training images, by class."""
    rows = training_rows(store, embedding.dataset_version)
    if tuple(row.image_id for row in rows) != embedding.image_ids:
        raise FailedPrecondition(
            f"{embedding.name} embeds other images than {embedding.dataset_version} has now; embed it again",
            reason="EMBEDDING_MISMATCH",
        )
    return _by_class(rows, embedding.features)


def _accepted(batches: Sequence[Sequence[Row]]) -> list[Row]:
    """The accepted images of labelled batches, each once."""
    rows = (row for batch in batches for row in batch)
    return list({row.image_id: row for row in rows if row.label_verdict == "accepted"}.values())


def _check_classes(rows: Sequence[Row], real: Mapping[str, Images], embedding: Embedding) -> None:
    unknown = sorted({row.class_name for row in rows} - real.keys())
    if unknown:
        raise FailedPrecondition(
            f"{embedding.dataset_version} has no training images of {', '.join(unknown)}, which the labelled manifests "
            "hold; embed the version that their generator was fine-tuned on",
            reason="CLASS_WITHOUT_IMAGES",
        )


def _made_images(
    store: Store,
    rows: Sequence[Row],
    batches: Sequence[Sequence[Row]],
    open_encoder: Callable[[], ImageEncoder],
    is_active: IsActive,
) -> Generator[SelectionProgress, None, dict[str, Images]]:
    """Load or compute the features of the accepted images `rows` of `batches`; return them by class."""
    if not rows:
        return {}
    missing = {row.image_id for row in rows}
    features: dict[str, Features] = {}
    encoder = open_encoder()
    cache = encoder.cached
    parts: list[_Part] = []
    for shard in (batch[start : start + SHARD] for batch in batches for start in range(0, len(batch), SHARD)):
        if positions := [at for at, row in enumerate(shard) if row.image_id in missing]:
            missing -= {shard[at].image_id for at in positions}
            cached = cache is not None and cache.holds(store, [row.uri for row in shard])
            parts.append(_Part(shard, positions, cached))
    # Labelled by another classifier, or in another number format: only the images needed are computed, since a whole
    # shard would hold many that are not.
    uncached = [part.shard[at].uri for part in parts if not part.cached for at in part.positions]
    results = encoder.predict(store.read_ahead(uncached), is_active=is_active)
    try:
        for part in parts:
            stop_unless(is_active)
            if cache and part.cached:
                answers = cache.predict(store, [row.uri for row in part.shard], part.positions)
            else:
                answers = list(islice(results, len(part.positions)))
            chosen = [part.shard[at] for at in part.positions]
            features |= dict(zip((row.image_id for row in chosen), stacked(chosen, answers), strict=True))
            yield SelectionProgress("embedding", len(features), len(rows))
    finally:
        results.close()
    return _by_class(rows, np.stack([features[row.image_id] for row in rows]))


@dataclass(frozen=True)
class _Part:
    """A shard of a batch, the positions of the images needed from it, and whether its features are cached."""

    shard: Sequence[Row]
    positions: Sequence[int]
    cached: bool


def _by_class(rows: Sequence[Row], features: Features) -> dict[str, Images]:
    images = {}
    for name in sorted({row.class_name for row in rows}):
        of_class = [index for index, row in enumerate(rows) if row.class_name == name]
        of_class.sort(key=lambda index: rows[index].image_id)
        images[name] = Images(
            ids=tuple(rows[index].image_id for index in of_class),
            groups=tuple(_group(rows[index]) for index in of_class),
            features=unit(features[of_class]),
        )
    return images


def _group(row: Row) -> str:
    """Group of an image: its subjects; an image without a subject is a group of its own."""
    return row.group_id or row.subject_id or row.image_id


@dataclass(frozen=True)
class _Natural:
    """Natural closeness of a class."""

    median: float
    copy_distance: float


def _natural(real: Mapping[str, Images], classes: Sequence[str], is_active: IsActive) -> dict[str, _Natural]:
    known: dict[str, Reals] = {}

    def of_class(name: str) -> Reals:
        if name not in known:
            known[name] = natural_distances(real[name].features, real[name].groups, is_active=is_active)
        return known[name]

    def of_all() -> Reals:
        return np.concatenate([of_class(name) for name in real])

    result = {}
    for name in classes:
        own = of_class(name)
        # One subject alone has no natural distance; all classes stand in, as they do for the percentile.
        distances = own if len(own) else of_all()
        median = float(np.median(distances)) if len(distances) else 0.0
        result[name] = _Natural(median, copy_distance(own, of_all))
    return result


def _write(
    store: Store,
    name: str,
    real: Mapping[str, Images],
    made: Mapping[str, Images],
    pairs: Mapping[str, Pairs],
    natural: Mapping[str, _Natural],
    *,
    seconds: Callable[[], float],
) -> None:
    """Write both tables, then the record."""
    nearest_made, nearest_real = f"{name}/nearest_made.parquet", f"{name}/nearest_real.parquet"
    store.put_new(nearest_made, encode(_nearest_made(real, made, pairs)))
    store.put_new(nearest_real, encode(_nearest_real(real, made, pairs, natural)))
    record = Match(
        name=name,
        nearest_made=nearest_made,
        nearest_real=nearest_real,
        closenesses=tuple(
            MatchCloseness(
                class_name=class_name,
                made=len(made[class_name].ids),
                made_median=float(np.median(pairs[class_name].real_distances)),
                real_median=natural[class_name].median,
                copy_distance=natural[class_name].copy_distance,
                suspected_copies=int((pairs[class_name].real_distances < natural[class_name].copy_distance).sum()),
            )
            for class_name in made
        ),
        create_time=now(),
        provenance=provenance(RECIPE, seconds=seconds()),
    )
    store.put_new_json(f"{name}/match.json", record.json_value())


def _nearest_made(real: Mapping[str, Images], made: Mapping[str, Images], pairs: Mapping[str, Pairs]) -> pa.Table:
    tables = [NEAREST_MADE.empty_table()]
    for name, nearest in pairs.items():
        images, ranks = nearest.made.shape
        columns = [
            [name] * nearest.made.size,
            np.repeat(np.array(real[name].ids), ranks),
            np.tile(np.arange(1, ranks + 1, dtype=np.int32), images),
            np.array(made[name].ids)[nearest.made.ravel()],
            nearest.made_distances.ravel().astype(np.float32),
        ]
        tables.append(pa.table(columns, schema=NEAREST_MADE))
    return pa.concat_tables(tables).combine_chunks()


def _nearest_real(
    real: Mapping[str, Images],
    made: Mapping[str, Images],
    pairs: Mapping[str, Pairs],
    natural: Mapping[str, _Natural],
) -> pa.Table:
    tables = [NEAREST_REAL.empty_table()]
    for name, nearest in pairs.items():
        distances = nearest.real_distances[:, 0]
        columns = [
            list(made[name].ids),
            [name] * len(distances),
            np.array(real[name].ids)[nearest.real[:, 0]],
            distances.astype(np.float32),
            distances < natural[name].copy_distance,
        ]
        tables.append(pa.table(columns, schema=NEAREST_REAL))
    return pa.concat_tables(tables).combine_chunks()
