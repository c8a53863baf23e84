"""Step 5: one immutable dataset version per scenario, from real rows, selections and doses of made rows."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, get_args

from genaug.assembly.datasets import REAL, Json, get_dataset, read_json_or_none, rows_key, version_key, write_version
from genaug.shared.digests import digest_of, seed_of
from genaug.shared.errors import FailedPrecondition, InvalidArgument, NotFound
from genaug.shared.manifest import (
    MultiDisease,
    Row,
    Source,
    check_training,
    counts,
    read_rows,
    read_table,
    view_rows,
)
from genaug.shared.names import digest_id
from genaug.shared.store import Store

RECIPE = "assemble/2"

Reduction = Literal["SELECTED", "RANDOM", "NONE"]

_MAX_DOSE = 100.0
# The column of a selection's manifest that says which rows stay.
_STAYS = {"SELECTED": "chosen", "RANDOM": "random"}


@dataclass(frozen=True)
class Assembly:
    """What a version is to hold."""

    dataset: str
    classes: tuple[str, ...] = ()
    """The view's classes; empty for all."""
    multi_disease: MultiDisease = "KEEP"
    fold: int = 0
    """The view's outer fold, from 1, whose real rows are left out; 0 for none."""
    selections: tuple[str, ...] = ()
    reduction: Reduction = "SELECTED"
    """Which rows of the selections' classes stay: the chosen ones, the random control, or all."""
    synthetic: float = 0.0
    """Dose: this many times the class's training count."""
    transformed: float = 0.0
    augmented: tuple[str, ...] = ()
    """Classes that get doses; empty for all of the view."""
    labelled_manifests: tuple[str, ...] = ()
    """Keys, in the order of their rounds."""
    transformed_manifests: tuple[str, ...] = ()
    seed: int = 0
    matches: tuple[str, ...] = ()
    """Matches of the labelled images, whose suspected copies are left out; empty to leave none out."""


def assemble(wanted: Assembly, store: Store) -> Json:
    """Write the version (the message `DatasetVersion` as JSON), or return it if it is there.

    A selection reduces the training rows of its classes to the chosen ones, or to the random control of the same size.
    A dose of K gives each augmented class round(K × its training count after that) made rows, taken round by round and
    in seeded order, so that a smaller dose is part of a larger one. Where matches are named, what one of them marks as
    a suspected copy is not taken. What cannot be had is a shortfall, never filled with anything else. Validation is
    left as it is. The class of a made row is the one that labeling gave it, whatever the prompt was.

    Raises:
        NotFound: the dataset, a selection, a match or a manifest is not there.
        InvalidArgument: a class or fold is unknown, a dose is out of range, a selection belongs to another view, an
            accepted image is in none of the matches, or a made row is not what it must be: from training rows of this
            dataset and fold, for training alone.
    """
    dataset = get_dataset(store, wanted.dataset)
    _check_doses(wanted)
    _check_fold(wanted, dataset)
    version = _version_id(wanted, dataset)
    found = read_json_or_none(store, version_key(wanted.dataset, version))
    if found is not None:
        return found
    everything = read_rows(store, rows_key(wanted.dataset, REAL))
    real = view_rows(everything, classes=wanted.classes, multi_disease=wanted.multi_disease, fold=wanted.fold)
    _check_classes(wanted, real)
    for selection in _selections(wanted):
        real = _reduce(real, _read_selection(store, selection, _STAYS[wanted.reduction]), selection)
    training = counts(real, split="train")
    made: list[Row] = []
    shortfall: Counter[str] = Counter()
    parents = {row.image_id for row in view_rows(everything, classes=(), fold=wanted.fold) if row.split == "train"}
    for source, dose, keys in _doses(wanted):
        rounds = [_read_made(store, key, source=source) for key in keys]
        for row in (row for rows in rounds for row in rows):
            _check_made(row, source=source, parents=parents)
        _check_lineage(store, wanted, {row.generator for rows in rounds for row in rows})
        if source == "synthetic" and wanted.matches:
            rounds = _without_copies(rounds, _read_copies(store, wanted.matches))
        for name in sorted(set(wanted.augmented or training)):
            count = round(dose * training[name])
            taken = _take(rounds, name, count, seed=wanted.seed)
            made += taken
            shortfall[name] += count - len(taken)
    rows = [*real, *made]
    check_training(rows)
    return write_version(
        store,
        wanted.dataset,
        version,
        rows,
        shortfall=shortfall,
        multi_disease=wanted.multi_disease,
        fold=wanted.fold,
    )


