"""Step 5: one immutable dataset version per scenario, from real rows, selections and doses of made rows."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple, cast

from genaug.assembly.datasets import REAL, get_dataset, read_or_none, rows_key, version_key, write_version
from genaug.schema.datasets import Dataset, DatasetVersion
from genaug.schema.generators import Generator
from genaug.schema.requests import AssembleRequest
from genaug.schema.run import Reduction, Scenario
from genaug.schema.selection import Match
from genaug.shared import manifest
from genaug.shared.digests import digest_of, seed_of
from genaug.shared.errors import FailedPrecondition, InvalidArgument, NotFound
from genaug.shared.manifest import (
    Row,
    Source,
    check_training,
    counts,
    read_nearest_real,
    read_rows,
    read_table,
    view_rows,
)
from genaug.shared.names import dataset_id, digest_id
from genaug.shared.store import Store

RECIPE = "assemble/2"

# Column of a selection's manifest that marks the rows to keep.
_COLUMNS = {Reduction.SELECTED: "chosen", Reduction.RANDOM: "random"}


class Dose(NamedTuple):
    """Made rows to add: a multiple of each class's training count, from the manifests in their order."""

    source: Source
    factor: float
    manifests: tuple[str, ...]


def assemble(request: AssembleRequest, store: Store) -> DatasetVersion:
    """Write the version of a scenario, or return it if it exists.

    A selection reduces the training rows of its classes to the chosen ones, or to the random control of the same size.
    A dose of K gives each augmented class round(K × its training count after that) made rows, taken round by round and
    in seeded order, so that a smaller dose is part of a larger one. Where matches are named, images that one of them
    marks as suspected copies are not taken. Images that are not available are a shortfall, never replaced by others.
    Validation is left as it is. The class of a made row is the one that labeling gave it, not the one of its prompt.

    Raises:
        NotFound: the dataset, a selection, a match or a manifest is not there.
        InvalidArgument: a class or fold is unknown, a selection belongs to another view, an accepted image is in none
            of the matches, or a made row is not allowed: it must stem from training rows of this dataset and fold, and
            be for training alone.
    """
    name, view = dataset_id(request.parent), request.view
    dataset = get_dataset(store, name)
    _check_names(request)
    if not 0 <= view.fold <= dataset.folds:
        raise InvalidArgument(
            f"view.fold: {view.fold} is not between 0 and {dataset.folds}, the folds of {dataset.name}",
            reason="BAD_FOLD",
        )
    version = _version_id(request, dataset)
    existing = read_or_none(store, version_key(name, version), DatasetVersion)
    if existing is not None:
        return existing
    all_rows = read_rows(store, rows_key(name, REAL))
    policy = cast("manifest.MultiDisease", view.multi_disease.name)
    rows = view_rows(all_rows, classes=view.classes, multi_disease=policy, fold=view.fold)
    _check_classes(request, rows)
    for selection in _selections(request):
        column = _COLUMNS[_scenario(request).reduction]
        rows = _reduce(rows, _read_selection(store, selection, column), selection)
    parents = {row.image_id for row in view_rows(all_rows, classes=(), fold=view.fold) if row.split == "train"}
    training = counts(rows, split="train")
    shortfall: Counter[str] = Counter()
    for dose in _doses(request):
        rounds = _read_rounds(request, dose, store, parents=parents)
        for class_name in sorted(set(request.augmented_classes or training)):
            count = round(dose.factor * training[class_name])
            taken = _take(rounds, class_name, count, seed=request.seed)
            rows += taken
            shortfall[class_name] += count - len(taken)
    check_training(rows)
    return write_version(
        store, name, version, rows, shortfall=shortfall, multi_disease=view.multi_disease, fold=view.fold
    )


def _scenario(request: AssembleRequest) -> Scenario:
    return request.scenario or Scenario()


def _selections(request: AssembleRequest) -> list[str]:
    return [] if _scenario(request).reduction == Reduction.NONE else sorted(request.selections)


