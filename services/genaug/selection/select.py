"""Step 4: reduction of dominant classes to representative images, beside a random control of equal size."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from genaug.schema.common import provenance
from genaug.schema.model import read
from genaug.schema.requests import SelectRequest
from genaug.schema.selection import Selection, SelectionMethod, SelectionQuality, SelectionSpec
from genaug.selection.choose import choose, choose_at_random, feature_space
from genaug.selection.embed import Features, SelectionProgress, read_embedding, training_rows
from genaug.selection.export import selected_csv
from genaug.selection.kernel import Gaussian
from genaug.selection.project import Plane, project
from genaug.selection.quality import quality
from genaug.shared.digests import digest_of, seed_of
from genaug.shared.errors import Cancelled, FailedPrecondition, InvalidArgument, NotFound
from genaug.shared.manifest import encode
from genaug.shared.provenance import now
from genaug.shared.store import Store
from genaug.vision.features.image_encoder import IsActive

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


def check_request(request: SelectRequest) -> None:
    """Refuse a request without classes, with a class twice, or that keeps nothing.

    Raises:
        InvalidArgument: reason BAD_CLASSES or BAD_KEPT.
    """
    spec = request.spec
    if not spec.classes or len(set(spec.classes)) != len(spec.classes):
        raise InvalidArgument(
            f"spec.classes: {list(spec.classes)}; name the dominant classes, each once", reason="BAD_CLASSES"
        )
    if spec.kept < 1:
        raise InvalidArgument(f"spec.kept: {spec.kept}; keep one image per class or more", reason="BAD_KEPT")


def result_name(request: SelectRequest) -> str:
    """Name of the result, "selections/{digest}"; the order of classes changes nothing."""
    return f"selections/{digest_of(RECIPE, _sorted(request).json_value())}"


def _sorted(request: SelectRequest) -> SelectRequest:
    spec = request.spec.model_copy(update={"classes": tuple(sorted(request.spec.classes))})
    return request.model_copy(update={"spec": spec})


def select(
    request: SelectRequest, store: Store, *, is_active: IsActive = lambda: True
) -> Iterator[SelectionProgress | Selection]:
    """Select images of the dominant classes; yield progress, then the record.

    The map and the manifest hold all real training rows of the version; images of other classes are all
    chosen. An existing selection is returned as it is.

    Raises:
        NotFound: the version or the embedding is not there.
        FailedPrecondition: reason EMBEDDING_MISMATCH, or CLASS_WITHOUT_IMAGES.
        Cancelled: `is_active` turned False; nothing was written.
    """
    check_request(request)
    name = result_name(request)
    if not store.exists(f"{name}/selection.json"):
        start = time.monotonic()
        request = _sorted(request)
        image_ids, classes = _rows(request, store)
        features = _features(request, store, image_ids)
        yield SelectionProgress("projecting", 0, len(image_ids))
        # Sorted by image id, so that map and choice do not depend on the order of the manifest.
        order = np.argsort(np.array(image_ids), kind="stable")
        points = project(features[order], seed=request.spec.seed)
        if not is_active():
            raise Cancelled(f"selection among {request.dataset_version} was cancelled after the projection")
        yield SelectionProgress("choosing", len(image_ids), len(image_ids))
        chosen, control, qualities = _choose(request.spec, np.array(classes)[order], points, features[order])
        positions = np.argsort(order)
        columns = [
            image_ids,
            classes,
            points[positions, 0].astype(np.float32),
            points[positions, 1].astype(np.float32),
            chosen[positions],
            control[positions],
        ]
        table = pa.table(columns, schema=SCHEMA)
        store.put_new(f"{name}/manifest.parquet", encode(table))
        store.put_new(f"{name}/selected.csv", selected_csv(table))
        record = Selection(
            name=name,
            manifest=f"{name}/manifest.parquet",
            spec=request.spec,
            qualities=tuple(qualities),
            create_time=now(),
            provenance=provenance(RECIPE, seconds=time.monotonic() - start),
        )
        store.put_new_json(f"{name}/selection.json", record.json_value())
    yield read_selection(store, name)


def read_selection(store: Store, name: str) -> Selection:
    """Read the record of the selection `name`.

    Raises:
        NotFound: no such selection, or it has not been finished.
    """
    try:
        return read(store, f"{name}/selection.json", Selection)
    except NotFound:
        raise NotFound(f"{name}: there is no such selection, or it has not been finished") from None


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


def _rows(request: SelectRequest, store: Store) -> tuple[list[str], list[str]]:
    rows = training_rows(store, request.dataset_version)
    available = {row.class_name for row in rows}
    missing = [name for name in request.spec.classes if name not in available]
    if missing:
        raise FailedPrecondition(
            f"{request.dataset_version}: no training images of {', '.join(missing)}; leave them out of spec.classes",
            reason="CLASS_WITHOUT_IMAGES",
        )
    return [row.image_id for row in rows], [row.class_name for row in rows]


def _features(request: SelectRequest, store: Store, image_ids: Sequence[str]) -> Features:
    embedding = read_embedding(store, request.embedding)
    if list(embedding.image_ids) != list(image_ids):
        raise FailedPrecondition(
            f"{request.embedding} embeds other images than the training rows of {request.dataset_version}; "
            "embed this version first",
            reason="EMBEDDING_MISMATCH",
        )
    return embedding.features


def _choose(
    spec: SelectionSpec, classes: NDArray[np.str_], points: Plane, features: Features
) -> tuple[NDArray[np.bool_], NDArray[np.bool_], list[SelectionQuality]]:
    """Select rows and the rows of the control; measure both per dominant class.

    Args:
        spec: The selection's.
        classes: [n], of rows in ascending order of image id, as are `points` [n, 2] and `features` [n, d].
    """
    chosen = ~np.isin(classes, spec.classes)
    control = chosen.copy()
    qualities = []
    for name in spec.classes:
        rows = np.flatnonzero(classes == name)
        seed = seed_of(spec.seed, name)
        space = feature_space(features[rows])
        choices = {
            method: choose(points[rows], space, method=method, kept=spec.kept, seed=seed) for method in SelectionMethod
        }
        random = choose_at_random(len(rows), kept=spec.kept, seed=seed, purpose="control")
        chosen[rows[choices[spec.method]]] = True
        control[rows[random]] = True
        kernel = Gaussian.of(features[rows], seed=spec.seed)
        qualities.append(quality(name, points[rows], kernel, method=spec.method, choices=choices, control=random))
    return chosen, control, qualities