def _selections(wanted: Assembly) -> list[str]:
    return [] if wanted.reduction == "NONE" else sorted(wanted.selections)


def _doses(wanted: Assembly) -> list[tuple[Source, float, tuple[str, ...]]]:
    found: list[tuple[Source, float, tuple[str, ...]]] = [
        ("synthetic", wanted.synthetic, wanted.labelled_manifests),
        ("transformed", wanted.transformed, wanted.transformed_manifests),
    ]
    return [dose for dose in found if dose[1]]


def _version_id(wanted: Assembly, dataset: Json) -> str:
    """A digest of what decides the rows and nothing else: scenarios that differ in name alone are one version."""
    doses, selections = _doses(wanted), _selections(wanted)
    inputs: dict[str, Any] = {
        "dataset": dataset["digest"],
        "classes": sorted(wanted.classes),
        "multi_disease": wanted.multi_disease,
        "fold": wanted.fold,
        "selections": selections,
        "reduction": wanted.reduction if selections else "",
        "doses": [[source, dose, list(keys)] for source, dose, keys in doses],
        "augmented": sorted(wanted.augmented) if doses else [],
        "seed": wanted.seed if doses else 0,
    }
    # Without matches the rows are those of requests that knew none, and so is their name.
    if wanted.matches and wanted.synthetic:
        inputs["matches"] = sorted(set(wanted.matches))
    return digest_of(RECIPE, inputs)


def _check_doses(wanted: Assembly) -> None:
    for source, dose in (("synthetic", wanted.synthetic), ("transformed", wanted.transformed)):
        if not 0 <= dose <= _MAX_DOSE:
            raise InvalidArgument(f"scenario.{source}: {dose} is not between 0 and {_MAX_DOSE:g}", reason="BAD_DOSE")
    if wanted.multi_disease not in get_args(MultiDisease):
        raise InvalidArgument(f"view.multi_disease: {wanted.multi_disease} is no policy", reason="BAD_VIEW")
    if wanted.reduction not in get_args(Reduction):
        raise InvalidArgument(
            f"scenario.reduction: {wanted.reduction} is none of {', '.join(get_args(Reduction))}",
            reason="BAD_REDUCTION",
        )
    for key in wanted.labelled_manifests:
        _check_key(key, "labels", field="labelled_manifests")
    for key in wanted.transformed_manifests:
        _check_key(key, "batches", field="transformed_manifests")
    for name in wanted.selections:
        digest_id(name, "selections")
    for name in wanted.matches:
        digest_id(name, "matches")


def _check_fold(wanted: Assembly, dataset: Json) -> None:
    if not 0 <= wanted.fold <= dataset["folds"]:
        raise InvalidArgument(
            f"view.fold: {wanted.fold} is not between 0 and {dataset['folds']}, the folds of {dataset['name']}",
            reason="BAD_FOLD",
        )


def _check_key(key: str, collection: str, *, field: str) -> None:
    name, _, file = key.rpartition("/")
    if file != "manifest.parquet":
        raise InvalidArgument(f"{field}: {key!r} is not of the form {collection}/{{digest}}/manifest.parquet")
    digest_id(name, collection)


def _check_classes(wanted: Assembly, real: Sequence[Row]) -> None:
    training = counts(real, split="train")
    for name in wanted.classes:
        if name not in training:
            raise InvalidArgument(
                f"view.classes: datasets/{wanted.dataset} has no training images of class {name!r} in this view, only "
                f"of {', '.join(training) or 'none'}",
                reason="UNKNOWN_CLASS",
            )
    for name in wanted.augmented:
        if name not in training:
            raise InvalidArgument(f"augmented_classes: {name!r} is not a class of the view", reason="UNKNOWN_CLASS")


def _read_selection(store: Store, selection: str, stays: str) -> dict[str, tuple[str, bool]]:
    """Class, and what the column `stays` says, of each image id."""
    try:
        table = read_table(store, f"{selection}/manifest.parquet")
    except NotFound:
        raise NotFound(f"{selection}: no such selection", reason="SELECTION_NOT_FOUND") from None
    columns = (table.column(name).to_pylist() for name in ("image_id", "class", stays))
    return {image: (name, stay) for image, name, stay in zip(*columns, strict=True)}