def _doses(request: AssembleRequest) -> list[Dose]:
    scenario = _scenario(request)
    doses = (
        Dose("synthetic", scenario.synthetic, request.labelled_manifests),
        Dose("transformed", scenario.transformed, request.transformed_manifests),
    )
    return [dose for dose in doses if dose.factor]


def _version_id(request: AssembleRequest, dataset: Dataset) -> str:
    """Digest of everything that decides the rows: scenarios that differ in name alone are one version."""
    doses, selections, scenario = _doses(request), _selections(request), _scenario(request)
    inputs: dict[str, object] = {
        "dataset": dataset.digest,
        "classes": sorted(request.view.classes),
        "multi_disease": request.view.multi_disease.name,
        "fold": request.view.fold,
        "selections": selections,
        "reduction": scenario.reduction.name if selections else "",
        "doses": [[dose.source, dose.factor, list(dose.manifests)] for dose in doses],
        "augmented": sorted(request.augmented_classes) if doses else [],
        "seed": request.seed if doses else 0,
    }
    # Matches were added later: without them a version keeps the name that it had before.
    if request.matches and scenario.synthetic:
        inputs["matches"] = sorted(set(request.matches))
    return digest_of(RECIPE, inputs)


def _check_names(request: AssembleRequest) -> None:
    for key in request.labelled_manifests:
        _check_key(key, "labels", field="labelled_manifests")
    for key in request.transformed_manifests:
        _check_key(key, "batches", field="transformed_manifests")
    for name in request.selections:
        digest_id(name, "selections")
    for name in request.matches:
        digest_id(name, "matches")


def _check_key(key: str, collection: str, *, field: str) -> None:
    name, _, file = key.rpartition("/")
    if file != "manifest.parquet":
        raise InvalidArgument(f"{field}: {key!r} is not of the form {collection}/{{digest}}/manifest.parquet")
    digest_id(name, collection)


def _check_classes(request: AssembleRequest, rows: Sequence[Row]) -> None:
    training = counts(rows, split="train")
    for name in request.view.classes:
        if name not in training:
            raise InvalidArgument(
                f"view.classes: {request.parent} has no training images of class {name!r} in this view, only "
                f"of {', '.join(training) or 'none'}",
                reason="UNKNOWN_CLASS",
            )
    for name in request.augmented_classes:
        if name not in training:
            raise InvalidArgument(f"augmented_classes: {name!r} is not a class of the view", reason="UNKNOWN_CLASS")


def _read_selection(store: Store, selection: str, column: str) -> dict[str, tuple[str, bool]]:
    """Return the class, and the flag in `column`, of each image id."""
    try:
        table = read_table(store, f"{selection}/manifest.parquet")
    except NotFound:
        raise NotFound(f"{selection}: no such selection", reason="SELECTION_NOT_FOUND") from None
    columns = (table.column(name).to_pylist() for name in ("image_id", "class", column))
    return {image: (name, chosen) for image, name, chosen in zip(*columns, strict=True)}


def _reduce(rows: Sequence[Row], selection: Mapping[str, tuple[str, bool]], name: str) -> list[Row]:
    """Leave out training rows of the selection's classes that are not chosen."""
    classes = {class_name for class_name, _ in selection.values()}
    reduced = []
    for row in rows:
        if row.split == "train" and row.class_name in classes:
            if row.image_id not in selection:
                raise InvalidArgument(
                    f"{name} was made from other training rows: image {row.image_id} of class {row.class_name!r} is "
                    "not in it; choose again from this view",
                    reason="SELECTION_MISMATCH",
                )
            if not selection[row.image_id][1]:
                continue
        reduced.append(row)
    return reduced


def _read_rounds(request: AssembleRequest, dose: Dose, store: Store, *, parents: set[str]) -> list[list[Row]]:
    """Read and check the rows that a dose may take, by manifest.

    Args:
        request: Request with the matches.
        dose: The dose.
        store: The store.
        parents: Ids of the training images that made images may stem from.
    """
    rounds = [_read_made(store, key, source=dose.source) for key in dose.manifests]
    for rows in rounds:
        for row in rows:
            _check_made(row, source=dose.source, parents=parents)
    _check_lineage(store, request, {row.generator for rows in rounds for row in rows})
    if dose.source == "synthetic" and request.matches:
        return _without_copies(rounds, _read_copies(store, request.matches))
    return rounds


