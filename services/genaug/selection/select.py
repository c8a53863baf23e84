"""Step 4: dominant classes reduced to images that stand for all, beside a random control of equal size."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from genaug.schema.common import provenance
from genaug.selection.choose import METHODS, Method, choose, choose_at_random, feature_space
from genaug.selection.embed import Doing, Features, read_embedding, training_rows
from genaug.selection.export import selected_csv
from genaug.selection.kernel import Gaussian
from genaug.selection.project import Plane, project
from genaug.selection.quality import Quality, quality
from genaug.shared.digests import digest_of, seed_of
from genaug.shared.errors import Cancelled, FailedPrecondition, InvalidArgument, NotFound
from genaug.shared.manifest import encode
from genaug.shared.provenance import now
from genaug.shared.store import Store

RECIPE = "select/2"

SCHEMA = pa.schema(
    [
        ("image_id", pa.string()),
        ("class", pa.string()),
        ("x", pa.float32()),
        ("y", pa.float32()),
        ("chosen", pa.bool_()),
        ("random", pa.bool_()),
    ]
)


@dataclass(frozen=True)
class Wanted:
    """A selection to be made.

    Raises:
        InvalidArgument: no class is named, one is named twice, or `kept` is below 1.
    """

    dataset_version: str
    embedding: str
    classes: tuple[str, ...]
    """The dominant classes."""
    kept: int
    """Images kept of each; all where there are fewer."""
    method: Method = "METHOD_TSNE_GRID"
    seed: int = 0

    def __post_init__(self) -> None:
        if not self.classes or len(set(self.classes)) != len(self.classes):
            raise InvalidArgument(
                f"spec.classes: {list(self.classes)}; name the dominant classes, each once", reason="BAD_CLASSES"
            )
        if self.kept < 1:
            raise InvalidArgument(f"spec.kept: {self.kept}; keep one image per class or more", reason="BAD_KEPT")

    @property
    def spec(self) -> dict[str, Any]:
        """`SelectionSpec` as plain JSON; classes sorted, since their order changes nothing."""
        return {"classes": sorted(self.classes), "method": self.method, "kept": self.kept, "seed": self.seed}

    @property
    def name(self) -> str:
        """Resource name of the result, "selections/{digest}"."""
        inputs = {"dataset_version": self.dataset_version, "embedding": self.embedding, "spec": self.spec}
        return f"selections/{digest_of(RECIPE, inputs)}"


def method_of(name: str) -> Method:
    """The method called `name`.

    Raises:
        InvalidArgument: there is none.
    """
    for method in METHODS:
        if method == name:
            return method
    raise InvalidArgument(f"spec.method: {name!r}; there are {', '.join(METHODS)}", reason="UNKNOWN_METHOD")


def select(
    wanted: Wanted, store: Store, *, until: Callable[[], bool] = lambda: True
) -> Iterator[Doing | dict[str, Any]]:
    """Make the selection `wanted`; yield progress, then the record (`genaug.v1.Selection` as plain JSON).

    The map and the manifest hold all real training rows of the version; those of other classes are all chosen. A
    selection that is there is not made again.

    Raises:
        NotFound: the version or the embedding is not there.
        FailedPrecondition: reason EMBEDDING_MISMATCH, or CLASS_WITHOUT_IMAGES.
        Cancelled: `until` said no; nothing was written.
    """
    if not store.exists(f"{wanted.name}/selection.json"):
        start = time.monotonic()
        image_ids, classes = _rows(wanted, store)
        features = _features(wanted, store, image_ids)
        yield Doing("projecting", 0, len(image_ids))
        # By image id, whatever the order of the manifest: so the map and the choice are those of a set of images.
        order = np.argsort(np.array(image_ids), kind="stable")
        points = project(features[order], seed=wanted.seed)
        if not until():
            raise Cancelled(f"selection among {wanted.dataset_version} was cancelled after the projection")
        yield Doing("choosing", len(image_ids), len(image_ids))
        chosen, control, qualities = _choose(wanted, np.array(classes)[order], points, features[order])
        place = np.argsort(order)
        columns = [
            image_ids,
            classes,
            points[place, 0].astype(np.float32),
            points[place, 1].astype(np.float32),
            chosen[place],
            control[place],
        ]
        table = pa.table(columns, schema=SCHEMA)
        store.put_new(f"{wanted.name}/manifest.parquet", encode(table))
        store.put_new(f"{wanted.name}/selected.csv", selected_csv(table))
        record = {
            "name": wanted.name,
            "manifest": f"{wanted.name}/manifest.parquet",
            "spec": wanted.spec,
            "qualities": [_quality(name, found) for name, found in qualities.items()],
            "create_time": now(),
            "provenance": provenance(RECIPE, seconds=time.monotonic() - start),
        }
        store.put_new_json(f"{wanted.name}/selection.json", record)
    yield read_selection(store, wanted.name)


def read_selection(store: Store, name: str) -> dict[str, Any]:
    """The record of the selection `name`.

    Raises:
        NotFound: there is none, or it has not been finished.
    """
    try:
        record: dict[str, Any] = store.get_json(f"{name}/selection.json")
    except NotFound:
        raise NotFound(f"{name}: there is no such selection, or it has not been finished") from None
    return record


def read_selected_csv(store: Store, name: str) -> bytes:
    """The kept images of the selection `name` as a table; see `genaug.selection.export`.

    Raises:
        NotFound: there is no such selection, or an earlier version of genaug wrote it, without a table.
    """
    read_selection(store, name)
    try:
        return store.get(f"{name}/selected.csv")
    except NotFound:
        raise NotFound(f"{name} was written by an earlier version of genaug; select again to have its table") from None


def _rows(wanted: Wanted, store: Store) -> tuple[list[str], list[str]]:
    rows = training_rows(store, wanted.dataset_version)
    there = Counter(row.class_name for row in rows)
    missing = [name for name in wanted.classes if name not in there]
    if missing:
        raise FailedPrecondition(
            f"{wanted.dataset_version}: no training images of {', '.join(missing)}; leave them out of spec.classes",
            reason="CLASS_WITHOUT_IMAGES",
        )
    return [row.image_id for row in rows], [row.class_name for row in rows]


def _features(wanted: Wanted, store: Store, image_ids: Sequence[str]) -> Features:
    embedding = read_embedding(store, wanted.embedding)
    if list(embedding.image_ids) != list(image_ids):
        raise FailedPrecondition(
            f"{wanted.embedding} embeds other images than the training rows of {wanted.dataset_version}; "
            "embed this version first",
            reason="EMBEDDING_MISMATCH",
        )
    return embedding.features


def _choose(
    wanted: Wanted, classes: NDArray[np.str_], points: Plane, features: Features
) -> tuple[NDArray[np.bool_], NDArray[np.bool_], Mapping[str, Quality]]:
    """Which rows are chosen, which are in the control, and the quality of both per dominant class.

    Args:
        classes: [n], of rows that ascend by image id, as `points` [n, 2] and `features` [n, d].
    """
    chosen = ~np.isin(classes, wanted.classes)
    control = chosen.copy()
    qualities = {}
    for name in sorted(wanted.classes):
        rows = np.flatnonzero(classes == name)
        seed = seed_of(wanted.seed, name)
        space = feature_space(features[rows])
        choices = {
            method: choose(points[rows], space, method=method, kept=wanted.kept, seed=seed) for method in METHODS
        }
        other = choose_at_random(len(rows), kept=wanted.kept, seed=seed, purpose="control")
        chosen[rows[choices[wanted.method]]] = True
        control[rows[other]] = True
        kernel = Gaussian.of(features[rows], seed=wanted.seed)
        qualities[name] = quality(points[rows], kernel, method=wanted.method, choices=choices, control=other)
    return chosen, control, qualities


def _quality(name: str, found: Quality) -> dict[str, Any]:
    """`genaug.v1.Selection.Quality` as plain JSON."""
    plain = asdict(found)
    return {"class_name": name, **plain, "alternatives": list(plain["alternatives"])}