def _reduce(real: Sequence[Row], selection: Mapping[str, tuple[str, bool]], name: str) -> list[Row]:
    """Leave out training rows of the selection's classes that do not stay."""
    classes = {class_name for class_name, _ in selection.values()}
    kept = []
    for row in real:
        if row.split == "train" and row.class_name in classes:
            if row.image_id not in selection:
                raise InvalidArgument(
                    f"{name} was made from other training rows: image {row.image_id} of class {row.class_name!r} is "
                    "not in it; choose again from this view",
                    reason="SELECTION_MISMATCH",
                )
            if not selection[row.image_id][1]:
                continue
        kept.append(row)
    return kept


def _read_made(store: Store, key: str, *, source: Source) -> list[Row]:
    """The rows of a manifest that may be taken: all transformed ones, accepted synthetic ones."""
    try:
        rows = read_rows(store, key)
    except NotFound:
        raise NotFound(f"{key}: no such manifest", reason="MANIFEST_NOT_FOUND", key=key) from None
    return [row for row in rows if source == "transformed" or row.label_verdict == "accepted"]


def _read_copies(store: Store, matches: Iterable[str]) -> dict[str, bool]:
    """Whether a match marks it as a suspected copy, of each image id that one of them holds."""
    found: dict[str, bool] = {}
    for match in sorted(set(matches)):
        record = read_json_or_none(store, f"{match}/match.json")
        if record is None:
            raise NotFound(f"{match}: no such match", reason="MATCH_NOT_FOUND")
        table = read_table(store, record["nearest_real"])
        for image, copy in zip(table.column("made_id").to_pylist(), table.column("copy").to_pylist(), strict=True):
            found[image] = copy or found.get(image, False)
    return found


def _without_copies(rounds: Iterable[Sequence[Row]], copies: Mapping[str, bool]) -> list[list[Row]]:
    """The rounds without suspected copies; an image of which nothing is known is refused, not taken."""
    kept = []
    for rows in rounds:
        for row in rows:
            if row.image_id not in copies:
                raise InvalidArgument(
                    f"image {row.image_id} is in none of the matches; match the labelled manifests that it is in",
                    reason="NOT_MATCHED",
                    image_id=row.image_id,
                )
        kept.append([row for row in rows if not copies[row.image_id]])
    return kept


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


def _check_lineage(store: Store, wanted: Assembly, generators: Iterable[str]) -> None:
    """Refuse images of generators that learnt from rows which may be sealed, or held out, here."""
    dataset = wanted.dataset
    for generator in sorted(generators):
        digest_id(generator, "generators")
        record = read_json_or_none(store, f"{generator}/generator.json")
        if record is None:
            raise FailedPrecondition(
                f"{generator}: not in the store, so nothing says what it has learnt from", reason="GENERATOR_NOT_FOUND"
            )
        learnt = str(record.get("dataset_version", ""))
        # A dataset that was deleted and imported anew has another seal, and other versions.
        version = (
            read_json_or_none(store, f"{learnt}/version.json") if learnt.startswith(f"datasets/{dataset}/") else None
        )
        if version is None:
            raise InvalidArgument(
                f"{generator} has learnt from {record.get('dataset_version', 'an unknown dataset')}, not from "
                f"datasets/{dataset}",
                reason="OTHER_DATASET",
            )
        # The seal is held out of every version, a fold only of its own.
        if wanted.fold and version["view"].get("fold", 0) != wanted.fold:
            raise InvalidArgument(
                f"{generator} has learnt from {learnt}, which does not hold out fold {wanted.fold}; train one on a "
                "version of this fold",
                reason="MADE_FROM_HELD_OUT",
            )


def _take(rounds: Iterable[Sequence[Row]], name: str, count: int, *, seed: int) -> list[Row]:
    """The first `count` rows of a class: earlier rounds first, within a round in seeded order, no image twice."""
    taken: dict[str, Row] = {}
    for rows in rounds:
        mine = [row for row in rows if row.class_name == name]
        for row in sorted(mine, key=lambda row: seed_of(seed, row.image_id)):
            taken.setdefault(row.image_id, row)
    return list(taken.values())[:count]