def _read_made(store: Store, key: str, *, source: Source) -> list[Row]:
    """Rows of a manifest that a dose may take: all transformed ones, accepted synthetic ones."""
    try:
        rows = read_rows(store, key)
    except NotFound:
        raise NotFound(f"{key}: no such manifest", reason="MANIFEST_NOT_FOUND", key=key) from None
    return [row for row in rows if source == "transformed" or row.label_verdict == "accepted"]


def _read_copies(store: Store, matches: Iterable[str]) -> dict[str, bool]:
    """Return, for each image id in the matches, whether one of them marks it as a suspected copy."""
    copies: dict[str, bool] = {}
    for match in sorted(set(matches)):
        record = read_or_none(store, f"{match}/match.json", Match)
        if record is None:
            raise NotFound(f"{match}: no such match", reason="MATCH_NOT_FOUND")
        for row in read_nearest_real(store, record.nearest_real):
            copies[row.made_id] = row.copy or copies.get(row.made_id, False)
    return copies


def _without_copies(rounds: Iterable[Sequence[Row]], copies: Mapping[str, bool]) -> list[list[Row]]:
    """The rounds without suspected copies; images in none of the matches are refused."""
    result = []
    for rows in rounds:
        for row in rows:
            if row.image_id not in copies:
                raise InvalidArgument(
                    f"image {row.image_id} is in none of the matches; match the labelled manifests that it is in",
                    reason="NOT_MATCHED",
                    image_id=row.image_id,
                )
        result.append([row for row in rows if not copies[row.image_id]])
    return result


def _check_made(row: Row, *, source: Source, parents: set[str]) -> None:
    if row.source != source:
        raise InvalidArgument(
            f"image {row.image_id} is {row.source}, in a manifest of {source} images", reason="WRONG_SOURCE"
        )
    check_training([row])
    if not parents.issuperset(row.parent_ids):
        raise InvalidArgument(
            f"image {row.image_id} was made from an image that is no training row of the dataset and fold",
            reason="MADE_FROM_HELD_OUT",
            image_id=row.image_id,
        )


def _check_lineage(store: Store, request: AssembleRequest, generators: Iterable[str]) -> None:
    """Refuse images of generators that were trained on rows which may be sealed, or held out, here."""
    for name in sorted(generators):
        digest_id(name, "generators")
        generator = read_or_none(store, f"{name}/generator.json", Generator)
        if generator is None:
            raise FailedPrecondition(
                f"{name}: not in the store, so nothing says what it has learnt from", reason="GENERATOR_NOT_FOUND"
            )
        trained_on = generator.dataset_version
        # A dataset that was deleted and imported anew has another seal, and other versions.
        version = (
            read_or_none(store, f"{trained_on}/version.json", DatasetVersion)
            if trained_on.startswith(f"{request.parent}/")
            else None
        )
        if version is None:
            raise InvalidArgument(
                f"{name} has learnt from {trained_on or 'an unknown dataset'}, not from {request.parent}",
                reason="OTHER_DATASET",
            )
        # The seal is held out of every version, a fold only of its own.
        if request.view.fold and version.view.fold != request.view.fold:
            raise InvalidArgument(
                f"{name} has learnt from {trained_on}, which does not hold out fold {request.view.fold}; train one on "
                "a version of this fold",
                reason="MADE_FROM_HELD_OUT",
            )


def _take(rounds: Iterable[Sequence[Row]], class_name: str, count: int, *, seed: int) -> list[Row]:
    """Return the first `count` rows of a class: by round, within a round in seeded order, no image twice."""
    taken: dict[str, Row] = {}
    for rows in rounds:
        candidates = [row for row in rows if row.class_name == class_name]
        for row in sorted(candidates, key=lambda row: seed_of(seed, row.image_id)):
            taken.setdefault(row.image_id, row)
    return list(taken.values())[:count]
