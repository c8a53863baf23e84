"""Matching: the made images nearest to each real training image of their class, and the other way round.

Each image is embedded once; the distances of a class are then products of matrices, in blocks. A distance is 1 minus
the cosine of two images' features, 0 to 2.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any

import numpy as np
import pyarrow as pa

from genaug.schema.common import provenance
from genaug.selection.embed import Doing, Embedding, Features, read_embedding, stacked, training_rows
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
from genaug.shared.manifest import Row, encode, read_rows
from genaug.shared.provenance import now
from genaug.shared.store import Store
from genaug.vision.batching.dynamic_batcher import Model
from genaug.vision.features.feature_index import SHARD
from genaug.vision.features.image_encoder import ImageEncoder, Until

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
NEAREST_REAL = pa.schema(
    [
        ("made_id", pa.string()),
        ("class", pa.string()),
        ("image_id", pa.string()),
        ("distance", pa.float32()),
        ("copy", pa.bool_()),
    ]
)


@dataclass(frozen=True)
class Matching:
    """A match to be made.

    Raises:
        InvalidArgument: no manifest is named.
    """

    embedding: str
    """ "embeddings/{digest}" of the real training images; its classifier embeds the made ones too."""
    labelled_manifests: tuple[str, ...]
    """Store keys of labelled manifests; their accepted images are matched."""

    def __post_init__(self) -> None:
        if not self.labelled_manifests:
            raise InvalidArgument("labelled_manifests: name one or more", reason="NO_MANIFEST")

    @property
    def name(self) -> str:
        """Resource name of the result, "matches/{digest}"; the order of manifests changes nothing."""
        manifests = sorted(set(self.labelled_manifests))
        return f"matches/{digest_of(RECIPE, {'embedding': self.embedding, 'labelled_manifests': manifests})}"


@dataclass(frozen=True)
class Images:
    """Images of one class, by image id ascending."""

    ids: tuple[str, ...]
    groups: tuple[str, ...]
    """Of real images: images of one group show the same subject, or subjects joined by near-identical photographs."""
    features: Reals
    """[n, d], each of length 1 (or 0)."""


def match(
    wanted: Matching, store: Store, *, eye: Callable[[Model], ImageEncoder], until: Until = lambda: True
) -> Iterator[Doing | dict[str, Any]]:
    """Make the match `wanted`; yield progress, then the record (`genaug.v1.Match` as plain JSON).

    A match that is there is not made again.

    Args:
        eye: Gives the classifier, when it is needed.
        until: Whether the caller is still there; looked at between chunks and blocks.

    Raises:
        NotFound: the embedding or a manifest is not there.
        FailedPrecondition: reason EMBEDDING_MISMATCH, or CLASS_WITHOUT_IMAGES: made images of a class that the
            embedded version has no training images of.
        Cancelled: `until` said no; nothing was written.
    """
    if not store.exists(f"{wanted.name}/match.json"):
        start = time.monotonic()
        embedding = read_embedding(store, wanted.embedding)
        real = _real_images(store, embedding)
        batches = [read_rows(store, key) for key in sorted(set(wanted.labelled_manifests))]
        rows = _accepted(batches)
        _check_classes(rows, real, embedding)
        made = yield from _made_images(
            store, rows, batches, lambda: eye(Model(embedding.classifier, embedding.precision)), until
        )
        pairs: dict[str, Pairs] = {}
        done = 0
        for name in made:
            pairs[name] = find_pairs(real[name].features, made[name].features, until=until)
            done += len(made[name].ids)
            yield Doing("matching", done, len(rows))
        natural = _natural(real, list(made), until)
        _write(store, wanted.name, real, made, pairs, natural, seconds=lambda: time.monotonic() - start)
    yield read_match(store, wanted.name)


def read_match(store: Store, name: str) -> dict[str, Any]:
    """The record of the match `name`.

    Raises:
        NotFound: there is none, or it has not been finished.
    """
    try:
        record: dict[str, Any] = store.get_json(f"{name}/match.json")
    except NotFound:
        raise NotFound(f"{name}: there is no such match, or it has not been finished") from None
    return record


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
    strange = sorted({row.class_name for row in rows} - real.keys())
    if strange:
        raise FailedPrecondition(
            f"{embedding.dataset_version} has no training images of {', '.join(strange)}, which the labelled manifests "
            "hold; embed the version that their generator was fine-tuned on",
            reason="CLASS_WITHOUT_IMAGES",
        )


def _made_images(
    store: Store, rows: Sequence[Row], batches: Sequence[Sequence[Row]], eye: Callable[[], ImageEncoder], until: Until
) -> Generator[Doing, None, dict[str, Images]]:
    """The accepted images `rows` of `batches` with their features: those that labelling kept, and others seen now."""
    if not rows:
        return {}
    missing = {row.image_id for row in rows}
    found: dict[str, Features] = {}
    opened = eye()
    memory = opened.memory
    parts: list[_Part] = []
    for part in (batch[start : start + SHARD] for batch in batches for start in range(0, len(batch), SHARD)):
        if wanted := [index for index, row in enumerate(part) if row.image_id in missing]:
            missing -= {part[index].image_id for index in wanted}
            kept = memory is not None and memory.holds(store, [row.uri for row in part])
            parts.append(_Part(part, wanted, kept))
    # Another classifier labelled them, or another format; the shard would hold many that nobody asks for.
    unseen = [one.part[index].uri for one in parts if not one.kept for index in one.wanted]
    answers = opened.predict(store.read_ahead(unseen), until=until)
    try:
        for one in parts:
            stop_unless(until)
            if memory and one.kept:
                seen = memory.answers(store, [row.uri for row in one.part], one.wanted)
            else:
                seen = list(islice(answers, len(one.wanted)))
            chosen = [one.part[index] for index in one.wanted]
            found |= {row.image_id: each for row, each in zip(chosen, stacked(chosen, seen), strict=True)}
            yield Doing("embedding", len(found), len(rows))
    finally:
        answers.close()
    return _by_class(rows, np.stack([found[row.image_id] for row in rows]))


@dataclass(frozen=True)
class _Part:
    """A shard's images, those of them that are wanted, and whether the shard is there."""

    part: Sequence[Row]
    wanted: Sequence[int]
    kept: bool


