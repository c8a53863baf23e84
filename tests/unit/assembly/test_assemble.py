"""Scenario versions: exact doses, nested, of training rows alone."""

from __future__ import annotations

import dataclasses
from collections import Counter

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from genaug.assembly.assemble import assemble
from genaug.schema.common import counts_of
from genaug.schema.datasets import DatasetVersion, View
from genaug.schema.generators import Generator
from genaug.schema.requests import AssembleRequest
from genaug.schema.run import Reduction, Scenario
from genaug.schema.selection import Match
from genaug.shared.digests import sha256
from genaug.shared.errors import FailedPrecondition, InvalidArgument, NotFound
from genaug.shared.manifest import NEAREST_REAL, Row, decode, encode, read_rows, write_rows

GENERATOR = f"generators/{'a' * 32}"
ROUNDS = [f"labels/{digit * 32}/manifest.parquet" for digit in "12"]
TRANSFORMED = f"batches/{'3' * 32}/manifest.parquet"
SELECTION = f"selections/{'4' * 32}"
MATCH = f"matches/{'5' * 32}"


def made(name: str, class_name: str, *, verdict: str = "accepted", source: str = "synthetic", **facts: object) -> Row:
    digest = sha256(name.encode())
    row = Row(digest[:32], f"draws/{digest[:2]}/{digest}", digest, digest, class_name, "train", source=source)
    return dataclasses.replace(row, generator=GENERATOR, prompt=class_name, label_verdict=verdict, **facts)


@pytest.fixture
def store(stores, sent, run_import):
    """60 images: 30 a, 20 b, 10 c; two rounds of labelled draws, and transforms."""
    store = stores("assembly")
    run_import(store, [sent(n, "a" if n < 30 else "b" if n < 50 else "c", odd=str(n % 2)) for n in range(60)])
    stores("finetune").put_new_json(
        f"{GENERATOR}/generator.json", Generator(dataset_version="datasets/d/versions/real").json_value()
    )
    first = [made(f"one {name} {n}", name) for name in "bc" for n in range(12)]
    verdicts = ("disagrees", "unsure", "degenerate")
    rejected = [made(f"no {verdict}", "b", verdict=verdict) for verdict in verdicts]
    write_rows(stores("labeling"), ROUNDS[0], [*first, *rejected])
    second = [made(f"two {name} {n}", name) for name in "bc" for n in range(30)]
    write_rows(stores("labeling"), ROUNDS[1], [first[0], *second])
    transformed = [made(f"t {name} {n}", name, source="transformed", verdict="") for name in "bc" for n in range(20)]
    write_rows(stores("generation"), TRANSFORMED, transformed)
    return store


def select(stores, store, chosen: int, **options: object) -> None:
    rows = [row for row in real(store) if row.split == "train" and row.class_name == "a"]
    table = pa.table(
        {
            "image_id": [row.image_id for row in rows],
            "class": ["a"] * len(rows),
            "chosen": [n < chosen for n in range(len(rows))],
            "random": [n >= len(rows) - chosen for n in range(len(rows))],
        }
    )
    stores("selection").put_new(f"{SELECTION}/manifest.parquet", encode(table.slice(0, options.get("rows", len(rows)))))


def real(store) -> list[Row]:
    return read_rows(store, "datasets/d/versions/real/rows.parquet")


DOSES = {
    "labelled_manifests": tuple(ROUNDS),
    "transformed_manifests": (TRANSFORMED,),
    "augmented_classes": ("b", "c"),
}


def request(**options: object) -> AssembleRequest:
    """A request with made images at hand; options are fields of the view, the scenario or the request."""
    parts = [{name: options.pop(name) for name in kind.model_fields if name in options} for kind in (View, Scenario)]
    return AssembleRequest(parent="datasets/d", view=View(**parts[0]), scenario=Scenario(**parts[1]), **DOSES | options)


def plain(**view: object) -> AssembleRequest:
    return AssembleRequest(parent="datasets/d", view=View(**view))


def rows_of(store, version: DatasetVersion) -> list[Row]:
    return read_rows(store, version.manifest)


PUBLISHED = (0.5, 1, 1.5, 2, 4)


@pytest.mark.parametrize("dose", [0.5, 1, 1.5, 2])
def test_a_dose_is_exact(store, dose: float) -> None:
    training = Counter(row.class_name for row in real(store) if row.split == "train")
    version = assemble(request(synthetic=dose), store)
    assert counts_of(version.real) == training
    assert counts_of(version.synthetic) == {name: round(dose * training[name]) for name in "bc"}
    assert version.shortfall == ()
    assert all(row.label_verdict == "accepted" for row in rows_of(store, version) if row.source == "synthetic")


@settings(max_examples=25)
@given(
    doses=st.lists(st.floats(0, 5).filter(bool), min_size=1, max_size=4),
    seed=st.integers(0, 2**31),
    source=st.sampled_from(["synthetic", "transformed"]),
)
def test_every_dose_is_exact_or_short_by_name_and_part_of_any_larger_one(store, doses, seed: int, source: str) -> None:
    """Among them always the published ones."""
    training = Counter(row.class_name for row in real(store) if row.split == "train")
    had = {"synthetic": 42, "transformed": 20}[source]
    before: set[str] = set()
    for dose in sorted({*doses, *PUBLISHED}):
        version = assemble(request(**{source: dose}, seed=seed), store)
        asked = {name: round(dose * training[name]) for name in "bc"}
        short = {name: count - had for name, count in asked.items() if count > had}
        assert counts_of(version.shortfall) == short
        got = {name: count - short.get(name, 0) for name, count in asked.items() if count}
        assert counts_of(getattr(version, source)) == got
        now = {row.image_id for row in rows_of(store, version)}
        assert before <= now
        assert len(now) == len(real(store)) + sum(got.values())
        before = now


def accepted(store) -> list[str]:
    """Ids of all accepted images of both rounds, in a fixed order."""
    rows = [row for key in ROUNDS for row in read_rows(store, key) if row.label_verdict == "accepted"]
    return sorted({row.image_id for row in rows})


def put_match(stores, copies: dict[str, bool], *, name: str = MATCH) -> str:
    rows = [
        {"made_id": image, "class": "a", "image_id": "0" * 32, "distance": 0.1, "copy": copy}
        for image, copy in copies.items()
    ]
    table = pa.Table.from_pylist(rows, schema=NEAREST_REAL)
    stores("selection").put_new(f"{name}/nearest_real.parquet", encode(table))
    match = Match(name=name, nearest_real=f"{name}/nearest_real.parquet")
    stores("selection").put_new_json(f"{name}/match.json", match.json_value())
    return name


@settings(max_examples=25)
@given(data=st.data(), doses=st.lists(st.floats(0, 5).filter(bool), min_size=1, max_size=3), seed=st.integers(0, 2**31))
def test_no_version_holds_a_suspected_copy_unless_asked(stores, store, data, doses, seed: int) -> None:
    training = Counter(row.class_name for row in real(store) if row.split == "train")
    ids = accepted(store)
    copies = data.draw(st.sets(st.sampled_from(ids)))
    digest = sha256(repr(sorted(copies)).encode())[:32]
    match = put_match(stores, {image: image in copies for image in ids}, name=f"matches/{digest}")
    classes = {row.image_id: row.class_name for key in ROUNDS for row in read_rows(store, key)}
    had = Counter(classes[image] for image in ids if image not in copies)
    before: set[str] = set()
    for dose in sorted({*doses, *PUBLISHED}):
        version = assemble(request(synthetic=dose, seed=seed, matches=(match,)), store)
        now = {row.image_id for row in rows_of(store, version) if row.source == "synthetic"}
        assert not now & copies
        assert before <= now
        before = now
        asked = {name: round(dose * training[name]) for name in "bc"}
        assert counts_of(version.shortfall) == {n: asked[n] - had[n] for n in "bc" if asked[n] > had[n]}
    # Asked to keep them, a dose that takes all there is holds each.
    everything = rows_of(store, assemble(request(synthetic=9, seed=seed), store))
    assert copies <= {row.image_id for row in everything}