def _by_class(rows: Sequence[Row], features: Features) -> dict[str, Images]:
    found = {}
    for name in sorted({row.class_name for row in rows}):
        of_class = [index for index, row in enumerate(rows) if row.class_name == name]
        of_class.sort(key=lambda index: rows[index].image_id)
        found[name] = Images(
            ids=tuple(rows[index].image_id for index in of_class),
            groups=tuple(_group(rows[index]) for index in of_class),
            features=unit(features[of_class]),
        )
    return found


def _group(row: Row) -> str:
    """Who is shown; an image of nobody in particular is a group of its own."""
    return row.group_id or row.subject_id or row.image_id


@dataclass(frozen=True)
class _Natural:
    """Natural closeness of a class."""

    median: float
    copy_distance: float


def _natural(real: Mapping[str, Images], classes: Sequence[str], until: Until) -> dict[str, _Natural]:
    known: dict[str, Reals] = {}

    def of_class(name: str) -> Reals:
        if name not in known:
            known[name] = natural_distances(real[name].features, real[name].groups, until=until)
        return known[name]

    def of_all() -> Reals:
        return np.concatenate([of_class(name) for name in real])

    result = {}
    for name in classes:
        own = of_class(name)
        # Of one subject alone nothing is known; all classes stand in, as they do for the percentile.
        shown = own if len(own) else of_all()
        median = float(np.median(shown)) if len(shown) else 0.0
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
    keys = {table: f"{name}/{table}.parquet" for table in ("nearest_made", "nearest_real")}
    store.put_new(keys["nearest_made"], encode(_nearest_made(real, made, pairs)))
    store.put_new(keys["nearest_real"], encode(_nearest_real(real, made, pairs, natural)))
    closenesses = [
        {
            "class_name": kind,
            "made": len(made[kind].ids),
            "made_median": float(np.median(pairs[kind].real_distances)),
            "real_median": natural[kind].median,
            "copy_distance": natural[kind].copy_distance,
            "suspected_copies": int((pairs[kind].real_distances < natural[kind].copy_distance).sum()),
        }
        for kind in made
    ]
    record = {
        "name": name,
        **keys,
        "closenesses": closenesses,
        "create_time": now(),
        "provenance": provenance(RECIPE, seconds=seconds()),
    }
    store.put_new_json(f"{name}/match.json", record)


def _nearest_made(real: Mapping[str, Images], made: Mapping[str, Images], pairs: Mapping[str, Pairs]) -> pa.Table:
    tables = [NEAREST_MADE.empty_table()]
    for name, found in pairs.items():
        images, ranks = found.made.shape
        columns = [
            [name] * found.made.size,
            np.repeat(np.array(real[name].ids), ranks),
            np.tile(np.arange(1, ranks + 1, dtype=np.int32), images),
            np.array(made[name].ids)[found.made.ravel()],
            found.made_distances.ravel().astype(np.float32),
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
    for name, found in pairs.items():
        distances = found.real_distances[:, 0]
        columns = [
            list(made[name].ids),
            [name] * len(distances),
            np.array(real[name].ids)[found.real[:, 0]],
            distances.astype(np.float32),
            distances < natural[name].copy_distance,
        ]
        tables.append(pa.table(columns, schema=NEAREST_REAL))
    return pa.concat_tables(tables).combine_chunks()