def test_matches_name_the_version_where_synthetic_images_are_taken(stores, store) -> None:
    match = put_match(stores, dict.fromkeys(accepted(store), False))
    unmatched, matched = (assemble(request(synthetic=1, matches=matches), store) for matches in ((), (match,)))
    assert unmatched.name != matched.name
    assert unmatched.digest == matched.digest
    assert assemble(request(transformed=1, matches=(match,)), store) == assemble(request(transformed=1), store)


def test_what_no_match_speaks_of_is_not_taken(stores, store) -> None:
    """An image of which it is not known whether it is a copy would be one that slipped through."""
    ids = accepted(store)
    match = put_match(stores, dict.fromkeys(ids[1:], False))
    with pytest.raises(InvalidArgument) as caught:
        assemble(request(synthetic=1, matches=(match,)), store)
    assert caught.value.reason == "NOT_MATCHED"
    other = put_match(stores, {ids[0]: True}, name=f"matches/{'6' * 32}")
    version = assemble(request(synthetic=9, matches=(match, other)), store)
    assert {row.image_id for row in rows_of(store, version) if row.source == "synthetic"} == set(ids[1:])


def test_rounds_are_used_in_their_order(store) -> None:
    one = assemble(request(synthetic=0.5, labelled_manifests=(ROUNDS[0],)), store)
    two = assemble(request(synthetic=0.5), store)
    assert {r.image_id for r in rows_of(store, one)} == {r.image_id for r in rows_of(store, two)}


def test_a_shortfall_is_named_and_not_filled(store) -> None:
    training = Counter(row.class_name for row in real(store) if row.split == "train")
    version = assemble(request(synthetic=4), store)
    assert counts_of(version.synthetic)["b"] == 42
    assert counts_of(version.shortfall) == {"b": 4 * training["b"] - 42}


def test_transformed_rows_need_no_verdict(store) -> None:
    version = assemble(request(transformed=1), store)
    assert sum(counts_of(version.transformed).values()) == sum(counts_of(version.real)[name] for name in "bc")
    assert version.synthetic == ()


def test_validation_is_the_same_in_every_scenario(stores, store) -> None:
    select(stores, store, chosen=5)
    expected = {row for row in map(_key, real(store)) if row[1] == "validation"}
    for options in ({}, {"synthetic": 2}, {"selections": (SELECTION,)}):
        rows = rows_of(store, assemble(request(**options), store))
        assert {key for key in map(_key, rows) if key[1] == "validation"} == expected


def _key(row: Row) -> tuple[str, str]:
    return row.image_id, row.split


def test_a_selection_reduces_its_classes_alone(stores, store) -> None:
    select(stores, store, chosen=5)
    before = Counter(row.class_name for row in real(store) if row.split == "train")
    version = assemble(request(selections=(SELECTION,), transformed=1, augmented_classes=("a", "b")), store)
    assert counts_of(version.real) == {"a": 5, "b": before["b"], "c": before["c"]}
    # The dose counts what is left after the selection, and no transforms of a were made.
    assert counts_of(version.shortfall) == {"a": 5}


def test_the_random_control_is_as_large_and_none_leaves_all(stores, store) -> None:
    select(stores, store, chosen=5)
    versions = {
        reduction: assemble(request(selections=(SELECTION,), reduction=reduction), store) for reduction in Reduction
    }
    table = decode(store.get(f"{SELECTION}/manifest.parquet")).to_pylist()
    for reduction, column in ((Reduction.SELECTED, "chosen"), (Reduction.RANDOM, "random")):
        left = {row.image_id for row in rows_of(store, versions[reduction]) if _is_a(row)}
        assert left == {row["image_id"] for row in table if row[column]}
        assert len(left) == 5
    assert versions[Reduction.NONE] == assemble(request(), store)
    assert len({version.name for version in versions.values()}) == 3


def _is_a(row: Row) -> bool:
    return row.class_name == "a" and row.split == "train"


def test_a_fold_is_held_out_of_training_and_validation(store) -> None:
    whole = assemble(plain(), store)
    found = [assemble(plain(fold=fold), store) for fold in range(1, 6)]
    assert len({version.name for version in [whole, *found]}) == 6
    assert whole.view.fold == 0
    for fold, version in enumerate(found, start=1):
        assert version.view.fold == fold
        left_out = {row.image_id for row in real(store) if row.fold == fold - 1}
        assert {row.image_id for row in rows_of(store, version)} == {r.image_id for r in real(store)} - left_out
        assert {row.split for row in real(store) if row.image_id in left_out} == {"train", "validation"}


def of_fold(stores, store, fold: int, **facts: object) -> str:
    """Key of a round with one image of a generator that learnt from the version of this fold."""
    generator = f"generators/{'d' * 32}"
    version = assemble(plain(fold=fold), store)
    stores("finetune").put_new_json(f"{generator}/generator.json", Generator(dataset_version=version.name).json_value())
    return other_rows(stores, [dataclasses.replace(made("x", "b"), generator=generator, **facts)])


def test_what_has_seen_a_fold_is_no_dose_where_it_is_held_out(stores, store) -> None:
    with pytest.raises(InvalidArgument) as caught:
        assemble(request(synthetic=1, fold=1), store)
    assert caught.value.reason == "MADE_FROM_HELD_OUT"
    key = of_fold(stores, store, 2)
    with pytest.raises(InvalidArgument) as caught:
        assemble(request(synthetic=1, fold=1, labelled_manifests=(key,)), store)
    assert caught.value.reason == "MADE_FROM_HELD_OUT"
    version = assemble(request(synthetic=1, fold=2, labelled_manifests=(key,)), store)
    assert counts_of(version.synthetic) == {"b": 1}


def test_transforms_of_a_held_out_fold_are_refused(stores, store) -> None:
    parent = next(row.image_id for row in real(store) if row.split == "train" and row.fold == 1)
    key = of_fold(stores, store, 2, parent_ids=(parent,))
    with pytest.raises(InvalidArgument) as caught:
        assemble(request(synthetic=1, fold=2, labelled_manifests=(key,)), store)
    assert caught.value.reason == "MADE_FROM_HELD_OUT"


def test_a_made_row_counts_for_the_class_that_labeling_gave_it(stores, store) -> None:
    """TRUST_LABELER: the label, not the prompt."""
    key = other_rows(stores, [dataclasses.replace(made("x", "b"), prompt="c", label="b")])
    version = assemble(request(synthetic=0.1, labelled_manifests=(key,)), store)
    assert counts_of(version.synthetic) == {"b": 1}


def test_a_selection_from_another_view_is_refused(stores, store) -> None:
    select(stores, store, chosen=5, rows=7)
    with pytest.raises(InvalidArgument) as caught:
        assemble(request(selections=(SELECTION,)), store)
    assert caught.value.reason == "SELECTION_MISMATCH"


def test_a_view_leaves_other_classes_out(store) -> None:
    version = assemble(plain(classes=("c", "a")), store)
    assert set(counts_of(version.real)) == set(counts_of(version.validation)) == {"a", "c"}


def test_asking_again_returns_the_same_version_unread(store, monkeypatch) -> None:
    first = assemble(request(synthetic=1), store)
    monkeypatch.setattr("genaug.assembly.assemble.read_rows", lambda *_: pytest.fail("read again"))
    assert assemble(request(synthetic=1), store) == first


def test_what_does_not_decide_the_rows_does_not_name_the_version(store) -> None:
    name = assemble(plain(), store).name
    assert assemble(request(seed=3), store).name == name
    assert assemble(request(synthetic=1, transformed_manifests=()), store) == assemble(request(synthetic=1), store)
    names = {assemble(request(synthetic=1, seed=seed), store).name for seed in (0, 1)}
    assert len(names) == 2


@pytest.mark.parametrize(
    ("options", "error", "reason"),
    [
        ({"classes": ("a", "z")}, InvalidArgument, "UNKNOWN_CLASS"),
        ({"augmented_classes": ("z",)}, InvalidArgument, "UNKNOWN_CLASS"),
        ({"fold": 6}, InvalidArgument, "BAD_FOLD"),
        ({"fold": -1}, InvalidArgument, "BAD_FOLD"),
        ({"selections": (SELECTION,)}, NotFound, "SELECTION_NOT_FOUND"),
        (
            {"synthetic": 1, "labelled_manifests": (f"labels/{'9' * 32}/manifest.parquet",)},
            NotFound,
            "MANIFEST_NOT_FOUND",
        ),
        ({"synthetic": 1, "matches": (MATCH,)}, NotFound, "MATCH_NOT_FOUND"),
        ({"synthetic": 1, "matches": ("sealed/x",)}, InvalidArgument, "BAD_NAME"),
        ({"labelled_manifests": ("restricted/subjects.key",)}, InvalidArgument, "INVALID_ARGUMENT"),
        ({"labelled_manifests": ("labels/../sealed/manifest.parquet",)}, InvalidArgument, "BAD_NAME"),
    ],
)
def test_wrong_requests_are_refused(store, options: dict[str, object], error: type[Exception], reason: str) -> None:
    with pytest.raises(error) as caught:
        assemble(request(**options), store)
    assert caught.value.reason == reason


def other_rows(stores, rows: list[Row]) -> str:
    key = f"labels/{'7' * 32}/manifest.parquet"
    write_rows(stores("labeling"), key, rows)
    return key


def test_images_made_from_held_out_rows_are_refused(stores, store) -> None:
    held_out = next(row.image_id for row in real(store) if row.split == "validation")
    key = other_rows(stores, [made("x", "b", parent_ids=(held_out,))])
    with pytest.raises(InvalidArgument) as caught:
        assemble(request(synthetic=1, labelled_manifests=(key,)), store)
    assert caught.value.reason == "MADE_FROM_HELD_OUT"


def test_real_rows_are_no_dose(stores, store) -> None:
    key = other_rows(stores, [made("x", "b", source="real")])
    with pytest.raises(InvalidArgument) as caught:
        assemble(request(synthetic=1, labelled_manifests=(key,)), store)
    assert caught.value.reason == "WRONG_SOURCE"


@pytest.mark.parametrize("split", ["validation", "test"])
def test_made_rows_outside_training_are_refused(stores, store, split: str) -> None:
    key = other_rows(stores, [dataclasses.replace(made("x", "b"), split=split)])
    with pytest.raises(InvalidArgument) as caught:
        assemble(request(synthetic=1, labelled_manifests=(key,)), store)
    assert caught.value.reason == "MADE_ROW_OUTSIDE_TRAINING"


@pytest.mark.parametrize(
    ("record", "error", "reason"),
    [
        (Generator(dataset_version="datasets/other/versions/real"), InvalidArgument, "OTHER_DATASET"),
        (None, FailedPrecondition, "GENERATOR_NOT_FOUND"),
    ],
)
def test_images_of_a_generator_from_elsewhere_are_refused(stores, store, record, error, reason: str) -> None:
    generator = f"generators/{'e' * 32}"
    if record:
        stores("finetune").put_new_json(f"{generator}/generator.json", record.json_value())
    key = other_rows(stores, [dataclasses.replace(made("x", "b"), generator=generator)])
    with pytest.raises(error) as caught:
        assemble(request(synthetic=1, labelled_manifests=(key,)), store)
    assert caught.value.reason == reason
